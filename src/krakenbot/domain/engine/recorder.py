"""The one way from a tracker's result to the store, to listeners and to those who wait.

Enters: what the tracker says an input changed. Leaves: one transaction per change, in order, and the named events for
people. The venue is the truth, so memory goes ahead of the store: with the database away changes wait here, exits go
on, and entries stop because `is_settled` is False. What waits here is lost with the process; the next start books it
again from the venue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio

from krakenbot.domain.engine.lease_keeper import LeaseKeeper
from krakenbot.domain.errors import InvariantViolated, StoreConflict, StoreUnavailable
from krakenbot.domain.execution.applied import Alarm, Applied
from krakenbot.domain.execution.change import OrderChange
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order
from krakenbot.domain.execution.tracker import OrderTracker
from krakenbot.domain.values import ClOrdId
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.order_store import OrderStore

_RETRY_S = 0.5
_FILLS_KEY = "fills_pkey"


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
        lease: LeaseKeeper,
        tracker: OrderTracker,
        event_sink: EventSink,
        store_timeout_s: float,
        backlog_max: int = 20_000,
    ) -> None:
        self.tracker = tracker
        self._clock = clock
        self._store = order_store
        self._lease = lease
        self._sink = event_sink
        self._store_timeout_s = store_timeout_s
        self._backlog_max = backlog_max
        self._backlog: deque[OrderChange] = deque()
        self._changed = anyio.Event()
        self._wakeup = anyio.Event()
        self._is_retry = False
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

    def take(self, applied: Applied) -> None:
        """Take one result: queue its change, tell listeners, wake those who wait. Never waits."""
        self._put(applied.change)
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

    def put_protection(self, change: OrderChange) -> None:
        """Queue a change that holds protection events only."""
        self._put(change)

    async def wait_for(self, is_reached: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until a condition over the tracker holds; False when it does not in time."""
        with anyio.move_on_after(timeout_s):
            while not is_reached():
                await self._changed.wait()
        return is_reached()

    async def wait_closed(self, cl_ord_id: ClOrdId, timeout_s: float) -> bool:
        """Wait until an order is terminal; False when it is not in time."""

        def is_closed() -> bool:
            order = self.tracker.get(cl_ord_id)
            return order is None or order.state.is_terminal

        return await self.wait_for(is_closed, timeout_s)

    async def drain(self, timeout_s: float) -> bool:
        """Wait until the backlog is committed; False when it is not in time."""
        with anyio.move_on_after(timeout_s):
            while self._backlog:
                await self._clock.sleep(0.01)
        return not self._backlog

    async def run(self) -> None:
        """Commit changes in order until cancelled.

        Raises InvariantViolated when the ledger disagrees with memory, LeaseLost when another process leads.
        """
        while True:
            while self._backlog:
                if await self._commit(self._backlog[0]):
                    self._backlog.popleft()
                    self.committed += 1
                else:
                    await self._clock.sleep(_RETRY_S)
            self._wakeup = anyio.Event()
            await self._wakeup.wait()

    def _put(self, change: OrderChange) -> None:
        if change.is_empty:
            return
        if len(self._backlog) >= self._backlog_max:
            raise InvariantViolated(f"I14: {len(self._backlog)} changes wait for the database")
        self._backlog.append(change)
        self._wakeup.set()

    async def _commit(self, change: OrderChange) -> bool:
        # Shielded: a commit that has begun is finished or known to have failed.
        try:
            with anyio.CancelScope(shield=True), anyio.fail_after(self._store_timeout_s):
                await self._store.apply(change, self._lease.epoch)
        except (StoreUnavailable, TimeoutError) as error:
            if self.is_store_available:
                self._sink.emit("store_away", backlog=len(self._backlog), error=str(error))
            self.is_store_available = False
            self._is_retry = True
            return False
        except StoreConflict as conflict:
            if conflict.constraint != _FILLS_KEY or not self._is_retry:
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
