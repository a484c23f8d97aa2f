"""The position monitor: every position gets its stop at once, then a trail, a take-profit, a way out.

Enters: fills (as wake-ups), live books, the passage of time. Leaves: protective exits, amends and cancels through the
desk, and protection events so that seconds can be counted. No entry gate stands before any of it, and it waits for no
database while the reserved intent of the entry is at hand.

One symbol is worked on by one task at a time, so two exits of the same coins can't race; symbols go side by side.
"""

from __future__ import annotations

from decimal import Decimal
from typing import assert_never

import anyio
from anyio.abc import TaskGroup
from attrs import evolve

from krakenbot.domain.decision.plan import ExitKind, ProtectiveExit
from krakenbot.domain.engine.desk import AmendResult, OrderDesk
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.holdings import HoldingReader, is_unknown
from krakenbot.domain.engine.protection import Cover, ProtectionCounter
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.errors import VenueRejected, VenueUnavailable
from krakenbot.domain.execution.exits import (
    AmendStop,
    CancelStop,
    EndTakeProfit,
    ExitAtMarket,
    ExitStep,
    Hold,
    Holding,
    PlaceStop,
    RestTakeProfit,
    covered_qty,
    exit_qty,
    next_step,
    stands,
    step_beside_sale,
    step_for_clean_stop,
    stop_price,
)
from krakenbot.domain.execution.fills import Fill, assets_of
from krakenbot.domain.execution.order import Order, OrderRole, OrderState
from krakenbot.domain.execution.position import Protection
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.values import ClOrdId, Side, Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.market_feed import MarketFeed
from krakenbot.ports.order_store import OrderStore
from krakenbot.ports.venue_query import VenueQuery

_CANCEL_WAIT_S = 3.0
_SALE_WAIT_S = 5.0
_SALES_MAX = 3
_REST_MIN_S = 1.0
_REST_MAX_S = 30.0
# A stop that was provably not sent is an intent again; another exit is given up.
_FAILED = frozenset({OrderState.REJECTED, OrderState.PENDING_SUBMIT, OrderState.NEVER_ACCEPTED})
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
        self._query = query
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
        self._dirty.add(fill.symbol)
        self._wakeup.set()

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
        await self._perform(symbol, cover, holding, step)
        await self._recount(symbol, cover)

    async def _recount(self, symbol: Symbol, cover: Cover) -> None:
        holding = await self._holdings.read(symbol, cover) if self._tracker.position(symbol).qty > 0 else None
        if holding is not None:
            self._protection.count(cover, holding)

    async def _perform(self, symbol: Symbol, cover: Cover, holding: Holding, step: ExitStep) -> None:
        match step:
            case Hold():
                pass
            case PlaceStop():
                await self._place_stop(symbol, cover, holding, step)
            case AmendStop():
                await self._amend_stop(cover, holding, step)
            case CancelStop():
                if holding.stop is not None:
                    await self._desk.cancel(holding.stop.cl_ord_id)
            case RestTakeProfit():
                await self._rest_take_profit(symbol, cover, holding, step)
            case EndTakeProfit():
                if holding.take_profit is not None:
                    cover.take_profit_ended_at = holding.at
                    await self._desk.cancel_and_wait(holding.take_profit.cl_ord_id, _CANCEL_WAIT_S)
                    self._dirty.add(symbol)
                    self._wakeup.set()
            case ExitAtMarket():
                await self._exit_at_market(symbol, cover, holding, step)
            case _:
                assert_never(step)

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

    # steps

    async def _place_stop(self, symbol: Symbol, cover: Cover, holding: Holding, step: PlaceStop) -> None:
        intent = self._unsent_stop(symbol, cover)
        qty = step.qty
        if cover.use_balance:
            qty = await self._from_balance(symbol, holding.instrument, qty)
        cover.stop_changed_at = None
        plan = self._stop_plan(holding, qty, step.trigger_price)
        sent = await self._desk.send_exit(evolve(plan, cl_ord_id=intent), parent_id=holding.position.entry_id)
        self._judge(cover, sent)

    def _unsent_stop(self, symbol: Symbol, cover: Cover) -> ClOrdId | None:
        """Return a stop whose row is committed and which was never sent."""
        intents = [
            o
            for o in self._tracker.live(symbol)
            if o.role is OrderRole.PROTECTIVE_STOP and self._desk.is_fresh_intent(o)
        ]
        best = max(intents, key=lambda o: (o.parent_id == cover.entry_id, o.created_at), default=None)
        return None if best is None else best.cl_ord_id

    def _stop_plan(self, holding: Holding, qty: Decimal, trigger_price: Decimal) -> ProtectiveExit:
        return ProtectiveExit(
            symbol=holding.position.symbol,
            qty=qty,
            kind=ExitKind.STOP_LOSS,
            reason="protection",
            trigger_price=trigger_price,
            trigger=holding.profile.stop_trigger,
        )

    async def _amend_stop(self, cover: Cover, holding: Holding, step: AmendStop) -> None:
        if holding.stop is None:
            return
        cover.stop_changed_at = holding.at
        if step.qty == holding.stop.qty and not self._desk.may_trail(holding.stop.symbol):
            return
        result = await self._desk.amend(holding.stop.cl_ord_id, qty=step.qty, trigger_price=step.trigger_price)
        if result is AmendResult.ACCEPTED:
            cover.amend_failing_since = None
            return
        if cover.bare_since is not None:
            cover.amend_failing_since = cover.amend_failing_since or holding.at
        order = self._tracker.get(holding.stop.cl_ord_id)
        if result is not AmendResult.REFUSED or order is None or not stands(order):
            return
        is_broken = holding.touch is not None and holding.touch.bid <= step.trigger_price
        if covered_qty(order) >= exit_qty(holding, self._tracker.unsold_qty(order.symbol)) and not is_broken:
            # A better trigger is not worth the seconds without any; it is asked for again.
            return
        # The shortest replacement, cancel and place anew; the bare seconds in between are counted.
        self._sink.emit("stop_replaced", symbol=order.symbol, cl_ord_id=order.cl_ord_id)
        if await self._desk.cancel_and_wait(order.cl_ord_id, _CANCEL_WAIT_S):
            self._dirty.add(order.symbol)
            self._wakeup.set()

    async def _rest_take_profit(self, symbol: Symbol, cover: Cover, holding: Holding, step: RestTakeProfit) -> None:
        """Put a take-profit in the place of the stop, once both its row and that of the next stop are committed."""
        cover.take_profit_ended_at = holding.at
        if holding.stop is None or not self._recorder.is_store_available:
            return
        plan = ProtectiveExit(
            symbol=symbol,
            qty=step.qty,
            kind=ExitKind.TAKE_PROFIT,
            reason=f"ask {holding.touch.ask if holding.touch else ''} at the target",
            limit_price=step.limit_price,
        )
        entry_id = holding.position.entry_id
        next_stop = self._unsent_stop(symbol, cover) or await self._desk.reserve_exit(
            self._stop_plan(holding, step.qty, stop_price(holding)), parent_id=entry_id
        )
        profit_id = None if next_stop is None else await self._desk.reserve_exit(plan, parent_id=entry_id)
        if profit_id is None:
            return
        try:
            if not await self._desk.cancel_and_wait(holding.stop.cl_ord_id, _CANCEL_WAIT_S):
                return
            position = self._tracker.position(symbol)
            qty = min(step.qty, exit_qty(holding, self._tracker.unsold_qty(symbol)))
            if qty > 0:
                await self._desk.send_exit(evolve(plan, qty=qty, cl_ord_id=profit_id), parent_id=position.entry_id)
        finally:
            self._withdraw_unsent(profit_id)
        self._dirty.add(symbol)
        self._wakeup.set()

    async def _exit_at_market(self, symbol: Symbol, cover: Cover, holding: Holding, step: ExitAtMarket) -> None:
        """Cancel first, wait for cancel or fill, then sell what the balance says; a remainder is sold again.

        The row of the sale is on record before anything is cancelled: while it can't be kept the stop stays.
        """
        plan = ProtectiveExit(
            symbol=symbol,
            qty=exit_qty(holding, holding.unsold_qty),
            kind=step.kind,
            reason=step.reason,
        )
        sale_id = await self._desk.reserve_exit(plan, parent_id=holding.position.entry_id)
        if sale_id is None:
            await self._cover_without_sale(symbol, cover, holding)
            return
        self._sink.emit("exit_started", symbol=symbol, kind=step.kind, reason=step.reason)
        try:
            if await self._clear_the_way(symbol, cover):
                await self._recount(symbol, cover)
                await self._sell(symbol, cover, holding, evolve(plan, cl_ord_id=sale_id))
        finally:
            self._withdraw_unsent(sale_id)

    async def _cover_without_sale(self, symbol: Symbol, cover: Cover, holding: Holding) -> None:
        """Where no row of the sale can be kept the stop stands, or its reserved row is sent; the sale comes later."""
        cover.rest_until_mono = self._clock.mono() + _REST_MIN_S
        if stands(holding.stop) or self._unsent_stop(symbol, cover) is None:
            return
        if not await self._clear_the_way(symbol, cover):
            return
        qty = exit_qty(holding, self._tracker.unsold_qty(symbol))
        if qty > 0:
            await self._place_stop(symbol, cover, holding, PlaceStop(qty=qty, trigger_price=stop_price(holding)))

    async def _clear_the_way(self, symbol: Symbol, cover: Cover) -> bool:
        """Cancel every own order of the symbol; False when one may still sell these coins."""
        for order in self._tracker.live(symbol):
            if self._desk.is_fresh_intent(order) or self._tracker.is_ended(order.cl_ord_id):
                continue
            if not await self._desk.cancel_and_wait(order.cl_ord_id, _CANCEL_WAIT_S) and _may_sell(
                self._tracker.get(order.cl_ord_id)
            ):
                # It may still sell these coins; the next look tries again.
                self._rest(cover)
                return False
        return True

    async def _sell(self, symbol: Symbol, cover: Cover, holding: Holding, plan: ProtectiveExit) -> None:
        for _ in range(_SALES_MAX):
            position = self._tracker.position(symbol)
            qty = exit_qty(holding, self._tracker.unsold_qty(symbol))
            if not qty:
                break
            qty = await self._from_balance(symbol, holding.instrument, qty)
            sent = await self._desk.send_exit(evolve(plan, qty=qty), parent_id=position.entry_id)
            plan = evolve(plan, cl_ord_id=None)
            self._judge(cover, sent)
            if sent is None or sent.state in _FAILED:
                await self._cover_unsold(symbol, cover, holding)
                return
            if sent.state is OrderState.UNKNOWN:
                return
            if not await self._recorder.wait_closed(sent.cl_ord_id, _SALE_WAIT_S):
                return
        left = self._tracker.position(symbol).qty
        self._sink.emit("exit_done", symbol=symbol, kind=plan.kind, left=str(left))

    async def _cover_unsold(self, symbol: Symbol, cover: Cover, holding: Holding) -> None:
        """Put a stop back after a sale that came to nothing; the next sale waits, longer each time."""
        qty = exit_qty(holding, self._tracker.unsold_qty(symbol))
        if not qty:
            return
        failures, rest_until_mono = cover.failures, cover.rest_until_mono
        await self._place_stop(symbol, cover, holding, PlaceStop(qty=qty, trigger_price=stop_price(holding)))
        cover.failures = max(cover.failures, failures)
        cover.rest_until_mono = max(cover.rest_until_mono, rest_until_mono)

    def _withdraw_unsent(self, cl_ord_id: ClOrdId) -> None:
        order = self._tracker.get(cl_ord_id)
        if order is not None and self._desk.is_fresh_intent(order):
            self._desk.withdraw_intent(cl_ord_id, "not sent")

    async def _from_balance(self, symbol: Symbol, instrument: Instrument, qty: Decimal) -> Decimal:
        """Return the quantity that the venue says is free, at most `qty`; `qty` itself when it does not answer.

        A balance that shows less than an order's minimum lags the fill, so it is not believed.
        """
        base, _ = assets_of(symbol)
        try:
            with anyio.fail_after(2.0):
                balance = (await self._query.balances()).get(base)
        except (VenueUnavailable, VenueRejected, TimeoutError) as error:
            self._sink.emit("balance_not_known", symbol=symbol, error=str(error))
            return qty
        if balance is None:
            return qty
        free = instrument.round_qty(max(balance.available, Decimal(0)))
        return min(qty, free) if free >= instrument.qty_min else qty

    def _judge(self, cover: Cover, sent: Order | None) -> None:
        """Space further tries after a failure, and mind the balance from then on."""
        if sent is not None and sent.state not in _FAILED:
            cover.failures = 0
            return
        cover.use_balance = sent is not None and "funds" in sent.reason.lower()
        self._rest(cover)

    def _rest(self, cover: Cover) -> None:
        cover.failures = min(cover.failures + 1, 16)
        rest_s = min(_REST_MIN_S * 2 ** (cover.failures - 1), _REST_MAX_S)
        cover.rest_until_mono = self._clock.mono() + rest_s


def _may_sell(order: Order | None) -> bool:
    """Tell whether an order is known to be alive on the selling side; one that is UNKNOWN had its cancel sent."""
    return order is not None and order.side is Side.SELL and not order.state.is_terminal and not is_unknown(order)
