"""Decode the market data frames of WS v2: book, level3, ticker, trade, instrument, status, heartbeat.

Enters: a frame as received. Leaves: one typed struct, or a `msgspec.DecodeError`. Called by the public and level3
sessions. Unknown keys are ignored; a missing or wrongly typed key that we read is refused. Structs are declared
without garbage collection: they hold no cycles, and there are thousands of them a second.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

import msgspec

from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.market.freshness import utc_ns
from krakenbot.domain.market.trade import PublicTrade
from krakenbot.domain.values import Asset, Side, Symbol

FrameType = Literal["snapshot", "update"]
# the upper bound keeps a scaled number finite; whatever is beyond it is refused with the frame
Price = Annotated[float, msgspec.Meta(gt=0, lt=1e18)]
Quantity = Annotated[float, msgspec.Meta(ge=0, lt=1e18)]
TradeId = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Checksum = Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
Precision = Annotated[int, msgspec.Meta(ge=0, le=18)]
# PostgreSQL refuses a text with a NUL, and nobody can read one with another control character
Name = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x20\x7f]{1,40}\Z")]


class BookLevel(msgspec.Struct, gc=False):
    """One changed level; quantity 0 removes it."""

    price: Price
    qty: Quantity


class BookRow(msgspec.Struct, gc=False):
    """Book data of one symbol."""

    symbol: Symbol
    bids: list[BookLevel]
    asks: list[BookLevel]
    checksum: Checksum
    # absent from old recorded snapshots
    timestamp: str = ""


class BookFrame(msgspec.Struct, gc=False, tag_field="channel", tag="book"):
    """A frame of channel book."""

    type: FrameType
    data: list[BookRow]


class QueueEntry(msgspec.Struct, gc=False):
    """One order of a level3 frame; `event` is empty in snapshots."""

    order_id: str
    limit_price: Price
    order_qty: Quantity
    timestamp: str
    event: Literal["", "add", "modify", "delete"] = ""


class QueueRow(msgspec.Struct, gc=False):
    """Level3 data of one symbol."""

    symbol: Symbol
    bids: list[QueueEntry]
    asks: list[QueueEntry]
    checksum: Checksum
    timestamp: str = ""


class QueueFrame(msgspec.Struct, gc=False, tag_field="channel", tag="level3"):
    """A frame of channel level3."""

    type: FrameType
    data: list[QueueRow]


class TickerRow(msgspec.Struct, gc=False):
    """One ticker; old captures have no timestamp."""

    symbol: Symbol
    bid: Quantity
    ask: Quantity
    last: Quantity
    volume: Quantity
    timestamp: str = ""


class TickerFrame(msgspec.Struct, gc=False, tag_field="channel", tag="ticker"):
    """A frame of channel ticker."""

    type: FrameType
    data: list[TickerRow]


class TradeRow(msgspec.Struct, gc=False):
    """One public trade; `side` is the taker's."""

    symbol: Symbol
    side: Literal["buy", "sell"]
    price: Decimal
    qty: Decimal
    trade_id: TradeId
    timestamp: str


class TradeFrame(msgspec.Struct, gc=False, tag_field="channel", tag="trade"):
    """A frame of channel trade."""

    type: FrameType
    data: list[TradeRow]


class PairRow(msgspec.Struct, gc=False):
    """One pair of the instrument channel; numbers exactly as written, exponents included."""

    symbol: Name
    base: Name
    quote: Name
    status: str
    price_precision: Precision
    qty_precision: Precision
    cost_precision: Precision
    price_increment: Decimal
    qty_increment: Decimal
    qty_min: Decimal
    cost_min: Decimal
    has_index: bool = False


class InstrumentData(msgspec.Struct, gc=False):
    """Changed pairs; each is decoded on its own, so that one odd pair does not cost the others."""

    pairs: list[msgspec.Raw] = []


class InstrumentFrame(msgspec.Struct, gc=False, tag_field="channel", tag="instrument"):
    """A frame of channel instrument."""

    type: FrameType
    data: InstrumentData


class StatusRow(msgspec.Struct, gc=False):
    """State of the matching engine."""

    system: str


class StatusFrame(msgspec.Struct, gc=False, tag_field="channel", tag="status"):
    """A frame of channel status; unsolicited, on connection and on a change."""

    data: list[StatusRow]


class HeartbeatFrame(msgspec.Struct, gc=False, tag_field="channel", tag="heartbeat"):
    """The connection lives."""


class ExactBookLevel(msgspec.Struct, gc=False):
    """One changed level whose quantity is too large for a float."""

    price: float
    qty: Decimal


class ExactBookRow(msgspec.Struct, gc=False):
    """Book data of one symbol, decoded exactly."""

    symbol: str
    bids: list[ExactBookLevel]
    asks: list[ExactBookLevel]


class ExactBookFrame(msgspec.Struct, gc=False):
    """A frame of channel book, decoded exactly."""

    data: list[ExactBookRow]


class ExactQueueEntry(msgspec.Struct, gc=False):
    """One order whose quantity is too large for a float."""

    order_id: str
    limit_price: float
    order_qty: Decimal
    timestamp: str
    event: Literal["", "add", "modify", "delete"] = ""


class ExactQueueRow(msgspec.Struct, gc=False):
    """Level3 data of one symbol, decoded exactly."""

    symbol: str
    bids: list[ExactQueueEntry]
    asks: list[ExactQueueEntry]


class ExactQueueFrame(msgspec.Struct, gc=False):
    """A frame of channel level3, decoded exactly."""

    data: list[ExactQueueRow]


MarketFrame = BookFrame | QueueFrame | TickerFrame | TradeFrame | InstrumentFrame | StatusFrame | HeartbeatFrame

decode_frame = msgspec.json.Decoder(MarketFrame).decode
"""Decode a data frame. Raises msgspec.ValidationError for JSON of another shape, msgspec.DecodeError for no JSON."""
decode_book_exactly = msgspec.json.Decoder(ExactBookFrame).decode
decode_queue_exactly = msgspec.json.Decoder(ExactQueueFrame).decode
_decode_pair = msgspec.json.Decoder(PairRow).decode
_STATUSES = {status.value: status for status in InstrumentStatus}
_LARGEST = Decimal(10) ** 18
_SMALLEST = Decimal(10) ** -18
_SMALLEST_FLOAT = float(_SMALLEST)


def decode_instruments(data: InstrumentData) -> tuple[list[Instrument], int]:
    """Return the instruments of a frame and how many pairs could not be read."""
    instruments: list[Instrument] = []
    refused = 0
    for raw in data.pairs:
        try:
            instruments.append(_instrument(_decode_pair(raw)))
        except (msgspec.DecodeError, ValueError):
            refused += 1
    return instruments, refused


def decode_trade(row: TradeRow, instrument: Instrument) -> PublicTrade:
    """Return a trade in ticks and lots; raises ValueError for numbers or times that are none of the instrument's."""
    if not (is_sane(row.price) and is_sane(row.qty)):
        raise ValueError(f"{row.symbol}: trade out of range")
    return PublicTrade(
        symbol=instrument.symbol,
        trade_id=row.trade_id,
        side=Side(row.side),
        price_ticks=instrument.ticks_of(row.price),
        size_lots=instrument.lots_of(row.qty),
        at_ns=utc_ns(row.timestamp),
    )


def has_turnover(row: TickerRow) -> bool:
    """Tell whether `last * volume` stays a double: PostgreSQL fails a whole statement over one that underflows."""
    return not any(0 < figure < _SMALLEST_FLOAT for figure in (row.last, row.volume))


def is_sane(figure: Decimal) -> bool:
    """Tell whether a positive figure has a size that exact arithmetic can bear; 1e999999 has not."""
    return figure.is_finite() and _SMALLEST <= figure < _LARGEST


def _instrument(row: PairRow) -> Instrument:
    if not all(map(is_sane, (row.price_increment, row.qty_increment, row.qty_min))):
        raise ValueError(f"{row.symbol}: increment or minimum out of range")
    if row.cost_min != 0 and not is_sane(row.cost_min):
        raise ValueError(f"{row.symbol}: minimum cost out of range")
    return Instrument(
        symbol=Symbol(row.symbol),
        base=Asset(row.base),
        quote=Asset(row.quote),
        status=_STATUSES.get(row.status, InstrumentStatus.UNKNOWN),
        price_precision=row.price_precision,
        qty_precision=row.qty_precision,
        cost_precision=row.cost_precision,
        price_increment=row.price_increment,
        qty_increment=row.qty_increment,
        qty_min=row.qty_min,
        cost_min=row.cost_min,
        has_index=row.has_index,
    )
