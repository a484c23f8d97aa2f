"""The edge of an entry, defined given a fill: M, its standard error, and the surplus after the way out.

Enters: a state, fees, a fill estimate, labels measured at this venue. Leaves: one `EdgeRecord`. Called by the
pipeline for every candidate. Stops and targets do not appear: they redistribute outcomes and create no edge.

The written prior of M (source `prior`), used where no group of labels is large enough:
- the half-spread captured at the entry price, less an adverse move of 10 % of the half-spread (Huang, Stoll 1997
  put adverse selection at about a tenth of the spread), with a standard error of 5 % of it and at least 2 bps;
- the adverse move is then pulled towards the mean markout of public sells at the touch, the worse of 5 and 30 s,
  with weight n / (n + 50), n = trades / 4 since trades come in clusters; a gain measured there is not believed.
- a fill by sweep finds the mid lower by the half-spread: what was captured is gone.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping

from attrs import Factory, field, frozen
from attrs.validators import ge, gt, instance_of, le

from krakenbot.domain.decision.fill_probability import FillEstimate
from krakenbot.domain.decision.views import Fees
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.values import BPS, Symbol

PRIOR_LABELS = 50.0
LABELS_PER_TRADE = 0.25
MIN_SURPLUS_FLOOR_BPS = 5.0


class EdgeSource(enum.StrEnum):
    """Whether M comes from labels of this venue or from the written prior."""

    PRIOR = "prior"
    MEASURED = "measured"


@frozen(kw_only=True)
class EdgeSettings:
    """Terms of the edge. `min_labels` and `allow_prior` are warm-up; the rest are floors."""

    min_labels: int = field(default=200, validator=ge(1))
    allow_prior: bool = field(default=False, validator=instance_of(bool))
    min_surplus_bps: float = field(default=MIN_SURPLUS_FLOOR_BPS, validator=ge(MIN_SURPLUS_FLOOR_BPS))
    p_maker_exit_prior: float = field(default=0.3, validator=[ge(0.0), le(1.0)])
    adverse_share: float = field(default=0.1, validator=[ge(0.0), le(1.0)])
    adverse_se_share: float = field(default=0.05, validator=[gt(0.0), le(1.0)])
    min_se_bps: float = field(default=2.0, validator=gt(0.0))


@frozen(kw_only=True)
class MarkoutLabels:
    """Labels of one symbol group: how many, the mean M given a fill, and its standard error, bps."""

    count: int
    mean_bps: float
    se_bps: float


@frozen(kw_only=True)
class Calibration:
    """What was learnt at this venue. A symbol without a group has no labels; `p_maker_exit` None: not measured."""

    group_of: Mapping[Symbol, str] = Factory(dict)
    labels: Mapping[str, MarkoutLabels] = Factory(dict)
    p_maker_exit: float | None = None

    def labels_of(self, symbol: Symbol) -> MarkoutLabels | None:
        """Return the labels of a symbol's group."""
        return self.labels.get(self.group_of.get(symbol, ""))


@frozen(kw_only=True)
class EdgeRecord:
    """Every term of the surplus, bps of the entry price. `labels` counts those of the symbol's group."""

    source: EdgeSource
    labels: int
    m_consumed_bps: float
    m_swept_bps: float
    m_bps: float
    se_bps: float
    p_maker_exit: float
    half_spread_exit_bps: float
    slippage_bps: float
    maker_fee_bps: float
    taker_fee_bps: float
    entry_fee_bps: float
    surplus_bps: float

    @property
    def net_bps(self) -> float:
        """Return surplus less its standard error: what the gate and the ranking use."""
        return self.surplus_bps - self.se_bps


def surplus_bps(
    *, m: float, p_maker_exit: float, half_spread_exit: float, slippage: float, maker: float, taker: float
) -> float:
    """Return M plus what the way out pays or costs, less the entry's fee; all in bps, the entry is a maker."""
    as_maker = p_maker_exit * (half_spread_exit - maker)
    as_taker = (1 - p_maker_exit) * (half_spread_exit + slippage + taker)
    return m + as_maker - as_taker - maker


def expected_adverse_bps(state: SymbolState, settings: EdgeSettings) -> tuple[float, float] | None:
    """Return the expected adverse move after a fill and its standard error; None without a spread."""
    if state.spread_p50_bps is None:
        return None
    half_spread = state.spread_p50_bps / 2
    prior = settings.adverse_share * half_spread
    prior_se = max(settings.min_se_bps, settings.adverse_se_share * half_spread)
    measured = [m for m in (state.bid_markout_5s_bps, state.bid_markout_30s_bps) if m is not None]
    labels = state.bid_markout_count * LABELS_PER_TRADE if measured else 0.0
    weight = labels / (labels + PRIOR_LABELS)
    adverse = max(0.0, -min(measured, default=0.0))
    se = max(settings.min_se_bps, prior_se * math.sqrt(1 - weight))
    return (1 - weight) * prior + weight * adverse, se


def edge_of(
    state: SymbolState,
    *,
    price: float,
    fill: FillEstimate,
    slippage_bps: float,
    fees: Fees,
    calibration: Calibration,
    settings: EdgeSettings,
) -> EdgeRecord | None:
    """Return the edge of a buy at a price; None when the touch or its spread is not known.

    Labels stand when there are `min_labels` of them, otherwise the prior: whether it may be used is for readiness.
    """
    adverse = expected_adverse_bps(state, settings)
    if state.mid is None or state.spread_p50_bps is None or adverse is None:
        return None
    half_spread = state.spread_p50_bps / 2
    labels = calibration.labels_of(state.symbol)
    if labels is not None and labels.count >= settings.min_labels:
        source, m_consumed, se = EdgeSource.MEASURED, labels.mean_bps, max(labels.se_bps, settings.min_se_bps)
        # Labels hold every cause of a fill already; the sweep's share is not taken off a second time.
        m_swept = m_consumed
    else:
        # A spread that is wide only now will close: no more is captured than the median half-spread.
        captured = min((state.mid - price) / price * BPS, half_spread)
        source, m_consumed, se = EdgeSource.PRIOR, captured - adverse[0], adverse[1]
        m_swept = m_consumed - half_spread
    m = fill.mix(m_consumed, m_swept)
    measured = calibration.p_maker_exit
    p_maker_exit = settings.p_maker_exit_prior if measured is None else measured
    maker, taker = float(fees.maker_bps), float(fees.taker_bps)
    return EdgeRecord(
        source=source,
        labels=labels.count if labels else 0,
        m_consumed_bps=m_consumed,
        m_swept_bps=m_swept,
        m_bps=m,
        se_bps=se,
        p_maker_exit=p_maker_exit,
        half_spread_exit_bps=half_spread,
        slippage_bps=slippage_bps,
        maker_fee_bps=maker,
        taker_fee_bps=taker,
        entry_fee_bps=maker,
        surplus_bps=surplus_bps(
            m=m,
            p_maker_exit=p_maker_exit,
            half_spread_exit=half_spread,
            slippage=slippage_bps,
            maker=maker,
            taker=taker,
        ),
    )


def score_of(edge: EdgeRecord, fill: FillEstimate, hold_s: float) -> float:
    """Return bps per second of a slot: P_fill x (surplus - SE) / (E[rest] + P_fill x E[hold])."""
    return fill.p_fill * edge.net_bps / (fill.rest_s + fill.p_fill * hold_s)
