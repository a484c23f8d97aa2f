"""Level3 rows and instruments in whole numbers, for tests that make queues by hand."""

from __future__ import annotations

from decimal import Decimal

from attrs import frozen

from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.values import Asset, Symbol

START = "2026-11-22T10:00:00.000000000Z"


@frozen
class Order:
    """A row of a snapshot, or with an event one of an update."""

    order_id: str
    limit_price: float
    order_qty: float
    timestamp: str = START
    event: str = ""


def whole_instrument(symbol: Symbol) -> Instrument:
    """A pair whose ticks and lots are 1."""
    base, quote = symbol.split("/")
    return Instrument(
        symbol=symbol,
        base=Asset(base),
        quote=Asset(quote),
        status=InstrumentStatus.ONLINE,
        price_precision=0,
        qty_precision=0,
        cost_precision=5,
        price_increment=Decimal(1),
        qty_increment=Decimal(1),
        qty_min=Decimal(1),
        cost_min=Decimal("0.5"),
    )
