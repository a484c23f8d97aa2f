"""How each step of the exits is done: stops placed, amended and replaced, take-profits rested, positions sold.

Enters: one step for one symbol, with what the monitor saw. Leaves: exits, amends and cancels through the desk. Called
by the position monitor alone, one step of a symbol at a time.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import assert_never

import anyio
from attrs import evolve

from krakenbot.domain.decision.plan import ExitKind, ProtectiveExit
from krakenbot.domain.engine.desk import OrderDesk
from krakenbot.domain.engine.holdings import is_unknown
from krakenbot.domain.engine.live_orders import AmendResult
from krakenbot.domain.engine.protection import Cover
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
    stands,
    stop_price,
)
from krakenbot.domain.execution.fills import assets_of
from krakenbot.domain.execution.order import Order, OrderRole, OrderState
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.values import ClOrdId, Side, Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.venue_query import VenueQuery

_CANCEL_WAIT_S = 3.0
_SALE_WAIT_S = 5.0
_SALES_MAX = 3
_REST_MIN_S = 1.0
_REST_MAX_S = 30.0
# A stop that was provably not sent is an intent again; another exit is given up.
_FAILED = frozenset({OrderState.REJECTED, OrderState.PENDING_SUBMIT, OrderState.NEVER_ACCEPTED})


class ExitSteps:
    """Does the steps.

    `recount` counts how a position is covered in the midst of a step, `look_again` asks for the symbol's next look now.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        query: VenueQuery,
        recorder: Recorder,
        desk: OrderDesk,
        event_sink: EventSink,
        recount: Callable[[Symbol, Cover], Awaitable[None]],
        look_again: Callable[[Symbol], None],
    ) -> None:
        self._clock = clock
        self._query = query
        self._recorder = recorder
        self._tracker = recorder.tracker
        self._desk = desk
        self._sink = event_sink
        self._recount = recount
        self._look_again = look_again

    async def perform(self, symbol: Symbol, cover: Cover, holding: Holding, step: ExitStep) -> None:
        """Do one step; what it changes is seen at the next look."""
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
                    self._look_again(symbol)
            case ExitAtMarket():
                await self._exit_at_market(symbol, cover, holding, step)
            case _:
                assert_never(step)

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
        is_trail = step.qty == holding.stop.qty
        if is_trail and not self._may_trail(cover, holding, step):
            return
        result = await self._desk.amend(holding.stop.cl_ord_id, qty=step.qty, trigger_price=step.trigger_price)
        if result is AmendResult.ACCEPTED:
            cover.amend_failing_since = None
            cover.trails_failed = 0
            return
        if is_trail:
            cover.trails_failed = min(cover.trails_failed + 1, 16)
            cover.trail_after_mono = self._clock.mono() + _rest_s(cover.trails_failed)
        if cover.bare_since is not None:
            cover.amend_failing_since = cover.amend_failing_since or holding.at
        order = self._tracker.get(holding.stop.cl_ord_id)
        if result is not AmendResult.REFUSED or order is None or not stands(order):
            return
        is_covered = covered_qty(order) >= exit_qty(holding, self._tracker.unsold_qty(order.symbol))
        if is_covered and not _is_reached(holding, step):
            # A better trigger is not worth the seconds without any; it is asked for again.
            return
        # The shortest replacement, cancel and place anew; the bare seconds in between are counted.
        self._sink.emit("stop_replaced", symbol=order.symbol, cl_ord_id=order.cl_ord_id)
        if await self._desk.cancel_and_wait(order.cl_ord_id, _CANCEL_WAIT_S):
            self._look_again(order.symbol)

    def _may_trail(self, cover: Cover, holding: Holding, step: AmendStop) -> bool:
        """Tell whether a better trigger is worth a request now; each one that fails makes the next wait longer."""
        if not self._desk.may_trail(holding.position.symbol):
            return False
        return self._clock.mono() >= cover.trail_after_mono or _is_reached(holding, step)

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
        self._look_again(symbol)

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
            if self._desk.is_fresh_intent(order):
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
        left = self._tracker.unsold_qty(symbol)
        self._sink.emit("exit_done", symbol=symbol, kind=plan.kind, left=str(left))

    async def _cover_unsold(self, symbol: Symbol, cover: Cover, holding: Holding) -> None:
        """Put a stop back after a sale that came to nothing; the next sale waits, longer each time."""
        qty = exit_qty(holding, self._tracker.unsold_qty(symbol))
        if not qty:
            return
        failures = cover.failures
        await self._place_stop(symbol, cover, holding, PlaceStop(qty=qty, trigger_price=stop_price(holding)))
        cover.failures = max(cover.failures, failures)

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
        cover.rest_until_mono = self._clock.mono() + _rest_s(cover.failures)


def _rest_s(failures: int) -> float:
    return min(_REST_MIN_S * 2.0 ** (failures - 1), _REST_MAX_S)


def _is_reached(holding: Holding, step: AmendStop) -> bool:
    """Tell whether the bid is at the wanted trigger: a stop there would have sold."""
    return holding.touch is not None and holding.touch.bid <= step.trigger_price


def _may_sell(order: Order | None) -> bool:
    """Tell whether an order is known to be alive on the selling side; one that is UNKNOWN had its cancel sent."""
    return order is not None and order.side is Side.SELL and not order.state.is_terminal and not is_unknown(order)
