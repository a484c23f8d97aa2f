"""What a position needs next: its stop, a better stop, a take-profit at rest, or the way out.

Enters: one symbol's position with its live orders, the touch and the ages. Leaves: one step, and how the position is
covered at this moment. Pure; called by the engine's position monitor. No entry gate stands before any of it.

Coins can only be promised once, so at any time either the stop or the take-profit rests, never both.
"""

from __future__ import annotations

import math
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal

from attrs import asdict, frozen

from krakenbot.domain.decision.plan import ExitKind, ExitProfile, StopTrigger
from krakenbot.domain.errors import ConfigError, invariant
from krakenbot.domain.execution.order import Order, OrderState
from krakenbot.domain.execution.position import Position, Protection
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.values import Side

_BPS = Decimal(10_000)
_STANDS = frozenset({OrderState.ACKED, OrderState.OPEN, OrderState.PARTIALLY_FILLED, OrderState.PENDING_AMEND})


@frozen(kw_only=True)
class ExitSettings:
    """Limits of the exits; seconds and basis points.

    `tp_rest_s` bounds how long a take-profit stands in the place of the stop, `tp_retry_s` is the rest between two
    of them. `trail_step_bps` is the least gain for which a trailing stop is amended.
    """

    protect_within_s: float = 5.0
    amend_interval_s: float = 2.0
    tp_rest_s: float = 10.0
    tp_retry_s: float = 15.0
    book_age_max_s: float = 1.0
    trail_step_bps: float = 5.0

    def __attrs_post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not math.isfinite(value) or value <= 0:
                raise ConfigError(f"exits.{name} = {value}: a number above 0 is allowed")


@frozen(kw_only=True)
class Touch:
    """The best bid and ask of a valid live book, and its age in seconds."""

    bid: Decimal
    ask: Decimal
    age_s: float


@frozen(kw_only=True)
class Holding:
    """One symbol as the exits see it; `at` is by the steady clock, so that no step of the wall clock ends a position.

    `unsold_qty` is the position less what the venue says was sold and is not booked yet.
    `entry_price` is what stop and target are measured from, `opened_at` what the time stop counts from. `stop` and
    `take_profit` are orders that are not terminal, None when there is none; `take_profit_since` is when that one was
    first seen. `bare_since` is None while covered.
    `stop_changed_at` is when the stop was last amended, `amend_failing_since` when the first of the amends was sent
    that have failed since the position was last covered, None when none did. `peak_bid` is the highest bid since the
    entry, `floor_price` the highest trigger that a stop of this position had. `touch` is None without a valid book.
    """

    at: datetime
    instrument: Instrument
    position: Position
    unsold_qty: Decimal
    profile: ExitProfile
    entry_price: Decimal
    opened_at: datetime
    entry_is_live: bool
    stop: Order | None = None
    take_profit: Order | None = None
    touch: Touch | None = None
    peak_bid: Decimal | None = None
    floor_price: Decimal | None = None
    bare_since: datetime | None = None
    stop_changed_at: datetime | None = None
    amend_failing_since: datetime | None = None
    take_profit_since: datetime | None = None
    take_profit_ended_at: datetime | None = None


@frozen(kw_only=True)
class Hold:
    """Nothing to do; `reason` says why."""

    reason: str


@frozen(kw_only=True)
class PlaceStop:
    """Send a protective stop."""

    qty: Decimal
    trigger_price: Decimal


@frozen(kw_only=True)
class AmendStop:
    """Amend the live stop to a new total and trigger."""

    qty: Decimal
    trigger_price: Decimal


@frozen(kw_only=True)
class CancelStop:
    """Cancel a stop that covers nothing any more."""

    reason: str


@frozen(kw_only=True)
class RestTakeProfit:
    """Cancel the stop and rest a post-only sell in its place."""

    qty: Decimal
    limit_price: Decimal


@frozen(kw_only=True)
class EndTakeProfit:
    """Cancel the take-profit and put the stop back."""

    reason: str


@frozen(kw_only=True)
class ExitAtMarket:
    """Cancel every own order of the symbol, then sell what the balance says."""

    kind: ExitKind
    reason: str


ExitStep = Hold | PlaceStop | AmendStop | CancelStop | RestTakeProfit | EndTakeProfit | ExitAtMarket


def check_profile(profile: ExitProfile) -> None:
    """Raise ConfigError for an exit profile that would leave at once or never."""
    checks = {
        "time_stop_s": profile.time_stop_s,
        "stop_distance_bps": profile.stop_distance_bps,
        "take_profit_bps": profile.take_profit_bps,
        "trail_distance_bps": 1.0 if profile.trail_distance_bps is None else profile.trail_distance_bps,
    }
    for name, value in checks.items():
        if not math.isfinite(value) or value <= 0:
            raise ConfigError(f"exit profile: {name} = {value}: a number above 0 is allowed")
    if profile.stop_distance_bps >= float(_BPS):
        raise ConfigError(f"exit profile: stop_distance_bps = {profile.stop_distance_bps}: below 10000 is allowed")


# For a position whose entry's row can't be read: a stop that protects, and a way out within the hour.
FALLBACK_PROFILE = ExitProfile(
    stop_distance_bps=200.0,
    take_profit_bps=200.0,
    trail_distance_bps=None,
    time_stop_s=3600.0,
    stop_trigger=StopTrigger.LAST,
)


def profile_to_record(profile: ExitProfile) -> dict[str, object]:
    """Return a profile as plain JSON values, for the order row."""
    return asdict(profile)


def profile_from_record(record: dict[str, object]) -> ExitProfile | None:
    """Return the profile that an order row holds under "exit_profile"; None when it holds none."""
    found = record.get("exit_profile")
    if not isinstance(found, dict):
        return None
    trail = found["trail_distance_bps"]
    return ExitProfile(
        stop_distance_bps=float(found["stop_distance_bps"]),
        take_profit_bps=float(found["take_profit_bps"]),
        trail_distance_bps=None if trail is None else float(trail),
        time_stop_s=float(found["time_stop_s"]),
        stop_trigger=StopTrigger(found["stop_trigger"]),
    )


def price_at_distance(price: Decimal, distance_bps: float, instrument: Instrument) -> Decimal:
    """Return a sell price at a signed distance, rounded up: a stop is never looser than asked, a target never less."""
    invariant(price > 0, "I5", f"{instrument.symbol}: price {price}")
    factor = 1 + Decimal(str(distance_bps)) / _BPS
    invariant(factor > 0, "I5", f"{instrument.symbol}: distance {distance_bps} bps")
    return instrument.round_price(price * factor, Side.SELL)


def sellable_qty(instrument: Instrument, position_qty: Decimal, reference_price: Decimal) -> Decimal:
    """Return the quantity of a position that an order can sell; zero for dust."""
    qty = instrument.round_qty(max(position_qty, Decimal(0)))
    invariant(qty <= max(position_qty, Decimal(0)), "I5", f"{instrument.symbol}: rounded up to {qty}")
    if qty < instrument.qty_min or qty * reference_price < instrument.cost_min:
        return Decimal(0)
    return qty


def exit_qty(holding: Holding, unsold_qty: Decimal) -> Decimal:
    """Return what an exit of this position can sell; the venue's least cost is held against the stop's price too."""
    stop = Decimal(0)
    if holding.entry_price > 0:
        stop = price_at_distance(holding.entry_price, -holding.profile.stop_distance_bps, holding.instrument)
    return sellable_qty(holding.instrument, unsold_qty, stop)


def stands(order: Order | None) -> bool:
    """Tell whether an order is known to rest at the venue and no cancel of it is under way."""
    return order is not None and order.state in _STANDS


def covered_qty(order: Order | None) -> Decimal:
    """Return what an order would still sell; zero unless it stands."""
    return order.open_qty if order is not None and stands(order) else Decimal(0)


def protection_of(holding: Holding, settings: ExitSettings) -> tuple[Protection, Decimal]:
    """Return how the position is covered now, and the quantity that is."""
    if holding.unsold_qty <= 0:
        return Protection.FLAT, Decimal(0)
    wanted = exit_qty(holding, holding.unsold_qty)
    if not wanted:
        # Dust left over is flat by name; a first small fill may still grow.
        return (Protection.UNPROTECTABLE if holding.entry_is_live else Protection.FLAT), Decimal(0)
    stopped = covered_qty(holding.stop)
    if stopped >= wanted:
        return Protection.PROTECTED, stopped
    resting = covered_qty(holding.take_profit)
    if resting >= wanted and _is_live(holding.touch, settings):
        return Protection.GUARDED, resting
    return Protection.BARE, stopped


def next_step(holding: Holding, settings: ExitSettings) -> ExitStep:
    """Return the one thing to do now; first rule wins: dust, time, guard, stop, trail, take-profit."""
    wanted = exit_qty(holding, holding.unsold_qty)
    if not wanted:
        if stands(holding.stop) and not holding.entry_is_live:
            return CancelStop(reason="no position that an order can sell")
        return Hold(reason="flat, or dust")
    if (holding.at - holding.opened_at).total_seconds() >= holding.profile.time_stop_s:
        return ExitAtMarket(kind=ExitKind.TIME_STOP, reason=f"held {holding.profile.time_stop_s:g} s")
    if holding.take_profit is not None:
        return _guard(holding, settings)
    if holding.stop is None or not stands(holding.stop):
        return _protect(holding, wanted, settings)
    return _improve(holding, holding.stop, wanted, settings)


def step_beside_sale(holding: Holding, sale: Order) -> ExitStep:
    """Return what may be done while a sale is under way: nothing that sells at once, or the coins could go twice.

    When the sale's outcome is unknown a stop is put beside it: if the sale did happen, the stop finds no coins.
    """
    wanted = exit_qty(holding, holding.unsold_qty)
    if sale.state is OrderState.UNKNOWN and holding.stop is None and wanted:
        return PlaceStop(qty=wanted, trigger_price=stop_price(holding))
    return Hold(reason="a sale is under way")


def step_for_clean_stop(holding: Holding, step: ExitStep) -> ExitStep:
    """Return the step of a clean stop: a position ends under its stop, not beside a take-profit without a guard."""
    if holding.take_profit is not None and not isinstance(step, ExitAtMarket):
        return EndTakeProfit(reason="stopping")
    return Hold(reason="stopping") if isinstance(step, RestTakeProfit) else step


def stop_price(holding: Holding) -> Decimal:
    """Return the trigger a stop should have now: from the entry, from the trail, never below the one that stands."""
    found = price_at_distance(holding.entry_price, -holding.profile.stop_distance_bps, holding.instrument)
    trail_bps = holding.profile.trail_distance_bps
    if trail_bps is not None and holding.peak_bid is not None and holding.peak_bid > holding.entry_price:
        found = max(found, price_at_distance(holding.peak_bid, -trail_bps, holding.instrument))
    if holding.floor_price is not None:
        found = max(found, holding.floor_price)
    if holding.stop is not None and holding.stop.trigger_price is not None:
        found = max(found, holding.stop.trigger_price)
    invariant(found > 0, "I5", f"{holding.instrument.symbol}: stop at {found}")
    return found


def _is_live(touch: Touch | None, settings: ExitSettings) -> bool:
    return touch is not None and touch.age_s <= settings.book_age_max_s


def _guard(holding: Holding, settings: ExitSettings) -> ExitStep:
    if not _is_live(holding.touch, settings):
        return ExitAtMarket(kind=ExitKind.PANIC, reason="no live book while the take-profit rests")
    level = stop_price(holding)
    if holding.touch is not None and holding.touch.bid <= level:
        return ExitAtMarket(kind=ExitKind.STOP_LOSS, reason=f"bid {holding.touch.bid} at the stop {level}")
    since = holding.take_profit_since or holding.at
    if (holding.at - since).total_seconds() >= settings.tp_rest_s:
        return EndTakeProfit(reason=f"rested {settings.tp_rest_s:g} s")
    return Hold(reason="take-profit rests")


def _protect(holding: Holding, wanted: Decimal, settings: ExitSettings) -> ExitStep:
    bare_s = 0.0 if holding.bare_since is None else (holding.at - holding.bare_since).total_seconds()
    if bare_s >= settings.protect_within_s:
        return ExitAtMarket(kind=ExitKind.PANIC, reason=f"not protected within {settings.protect_within_s:g} s")
    if holding.stop is not None:
        return Hold(reason=f"stop is {holding.stop.state}")
    price = stop_price(holding)
    if holding.touch is not None and holding.touch.bid <= price:
        return ExitAtMarket(kind=ExitKind.STOP_LOSS, reason=f"bid {holding.touch.bid} is at the stop {price} already")
    return PlaceStop(qty=wanted, trigger_price=price)


def _improve(holding: Holding, stop: Order, wanted: Decimal, settings: ExitSettings) -> ExitStep:
    is_amending = stop.state is OrderState.PENDING_AMEND
    # An amend of before the position was bare, or of an earlier process, counts from when it was seen to be bare.
    failing_since = holding.amend_failing_since or (holding.bare_since if is_amending else None)
    failing_s = 0.0 if failing_since is None else (holding.at - failing_since).total_seconds()
    if covered_qty(stop) < wanted and failing_s >= settings.protect_within_s:
        return ExitAtMarket(kind=ExitKind.PANIC, reason=f"no amend succeeded for {settings.protect_within_s:g} s")
    if is_amending:
        return Hold(reason="amend under way")
    # An amend states the new total: what the stop has sold already counts in it.
    total = wanted + stop.cum_qty
    trigger = stop_price(holding)
    step = (
        Decimal(0) if stop.trigger_price is None else stop.trigger_price * Decimal(str(settings.trail_step_bps)) / _BPS
    )
    is_better = stop.trigger_price is None or trigger - stop.trigger_price >= step
    changed_s = math.inf if holding.stop_changed_at is None else (holding.at - holding.stop_changed_at).total_seconds()
    if (total != stop.qty or (is_better and trigger != stop.trigger_price)) and changed_s >= settings.amend_interval_s:
        return AmendStop(qty=total, trigger_price=trigger)
    if total != stop.qty:
        return Hold(reason="amended less than the interval ago")
    return _take_profit(holding, wanted, settings)


def _take_profit(holding: Holding, wanted: Decimal, settings: ExitSettings) -> ExitStep:
    ended_at = holding.take_profit_ended_at
    rested_s = math.inf if ended_at is None else (holding.at - ended_at).total_seconds()
    if holding.touch is None or holding.entry_is_live or rested_s < settings.tp_retry_s:
        return Hold(reason="protected")
    # Half the age limit: the guard that replaces the stop must still be live when the take-profit stands.
    if holding.touch.age_s > settings.book_age_max_s / 2 or holding.touch.bid <= stop_price(holding):
        return Hold(reason="protected")
    target = price_at_distance(holding.entry_price, holding.profile.take_profit_bps, holding.instrument)
    if holding.touch.ask < target:
        return Hold(reason="protected")
    price = holding.instrument.round_price(holding.touch.ask, Side.SELL)
    return RestTakeProfit(qty=wanted, limit_price=price)


def markout_bps(price: Decimal, mid: Decimal, side: Side) -> float:
    """Return the signed mid move after a fill in bps of its price; above zero the fill was good for us."""
    invariant(price > 0, "I4", f"fill price {price}")
    sign = 1 if side is Side.BUY else -1
    moved = (mid - price) / price * _BPS * sign
    return float(moved.quantize(Decimal("0.0001"), ROUND_HALF_EVEN))
