"""Place one minimal stop far from the market, look at the balance, and cancel it, whatever happens.

Enters: ports, a symbol with its best bid. Leaves: what was seen. Called by `krakenbot doctor --probe-holds` alone,
while no execution leads: the probe holds the lease, so none starts meanwhile, and its row is committed before the
stop is sent. A process that is killed here leaves a row that the next start of execution reconciles.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import ROUND_CEILING, Decimal
from typing import Final

import anyio
from attrs import evolve

from krakenbot.domain.decision.plan import ExitKind, StopTrigger
from krakenbot.domain.errors import KrakenbotError, OutcomeUnknown, VenueRejected, VenueUnavailable
from krakenbot.domain.execution.applied import Applied
from krakenbot.domain.execution.change import OrderChange
from krakenbot.domain.execution.ids import make_cl_ord_id
from krakenbot.domain.execution.order import Order, OrderEvent, OrderRole, OrderState, OrderType
from krakenbot.domain.execution.reports import ExecutionBatch
from krakenbot.domain.execution.tracker import OrderTracker
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.preflight.holds import HoldsFacts
from krakenbot.domain.values import LeaseEpoch, Side, VenueId
from krakenbot.ports.clock import Clock, IdSource
from krakenbot.ports.execution_feed import ExecutionFeed
from krakenbot.ports.order_gateway import OrderGateway
from krakenbot.ports.order_store import OrderStore
from krakenbot.ports.venue_query import VenueQuery

_FAR: Final = Decimal("0.5")
"""The trigger, as a share of the best bid."""
_CONNECT_S: Final = 10.0
_LOOKS: Final = 5
_LOOK_S: Final = 1.0
_CANCELS: Final = 3
_DEADLINE_S: Final = 5.0
_POLL_S: Final = 0.05


class HoldsProbe:
    """One probe; not to be used again."""

    def __init__(
        self,
        *,
        clock: Clock,
        ids: IdSource,
        feed: ExecutionFeed,
        gateway: OrderGateway,
        query: VenueQuery,
        store: OrderStore,
        venue_id: VenueId,
        lease_epoch: LeaseEpoch,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._feed = feed
        self._gateway = gateway
        self._query = query
        self._store = store
        self._venue_id = venue_id
        self._epoch = lease_epoch
        self._tracker = OrderTracker()
        self._failed: str | None = None
        self._may_stand = False

    async def run(self, instrument: Instrument, bid: Decimal) -> HoldsFacts:
        """Return what a minimal stop does to the balance; the stop is cancelled before this returns or raises."""
        order = self._order(instrument, bid)
        facts = HoldsFacts(symbol=order.symbol, cl_ord_id=order.cl_ord_id, qty=order.qty)
        balance = (await self._query.balances()).get(instrument.base)
        if balance is None or balance.available < order.qty:
            have = Decimal(0) if balance is None else balance.available
            return evolve(facts, reason=f"needs {order.qty} {instrument.base} that is free, there is {have}")
        facts = evolve(facts, held_before=balance.held)
        async with self._feed.open() as batches, anyio.create_task_group() as tasks:
            tasks.start_soon(self._take_reports, batches, order)
            if await self._connected():
                facts = await self._try(order, instrument, facts)
            else:
                facts = evolve(facts, reason="the private stream did not connect")
            tasks.cancel_scope.cancel()
        return facts if self._failed is None else evolve(facts, reason=self._failed)

    async def _try(self, order: Order, instrument: Instrument, facts: HoldsFacts) -> HoldsFacts:
        try:
            await self._store.apply(OrderChange(inserts=(order,)), self._epoch)
        except KrakenbotError as error:
            return evolve(facts, reason=f"the row was not committed: {error}")
        self._tracker.add(order)
        is_gone = False
        try:
            reason = await self._submit(order)
            if reason is None:
                facts = evolve(facts, held_after=await self._held(instrument, facts))
            else:
                facts = evolve(facts, reason=reason)
        except KrakenbotError as error:
            facts = evolve(facts, reason=str(error))
        finally:
            with anyio.CancelScope(shield=True):
                is_gone = await self._withdraw(order)
        return evolve(facts, is_left=not is_gone)

    async def _submit(self, order: Order) -> str | None:
        """Send the stop; return why it does not stand, None when it does."""
        await self._event(order, OrderEvent.SUBMIT_SENT)
        self._may_stand = True
        try:
            venue_order_id = await self._gateway.submit(order)
        except VenueRejected as error:
            self._may_stand = False
            await self._event(order, OrderEvent.REJECTED, reason=error.reason)
            return f"the venue refused the stop: {error.reason}"
        except VenueUnavailable as error:
            self._may_stand = False
            await self._event(order, OrderEvent.NOT_SENT, reason=str(error))
            return f"the stop was not sent: {error}"
        except OutcomeUnknown as error:
            await self._event(order, OrderEvent.OUTCOME_UNKNOWN, reason=str(error))
            return f"the outcome of the stop is not known: {error}"
        at = self._clock.now()
        await self._commit(
            self._tracker.apply_event(order.cl_ord_id, OrderEvent.ACKED, at=at, venue_order_id=venue_order_id)
        )
        return None

    async def _held(self, instrument: Instrument, facts: HoldsFacts) -> Decimal:
        """Return what is held of the coin, as soon as it has grown, or after the last look."""
        held = facts.held_before
        for _ in range(_LOOKS):
            await self._clock.sleep(_LOOK_S)
            balance = (await self._query.balances()).get(instrument.base)
            held = Decimal(0) if balance is None else balance.held
            if held - facts.held_before >= facts.qty:
                break
        return held

    async def _withdraw(self, order: Order) -> bool:
        """Cancel the stop and return whether it is known to be gone; bounded.

        A list of open orders without it proves nothing alone: it lags behind what was accepted.
        """
        if not self._may_stand:
            return True
        is_answered = False
        for attempt in range(_CANCELS):
            try:
                if not self._is_over(order):
                    await self._gateway.cancel(order.cl_ord_id)
                    is_answered = True
            except (VenueRejected, VenueUnavailable, OutcomeUnknown):
                await self._clock.sleep(_LOOK_S)
            await self._wait_for_report(order)
            if self._is_over(order):
                return True
            try:
                await self._clock.sleep(_POLL_S * (attempt + 1))
                is_listed = any(one.cl_ord_id == order.cl_ord_id for one in await self._query.open_orders())
            except (VenueRejected, VenueUnavailable):
                continue
            if is_answered and not is_listed:
                return True
        return self._is_over(order)

    def _is_over(self, order: Order) -> bool:
        known = self._tracker.get(order.cl_ord_id)
        return known is not None and known.state.is_terminal

    async def _wait_for_report(self, order: Order) -> None:
        """Wait a moment for the report that ends the row; without it the next start of execution finds it ended."""
        for _ in range(int(_LOOK_S / _POLL_S)):
            if self._is_over(order) or self._failed is not None:
                break
            await self._clock.sleep(_POLL_S)

    async def _take_reports(self, batches: AsyncIterator[ExecutionBatch], order: Order) -> None:
        """Book the reports of our stop and of nothing else; when one cannot be booked, the probe ends and says so."""
        try:
            async for batch in batches:
                for report in batch.reports:
                    known = self._tracker.get(order.cl_ord_id)
                    ids = {order.cl_ord_id} if known is None else {order.cl_ord_id, known.venue_order_id}
                    if known is not None and (report.cl_ord_id in ids or report.order_id in ids):
                        await self._commit(self._tracker.apply_report(report, self._clock.now()))
        except KrakenbotError as error:
            self._failed = f"what the venue reported was not committed: {error}"

    async def _connected(self) -> bool:
        waited_s = 0.0
        while not self._feed.is_connected and waited_s < _CONNECT_S:
            await self._clock.sleep(_POLL_S)
            waited_s += _POLL_S
        return self._feed.is_connected

    async def _event(self, order: Order, event: OrderEvent, reason: str | None = None) -> None:
        await self._commit(self._tracker.apply_event(order.cl_ord_id, event, at=self._clock.now(), reason=reason))

    async def _commit(self, applied: Applied) -> None:
        if not applied.change.is_empty:
            await self._store.apply(applied.change, self._epoch)

    def _order(self, instrument: Instrument, bid: Decimal) -> Order:
        trigger = instrument.round_price(bid * _FAR, Side.BUY)
        least = max(instrument.qty_min, instrument.cost_min / trigger)
        steps = (least / instrument.qty_increment).to_integral_value(ROUND_CEILING)
        at = self._clock.now()
        return Order(
            cl_ord_id=make_cl_ord_id(OrderRole.PROTECTIVE_STOP, self._ids.order_suffix()),
            venue_id=self._venue_id,
            symbol=instrument.symbol,
            side=Side.SELL,
            role=OrderRole.PROTECTIVE_STOP,
            order_type=OrderType.STOP_LOSS,
            qty=(steps * instrument.qty_increment).quantize(instrument.lot),
            limit_price=None,
            trigger_price=trigger,
            trigger=StopTrigger.LAST,
            post_only=False,
            state=OrderState.PENDING_SUBMIT,
            created_at=at,
            state_at=at,
            deadline_at=at + timedelta(seconds=_DEADLINE_S),
            exit_kind=ExitKind.OPERATOR,
            record={"reason": "doctor --probe-holds"},
        )
