"""The one way from a tracker's result to the store, to listeners and to those who wait.

Enters: what the tracker says an input changed. Leaves: one transaction per change, in order, and the named events for
people. The venue is the truth, so memory goes ahead of the store: with the database away changes wait here, exits go
on, and entries stop because `is_settled` is False. What waits here is lost with the process; the next start books it
again from the venue. What was asked of the venue meanwhile is not: it stands in the local journal before it is sent,
and the journal is cleared when all that was written there is committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime

import anyio
from attrs import evolve

from krakenbot.domain.engine.lease_keeper import LeaseKeeper
from krakenbot.domain.errors import InvariantViolated, JournalFailed, LeaseLost, StoreConflict, StoreUnavailable
from krakenbot.domain.execution.applied import Alarm, Applied
from krakenbot.domain.execution.change import OrderChange
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.journal import JournalRecord
from krakenbot.domain.execution.order import Order, OrderEvent
from krakenbot.domain.execution.tracker import OrderTracker
from krakenbot.domain.values import ClOrdId, JournalId, Side
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.journal import Journal
from krakenbot.ports.order_store import OrderStore

_RETRY_S = 0.5
_JOURNAL_WAIT_S = 2.0
_JOURNAL_RETRY_S = 5.0
# What says of a repeated change that its first commit did happen.
_FOUND_KEYS = frozenset({"fills_pkey", "order_journal_pkey", "execution_orders_pkey"})


class Recorder:
    """Takes results of the tracker and commits their changes.

    `backlog_max` bounds the changes that wait for the database; when it is full the process ends, since what it does
    could not be accounted for.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        order_store: OrderStore,
        journal: Journal,
        lease: LeaseKeeper,
        tracker: OrderTracker,
        event_sink: EventSink,
        store_timeout_s: float,
        backlog_max: int = 20_000,
    ) -> None:
        self.tracker = tracker
        self._clock = clock
        self._store = order_store
        self._journal = journal
        self._lease = lease
        self._sink = event_sink
        self._store_timeout_s = store_timeout_s
        self._backlog_max = backlog_max
        self._backlog: deque[OrderChange] = deque()
        self._changed = anyio.Event()
        self._wakeup = anyio.Event()
        self._progress = anyio.Event()
        self._is_retry = False
        self._journal_lock = anyio.Lock()
        self._journaled: set[JournalId] = set()
        self._is_journal_used = False
        self._is_journal_replayed = False
        self._journal_failed_mono: float | None = None
        self.is_store_available = True
        self.on_fill: list[Callable[[Fill], None]] = []
        self.on_incomplete: list[Callable[[str], None]] = []
        self.alarms: dict[str, int] = {}
        self.committed = 0

    @property
    def backlog(self) -> int:
        """Return how many changes wait for the database."""
        return len(self._backlog)

    @property
    def is_settled(self) -> bool:
        """Tell whether the store holds all that is known."""
        return self.is_store_available and not self._backlog

    def take(self, applied: Applied, journal_ids: tuple[JournalId, ...] = ()) -> None:
        """Take one result: queue its change, tell listeners, wake those who wait. Never waits.

        `journal_ids` name the records that the change replays.
        """
        if applied.strangers:
            self._lease.see_own_order_without_row()
        self.put(_with_journal(applied.change, journal_ids) if journal_ids else applied.change)
        for row in applied.change.events:
            if row.from_state != row.to_state:
                self._tell_order(row.cl_ord_id, row.to_state)
        for fill in applied.change.fills:
            self._sink.emit(
                "fill",
                symbol=fill.symbol,
                side=fill.side,
                qty=str(fill.qty),
                price=str(fill.price),
                fee=str(fill.fee_qty),
                maker=fill.is_maker,
                cl_ord_id=fill.cl_ord_id,
                source=fill.source,
            )
            for listener in self.on_fill:
                listener(fill)
        for alarm in applied.alarms:
            self._tell_alarm(alarm)
        if applied.is_incomplete:
            for ask in self.on_incomplete:
                ask("fills_missing")
        self._changed.set()
        self._changed = anyio.Event()

    def put(self, change: OrderChange) -> int:
        """Queue a change; return the number that `committed` has when it is committed.

        What the tracker made of an input comes by `take`; this is for protection events, rows and journal records.
        """
        if change.is_empty:
            return self.committed + len(self._backlog)
        if len(self._backlog) >= self._backlog_max:
            raise InvariantViolated(f"I14: {len(self._backlog)} changes wait for the database")
        self._backlog.append(change)
        self._wakeup.set()
        return self.committed + len(self._backlog)

    def withdraw_queued(self, order: Order, at: datetime) -> None:
        """Give up a row that is queued and was never sent: it is committed as one that was never accepted."""
        self.tracker.add(order)
        self.take(
            self.tracker.apply_event(
                order.cl_ord_id, OrderEvent.WITHDRAWN, at=at, reason="its row could not be kept in time"
            )
        )

    async def commit(self, change: OrderChange, timeout_s: float) -> bool:
        """Queue a change and wait until it is committed; False when the store is away or does not answer in time.

        It stays queued in any case: one that was not committed in time is committed when the store is back.
        """
        number = self.put(change)
        with anyio.move_on_after(timeout_s):
            while self.committed < number and self.is_store_available:
                await self._progress.wait()
        if self.committed < number:
            self._note_away("no answer in time")
        return self.committed >= number

    # the journal

    @property
    def is_journal_usable(self) -> bool:
        """Tell whether the journal could be written when it was last needed."""
        return self._journal_failed_mono is None

    async def open_journal(self) -> tuple[JournalRecord, ...] | None:
        """Open the journal and return what earlier processes left; None when it can't be read.

        It is not cleared before `note_replayed` says that the store has all of it.
        """
        try:
            with anyio.fail_after(_JOURNAL_WAIT_S):
                records = tuple(await self._journal.open())
        except (JournalFailed, TimeoutError) as error:
            self._fail_journal(error)
            return None
        self._journal_failed_mono = None
        self._is_journal_used = bool(records)
        self._is_journal_replayed = not records
        return records

    def note_replayed(self) -> None:
        """Take notice that the store has what earlier processes left in the journal."""
        self._is_journal_replayed = True

    async def write_ahead(self, record: JournalRecord) -> bool:
        """Keep a record on disk; False when that can't be done.

        The change that replays it must be taken afterwards with its id: until that is committed the journal stays.
        """
        self._journaled.add(record.journal_id)
        self._is_journal_used = True
        try:
            with anyio.fail_after(_JOURNAL_WAIT_S):
                async with self._journal_lock:
                    await self._journal.append(record)
        except (JournalFailed, TimeoutError) as error:
            self._journaled.discard(record.journal_id)
            self._fail_journal(error)
            return False
        self._journal_failed_mono = None
        self._sink.emit("journaled", kind=record.kind, cl_ord_id=record.order.cl_ord_id, symbol=record.order.symbol)
        return True

    def _fail_journal(self, error: Exception) -> None:
        self._journal_failed_mono = self._clock.mono()
        self._sink.emit("journal_failed", error=str(error) or "timeout")

    async def clear_journal(self) -> None:
        """Forget the journal when the store holds all that was written there, or try a broken one again.

        Raises JournalFailed when one that could not be read at the start is found to hold records.
        """
        failed_mono = self._journal_failed_mono
        if not self._is_journal_used and failed_mono is None:
            return
        if self._backlog or self._journaled or not self.is_store_available:
            return
        if failed_mono is not None and self._clock.mono() - failed_mono < _JOURNAL_RETRY_S:
            return
        if not self._is_journal_replayed:
            # Rows are loaded by now, so only a new start can replay it.
            if await self.open_journal():
                raise JournalFailed("what an earlier process left could be read only now: a new start replays it")
            return
        try:
            with anyio.CancelScope(shield=True), anyio.fail_after(_JOURNAL_WAIT_S):
                async with self._journal_lock:
                    if not self._journaled:
                        await self._journal.clear()
        except (JournalFailed, TimeoutError) as error:
            self._fail_journal(error)
            return
        self._journal_failed_mono = None
        self._is_journal_used = bool(self._journaled)

    async def close_journal(self) -> None:
        """Let the journal go; what the store does not have yet stays in it for the next start."""
        if self._is_journal_replayed:
            await self.clear_journal()
        try:
            with anyio.fail_after(_JOURNAL_WAIT_S):
                await self._journal.aclose()
        except (JournalFailed, TimeoutError) as error:
            self._fail_journal(error)

    async def wait_for(self, is_reached: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until a condition over the tracker holds; False when it does not in time."""
        with anyio.move_on_after(timeout_s):
            while not is_reached():
                await self._changed.wait()
        return is_reached()

    async def wait_closed(self, cl_ord_id: ClOrdId, timeout_s: float) -> bool:
        """Wait until an order is terminal; False when it is not in time.

        A sale whose end the venue has told counts before its fills are booked: what it left is known by then.
        """

        def is_closed() -> bool:
            order = self.tracker.get(cl_ord_id)
            if order is None or order.state.is_terminal:
                return True
            return order.side is Side.SELL and self.tracker.is_ended(cl_ord_id)

        return await self.wait_for(is_closed, timeout_s)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until the backlog is committed; False when it is not in time."""
        with anyio.move_on_after(timeout_s):
            while self._backlog:
                await self._clock.sleep(0.01)
        return not self._backlog

    async def run(self) -> None:
        """Commit changes in order until cancelled.

        Raises InvariantViolated when the ledger disagrees with memory, LeaseLost when another process leads,
        JournalFailed when a new start must replay the journal.
        """
        while True:
            while self._backlog:
                if await self._commit(self._backlog[0]):
                    self._journaled.difference_update(self._backlog.popleft().journal_ids)
                    self.committed += 1
                    self._tell_progress()
                else:
                    await self._clock.sleep(_RETRY_S)
            await self.clear_journal()
            if self._backlog:
                continue
            self._wakeup = anyio.Event()
            with anyio.move_on_after(_JOURNAL_RETRY_S):
                await self._wakeup.wait()

    def _tell_progress(self) -> None:
        self._progress.set()
        self._progress = anyio.Event()

    def _note_away(self, cause: str) -> None:
        if self.is_store_available:
            self._sink.emit("store_away", backlog=len(self._backlog), error=cause)
        self.is_store_available = False
        self._tell_progress()

    async def _commit(self, change: OrderChange) -> bool:
        # Shielded: a commit that has begun is finished or known to have failed.
        try:
            with anyio.CancelScope(shield=True), anyio.fail_after(self._store_timeout_s):
                await self._store.apply(change, self._lease.epoch)
        except (StoreUnavailable, TimeoutError) as error:
            self._note_away(str(error) or "timeout")
            self._is_retry = True
            return False
        except LeaseLost:
            self._lease.lose()
            self._tell_progress()
            raise
        except StoreConflict as conflict:
            if conflict.constraint not in _FOUND_KEYS or not self._is_retry:
                raise InvariantViolated(f"I3: the ledger refused a change: {conflict}") from conflict
            # The commit whose answer was lost did happen; this is its repetition.
            self._sink.emit("commit_found", fills=[fill.exec_id for fill in change.fills])
        if not self.is_store_available:
            self._sink.emit("store_back", backlog=len(self._backlog) - 1)
        self.is_store_available = True
        self._is_retry = False
        return True

    def _tell_order(self, cl_ord_id: ClOrdId, state: str) -> None:
        order: Order | None = self.tracker.get(cl_ord_id)
        if order is None:
            return
        self._sink.emit(
            f"order_{state}",
            symbol=order.symbol,
            role=order.role,
            side=order.side,
            qty=str(order.qty),
            filled=str(order.cum_qty),
            limit_price=None if order.limit_price is None else str(order.limit_price),
            trigger_price=None if order.trigger_price is None else str(order.trigger_price),
            cl_ord_id=cl_ord_id,
            reason=order.reason,
        )

    def _tell_alarm(self, alarm: Alarm) -> None:
        self.alarms[alarm.code] = self.alarms.get(alarm.code, 0) + 1
        self._sink.emit("alarm", code=alarm.code, detail=alarm.detail, symbol=alarm.symbol, cl_ord_id=alarm.cl_ord_id)


def _with_journal(change: OrderChange, journal_ids: tuple[JournalId, ...]) -> OrderChange:
    named = {"journal_id": ",".join(journal_ids)}
    events = tuple(evolve(row, detail=row.detail | named) for row in change.events)
    return evolve(change, events=events, journal_ids=journal_ids)
