"""Raw samples into the ingest database: one bounded queue, one connection, binary COPY, each row once.

Enters: samples of a run, put by the recorder. Leaves: rows, committed in batches, each with its batch id; counters;
gaps of trade ids. What waits stands in this order: the spool on disk (spool.py), then the queue (copy_queue.py, with
its policies). After `spool_after_s` of failures, or with half the queue full while the spool holds something, sealed
batches go to the spool; on return it is replayed first, in order, and at start what an earlier process left. When the
spool refuses too (disk full, size limit) the queue's policies decide what gives way, and ingest goes on.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TypeVar

import anyio
from anyio import to_thread
from attrs import field, frozen

from krakenbot.adapters.postgres.copy_batch import Batch, SpooledHead, decode_head, decode_rows, encode_batch
from krakenbot.adapters.postgres.copy_queue import CopyQueue
from krakenbot.adapters.postgres.copy_rows import TABLES, TRADES
from krakenbot.adapters.postgres.copy_session import CopySession, StartState
from krakenbot.adapters.postgres.database import Database, in_own_task
from krakenbot.adapters.postgres.spool import SampleSpool, SpoolFull, SpoolLimits
from krakenbot.domain.errors import StoreConflict, StoreError
from krakenbot.domain.market.samples import Sample, TradeSample
from krakenbot.domain.market.trade_ledger import GapCause, TradeGap, TradeSource
from krakenbot.domain.values import RunId
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.sample_sink import SinkStats

T = TypeVar("T")
_RETRY_S = 0.25
_SPOOL_RETRY_S = 5.0
# among the counts of what was dropped
_REPEATED = "repeated trade_id"
# as it is, its trades by row, and only its id
_TRIES_BY_CONFLICT = 3


@frozen(kw_only=True)
class SpoolPlace:
    """Where the spool is (a folder per database is made in it), and its limits."""

    folder: Path
    limits: SpoolLimits = field(factory=SpoolLimits)


class PostgresSampleSink:
    """SampleSink by COPY.

    `batch_rows` and `batch_s` bound a batch, `queue_rows` what is in memory. Without `spool` nothing goes to disk.
    Only one writer per database: rows are then in the order of their commit.
    """

    def __init__(
        self,
        database: Database,
        *,
        events: EventSink,
        batch_rows: int = 100_000,
        batch_s: float = 0.25,
        queue_rows: int = 400_000,
        spool: SpoolPlace | None = None,
        spool_after_s: float = 2.0,
    ) -> None:
        self._session = CopySession(database)
        self._batch_s = batch_s
        self._place = spool
        self._spool_after_s = spool_after_s
        self._events = events
        # A new name at each start: no batch of an earlier process is taken for one of this.
        self._writer_id = int.from_bytes(os.urandom(8), "big") >> 1
        self._wake = asyncio.Event()
        self._done = asyncio.Event()
        self._queue = CopyQueue(
            writer_id=self._writer_id, batch_rows=batch_rows, rows_max=queue_rows, on_sealed=self._wake.set
        )
        self._spool: SampleSpool | None = None
        # Own batches in the spool: number, and when the first row came.
        self._spooled_since: deque[tuple[int, float]] = deque()
        self._spooled_rows = 0
        self._spool_refused_mono: float | None = None
        self._away_mono: float | None = None
        self._done_total = 0
        self._rows = {table.name: 0 for table in TABLES}
        self._batches = self._failures = self._replayed = self._repeated = 0
        self.last_failure = ""

    def put(self, run_id: RunId, samples: Sequence[Sample], *, source: TradeSource = TradeSource.FEED) -> None:
        """Queue samples of a run; trades that are held are left out here."""
        self._queue.put(run_id, samples, source)

    def refill(self, trades: Sequence[TradeSample]) -> int:
        """Queue trades from history, those that are missing only; return how many these were."""
        return self._queue.refill(trades)

    def gaps(self) -> Sequence[TradeGap]:
        """Return the ranges of trade ids that are missing and may be asked for, the oldest first."""
        return self._queue.ledger.gaps()

    async def run(self) -> None:
        """Write batches until cancelled; then write what is queued, or spool it after one failure, and return."""
        try:
            while not await self._start():
                await anyio.sleep(_RETRY_S)
            while True:
                await self._step()
        finally:
            with anyio.CancelScope(shield=True):
                await self._finish()

    async def flush(self) -> None:
        """Wait until everything queued so far is committed; `run` must be running."""
        while not self._queue.is_started:
            await self._next_done()
        target = self._queue.put_total
        while self._done_total < target:
            await self._next_done()

    def stats(self) -> SinkStats:
        """Return the counters."""
        since = [mono for _, mono in list(self._spooled_since)[:1]]
        if (oldest := self._queue.oldest_mono()) is not None:
            since.append(oldest)
        ledger = self._queue.ledger
        return SinkStats(
            lag_s=perf_counter() - min(since) if since else 0.0,
            queued=self._queue.count,
            rows=dict(self._rows),
            dropped=self._queue.dropped | ({_REPEATED: self._repeated} if self._repeated else {}),
            coalesced=dict(self._queue.coalesced),
            batches=self._batches,
            failures=self._failures,
            spooled=self._spooled_rows,
            spool_bytes=self._spool.size_bytes if self._spool is not None else 0,
            spool_full=self._spool_refused_mono is not None,
            replayed=self._replayed,
            gaps_open=len(ledger.gaps()),
            trades_missing=ledger.missing_count,
            trades_refilled=ledger.refilled,
            last_failure=self.last_failure or self._queue.last_refusal,
        )

    # -- the loop ------------------------------------------------------------------------------------------------

    async def _step(self) -> None:
        """Write or replay one batch, or wait for one; after failures move what waits to the disk."""
        queue = self._queue
        if not queue.sealed and not self._spool:
            queue.is_idle = True
            await self._pause(self._batch_s)
            queue.is_idle = False
            queue.settle()
            if not queue.sealed:
                queue.seal()
        if self._spool and queue.count > queue.rows_max // 2:
            await self._spool_sealed()
        if self._spool:
            is_written = await self._replay_next(self._spool)
        elif queue.sealed:
            is_written = await self._write_next()
        else:
            return
        if is_written:
            self._note_return()
            return
        if self._away_mono is not None and perf_counter() - self._away_mono >= self._spool_after_s:
            queue.seal()
            await self._spool_sealed()
        await anyio.sleep(_RETRY_S)

    async def _next_done(self) -> None:
        self._done.clear()
        self._wake.set()
        await self._done.wait()

    async def _pause(self, wait_s: float) -> None:
        self._wake.clear()
        with anyio.move_on_after(wait_s):
            await self._wake.wait()

    async def _finish(self) -> None:
        queue = self._queue
        if queue.is_started or await self._start():
            queue.settle()
            queue.seal()
            while queue.sealed and not self._spool:
                if not await self._write_next() and not queue.sealed[0].conflicts:
                    break
            # There is no later: the pause after a refusal is for a writer that goes on.
            self._spool_refused_mono = None
            await self._spool_sealed()
        if queue.count:
            # Its trades are found missing at the next start, by the ids that follow them.
            self._events.emit("samples_lost", rows=queue.count, reason=self.last_failure)
        await self._session.disconnect()
        if self._spool is not None:
            await _in_thread(self._spool.close)

    # -- start ---------------------------------------------------------------------------------------------------

    async def _start(self) -> bool:
        """Learn what is held already, here and in what an earlier process left; False while the database is away."""
        try:
            state = await in_own_task(self._session.read_start(), finish=False)
        except StoreError as error:
            await self._note_failure(error)
            return False
        self._note_return()
        self._queue.ledger.load(state.heads, state.gaps)
        if self._place is not None:
            spool = SampleSpool(self._place.folder / state.identity, self._place.limits)
            heads = await _in_thread(spool.open)
            self._spool = spool
            self._load_left(spool, heads, state)
        self._queue.take_early()
        self._done.set()
        return True

    def _load_left(self, spool: SampleSpool, heads: Sequence[bytes], state: StartState) -> None:
        for head in filter(None, map(_readable_head, heads)):
            self._spooled_rows += head.batch.count
            if head.batch.number > state.batches.get(head.batch.writer_id, 0):
                self._queue.ledger.load_left(head.batch.changes, head.ranges)
        if heads or spool.torn_bytes:
            self._events.emit("spool_left", batches=len(heads), rows=self._spooled_rows, torn_bytes=spool.torn_bytes)

    # -- writing -------------------------------------------------------------------------------------------------

    async def _write_next(self) -> bool:
        """Write the oldest batch in memory; return whether it is committed."""
        batch = self._queue.sealed[0]
        if not await self._is_committed(batch):
            return False
        self._queue.remove_first()
        self._finished(batch)
        return True

    async def _replay_next(self, spool: SampleSpool) -> bool:
        """Write the oldest batch on disk; return whether it is done."""
        record = await _in_thread(spool.first)
        head = _readable_head(record.head) if record is not None else None
        if record is not None and record.body is not None and head is not None:
            decode_rows(record.body, head.batch)
            for conflicts in range(_TRIES_BY_CONFLICT):
                if await self._is_committed(head.batch):
                    break
                if head.batch.conflicts == conflicts:
                    # The database is away: the record stays, whatever was refused before.
                    return False
            self._replayed += head.batch.count
            self._finished(head.batch)
        elif record is not None:
            self._name_damaged(head)
        if head is not None:
            self._spooled_rows -= head.batch.count
            number = self._spooled_since[0][0] if self._spooled_since else None
            if head.batch.writer_id == self._writer_id and head.batch.number == number:
                self._spooled_since.popleft()
        await _in_thread(spool.done)
        if not spool:
            self._events.emit("spool_replayed", rows=self._replayed)
        return True

    async def _is_committed(self, batch: Batch) -> bool:
        """Write a batch; return whether it is committed, now or before."""
        try:
            await in_own_task(self._session.write(batch), finish=True)
        except StoreConflict as error:
            batch.conflicts += 1
            await self._note_failure(error)
            if batch.conflicts >= _TRIES_BY_CONFLICT - 1:
                self._give_up(batch)
            return False
        except StoreError as error:
            await self._note_failure(error)
            return False
        return True

    async def _note_failure(self, error: StoreError) -> None:
        self._failures += 1
        self.last_failure = str(error)
        if self._away_mono is None and not isinstance(error, StoreConflict):
            self._away_mono = perf_counter()
            self._events.emit("sample_writer_away", reason=str(error))
        await self._session.disconnect()

    def _note_return(self) -> None:
        away_mono, self._away_mono = self._away_mono, None
        if away_mono is not None:
            self._events.emit("sample_writer_back", away_s=round(perf_counter() - away_mono, 3))

    def _finished(self, batch: Batch) -> None:
        self._batches += 1
        self._queue.remember(batch)
        for table, count in batch.counts.items():
            self._rows[table] += count
        if batch.repeated:
            self._rows[TRADES.name] -= batch.repeated
            self._repeated += batch.repeated
            self._events.emit("trades_repeated", rows=batch.repeated, batch=batch.number)
        if batch.writer_id == self._writer_id:
            self._done_total += batch.count
        self._done.set()

    def _give_up(self, batch: Batch) -> None:
        """Keep a batch that can never be written from blocking all others: its rows are counted and named."""
        self._queue.name_lost(batch, batch.trade_ranges(), GapCause.REFUSED)
        for rows in batch.rows.values():
            rows.clear()
        batch.counts = {}

    def _name_damaged(self, head: SpooledHead | None) -> None:
        """Say that a record of the spool cannot be read, and name the trades that were in it."""
        self._events.emit("spool_damaged", rows=head.batch.count if head else None)
        if head is None:
            return
        self._queue.name_lost(head.batch, head.ranges, GapCause.SPOOL_DAMAGED)
        if head.batch.writer_id == self._writer_id:
            self._done_total += head.batch.count
            self._done.set()

    async def _spool_sealed(self) -> None:
        """Move sealed batches to the disk, oldest first, until it refuses; what it refuses stays in memory."""
        spool, now = self._spool, perf_counter()
        is_waiting = self._spool_refused_mono is not None and now - self._spool_refused_mono < _SPOOL_RETRY_S
        if spool is None or is_waiting:
            return
        while self._queue.sealed:
            batch = self._queue.sealed[0]
            is_first = not spool
            try:
                await _in_thread(partial(_append, spool, batch))
            except SpoolFull as error:
                if self._spool_refused_mono is None:
                    self._events.emit("spool_full", bytes=spool.size_bytes, queued=self._queue.count, reason=str(error))
                self._spool_refused_mono = perf_counter()
                self.last_failure = f"spool: {error}"
                return
            self._spool_refused_mono = None
            self._queue.remove_first()
            self._spooled_rows += batch.count
            self._spooled_since.append((batch.number, batch.since_mono or now))
            if is_first:
                self._events.emit("spool_started", rows=batch.count)


def _append(spool: SampleSpool, batch: Batch) -> None:
    spool.append(*encode_batch(batch))


async def _in_thread(call: Callable[[], T]) -> T:
    """Do disk work in a thread, to its end."""
    with anyio.CancelScope(shield=True):
        done = await to_thread.run_sync(call)
    return done  # noqa: RET504  # a scope may end early for a type checker


def _readable_head(text: bytes) -> SpooledHead | None:
    """Return a head; None for one that another version wrote."""
    try:
        return decode_head(text)
    except ValueError:
        return None
