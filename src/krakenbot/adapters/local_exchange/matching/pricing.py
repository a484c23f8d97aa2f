"""Turn prices as clients give them into ticks: static ones exactly, offsets from a reference price.

Admission, amendments and trailing stops call it. References are thousandths of a tick, so that the index keeps
its fractions. What does not fit comes back as the venue's error text.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from krakenbot.adapters.local_exchange.digits import to_units
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, Price

MILLI: Final = 1000
PCT_DIGITS: Final = 4
HUNDRED_PCT: Final = 100 * 10**PCT_DIGITS
INVALID_PRICE: Final = "EOrder:Invalid price"


def static_ticks(value: Decimal, rules: InstrumentRules) -> int | str:
    """Return a price in ticks; it must be positive, exact and on the grid."""
    ticks = to_units(value, rules.price_precision)
    if ticks is None or ticks <= 0:
        return INVALID_PRICE
    if ticks % rules.price_increment_ticks:
        return "EOrder:Tick size check failed"
    return ticks


def offset_milliticks(price: Price, reference_milliticks: int, rules: InstrumentRules) -> int | None:
    """Return an offset in thousandths of a tick; None when it has too many digits or is all of the price."""
    if price.kind == "pct":
        units = to_units(price.value, PCT_DIGITS)
        if units is None or abs(units) >= HUNDRED_PCT:
            return None
        return reference_milliticks * units // HUNDRED_PCT
    ticks = to_units(price.value, rules.price_precision)
    return None if ticks is None else ticks * MILLI


def on_grid(milliticks: int, rules: InstrumentRules, *, up: bool) -> int:
    """Return the next price on the grid in ticks, upwards or downwards, at least one increment."""
    step = rules.price_increment_ticks * MILLI
    steps = -(-milliticks // step) if up else milliticks // step
    return max(1, steps) * rules.price_increment_ticks


def trigger_ticks(price: Price, reference_milliticks: int, rules: InstrumentRules, *, falls: bool) -> int | str:
    """Return the trigger of a stop that does not trail; offsets are signed and start at the reference price.

    Rounds towards the market: up for a trigger below it, as a recorded trailing stop shows.
    """
    if price.kind == "static":
        return static_ticks(price.value, rules)
    offset = offset_milliticks(price, reference_milliticks, rules)
    if offset is None or not offset or reference_milliticks + offset <= 0:
        return INVALID_PRICE
    return on_grid(reference_milliticks + offset, rules, up=falls)


def trailing_ticks(price: Price, peak_milliticks: int, rules: InstrumentRules, *, falls: bool) -> int | str:
    """Return the trigger of a trailing stop: the peak less (or plus) a positive reversion distance."""
    distance = offset_milliticks(price, peak_milliticks, rules)
    if price.kind == "static" or distance is None or price.value <= 0:
        return INVALID_PRICE
    trigger = peak_milliticks - distance if falls else peak_milliticks + distance
    return INVALID_PRICE if trigger <= 0 else on_grid(trigger, rules, up=falls)


def limit_from_trigger(price: Price, trigger: int, rules: InstrumentRules, *, is_buy: bool) -> int | str:
    """Return the limit of a trailing stop: a signed offset from its trigger, rounded to the passive side."""
    offset = offset_milliticks(price, trigger * MILLI, rules)
    if price.kind == "static" or offset is None or trigger * MILLI + offset <= 0:
        return INVALID_PRICE
    return on_grid(trigger * MILLI + offset, rules, up=not is_buy)


def follow(order: ClientOrder, reference_milliticks: int, rules: InstrumentRules) -> None:
    """Let a waiting trailing stop follow a new reference price; its trigger never moves back."""
    falls = order.falls_to_trigger
    peak = order.peak_milliticks
    if order.trigger is None or (reference_milliticks <= peak if falls else reference_milliticks >= peak):
        return
    trigger = trailing_ticks(order.trigger, reference_milliticks, rules, falls=falls)
    if isinstance(trigger, str):
        return
    order.peak_milliticks, order.trigger_ticks = reference_milliticks, trigger
    if order.limit is not None:
        limit = limit_from_trigger(order.limit, trigger, rules, is_buy=order.side == "buy")
        order.limit_ticks = rules.price_increment_ticks if isinstance(limit, str) else limit
