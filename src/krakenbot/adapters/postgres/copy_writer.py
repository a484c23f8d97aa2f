"""Raw samples into the ingest database: one bounded queue, one connection, binary COPY, each row once.

Enters: samples of a run, put by the recorder. Leaves: rows, committed in batches; counters. Each batch carries a
number that is committed with its rows, so that a batch whose commit is in doubt is looked up and not written twice.
Full queue: periodic samples give way, counted; a trade is only ever given up at the outer bound, counted, and named
in trade_gaps. While the database is away the queue holds what it can; a spool to disk does not exist yet.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Sequence
from time import perf_counter
from typing import cast

import anyio
import psycopg
from attrs import define, field
from psycopg import AsyncConnection

from krakenbot.adapters.postgres.copy_rows import (
    TABLE_OF,
    TABLES,
    TRADES,
    Row,
    RowEncoder,
    Values,
    copy_rows,
    trade_values,
)
from krakenbot.adapters.postgres.database import Database, in_own_task
from krakenbot.adapters.postgres.failures import translated
from krakenbot.adapters.postgres.trade_ids import TradeIds
from krakenbot.domain.errors import StoreConflict, StoreError
from krakenbot.domain.market.samples import Sample, TradeSample
from krakenbot.domain.values import RunId
from krakenbot.ports.sample_sink import SinkStats

_KEPT_RUNS = 4
_RETRY_S = 0.25
_BATCH_TIMEOUT_S = 30.0
_SEND_BUFFER_BYTES = 1 << 20
# while the writer has nothing to do, a batch of this size is worth starting at once
_IDLE_ROWS = 5_000
_PUT_SYMBOLS = """
INSERT INTO run_symbols (run_id, symbol) SELECT * FROM unnest(%s::bigint[], %s::text[]) ON CONFLICT DO NOTHING
"""
_PUT_BATCH = """
INSERT INTO copy_batches (writer_id, batch_no, written_at) VALUES (%s, %s, clock_timestamp())
ON CONFLICT (writer_id) DO UPDATE SET batch_no = excluded.batch_no, written_at = excluded.written_at
"""
_INSERT_TRADE = """
INSERT INTO trade_samples (run_id, symbol, trade_id, side, price, qty, at_ns, received_at_ns)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_PUT_GAP = """
INSERT INTO trade_gaps (run_id, symbol, first_trade_id, last_trade_id, cause) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (run_id, symbol, first_trade_id)
DO UPDATE SET last_trade_id = greatest(trade_gaps.last_trade_id, excluded.last_trade_id)
"""


@define
class _Batch:
    """Rows on their way; kept whole until it is known that they are committed."""

    number: int
    first_mono: float
    count: int = 0
    rows: dict[str, list[Row]] = field(factory=dict)
    symbols: set[tuple[RunId, str]] = field(factory=set)
    gaps: dict[tuple[RunId, str], tuple[int, int]] = field(factory=dict)
    conflicts: int = 0


class PostgresSampleSink:
    """SampleSink by COPY.

    `batch_rows` and `batch_s` bound a batch; above `queue_rows` periodic samples are coalesced away, above twice that
    trades are dropped and named. Only one writer per database: rows are then in the order of their commit.
    """

    def __init__(
        self, database: Database, *, batch_rows: int = 100_000, batch_s: float = 0.25, queue_rows: int = 400_000
    ) -> None:
        self._database = database
        self._batch_rows = batch_rows
        self._batch_s = batch_s
        self._queue_rows = queue_rows
        self._encoder = RowEncoder()
        self._queued = 0
        self._batch_no = 0
        self._sealed: deque[_Batch] = deque()
        self._open = self._new_batch()
        self._is_idle = False
        self._writer_id: int | None = None
        self._connection: AsyncConnection | None = None
        self._in_doubt = False
        self._ready_runs: set[RunId] = set()
        self._known_symbols: dict[RunId, set[str]] = {}
        self._trade_ids: dict[RunId, dict[str, TradeIds]] = {}
        self._gaps: dict[tuple[RunId, str], tuple[int, int]] = {}
        self._wake = asyncio.Event()
        self._done_total = 0
        self._done = asyncio.Event()
        self._rows = {table.name: 0 for table in TABLES}
        self._dropped: dict[str, int] = {}
        self._coalesced = 0
        self._batches = 0
        self._failures = 0
        self.last_failure = ""

    def put(self, run_id: RunId, samples: Sequence[Sample]) -> None:
        """Queue samples of a run; repeated trades are left out here."""
        encode = self._encoder.encode
        known = self._known_symbols.setdefault(run_id, set())
        row: Row | None
        for sample in samples:
            if isinstance(sample, TradeSample):
                row = self._trade_row(run_id, sample)
                table = TRADES.name
            elif self._queued < self._queue_rows:
                try:
                    row = encode(run_id, sample)
                except StoreConflict as error:
                    self._refuse(error)
                    continue
                table = TABLE_OF[type(sample)]
            else:
                self._coalesced += 1
                continue
            if row is None:
                continue
            batch = self._open
            if not batch.count:
                batch.first_mono = perf_counter()
            batch.rows[table].append(row)
            if sample.symbol not in known:
                batch.symbols.add((run_id, sample.symbol))
            batch.count += 1
            self._queued += 1
            if batch.count >= (_IDLE_ROWS if self._is_idle else self._batch_rows):
                self._seal()

    async def run(self) -> None:
        """Write batches until cancelled; then write what is queued, or give up after one failure, and return."""
        try:
            while True:
                if not self._sealed:
                    self._is_idle = True
                    await self._pause(self._batch_s)
                    self._is_idle = False
                    if not self._sealed:
                        self._seal()
                if self._sealed and not await self._write_next():
                    await anyio.sleep(_RETRY_S)
        finally:
            with anyio.CancelScope(shield=True):
                await self._finish()

    async def flush(self) -> None:
        """Wait until everything queued so far is committed; `run` must be running."""
        target = self._done_total + self._queued
        while self._done_total < target:
            self._done.clear()
            self._wake.set()
            await self._done.wait()

    def stats(self) -> SinkStats:
        """Return the counters."""
        oldest = (self._sealed[0] if self._sealed else self._open).first_mono if self._queued else None
        now = perf_counter()
        return SinkStats(
            lag_s=now - oldest if oldest is not None else 0.0,
            queued=self._queued,
            rows=dict(self._rows),
            dropped=dict(self._dropped),
            coalesced=self._coalesced,
            batches=self._batches,
            failures=self._failures,
        )

    # -- queue ---------------------------------------------------------------------------------------------------

    def _ids_of(self, run_id: RunId, symbol: str) -> TradeIds:
        runs = self._trade_ids
        if run_id not in runs:
            runs[run_id] = {}
            for old in sorted(runs)[:-_KEPT_RUNS]:
                del runs[old]
                self._known_symbols.pop(old, None)
            self._encoder.forget(min(runs))
        return runs.setdefault(run_id, {}).setdefault(symbol, TradeIds())

    def _trade_row(self, run_id: RunId, sample: TradeSample) -> Values | None:
        """Return the values of a trade; None when it was queued before, or when there is no room for it."""
        if not self._ids_of(run_id, sample.symbol).take(sample.trade_id):
            return None
        if self._queued >= 2 * self._queue_rows:
            self._drop_trade(run_id, sample)
            return None
        return trade_values(run_id, sample)

    def _drop_trade(self, run_id: RunId, sample: TradeSample) -> None:
        self._dropped["trade_samples"] = self._dropped.get("trade_samples", 0) + 1
        first, last = self._gaps.get((run_id, sample.symbol), (sample.trade_id, sample.trade_id))
        self._gaps[run_id, sample.symbol] = (min(first, sample.trade_id), max(last, sample.trade_id))

    def _refuse(self, error: StoreConflict) -> None:
        """Count a periodic sample that its table cannot hold; the others are not held up by it."""
        self._dropped[error.constraint] = self._dropped.get(error.constraint, 0) + 1
        self.last_failure = str(error)

    async def _pause(self, wait_s: float) -> None:
        self._wake.clear()
        with anyio.move_on_after(wait_s):
            await self._wake.wait()

    def _new_batch(self) -> _Batch:
        self._batch_no += 1
        return _Batch(number=self._batch_no, first_mono=perf_counter(), rows={table.name: [] for table in TABLES})

    def _seal(self) -> None:
        """Close the open batch, if it holds anything, and hand it to the writer."""
        if self._open.count or self._gaps:
            self._open.gaps, self._gaps = self._gaps, {}
            self._sealed.append(self._open)
            self._open = self._new_batch()
            self._is_idle = False
            self._wake.set()

    # -- writing -------------------------------------------------------------------------------------------------

    async def _finish(self) -> None:
        self._seal()
        while self._sealed:
            if not await self._write_next():
                break
        await self._disconnect()

    async def _write_next(self) -> bool:
        """Write the next batch, or the one that failed; return whether it is committed."""
        batch = self._sealed[0]
        try:
            await in_own_task(self._write(batch), finish=True)
        except StoreError as error:
            self._failures += 1
            self.last_failure = str(error)
            await self._disconnect()
            if isinstance(error, StoreConflict):
                self._yield_to_conflict(batch)
            return False
        self._sealed.popleft()
        self._queued -= batch.count
        self._in_doubt = False
        self._batches += 1
        for run_id, symbol in batch.symbols:
            self._known_symbols.setdefault(run_id, set()).add(symbol)
        self._ready_runs |= {run_id for run_id, _ in batch.symbols}
        for table, rows in batch.rows.items():
            self._rows[table] += len(rows)
        self._done_total += batch.count
        self._done.set()
        return True

    def _yield_to_conflict(self, batch: _Batch) -> None:
        """Keep a batch that can never be written from blocking all others: trades again row by row, then give up."""
        batch.conflicts += 1
        if batch.conflicts < 2:
            return
        for table, rows in batch.rows.items():
            if rows:
                self._dropped[table] = self._dropped.get(table, 0) + len(rows)
        for run_id, symbol, trade_id, *_ in cast("list[Values]", batch.rows[TRADES.name]):
            first, last = batch.gaps.get((run_id, symbol), (trade_id, trade_id))
            batch.gaps[run_id, symbol] = (min(first, trade_id), max(last, trade_id))
        for rows in batch.rows.values():
            rows.clear()

    async def _write(self, batch: _Batch) -> None:
        with translated():
            async with asyncio.timeout(_BATCH_TIMEOUT_S):
                connection = await self._connected()
                if self._in_doubt and await self._is_committed(connection, batch):
                    return
                async with connection.transaction():
                    await self._write_rows(connection, batch)
                    # From here on a lost connection leaves the outcome open.
                    self._in_doubt = True

    async def _write_rows(self, connection: AsyncConnection, batch: _Batch) -> None:
        for run_id in sorted({run_id for run_id, _ in batch.symbols} - self._ready_runs):
            await connection.execute("SELECT ensure_run_partitions(%s)", [run_id])
        if batch.symbols:
            runs, symbols = zip(*sorted(batch.symbols), strict=True)
            await connection.execute(_PUT_SYMBOLS, [list(runs), list(symbols)])
        await connection.execute(_PUT_BATCH, [self._writer_id, batch.number])
        for (run_id, symbol), (first, last) in batch.gaps.items():
            await connection.execute(_PUT_GAP, [run_id, symbol, first, last, "queue_full"])
        for table in TABLES:
            rows = batch.rows[table.name]
            if rows and batch.conflicts and table is TRADES:
                await connection.cursor().executemany(_INSERT_TRADE, rows)
            elif rows:
                await copy_rows(connection, table, rows)

    async def _connected(self) -> AsyncConnection:
        if self._connection is None or self._connection.closed:
            connection = await self._database.connect()
            _widen(connection)
            await connection.execute("SET statement_timeout = '30s'")
            if self._writer_id is None:
                row = await (await connection.execute("SELECT nextval('copy_writer_id_seq')")).fetchone()
                self._writer_id = int(row[0]) if row else None
            self._connection = connection
        return self._connection

    async def _is_committed(self, connection: AsyncConnection, batch: _Batch) -> bool:
        # The row lock waits for a transaction of our lost connection that still runs.
        rows = await connection.execute(
            "SELECT batch_no FROM copy_batches WHERE writer_id = %s FOR UPDATE", [self._writer_id]
        )
        row = await rows.fetchone()
        return row is not None and row[0] >= batch.number

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            try:
                await connection.close()
            except (psycopg.Error, OSError) as error:
                self.last_failure = str(error)


def _widen(connection: AsyncConnection) -> None:
    """Ask for a larger send buffer, so that the server has rows to read while this process does other things."""
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
