"""The queue decision: where to place an entry, and what to do with one that rests.

Enters: scored candidates, or a live view of a resting order's symbol. Leaves: join, improve or stay out; hold,
amend or cancel. Called by the pipeline, and by the execution engine for each resting entry.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

from attrs import field, frozen
from attrs.validators import ge, gt, le, lt

from krakenbot.domain.decision.candidate import Candidate
from krakenbot.domain.decision.plan import QueueAction
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.values import BPS


@frozen(kw_only=True)
class QueueSettings:
    """Toxicity limits, and what a move must gain. `improve_min_increments` is the least spread to improve in."""

    improve_min_increments: int = field(default=3, validator=ge(3))
    toxic_ofi_z: float = field(default=-2.0, validator=lt(0.0))
    toxic_microprice_half_spreads: float = field(default=0.5, validator=[gt(0.0), le(1.0)])
    toxic_queue_drop_share: float = field(default=0.6, validator=[gt(0.0), le(1.0)])
    toxic_btc_sigmas: float = field(default=-3.0, validator=lt(0.0))
    min_gain_bps: float = field(default=2.0, validator=ge(2.0))
    gain_surplus_share: float = field(default=0.25, validator=ge(0.25))
    rate_point_bps: float = field(default=0.2, validator=ge(0.2))
    min_rest_s: float = field(default=15.0, validator=ge(0.0))
    reprice_interval_s: float = field(default=15.0, validator=ge(0.0))


class RestingAction(enum.StrEnum):
    """What to do with a resting entry."""

    HOLD = "hold"
    AMEND = "amend"
    CANCEL = "cancel"


@frozen(kw_only=True)
class LiveView:
    """One resting entry and its symbol's live book, read at one moment, without our own order in it.

    Own volume must be taken out of the microprice (`microprice_dev_without_own_bps`) and of the queue: an order that
    improved stands alone at its price, and would look like a thin bid to itself.
    `ofi_5s_z` and `btc_return_1s_sigmas` None: too little seen, which triggers nothing. `bid_queue_change_1s` is the
    relative change of the bid's volume over 1 s (-0.6 = 60 % gone). `away_bps` is how far the best bid stands above
    our price. `p_fill_hold` and `p_fill_move` are fill probabilities here and at the best bid's back, `surplus_bps`
    that of our price; `rate_points` the cost of an amend in the venue's counter now.
    """

    book_valid: bool
    spread_bps: float
    microprice_dev_bps: float
    ofi_5s_z: float | None
    bid_queue_change_1s: float | None
    btc_return_1s_sigmas: float | None
    is_btc: bool
    away_bps: float
    p_fill_hold: float
    p_fill_move: float
    surplus_bps: float
    rate_points: float
    rest_s: float
    since_reprice_s: float | None


@frozen(kw_only=True)
class RestingDecision:
    """The action and the measure that decided."""

    action: RestingAction
    reason: str


def choose_entry(candidates: Sequence[Candidate]) -> Candidate | None:
    """Return the candidate with the best score, ties to JOIN; None of nothing (stay out)."""
    return max(candidates, key=lambda c: (c.score, c.action is QueueAction.JOIN), default=None)


def toxic_at_entry(state: SymbolState, settings: QueueSettings) -> tuple[str, float, float] | None:
    """Return measure, value and limit when an order placed now would be cancelled at once; None when it would not."""
    if state.ofi_z is not None and state.ofi_z < settings.toxic_ofi_z:
        return "ofi_z", state.ofi_z, settings.toxic_ofi_z
    limit = -settings.toxic_microprice_half_spreads * (state.spread_bps or 0.0) / 2
    if state.microprice_dev_bps is not None and state.microprice_dev_bps < limit:
        return "microprice_dev_bps", state.microprice_dev_bps, limit
    return None


def decide_resting(view: LiveView, settings: QueueSettings) -> RestingDecision:
    """Cancel at once when the flow is toxic or the book not valid; else move only for a real gain.

    The gain of a move is what the order is worth at the best bid's back less what it is worth here, each as fill
    probability x surplus, the surplus lower by the distance moved. It must reach
    max(2 bps, 0.25 x |surplus|) + 0.2 bps x rate points, after 15 s of rest and 15 s since the last reprice.
    """
    toxic = _toxic(view, settings)
    if toxic:
        return RestingDecision(action=RestingAction.CANCEL, reason=toxic)
    if view.away_bps <= 0.0:
        return RestingDecision(action=RestingAction.HOLD, reason="at the touch")
    reprice_s = view.rest_s if view.since_reprice_s is None else view.since_reprice_s
    if view.rest_s < settings.min_rest_s or reprice_s < settings.reprice_interval_s:
        return RestingDecision(action=RestingAction.HOLD, reason="rests too shortly to move")
    gain_bps = view.p_fill_move * (view.surplus_bps - view.away_bps) - view.p_fill_hold * view.surplus_bps
    needed_bps = max(settings.min_gain_bps, settings.gain_surplus_share * abs(view.surplus_bps))
    needed_bps += settings.rate_point_bps * view.rate_points
    if gain_bps >= needed_bps:
        return RestingDecision(action=RestingAction.AMEND, reason=f"gain {gain_bps:.2f} >= {needed_bps:.2f} bps")
    return RestingDecision(action=RestingAction.HOLD, reason=f"gain {gain_bps:.2f} < {needed_bps:.2f} bps")


def microprice_dev_without_own_bps(
    bids: Sequence[tuple[int, int]], asks: Sequence[tuple[int, int]], own_price_ticks: int, own_lots: int
) -> float | None:
    """Return how far the microprice stands above the mid, in bps of it, with our own resting buy taken out.

    Levels as `BookView.levels` gives them, best first, at least two bids. Where our order stands alone its level
    disappears. None when a side is then empty.
    """
    others = [(price, lots - own_lots if price == own_price_ticks else lots) for price, lots in bids]
    bid = next(((price, lots) for price, lots in others if lots > 0), None)
    if bid is None or not asks:
        return None
    (bid_ticks, bid_lots), (ask_ticks, ask_lots) = bid, asks[0]
    mid = (bid_ticks + ask_ticks) / 2
    microprice = (bid_ticks * ask_lots + ask_ticks * bid_lots) / (bid_lots + ask_lots)
    return (microprice - mid) / mid * BPS


def _toxic(view: LiveView, settings: QueueSettings) -> str:
    if not view.book_valid:
        return "book is not valid"
    if view.ofi_5s_z is not None and view.ofi_5s_z < settings.toxic_ofi_z:
        return f"ofi_5s_z {view.ofi_5s_z:.2f}"
    if view.microprice_dev_bps < -settings.toxic_microprice_half_spreads * view.spread_bps / 2:
        return f"microprice_dev_bps {view.microprice_dev_bps:.2f}"
    if view.bid_queue_change_1s is not None and view.bid_queue_change_1s <= -settings.toxic_queue_drop_share:
        return f"bid_queue_change_1s {view.bid_queue_change_1s:.2f}"
    btc = view.btc_return_1s_sigmas
    if not view.is_btc and btc is not None and btc < settings.toxic_btc_sigmas:
        return f"btc_return_1s_sigmas {btc:.2f}"
    return ""
