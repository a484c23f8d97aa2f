"""The writer's own connection: one batch in one transaction, each batch id once.

Enters: batches. Leaves: committed rows, or our errors; at start, what the database knows of trades. Called by the COPY
writer. The batch id is taken in the same transaction as the rows are written in: an id that is taken already says that
the batch was committed, whatever became of the connection that did it. The row lock of the id also waits for a
transaction of a lost connection that still runs. So a commit in doubt is read back, never repeated blindly.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from datetime import UTC, datetime

import psycopg
from attrs import frozen
from psycopg import AsyncConnection
from psycopg.types.multirange import Int8Multirange
from psycopg.types.range import Range

from krakenbot.adapters.postgres.copy_batch import Batch
from krakenbot.adapters.postgres.copy_rows import TABLES, TRADES, Values, copy_rows
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.failures import translated
from krakenbot.domain.market.trade_ledger import GapCause, TradeGap, TradeHead
from krakenbot.domain.values import NS_PER_S, RunId, Symbol

_BATCH_TIMEOUT_S = 30.0
_START_TIMEOUT_S = 30.0
_SEND_BUFFER_BYTES = 1 << 20
_GAPS_LOADED_MAX = 10_000
_PUT_SYMBOLS = """
INSERT INTO run_symbols (run_id, symbol) SELECT * FROM unnest(%s::bigint[], %s::text[]) ON CONFLICT DO NOTHING
"""
_TAKE_ID = """
INSERT INTO copy_batches (writer_id, batch_no, written_at) VALUES (%s, %s, clock_timestamp())
ON CONFLICT (writer_id) DO UPDATE SET batch_no = excluded.batch_no, written_at = excluded.written_at
WHERE copy_batches.batch_no < excluded.batch_no
RETURNING batch_no
"""
# The first batch of a writer comes after all that earlier ones left in the spool: their ids are asked for no more. The
# age is for a spool in another folder, which may still be brought back.
_FORGET_WRITERS = """
DELETE FROM copy_batches WHERE writer_id <> %s AND written_at < clock_timestamp() - interval '30 days'
"""
_INSERT_TRADE = """
INSERT INTO trade_samples (run_id, symbol, trade_id, side, price, qty, at_ns, received_at_ns)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""
_PUT_GAP = """
INSERT INTO trade_gaps (run_id, symbol, first_trade_id, last_trade_id, cause, noticed_at, since_ns, still_missing,
    refilled_at, refilled_from)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (run_id, symbol, first_trade_id) DO UPDATE SET
    last_trade_id = greatest(trade_gaps.last_trade_id, excluded.last_trade_id),
    still_missing = excluded.still_missing, refilled_at = excluded.refilled_at, refilled_from = excluded.refilled_from
"""
_PUT_HEADS = """
INSERT INTO trade_heads (symbol, trade_id, at_ns) SELECT * FROM unnest(%s::text[], %s::bigint[], %s::bigint[])
ON CONFLICT (symbol) DO UPDATE SET trade_id = excluded.trade_id, at_ns = excluded.at_ns
"""
_LOSSES_APART_NS = 60 * NS_PER_S
# While the queue is full each batch brings losses: what is lost within a minute of a row before goes into that row.
_PUT_LOSS = """
WITH loss (run_id, kind, cause, first_at_ns, last_at_ns, samples) AS (
    VALUES (%s::bigint, %s::text, %s::text, %s::bigint, %s::bigint, %s::bigint)
), merged AS (
    UPDATE sample_losses held
    SET first_at_ns = least(held.first_at_ns, loss.first_at_ns),
        last_at_ns = greatest(held.last_at_ns, loss.last_at_ns),
        samples = held.samples + loss.samples
    FROM loss WHERE held.ctid = (
        SELECT near.ctid FROM sample_losses near
        WHERE near.run_id = loss.run_id AND near.kind = loss.kind AND near.cause = loss.cause
            AND near.last_at_ns >= loss.first_at_ns - %s AND near.first_at_ns <= loss.last_at_ns + %s
        ORDER BY near.last_at_ns DESC LIMIT 1
    )
    RETURNING held.samples
)
INSERT INTO sample_losses (run_id, kind, cause, first_at_ns, last_at_ns, samples)
SELECT * FROM loss WHERE NOT EXISTS (SELECT FROM merged)
"""
_OPEN_GAPS = """
SELECT run_id, symbol, first_trade_id, last_trade_id, cause, noticed_at, since_ns, still_missing, refilled_from
FROM trade_gaps WHERE refilled_at IS NULL ORDER BY noticed_at DESC LIMIT %s
"""


@frozen(kw_only=True)
class StartState:
    """What the database knows before this process writes: its own name, trades, and the last batch of each writer."""

    identity: str
    heads: dict[Symbol, TradeHead]
    gaps: tuple[TradeGap, ...]
    batches: dict[int, int]


class CopySession:
    """One connection, made when it is needed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: AsyncConnection | None = None
        self._ready_runs: set[RunId] = set()

    async def read_start(self) -> StartState:
        """Return what the database knows; raises StoreError."""
        with translated():
            async with asyncio.timeout(_START_TIMEOUT_S):
                connection = await self._connected()
                identity = await (await connection.execute("SELECT identity::text FROM ingest_identity")).fetchone()
                heads = await (await connection.execute("SELECT symbol, trade_id, at_ns FROM trade_heads")).fetchall()
                gaps = await (await connection.execute(_OPEN_GAPS, [_GAPS_LOADED_MAX])).fetchall()
                batches = await (await connection.execute("SELECT writer_id, batch_no FROM copy_batches")).fetchall()
        return StartState(
            identity=identity[0] if identity else "",
            heads={Symbol(symbol): TradeHead(trade_id=last, at_ns=at_ns) for symbol, last, at_ns in heads},
            gaps=tuple(_gap_of(row) for row in reversed(gaps)),
            batches=dict(batches),
        )

    async def write(self, batch: Batch) -> bool:
        """Commit a batch; return False when it was committed before. Raises StoreError.

        After an error nothing is known of the batch: call again with the same one.
        """
        with translated():
            async with asyncio.timeout(_BATCH_TIMEOUT_S):
                connection = await self._connected()
                async with connection.transaction():
                    taken = await connection.execute(_TAKE_ID, [batch.writer_id, batch.number])
                    if await taken.fetchone() is None:
                        return False
                    if batch.number == 1:
                        await connection.execute(_FORGET_WRITERS, [batch.writer_id])
                    await self._write_rows(connection, batch)
                self._ready_runs |= batch.runs
                return True

    async def disconnect(self) -> None:
        """Close the connection; the next call makes another."""
        connection, self._connection = self._connection, None
        # Partitions that were there may not be any more: they are made again, which is harmless.
        self._ready_runs.clear()
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()

    async def _write_rows(self, connection: AsyncConnection, batch: Batch) -> None:
        for run_id in sorted(batch.runs - self._ready_runs):
            await connection.execute("SELECT ensure_run_partitions(%s)", [run_id])
        if batch.symbols:
            runs, symbols = zip(*sorted(batch.symbols), strict=True)
            await connection.execute(_PUT_SYMBOLS, [list(runs), list(symbols)])
        for table in TABLES:
            rows = batch.rows[table.name]
            if rows and batch.conflicts and table is TRADES:
                cursor = connection.cursor()
                await cursor.executemany(_INSERT_TRADE, rows)
                batch.repeated = len(rows) - cursor.rowcount
            elif rows:
                await copy_rows(connection, table, rows)
        await _put_changes(connection, batch)

    async def _connected(self) -> AsyncConnection:
        if self._connection is None or self._connection.closed:
            connection = await self._database.connect()
            self._connection = connection
            _widen(connection)
            await connection.execute("SET statement_timeout = '30s'")
        return self._connection


async def _put_changes(connection: AsyncConnection, batch: Batch) -> None:
    """Write what is known of trades and losses beside the rows."""
    heads, gaps = batch.changes.heads, batch.changes.gaps
    if heads:
        values = [list(heads), [head.trade_id for head in heads.values()], [head.at_ns for head in heads.values()]]
        await connection.execute(_PUT_HEADS, values)
    if gaps:
        await connection.cursor().executemany(_PUT_GAP, [_gap_values(gap) for gap in gaps])
    if batch.losses:
        apart = (_LOSSES_APART_NS, _LOSSES_APART_NS)
        rows = [(*key, loss.first_at_ns, loss.last_at_ns, loss.samples, *apart) for key, loss in batch.losses.items()]
        await connection.cursor().executemany(_PUT_LOSS, rows)


def _gap_values(gap: TradeGap) -> Values:
    return (
        *(gap.run_id, gap.symbol, gap.first_id, gap.last_id, gap.cause.value, _moment(gap.noticed_at_ns)),
        *(gap.since_ns, Int8Multirange([Range(first, last, "[]") for first, last in gap.missing])),
        *(None if gap.refilled_at_ns is None else _moment(gap.refilled_at_ns), gap.refilled_from),
    )


def _gap_of(row: Values) -> TradeGap:
    run_id, symbol, first_id, last_id, cause, noticed_at, since_ns, missing, refilled_from = row
    return TradeGap(
        run_id=run_id,
        symbol=symbol,
        first_id=first_id,
        last_id=last_id,
        cause=GapCause(cause),
        noticed_at_ns=round(noticed_at.timestamp() * NS_PER_S),
        since_ns=since_ns,
        # PostgreSQL gives ranges of whole numbers without their upper end.
        missing=[(part.lower, part.upper - 1) for part in missing],
        refilled_from=refilled_from,
    )


def _moment(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns / NS_PER_S, UTC)


def _widen(connection: AsyncConnection) -> None:
    """Ask for a larger send buffer, so that the server has rows to read while this process does other things."""
    with socket.socket(fileno=os.dup(connection.pgconn.socket)) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
