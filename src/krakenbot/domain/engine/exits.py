"""The position monitor: every position gets its stop at once, then a trail, a take-profit, a way out.

Enters: fills (as wake-ups), live books, the passage of time. Leaves: protective exits, amends and cancels through the
desk, and protection events so that seconds can be counted. No entry gate stands before any of it, and it waits for no
database while the reserved intent of the entry is at hand.

One symbol is worked on by one task at a time, so two exits of the same coins can't race; symbols go side by side.
"""

from __future__ import annotations

import anyio
from anyio.abc import TaskGroup

from krakenbot.domain.engine.desk import OrderDesk
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.exit_steps import ExitSteps
from krakenbot.domain.engine.holdings import HoldingReader, is_unknown
from krakenbot.domain.engine.protection import Cover, ProtectionCounter
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.execution.exits import (
    next_step,
    stands,
    step_beside_sale,
    step_for_clean_stop,
)
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import OrderRole, OrderState
from krakenbot.domain.execution.position import Protection
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.values import Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.market_feed import MarketFeed
from krakenbot.ports.order_store import OrderStore
from krakenbot.ports.venue_query import VenueQuery

# In the end of a process a take-profit is no cover: nobody guards it any more.
_UNCOVERED = frozenset({Protection.BARE, Protection.GUARDED})


class PositionMonitor:
    """Protects and closes positions."""

    def __init__(
        self,
        *,
        clock: Clock,
        query: VenueQuery,
        market_feed: MarketFeed,
        order_store: OrderStore,
        recorder: Recorder,
        desk: OrderDesk,
        settings: ExecutionSettings,
        event_sink: EventSink,
    ) -> None:
        self._clock = clock
        self._recorder = recorder
        self._tracker = recorder.tracker
        self._desk = desk
        self._settings = settings
        self._sink = event_sink
        self._covers: dict[Symbol, Cover] = {}
        self._busy: set[Symbol] = set()
        self._is_stopping = False
        self._dirty: set[Symbol] = set()
        self._wakeup = anyio.Event()
        self._holdings = HoldingReader(
            clock=clock,
            market_feed=market_feed,
            order_store=order_store,
            recorder=recorder,
            desk=desk,
            settings=settings,
            event_sink=event_sink,
        )
        self._protection = ProtectionCounter(recorder=recorder, settings=settings.exits, event_sink=event_sink)
        self._steps = ExitSteps(
            clock=clock,
            query=query,
            recorder=recorder,
            desk=desk,
            event_sink=event_sink,
            recount=self._recount,
            look_again=self._look_again,
        )

    @property
    def seconds(self) -> dict[str, float]:
        """Return how many seconds positions were covered in each way."""
        return self._protection.seconds

    @property
    def protected_within_s(self) -> list[float]:
        """Return how long each bare spell lasted, oldest first."""
        return self._protection.within_s

    def wake(self, fill: Fill) -> None:
        """Take notice of a fill: its symbol is looked at now."""
        self._look_again(fill.symbol)

    def set_instruments(self, instruments: dict[Symbol, Instrument]) -> None:
        """Take the instruments known at start; the live feed's own are newer and go first."""
        self._holdings.instruments = instruments

    def distrust_intents(self) -> None:
        """Mark stops of an earlier process whose outcome is unknown: they count for nothing, a new one is sent."""
        self._holdings.doubtful = {o.cl_ord_id for o in self._tracker.live() if o.state is OrderState.UNKNOWN}

    def protection(self) -> dict[Symbol, Protection]:
        """Return how each held symbol is covered."""
        return {symbol: self._covers[symbol].protection for symbol in sorted(self._covers)}

    async def run(self) -> None:
        """Look at every held symbol often, and at once after a fill, until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                with anyio.move_on_after(self._settings.monitor_interval_s):
                    await self._wakeup.wait()
                self._wakeup = anyio.Event()
                self._start_steps(tasks)

    async def protect_all(self) -> None:
        """Leave every position with its stop: no take-profit is left behind without its guard. For the clean stop.

        Looks again while a position has no stop: a request may be refused, or its answer late. The caller bounds it.
        """
        self._is_stopping = True
        while self._busy:
            await self._clock.sleep(self._settings.monitor_interval_s)
        while True:
            for symbol in sorted(self._held()):
                await self._step_alone(symbol)
            if not any(cover.protection in _UNCOVERED for cover in self._covers.values()):
                return
            await self._clock.sleep(self._settings.monitor_interval_s)

    def _start_steps(self, tasks: TaskGroup) -> None:
        wanted = self._held() | self._dirty
        for symbol in sorted(wanted - self._busy) if not self._is_stopping else ():
            self._dirty.discard(symbol)
            self._busy.add(symbol)
            tasks.start_soon(self._step_alone, symbol)

    def _look_again(self, symbol: Symbol) -> None:
        self._dirty.add(symbol)
        self._wakeup.set()

    async def _step_alone(self, symbol: Symbol) -> None:
        try:
            await self.step(symbol)
        finally:
            self._busy.discard(symbol)

    def _held(self) -> set[Symbol]:
        exits = {o.symbol for o in self._tracker.live() if o.role is not OrderRole.ENTRY}
        return {p.symbol for p in self._tracker.positions()} | set(self._covers) | exits

    async def step(self, symbol: Symbol) -> None:
        """Do the one thing that a symbol needs now."""
        cover = self._covers.setdefault(symbol, Cover())
        await self._tidy_orders(symbol)
        if self._tracker.position(symbol).qty <= 0:
            self._settle_flat(symbol, cover)
            return
        holding = await self._holdings.read(symbol, cover)
        if holding is None:
            return
        self._protection.count(cover, holding)
        if self._clock.mono() < cover.rest_until_mono:
            return
        sales = (o for o in self._tracker.live(symbol) if o.role is OrderRole.MARKET_EXIT)
        sale = next((o for o in sales if not self._tracker.is_ended(o.cl_ord_id)), None)
        step = next_step(holding, self._settings.exits) if sale is None else step_beside_sale(holding, sale)
        if self._is_stopping:
            step = step_for_clean_stop(holding, step)
        await self._steps.perform(symbol, cover, holding, step)
        await self._recount(symbol, cover)

    async def _recount(self, symbol: Symbol, cover: Cover) -> None:
        holding = await self._holdings.read(symbol, cover) if self._tracker.position(symbol).qty > 0 else None
        if holding is not None:
            self._protection.count(cover, holding)

    def _settle_flat(self, symbol: Symbol, cover: Cover) -> None:
        """Close the account of a symbol that holds nothing; forget it when no exit order is left."""
        if cover.since is not None:
            self._protection.close(cover, self._tracker.position(symbol), self._holdings.now())
            self._covers[symbol] = Cover()
        if not any(o.role is not OrderRole.ENTRY for o in self._tracker.live(symbol)):
            del self._covers[symbol]

    async def _tidy_orders(self, symbol: Symbol) -> None:
        """Withdraw intents that no fill will need, cancel exits that cover nothing and stops beyond the best one."""
        live = self._tracker.live(symbol)
        entries = {o.cl_ord_id for o in live if o.role is OrderRole.ENTRY}
        is_flat = self._tracker.position(symbol).qty <= 0
        resting = [order for order in live if not self._tracker.is_ended(order.cl_ord_id)]
        best = self._holdings.best_stop(resting)
        for order in resting:
            if order.role is OrderRole.TAKE_PROFIT:
                if is_flat or is_unknown(order):
                    await self._desk.cancel(order.cl_ord_id)
            elif order.role is not OrderRole.PROTECTIVE_STOP:
                continue
            elif self._desk.is_fresh_intent(order):
                if order.parent_id not in entries and (is_flat or best is not None):
                    self._desk.withdraw_intent(order.cl_ord_id, "no fill needs it")
            elif (is_flat and not entries) or (stands(order) and order is not best):
                await self._desk.cancel(order.cl_ord_id)
