"""One tradable instrument: precisions, increments and minimums, and the only place that converts units.

Enters: the venue's instrument rows. Leaves: exact conversions between `Decimal` and integer ticks and lots.
"""

from __future__ import annotations

import enum
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from attrs import field, frozen

from krakenbot.domain.values import Asset, Side, Symbol


class InstrumentStatus(enum.StrEnum):
    """Trading status of an instrument as the venue states it; UNKNOWN is any word we have not met."""

    ONLINE = "online"
    CANCEL_ONLY = "cancel_only"
    DELISTED = "delisted"
    LIMIT_ONLY = "limit_only"
    MAINTENANCE = "maintenance"
    POST_ONLY = "post_only"
    REDUCE_ONLY = "reduce_only"
    WORK_IN_PROGRESS = "work_in_progress"
    UNKNOWN = "unknown"

    @property
    def allows_entry(self) -> bool:
        """Tell whether a post-only entry may be sent."""
        return self in {InstrumentStatus.ONLINE, InstrumentStatus.LIMIT_ONLY, InstrumentStatus.POST_ONLY}


@frozen(kw_only=True)
class Instrument:
    """Figures of one instrument.

    `price_increment` and `qty_increment` round orders only; they may be coarser than the precisions, and may
    change. `qty_min` is in base units, `cost_min` in quote units.
    """

    symbol: Symbol
    base: Asset
    quote: Asset
    status: InstrumentStatus
    price_precision: int
    qty_precision: int
    cost_precision: int
    price_increment: Decimal
    qty_increment: Decimal
    qty_min: Decimal
    cost_min: Decimal
    has_index: bool = False
    tick: Decimal = field(init=False)
    lot: Decimal = field(init=False)

    @tick.default
    def _tick(self) -> Decimal:
        return Decimal(1).scaleb(-self.price_precision)

    @lot.default
    def _lot(self) -> Decimal:
        return Decimal(1).scaleb(-self.qty_precision)

    def price_of(self, price_ticks: int) -> Decimal:
        """Return the exact price in quote units of a number of ticks."""
        return Decimal(price_ticks).scaleb(-self.price_precision)

    def qty_of(self, size_lots: int) -> Decimal:
        """Return the exact quantity in base units of a number of lots."""
        return Decimal(size_lots).scaleb(-self.qty_precision)

    def ticks_of(self, price: Decimal) -> int:
        """Return the ticks of a price; raises ValueError when the price is finer than the precision."""
        return _exact(price.scaleb(self.price_precision), "price", price)

    def lots_of(self, qty: Decimal) -> int:
        """Return the lots of a quantity; raises ValueError when it is finer than the precision."""
        return _exact(qty.scaleb(self.qty_precision), "quantity", qty)

    def round_price(self, price: Decimal, side: Side) -> Decimal:
        """Round a price to the increment, away from the touch: buys down, sells up."""
        rounding = ROUND_FLOOR if side is Side.BUY else ROUND_CEILING
        steps = (price / self.price_increment).to_integral_value(rounding)
        return (steps * self.price_increment).quantize(self.tick)

    def round_qty(self, qty: Decimal) -> Decimal:
        """Round a quantity down to the increment."""
        steps = (qty / self.qty_increment).to_integral_value(ROUND_FLOOR)
        return (steps * self.qty_increment).quantize(self.lot)


def _exact(scaled: Decimal, what: str, value: Decimal) -> int:
    whole = int(scaled)
    if whole != scaled:
        raise ValueError(f"{what} {value} is finer than the instrument's precision")
    return whole
