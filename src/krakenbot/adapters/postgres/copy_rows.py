"""Rows of the raw tables as binary COPY wants them.

Enters: samples of a run. Leaves: encoded rows, and the COPY of many of them. The three tables of periodic samples are
encoded here, one `struct` call a row, because psycopg's row-by-row writer takes twice the time of psql on rows of
twenty numbers; trades are few and hold exact numerics, which psycopg encodes.
Format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, cast

from attrs import frozen
from psycopg import AsyncConnection

from krakenbot.domain.errors import StoreConflict
from krakenbot.domain.market.coalesce import PeriodicSample
from krakenbot.domain.market.samples import BookSample, QueueSample, TickerSample, TradeSample
from krakenbot.domain.values import RunId

Values = tuple[Any, ...]
Row = bytes | Values
"""An encoded row, or the values of a trade."""
_HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
_TRAILER = struct.pack(">h", -1)
_CHUNK_ROWS = 250
_INT8_END = 1 << 63
_TYPES = {"text": "text", "int": "int8", "float": "float8", "numeric": "numeric"}


@frozen(kw_only=True)
class CopyTable:
    """A raw table: its name, its columns after run_id, and their types."""

    name: str
    columns: tuple[str, ...]
    types: tuple[str, ...]

    @property
    def copy_sql(self) -> str:
        """Return the COPY statement."""
        return f"COPY krakenbot.{self.name} (run_id, {', '.join(self.columns)}) FROM STDIN (FORMAT BINARY)"

    @property
    def copy_types(self) -> list[str]:
        """Return the types of all columns for set_types."""
        return ["int8", *(_TYPES[kind] for kind in self.types)]

    def layout(self) -> struct.Struct:
        """Return the encoding of the numbers after run_id and symbol: a length before each."""
        return struct.Struct(">" + "".join("iq" if kind == "int" else "id" for kind in self.types[1:]))


TICKERS = CopyTable(
    name="ticker_samples",
    columns=("symbol", "at_ns", "received_at_ns", "bid", "ask", "last", "volume_24h"),
    types=("text", "int", "int", *["float"] * 4),
)
TRADES = CopyTable(
    name="trade_samples",
    columns=("symbol", "trade_id", "side", "price", "qty", "at_ns", "received_at_ns"),
    types=("text", "int", "text", "numeric", "numeric", "int", "int"),
)
BOOKS = CopyTable(
    name="l2_snap_metrics",
    columns=(
        *("symbol", "at_ns", "bid", "ask", "bid_qty", "ask_qty", "mid", "spread_bps", "microprice_dev_bps"),
        *("imbalance_5", "bid_depth_10_quote", "bid_depth_25_quote", "bid_depth_50_quote", "ask_depth_10_quote"),
        *("ask_depth_25_quote", "ask_depth_50_quote", "ofi", "updates", "crossed_s", "invalid_s"),
    ),
    types=("text", "int", *["float"] * 15, "int", "float", "float"),
)
QUEUES = CopyTable(
    name="l3_queue_metrics",
    columns=(
        *("symbol", "at_ns", "bid_volume", "bid_orders", "bid_notional", "ask_volume", "ask_orders", "ask_notional"),
        *("bid_added", "bid_removed", "ask_added", "ask_removed", "bid_mean_age_s", "ask_mean_age_s"),
        *("bid_largest_share", "ask_largest_share"),
    ),
    types=("text", "int", "float", "int", "float", "float", "int", *["float"] * 9),
)
TABLES = (TICKERS, TRADES, BOOKS, QUEUES)

_ticker = TICKERS.layout().pack
_book = BOOKS.layout().pack
_queue = QUEUES.layout().pack


def _ticker_numbers(s: TickerSample) -> bytes:
    return _ticker(8, s.at_ns, 8, s.received_at_ns, 8, s.bid, 8, s.ask, 8, s.last, 8, s.volume_24h)


def _book_numbers(s: BookSample) -> bytes:
    # fmt: off
    return _book(
        8, s.at_ns, 8, s.bid, 8, s.ask, 8, s.bid_qty, 8, s.ask_qty, 8, s.mid, 8, s.spread_bps,
        8, s.microprice_dev_bps, 8, s.imbalance_5, 8, s.bid_depth_10_quote, 8, s.bid_depth_25_quote,
        8, s.bid_depth_50_quote, 8, s.ask_depth_10_quote, 8, s.ask_depth_25_quote, 8, s.ask_depth_50_quote,
        8, s.ofi, 8, s.updates, 8, s.crossed_s, 8, s.invalid_s,
    )
    # fmt: on


def _queue_numbers(s: QueueSample) -> bytes:
    # fmt: off
    return _queue(
        8, s.at_ns, 8, s.bid_volume, 8, s.bid_orders, 8, s.bid_notional, 8, s.ask_volume, 8, s.ask_orders,
        8, s.ask_notional, 8, s.bid_added, 8, s.bid_removed, 8, s.ask_added, 8, s.ask_removed, 8, s.bid_mean_age_s,
        8, s.ask_mean_age_s, 8, s.bid_largest_share, 8, s.ask_largest_share,
    )
    # fmt: on


TABLE_OF = {TickerSample: TICKERS.name, BookSample: BOOKS.name, QueueSample: QUEUES.name}
_NUMBERS: dict[type, tuple[CopyTable, Callable[[Any], bytes]]] = {
    TickerSample: (TICKERS, _ticker_numbers),
    BookSample: (BOOKS, _book_numbers),
    QueueSample: (QUEUES, _queue_numbers),
}


class RowEncoder:
    """Encodes periodic samples; keeps the bytes that begin every row of a run, table and symbol."""

    def __init__(self) -> None:
        self._heads: dict[tuple[RunId, type], dict[str, bytes]] = {}

    def encode(self, run_id: RunId, sample: PeriodicSample) -> bytes:
        """Return the row of a sample; raises StoreConflict for a value that the table cannot hold."""
        kind = type(sample)
        table, numbers = _NUMBERS[kind]
        heads = self._heads.get((run_id, kind))
        if heads is None:
            heads = self._heads[run_id, kind] = {}
        try:
            head = heads.get(sample.symbol)
            if head is None:
                head = heads[sample.symbol] = _head(table, run_id, sample.symbol)
            return head + numbers(sample)
        except (struct.error, TypeError, OverflowError, UnicodeEncodeError) as error:
            raise StoreConflict(table.name, f"a value that {table.name} cannot hold: {error}") from error

    def forget(self, before: RunId) -> None:
        """Drop what is kept of runs before this one."""
        self._heads = {key: heads for key, heads in self._heads.items() if key[0] >= before}


async def copy_rows(connection: AsyncConnection, table: CopyTable, rows: Sequence[Row]) -> None:
    """Write rows by binary COPY inside the caller's transaction; encoded ones may be cut anywhere.

    Raises StoreConflict for a trade that the table cannot hold.
    """
    async with connection.cursor().copy(table.copy_sql.encode()) as copy:
        if table is not TRADES:
            await copy.write(_HEADER)
            encoded = cast("Sequence[bytes]", rows)
            for start in range(0, len(encoded), _CHUNK_ROWS):
                await copy.write(b"".join(encoded[start : start + _CHUNK_ROWS]))
            await copy.write(_TRAILER)
            return
        copy.set_types(table.copy_types)
        for values in cast("Sequence[Values]", rows):
            try:
                await copy.write_row(values)
            except (ArithmeticError, ValueError, TypeError, struct.error) as error:
                raise StoreConflict(table.name, f"a value that {table.name} cannot hold: {error}") from error


def _head(table: CopyTable, run_id: int, symbol: str) -> bytes:
    text = symbol.encode()
    return struct.pack(">hiqi", 1 + len(table.columns), 8, run_id, len(text)) + text


def trade_values(run_id: int, trade: TradeSample) -> Values:
    """Return the values of a trade in the order of its table's columns.

    Raises StoreConflict for a value that the table cannot hold.
    """
    whole = (trade.trade_id, trade.at_ns, trade.received_at_ns)
    if not all(-_INT8_END <= number < _INT8_END for number in whole):
        raise StoreConflict(TRADES.name, f"a whole number of trade {trade.trade_id} that int8 cannot hold")
    if not (trade.price.is_finite() and trade.qty.is_finite()):
        raise StoreConflict(TRADES.name, f"a price or quantity of trade {trade.trade_id} that is no number")
    side = trade.side.value
    return run_id, trade.symbol, trade.trade_id, side, trade.price, trade.qty, trade.at_ns, trade.received_at_ns
