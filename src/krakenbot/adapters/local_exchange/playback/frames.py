"""Decode recorded frames: envelopes, books, order books, trades, tickers, all in ticks and lots.

In: the text of a frame. Out: structs with exact numbers; `scaled` makes them integers. Called by the playback for
every recorded frame.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final, Literal

import msgspec
from msgspec import Raw, Struct

from krakenbot.adapters.local_exchange.flow.market import Side

NOTHING: Final = Raw(b"null")


class FrameError(ValueError):
    """A recorded frame that is not what its channel sends."""


class Ack(Struct):
    """The result of a subscribe or unsubscribe."""

    channel: str
    symbol: str | None = None
    depth: int | None = None
    event_trigger: str = "trades"


class Envelope(Struct):
    """What every frame of the venue has at its top."""

    channel: str | None = None
    type: str | None = None
    method: str | None = None
    success: bool = False
    result: Raw = NOTHING
    data: Raw = NOTHING


class BookLevel(Struct):
    """One price of a book frame."""

    price: Decimal
    qty: Decimal


class BookData(Struct):
    """The one element of a book frame; `timestamp` is None in old snapshots."""

    symbol: str
    checksum: int
    bids: list[BookLevel] = []
    asks: list[BookLevel] = []
    timestamp: str | None = None


class OrderRow(Struct):
    """One order or order event of a level3 frame."""

    order_id: str
    limit_price: Decimal
    order_qty: Decimal
    timestamp: str
    event: Literal["add", "modify", "delete"] = "add"


class Level3Data(Struct):
    """The one element of a level3 frame."""

    symbol: str
    checksum: int
    bids: list[OrderRow] = []
    asks: list[OrderRow] = []
    timestamp: str | None = None


class TradeRow(Struct):
    """One print; `side` is the taker's."""

    symbol: str
    side: Side
    price: Decimal
    qty: Decimal
    trade_id: int
    timestamp: str
    ord_type: str = "limit"


class TickerRow(Struct):
    """What the playback needs of a ticker row."""

    symbol: str
    last: Decimal


decode_envelope = msgspec.json.Decoder(Envelope).decode
decode_ack = msgspec.json.Decoder(Ack).decode
decode_rows = msgspec.json.Decoder(list[Raw]).decode
decode_book = msgspec.json.Decoder(BookData).decode
decode_level3 = msgspec.json.Decoder(Level3Data).decode
decode_trade = msgspec.json.Decoder(TradeRow).decode
decode_ticker = msgspec.json.Decoder(TickerRow).decode


def scaled(number: Decimal, precision: int) -> int:
    """Return a number in units of 10^-precision.

    Raises FrameError when it has more digits than that.
    """
    units = int(number.scaleb(precision))
    if units != number.scaleb(precision):
        raise FrameError(f"{number} has more than {precision} decimals")
    return units


def time_ns(text: str) -> int:
    """Return nanoseconds since the epoch of an RFC 3339 time in UTC with up to nine decimals."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return _second(whole) * 1_000_000_000 + int(fraction.ljust(9, "0"))


@lru_cache(maxsize=256)
def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
