"""Read REST's price texts: plain ones, and offsets with a leading `+`, `-` or `#` and a trailing `%`.

`#` adds or subtracts as the type and side of the order ask. The trigger of a trailing stop is a distance and
takes `+` only. Prices that are not a stop's trigger become static here, from the last trade.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

from attrs import frozen

from krakenbot.adapters.local_exchange.digits import MAX_DIGITS, from_units
from krakenbot.adapters.local_exchange.flow.market import Side
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import (
    LIMIT_TYPES,
    STOP_TYPES,
    TRAILING_TYPES,
    Price,
    falls_to_trigger,
)
from krakenbot.adapters.local_exchange.matching.pricing import MILLI, offset_milliticks, on_grid
from krakenbot.adapters.local_exchange.protocol.rest_public import Params, RestError

SIGNS: Final = "+-#"


@frozen(kw_only=True)
class Prices:
    """The limit and the trigger of an order; None where it has none."""

    limit: Price | None
    trigger: Price | None


def read_prices(params: Params, kind: str, side: Side, market: VenueMarket) -> Prices:
    """Return the prices of an order: of a stop, `price` is the trigger and `price2` the limit.

    Raises RestError for what is no price.
    """
    falls = falls_to_trigger(kind, side) if kind in STOP_TYPES else side == "buy"
    first, second = (_read(params, name, falls=falls) for name in ("price", "price2"))
    if kind not in STOP_TYPES:
        return Prices(limit=_static(first, market, side) if kind in LIMIT_TYPES else first, trigger=None)
    if kind in TRAILING_TYPES:
        return Prices(limit=second, trigger=_distance(params, first))
    return Prices(limit=_static(second, market, side), trigger=first)


def price_text(price: Price, precision: int) -> str:
    """Return a price as descriptions show it: `27500.0`, `+1.0000%`, `-500.0`."""
    if price.kind == "static":
        return f"{price.value:.{precision}f}"
    sign = "-" if price.value < 0 else "+"
    figures = f"{abs(price.value):.4f}%" if price.kind == "pct" else f"{abs(price.value):.{precision}f}"
    return sign + figures


def number(text: str, name: str) -> Decimal:
    """Return a number that a person would write.

    Raises RestError otherwise.
    """
    # Decimal reads underscores and the digits of every script too.
    try:
        value = Decimal(text if text.isascii() and "_" not in text else "")
    except InvalidOperation as error:
        raise RestError(f"EGeneral:Invalid arguments:{name}") from error
    if not value.is_finite():
        raise RestError(f"EGeneral:Invalid arguments:{name}")
    return value


def _read(params: Params, name: str, *, falls: bool) -> Price | None:
    text = params.get(name, "").strip()
    # The venue's own sample sends price2 as 0 where there is none.
    if text in ("", "0"):
        return None
    is_pct = text.endswith("%")
    sign = text[0] if text[0] in SIGNS else ""
    if not sign and is_pct:
        raise RestError(f"EGeneral:Invalid arguments:{name}")
    figures = text.removesuffix("%").removeprefix(sign)
    value = number(figures, name)
    if not sign:
        return Price(value)
    if not figures[0].isdigit() or abs(value.adjusted()) > MAX_DIGITS:
        raise RestError(f"EGeneral:Invalid arguments:{name}")
    negative = sign == "-" or (sign == "#" and falls)
    return Price(-value if negative else value, "pct" if is_pct else "quote")


def _distance(params: Params, price: Price | None) -> Price | None:
    """Return the distance of a trailing stop, which is written with `+`."""
    if price is not None and not params["price"].strip().startswith("+"):
        raise RestError("EGeneral:Invalid arguments:price")
    return price


def _static(price: Price | None, market: VenueMarket, side: Side) -> Price | None:
    """Return a limit as a price, offsets counted from the last trade and rounded to the passive side."""
    if price is None or price.kind == "static":
        return price
    last = market.stats.last_ticks * MILLI
    offset = offset_milliticks(price, last, market.rules)
    if not last or offset is None or last + offset <= 0:
        raise RestError("EOrder:Invalid price")
    ticks = on_grid(last + offset, market.rules, up=side == "sell")
    return Price(from_units(ticks, market.rules.price_precision))
