"""Twins of the lineage store, the sample sink, the refresher, the answers and the state store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import anyio

from krakenbot.adapters.memory.database import Generation, MemoryDatabase
from krakenbot.domain.errors import StoreUnavailable
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.samples import BookSample, QueueSample, Sample, TickerSample, TradeSample
from krakenbot.domain.market.trade_ledger import TradeGap, TradeLedger, TradeSource
from krakenbot.domain.state.epoch import Epoch, EpochCriteria, EpochStatus, UniverseSnapshot
from krakenbot.domain.state.features import SymbolRows, compute_state, minute_values
from krakenbot.domain.state.windows import Windows, ns_of
from krakenbot.domain.values import NS_PER_S, EpochId, GenerationId, LineageId, RunId, Symbol
from krakenbot.ports.sample_sink import SinkStats
from krakenbot.ports.state_store import CycleInput, Refreshed

_TABLES = {
    TickerSample: "ticker_samples",
    TradeSample: "trade_samples",
    BookSample: "l2_snap_metrics",
    QueueSample: "l3_queue_metrics",
}
_DAY_NS = 24 * 3600 * NS_PER_S


class MemoryLineageStore:
    """LineageStore in memory."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._db = database

    async def start_lineage(self, at: datetime) -> tuple[LineageId, RunId]:
        """Create a lineage and its first run."""
        lineage_id = LineageId(len(self._db.lineages) + 1)
        self._db.lineages[lineage_id] = at
        self._end_open_runs(at)
        return lineage_id, await self.start_run(lineage_id, at)

    async def prepare_run(self) -> RunId:
        """Reserve the next run id."""
        run_id = RunId(max(self._db.samples, default=0) + 1)
        self._db.samples[run_id] = []
        return run_id

    async def start_run(self, lineage_id: LineageId, at: datetime, prepared: RunId | None = None) -> RunId:
        """Begin a run, and end the one before it at the same instant."""
        run_id = prepared or await self.prepare_run()
        self._db.runs[run_id] = lineage_id
        self._db.run_starts[run_id] = at
        self._end_open_runs(at, but=run_id)
        return run_id

    def _end_open_runs(self, at: datetime, *, but: RunId | None = None) -> None:
        for run_id in self._db.runs:
            if run_id != but:
                self._db.ended_runs.setdefault(run_id, at)

    async def publish_epoch(
        self,
        *,
        lineage_id: LineageId,
        run_id: RunId,
        status: EpochStatus,
        criteria: EpochCriteria,
        reasons: tuple[str, ...],
        execution: tuple[Symbol, ...],
        l3: tuple[Symbol, ...],
        pinned: tuple[Symbol, ...],
        at: datetime,
    ) -> tuple[Epoch, UniverseSnapshot]:
        """Create the next epoch with its snapshot."""
        epoch = Epoch(
            epoch_id=EpochId(max((epoch.epoch_id for epoch in self._db.epochs), default=0) + 1),
            lineage_id=lineage_id,
            run_id=run_id,
            status=status,
            created_at=at,
            criteria=criteria,
            reasons=reasons,
        )
        universe = UniverseSnapshot(epoch_id=epoch.epoch_id, execution=execution, l3=l3, pinned=pinned)
        self._db.epochs.append(epoch)
        self._db.universes[epoch.epoch_id] = universe
        return epoch, universe

    async def publish_pending(self) -> int:
        """Return 0: both databases are one."""
        return 0

    async def pinned_symbols(self) -> tuple[Symbol, ...]:
        """Return the symbols with an open position or a live order, sorted."""
        held = {position.symbol for position in self._db.positions.values() if position.qty}
        working = {order.symbol for order in self._db.orders.values() if not order.state.is_terminal}
        return tuple(sorted(held | working))

    async def end_run(self, run_id: RunId, at: datetime) -> None:
        """Mark a run as ended."""
        self._db.ended_runs.setdefault(run_id, at)


class MemorySampleSink:
    """SampleSink in memory: what is put is committed at once."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._db = database
        self._rows = dict.fromkeys(_TABLES.values(), 0)
        self._run_id: RunId | None = None
        self.ledger = TradeLedger()

    def put(self, run_id: RunId, samples: Sequence[Sample], *, source: TradeSource = TradeSource.FEED) -> None:
        """Keep samples; a repeated trade counts once."""
        self._run_id = run_id
        for sample in samples:
            if not isinstance(sample, TradeSample) or self.ledger.take(run_id, sample, source):
                self._keep(run_id, sample)

    def refill(self, trades: Sequence[TradeSample]) -> int:
        """Keep trades from history that are missing."""
        run_id = self._run_id
        taken = [trade for trade in trades if run_id is not None and self.ledger.fill(trade, TradeSource.REST)]
        for trade in taken:
            if run_id is not None:
                self._keep(run_id, trade)
        return len(taken)

    def gaps(self) -> Sequence[TradeGap]:
        """Return the ranges of trade ids that are missing."""
        return self.ledger.gaps()

    async def run(self) -> None:
        """Wait until cancelled."""
        await anyio.sleep_forever()

    async def flush(self) -> None:
        """Return: nothing waits."""

    def stats(self) -> SinkStats:
        """Return the counters."""
        return SinkStats(
            lag_s=0.0,
            queued=0,
            rows=dict(self._rows),
            dropped={},
            coalesced={},
            batches=0,
            failures=0,
            gaps_open=len(self.ledger.gaps()),
            trades_missing=self.ledger.missing_count,
            trades_refilled=self.ledger.refilled,
        )

    def _keep(self, run_id: RunId, sample: Sample) -> None:
        self._db.samples.setdefault(run_id, []).append(sample)
        self._rows[_TABLES[type(sample)]] += 1


class MemoryStateRefresher:
    """StateRefresher in memory: the domain's features over the kept samples."""

    def __init__(self, database: MemoryDatabase, *, windows: Windows | None = None) -> None:
        self._db = database
        self._windows = windows or Windows()

    async def refresh(self, lineage_id: LineageId, run_id: RunId, at: datetime) -> Refreshed:
        """Compute one new generation."""
        self._db.generations += 1
        generation_id = GenerationId(self._db.generations)
        rows = [row for run, kept in self._db.samples.items() if self._db.runs.get(run) == lineage_id for row in kept]
        states = {}
        for symbol in sorted({row.symbol for row in rows}):
            own = self._rows_of(symbol, rows, ns_of(at))
            if own is not None:
                states[symbol] = compute_state(
                    lineage_id=lineage_id,
                    run_id=run_id,
                    generation_id=generation_id,
                    symbol=symbol,
                    at=at,
                    windows=self._windows,
                    rows=own,
                )
        self._db.refreshed = Generation(
            generation_id=generation_id, lineage_id=lineage_id, computed_at=at, states=states
        )
        return Refreshed(generation_id=generation_id, symbols=len(states), duration_s=0.0)

    async def sync(self, generation_id: GenerationId) -> None:
        """Make a generation the one that execution reads."""
        if self._db.refreshed is None or self._db.refreshed.generation_id != generation_id:
            raise StoreUnavailable(f"generation {generation_id} is not the one in the database")
        self._db.generation = self._db.refreshed
        self._db.notify()

    async def publish_instruments(self, instruments: Sequence[Instrument]) -> None:
        """Keep instruments."""
        self._db.instruments.update({item.symbol: item for item in instruments})

    def _rows_of(self, symbol: Symbol, rows: list[Sample], at_ns: int) -> SymbolRows | None:
        """Return the rows of a symbol; None when all are older than the longest window."""
        from_ns = at_ns - round(self._windows.reach_s * NS_PER_S)
        own = [row for row in rows if row.symbol == symbol]
        newest = max((row.received_at_ns if isinstance(row, TickerSample) else row.at_ns for row in own), default=0)
        if newest <= from_ns:
            return None
        books = [row for row in own if isinstance(row, BookSample)]
        trades = {row.trade_id: row for row in own if isinstance(row, TradeSample)}
        day = [row for row in books if at_ns - _DAY_NS <= row.at_ns <= at_ns]
        return SymbolRows(
            books=books,
            queues=[row for row in own if isinstance(row, QueueSample)],
            trades=list(trades.values()),
            tickers=[row for row in own if isinstance(row, TickerSample)],
            minutes=minute_values(day, at_ns),
        )


class MemoryRefreshAnswers:
    """RefreshAnswers in memory."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._db = database

    async def wait_for_requests(self, wait_s: float) -> list[int]:
        """Return ids of open requests, waiting for one at most `wait_s`."""
        changed = self._db.changed
        if not self._open():
            with anyio.move_on_after(wait_s):
                await changed.wait()
        return self._open()

    async def answer(self, request_ids: Sequence[int], generation_id: GenerationId) -> None:
        """Stamp requests with a generation, and notify."""
        for request_id in request_ids:
            if self._db.requests.get(request_id, generation_id) is None:
                self._db.requests[request_id] = generation_id
        self._db.notify()

    def _open(self) -> list[int]:
        return [request_id for request_id, answer in self._db.requests.items() if answer is None]


class MemoryStateStore:
    """StateStore in memory."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._db = database

    async def request_refresh(self, at: datetime, wait_s: float) -> GenerationId | None:  # noqa: ARG002 # of the port
        """Ask and wait; None when no answer came in time."""
        request_id = len(self._db.requests) + 1
        self._db.requests[request_id] = None
        self._db.notify()
        with anyio.move_on_after(wait_s):
            while self._db.requests[request_id] is None:
                await self._db.changed.wait()
        return self._db.requests[request_id]

    async def read_cycle(self, generation_id: GenerationId, at: datetime, max_epoch_age_s: float) -> CycleInput | None:
        """Read one generation; None when it is not the one that is there."""
        generation = self._db.generation
        if generation is None or generation.generation_id != generation_id:
            return None
        epoch = self._usable_epoch(at - timedelta(seconds=max_epoch_age_s))
        return CycleInput(
            generation_id=generation_id,
            lineage_id=generation.lineage_id,
            states=dict(generation.states),
            instruments=dict(self._db.instruments),
            epoch=epoch,
            universe=self._db.universes.get(epoch.epoch_id) if epoch else None,
            engine_state=self._db.engine_state,
            safety=dict(self._db.safety),
            read_at=at,
        )

    def _usable_epoch(self, since: datetime) -> Epoch | None:
        for status in (EpochStatus.VALID, EpochStatus.DEGRADED):
            fitting = [epoch for epoch in self._db.epochs if epoch.status is status and epoch.created_at >= since]
            if fitting:
                return fitting[-1]
        return None
