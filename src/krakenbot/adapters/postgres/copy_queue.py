"""The bounded queue in front of COPY: what is taken, what gives way, and what is said of it.

Enters: samples of a run. Leaves: sealed batches with the gaps and losses that go with them. Called by the COPY writer.

Policies, by the number of rows in memory:
- from `rows_max` on a periodic sample is merged into the next one of its kind and symbol, counted by kind;
- from twice that on a trade is dropped, counted, and its id named in trade_gaps;
- what the table cannot hold is refused alone, counted, and a trade of it named.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter

from attrs import evolve

from krakenbot.adapters.postgres.copy_batch import Batch, Loss, Losses, TradeRange
from krakenbot.adapters.postgres.copy_rows import TABLE_OF, TRADES, Row, RowEncoder, Values, trade_values
from krakenbot.domain.errors import StoreConflict
from krakenbot.domain.market.coalesce import PeriodicSample, coalesce
from krakenbot.domain.market.samples import Sample, TradeSample
from krakenbot.domain.market.trade_ledger import GapCause, TradeLedger, TradeSource
from krakenbot.domain.values import RunId, Symbol

# while the writer has nothing to do, a batch of this size is worth starting at once
_IDLE_ROWS = 5_000
_KNOWN_RUNS = 4
# refused values are named by numbers that a table can hold
_NUMBER_MAX = 1 << 62


class CopyQueue:
    """Rows in memory; `on_sealed` is called when a batch is ready."""

    def __init__(self, *, writer_id: int, batch_rows: int, rows_max: int, on_sealed: Callable[[], None]) -> None:
        self._writer_id = writer_id
        self._batch_rows = batch_rows
        self._on_sealed = on_sealed
        self._encoder = RowEncoder()
        self._batch_no = 0
        self._open = self._new_batch()
        self._run_id: RunId | None = None
        self._known_symbols: dict[RunId, set[Symbol]] = {}
        self._early: list[tuple[RunId, TradeSample, TradeSource]] = []
        self._early_lost: dict[tuple[RunId, Symbol], tuple[TradeSample, int]] = {}
        self._pending: dict[tuple[type, Symbol], tuple[RunId, PeriodicSample]] = {}
        self._losses: Losses = {}
        self.rows_max = rows_max
        self.ledger = TradeLedger()
        self.sealed: deque[Batch] = deque()
        self.count = 0
        """Rows in memory."""
        self.put_total = 0
        """Rows that were ever queued."""
        self.dropped: dict[str, int] = {}
        self.coalesced: dict[str, int] = {}
        self.is_idle = False
        """Set by the writer while it has nothing to do."""
        self.is_started = False
        self.last_refusal = ""

    def put(self, run_id: RunId, samples: Sequence[Sample], source: TradeSource) -> None:
        """Queue samples of a run; trades that are held are left out."""
        if run_id != self._run_id:
            self._enter_run(run_id)
        for sample in samples:
            if isinstance(sample, TradeSample):
                self._put_trade(run_id, sample, source)
            elif self.count < self.rows_max:
                self._put_periodic(run_id, sample)
            else:
                self._put_pending(run_id, sample)
        if self._pending and self.count < self.rows_max // 2:
            self.settle()

    def refill(self, trades: Sequence[TradeSample]) -> int:
        """Queue trades that are missing; what has no room now stays missing."""
        run_id, before = self._run_id, self.put_total
        if run_id is None:
            return 0
        for trade in trades:
            values = self._values(run_id, trade)
            has_room = self.count < 2 * self.rows_max
            if values is not None and has_room and self.ledger.fill(trade, TradeSource.REST):
                self._append(run_id, trade.symbol, TRADES.name, values)
        return self.put_total - before

    def take_early(self) -> None:
        """Look at the trades that came before it was known what is stored."""
        early, self._early = self._early, []
        self.count -= len(early)
        self.is_started = True
        for run_id, trade, source in early:
            self._put_trade(run_id, trade, source)
        for (run_id, symbol), (first, last) in self._early_lost.items():
            ids, at_ns = (first.trade_id, last), first.at_ns
            self.ledger.lose_range(
                run_id, symbol, ids, cause=GapCause.QUEUE_FULL, since_ns=at_ns, noticed_at_ns=first.received_at_ns
            )
        self._early_lost = {}

    def settle(self) -> None:
        """Queue the samples that waited for room."""
        pending, self._pending = self._pending, {}
        for run_id, sample in pending.values():
            self._put_periodic(run_id, sample)

    def seal(self) -> None:
        """Close the open batch, if it holds anything, and hand it to the writer."""
        batch = self._open
        if batch.count or self._losses or self.ledger.has_changes:
            batch.changes = self.ledger.drain()
            batch.losses, self._losses = self._losses, {}
            batch.since_mono = batch.since_mono or perf_counter()
            batch.count_rows()
            self.sealed.append(batch)
            self._open = self._new_batch()
            self.is_idle = False
            self._on_sealed()

    def remove_first(self) -> Batch:
        """Take the oldest sealed batch out: it is committed, or on disk."""
        batch = self.sealed.popleft()
        self.count -= batch.count
        return batch

    def oldest_mono(self) -> float | None:
        """Return when the oldest row came; None when there is none."""
        batches = (self.sealed[0], self._open) if self.sealed else (self._open,)
        return min((b.since_mono for b in batches if b.count and b.since_mono is not None), default=None)

    def remember(self, batch: Batch) -> None:
        """Note that a batch is committed: its symbols need not be written again."""
        for run_id, symbol in batch.symbols:
            if run_id in self._known_symbols:
                self._known_symbols[run_id].add(symbol)

    def name_lost(self, batch: Batch, ranges: Iterable[TradeRange], cause: GapCause) -> None:
        """Count the rows of a batch that will never be written, and name its trades."""
        for table, count in batch.counts.items():
            self._count_dropped(table, count)
        for run_id, symbol, first, last, at_ns in ranges:
            self.ledger.lose_range(run_id, symbol, (first, last), cause=cause, since_ns=at_ns, noticed_at_ns=at_ns)
        self.ledger.put_back(batch.changes)

    def _enter_run(self, run_id: RunId) -> None:
        self._run_id = run_id
        self._known_symbols.setdefault(run_id, set())
        for old in sorted(self._known_symbols)[:-_KNOWN_RUNS]:
            del self._known_symbols[old]
        self._encoder.forget(min(self._known_symbols))

    def _put_trade(self, run_id: RunId, trade: TradeSample, source: TradeSource) -> None:
        has_room = self.count < 2 * self.rows_max
        if not self.is_started:
            # What is held already is not known yet.
            if has_room:
                self._early.append((run_id, trade, source))
                self.count += 1
            else:
                self._count_dropped(TRADES.name)
                first, _ = self._early_lost.get((run_id, trade.symbol), (trade, 0))
                self._early_lost[run_id, trade.symbol] = (first, trade.trade_id)
            return
        values = self._values(run_id, trade)
        if values is None or not self.ledger.take(run_id, trade, source):
            return
        if has_room:
            self._append(run_id, trade.symbol, TRADES.name, values)
        else:
            self._count_dropped(TRADES.name)
            self.ledger.lose(run_id, trade, GapCause.QUEUE_FULL)

    def _values(self, run_id: RunId, trade: TradeSample) -> Values | None:
        """Return the row of a trade; one that its table cannot hold is counted and named."""
        try:
            return trade_values(run_id, trade)
        except StoreConflict as error:
            self._count_dropped(error.constraint)
            self.last_refusal = str(error)
        if 0 <= trade.trade_id < _NUMBER_MAX:
            named = evolve(trade, at_ns=0, received_at_ns=min(max(trade.received_at_ns, 0), _NUMBER_MAX))
            if self.ledger.take(run_id, named, TradeSource.FEED):
                self.ledger.lose(run_id, named, GapCause.REFUSED)
        return None

    def _put_periodic(self, run_id: RunId, sample: PeriodicSample) -> None:
        if self._pending and (held := self._pending.pop((type(sample), sample.symbol), None)) is not None:
            sample = self._merged(held, sample)
        try:
            row = self._encoder.encode(run_id, sample)
        except StoreConflict as error:
            self._count_dropped(error.constraint)
            self._lose(run_id, sample, "refused")
            self.last_refusal = str(error)
            return
        self._append(run_id, sample.symbol, TABLE_OF[type(sample)], row)

    def _put_pending(self, run_id: RunId, sample: PeriodicSample) -> None:
        """Hold a sample until there is room; at most one of each kind and symbol."""
        key = (type(sample), sample.symbol)
        held = self._pending.get(key)
        self._pending[key] = (run_id, sample if held is None else self._merged(held, sample))

    def _merged(self, held: tuple[RunId, PeriodicSample], newer: PeriodicSample) -> PeriodicSample:
        run_id, older = held
        table = TABLE_OF[type(newer)]
        self.coalesced[table] = self.coalesced.get(table, 0) + 1
        self._lose(run_id, older, "coalesced")
        return coalesce(older, newer)

    def _append(self, run_id: RunId, symbol: Symbol, table: str, row: Row) -> None:
        batch = self._open
        if not batch.count:
            batch.since_mono = perf_counter()
        batch.rows[table].append(row)
        batch.runs.add(run_id)
        if symbol not in self._known_symbols.setdefault(run_id, set()):
            batch.symbols.add((run_id, symbol))
        batch.count += 1
        self.count += 1
        self.put_total += 1
        if batch.count >= (_IDLE_ROWS if self.is_idle else self._batch_rows):
            self.seal()

    def _count_dropped(self, table: str, count: int = 1) -> None:
        self.dropped[table] = self.dropped.get(table, 0) + count

    def _lose(self, run_id: RunId, sample: PeriodicSample, cause: str) -> None:
        at_ns = max(0, min(sample.at_ns, _NUMBER_MAX))
        key = (run_id, TABLE_OF[type(sample)], cause)
        self._losses.setdefault(key, Loss(0, at_ns, at_ns)).add(at_ns)

    def _new_batch(self) -> Batch:
        self._batch_no += 1
        return Batch(writer_id=self._writer_id, number=self._batch_no, since_mono=None)
