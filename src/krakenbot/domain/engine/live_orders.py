"""Amends and cancels of orders that are at the venue; the desk is built on it.

Enters: the id of an order and what is to become of it. Leaves: a record of the request, then the request, then its
outcome in the tracker. Called through the desk. An outcome that is not known is recorded as such and asked about.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import cast

import anyio
from attrs import evolve, frozen

from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.lease_keeper import LeaseKeeper
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.engine.write_ahead import WriteAhead
from krakenbot.domain.errors import OutcomeUnknown, VenueRejected, VenueUnavailable, invariant
from krakenbot.domain.execution.change import OrderChange
from krakenbot.domain.execution.journal import JournalKind
from krakenbot.domain.execution.order import TRANSITIONS, Order, OrderEvent, OrderRole, OrderState
from krakenbot.domain.execution.rate import is_over_limit
from krakenbot.domain.values import ClOrdId, JournalId, VenueOrderId
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.order_gateway import OrderGateway

UNKNOWN_ORDER = "EOrder:Unknown order"
_LEASE_WAIT_S = 2.0
_CANCEL_RETRY_S = 1.0
_CANCEL_RETRY_MAX_S = 60.0


class AmendResult(StrEnum):
    """What came of an amend. PUT_OFF: not sent, or not served for the moment; the order is as it was."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    PUT_OFF = "put_off"
    UNKNOWN = "unknown"


@frozen(kw_only=True)
class _CancelTry:
    tries: int
    not_before_mono: float


class LiveOrders:
    """Amends and cancels, and knows which intents of this process were never sent."""

    def __init__(
        self,
        *,
        clock: Clock,
        gateway: OrderGateway,
        recorder: Recorder,
        ahead: WriteAhead,
        lease: LeaseKeeper,
        settings: ExecutionSettings,
        event_sink: EventSink,
    ) -> None:
        self._clock = clock
        self._gateway = gateway
        self._recorder = recorder
        self._tracker = recorder.tracker
        self._ahead = ahead
        self._lease = lease
        self._settings = settings
        self._sink = event_sink
        self._fresh_intents: set[ClOrdId] = set()
        self._cancels: dict[ClOrdId, _CancelTry] = {}

    def is_fresh_intent(self, order: Order) -> bool:
        """Tell whether an intent was made by this process and never sent."""
        return order.state is OrderState.PENDING_SUBMIT and order.cl_ord_id in self._fresh_intents

    def withdraw_intent(self, cl_ord_id: ClOrdId, reason: str) -> None:
        """Give up a protective intent that was never sent."""
        self._fresh_intents.discard(cl_ord_id)
        self._event(cl_ord_id, OrderEvent.WITHDRAWN, reason=reason)

    async def amend(
        self,
        cl_ord_id: ClOrdId,
        *,
        qty: Decimal,
        limit_price: Decimal | None = None,
        trigger_price: Decimal | None = None,
    ) -> AmendResult:
        """Amend a live order to a new total and prices; return what came of it.

        An order that is being amended or cancelled, or whose outcome is unknown, is left to what is under way.
        """
        order = self._tracker.get(cl_ord_id)
        if order is None or OrderEvent.AMEND_SENT not in TRANSITIONS[order.state]:
            return AmendResult.PUT_OFF
        limit_price = order.limit_price if limit_price is None else limit_price
        trigger_price = order.trigger_price if trigger_price is None else trigger_price
        deadline_at = self._clock.now() + timedelta(seconds=self._settings.deadline_s)
        with anyio.CancelScope(shield=True):
            journal_ids = await self._ahead.keep_request(
                JournalKind.AMEND,
                order,
                qty=qty,
                limit_price=limit_price,
                trigger_price=trigger_price,
                deadline_at=deadline_at,
            )
            if not await self._may_act("amend", cl_ord_id, journal_ids):
                return AmendResult.PUT_OFF
            order = self._tracker.get(cl_ord_id) or order
            if OrderEvent.AMEND_SENT not in TRANSITIONS[order.state]:
                self._recorder.put(OrderChange(journal_ids=journal_ids))
                return AmendResult.PUT_OFF
            order = self._event(cl_ord_id, OrderEvent.AMEND_SENT, journal_ids=journal_ids)
            try:
                with anyio.fail_after(self._settings.request_timeout_s):
                    await self._gateway.amend(
                        order, qty=qty, limit_price=limit_price, trigger_price=trigger_price, deadline_at=deadline_at
                    )
            except (VenueRejected, VenueUnavailable) as error:
                self._event(cl_ord_id, OrderEvent.AMEND_REFUSED, reason=str(error))
                if UNKNOWN_ORDER in str(error):
                    self._ask("amend_of_unknown_order")
                is_put_off = isinstance(error, VenueUnavailable) or is_over_limit(error.reason)
                return AmendResult.PUT_OFF if is_put_off else AmendResult.REFUSED
            except (OutcomeUnknown, TimeoutError) as error:
                self._sink.emit("amend_unknown", symbol=order.symbol, cl_ord_id=cl_ord_id, cause=str(error))
                self._ask("amend_unknown")
                return AmendResult.UNKNOWN
            self._event(cl_ord_id, OrderEvent.AMENDED, qty=qty, limit_price=limit_price, trigger_price=trigger_price)
        return AmendResult.ACCEPTED

    async def cancel(self, cl_ord_id: ClOrdId) -> bool:
        """Ask the venue to cancel an order; True when it said yes, and the stream will tell.

        "Unknown order" leads to a query, not to another cancel; tries are spaced by a growing rest.
        """
        order = self._tracker.get(cl_ord_id)
        if order is None or order.state.is_terminal or self._tracker.is_ended(cl_ord_id):
            return True
        if self.is_fresh_intent(order):
            self.withdraw_intent(cl_ord_id, "cancelled before it was sent")
            return True
        before = self._cancels.get(cl_ord_id, _CancelTry(tries=0, not_before_mono=0.0))
        if before.tries and self._clock.mono() < before.not_before_mono:
            return False
        rest_s = min(_CANCEL_RETRY_S * 2**before.tries, _CANCEL_RETRY_MAX_S)
        alive = {each.cl_ord_id for each in self._tracker.live()}
        self._cancels = {each: tried for each, tried in self._cancels.items() if each in alive}
        self._cancels[cl_ord_id] = evolve(
            before, tries=min(before.tries + 1, 16), not_before_mono=self._clock.mono() + rest_s
        )
        with anyio.CancelScope(shield=True):
            journal_ids = await self._ahead.keep_request(JournalKind.CANCEL, order)
            if not await self._may_act("cancel", cl_ord_id, journal_ids):
                return False
            order = self._tracker.get(cl_ord_id) or order
            if order.state.is_terminal or order.state in {OrderState.PENDING_SUBMIT, OrderState.SUBMITTED}:
                self._recorder.put(OrderChange(journal_ids=journal_ids))
            else:
                self._event(cl_ord_id, OrderEvent.CANCEL_SENT, journal_ids=journal_ids)
        return order.state.is_terminal or await self._send_cancel(cl_ord_id)

    async def cancel_stranger(self, cl_ord_id: ClOrdId) -> bool:
        """Cancel an open order with our prefix that has no row; only the leader knows that nobody has made it."""
        return self._lease.is_held and await self._send_cancel(cl_ord_id)

    async def _send_cancel(self, cl_ord_id: ClOrdId) -> bool:
        with anyio.CancelScope(shield=True):
            try:
                with anyio.fail_after(self._settings.request_timeout_s):
                    await self._gateway.cancel(cl_ord_id)
            except (VenueRejected, VenueUnavailable) as error:
                order = self._tracker.get(cl_ord_id)
                # A cancel may overtake its submit, which then has not been answered: that refusal says nothing.
                if order is not None and OrderEvent.CANCEL_REFUSED in TRANSITIONS[order.state]:
                    self._event(cl_ord_id, OrderEvent.CANCEL_REFUSED, reason=str(error))
                self._sink.emit("cancel_refused", cl_ord_id=cl_ord_id, reason=str(error))
                # The stream may have told of the end while the refusal was on its way.
                if UNKNOWN_ORDER in str(error) and (order is None or not order.state.is_terminal):
                    self._ask("cancel_of_unknown_order")
                return False
            except (OutcomeUnknown, TimeoutError) as error:
                self._sink.emit("cancel_unknown", cl_ord_id=cl_ord_id, cause=str(error))
                self._ask("cancel_unknown")
                return False
        return True

    async def cancel_entries(self, reason: str) -> None:
        """Cancel every live entry, one after the other."""
        for order in self._tracker.live():
            if order.role is OrderRole.ENTRY and order.state is not OrderState.PENDING_CANCEL:
                self._sink.emit("entry_cancel", symbol=order.symbol, cl_ord_id=order.cl_ord_id, reason=reason)
                await self.cancel(order.cl_ord_id)

    async def cancel_and_wait(self, cl_ord_id: ClOrdId, timeout_s: float) -> bool:
        """Cancel an order and wait until it is terminal, cancelled or filled; False when it is not in time."""
        await self.cancel(cl_ord_id)
        return await self._recorder.wait_closed(cl_ord_id, timeout_s)

    # steps

    async def _may_act(self, method: str, cl_ord_id: ClOrdId, journal_ids: tuple[JournalId, ...] = ()) -> bool:
        """Tell whether a request may be sent at this moment; when not, its records in the journal come to nothing."""
        if await self._lease.may_act(_LEASE_WAIT_S):
            return True
        self._sink.emit("request_withheld", method=method, cl_ord_id=cl_ord_id, lost=self._lease.is_lost)
        self._recorder.put(OrderChange(journal_ids=journal_ids))
        return False

    def _event(
        self,
        cl_ord_id: ClOrdId,
        event: OrderEvent,
        *,
        venue_order_id: str | None = None,
        qty: Decimal | None = None,
        limit_price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        deadline_at: datetime | None = None,
        reason: str | None = None,
        journal_ids: tuple[JournalId, ...] = (),
    ) -> Order:
        """Take one step, queue what it changes, and return the order after it."""
        self._recorder.take(
            self._tracker.apply_event(
                cl_ord_id,
                event,
                at=self._clock.now(),
                venue_order_id=None if venue_order_id is None else VenueOrderId(venue_order_id),
                qty=qty,
                limit_price=limit_price,
                trigger_price=trigger_price,
                deadline_at=deadline_at,
                reason=reason,
            ),
            journal_ids,
        )
        order = self._tracker.get(cl_ord_id)
        invariant(order is not None, "I1", f"{cl_ord_id} has no row")
        return cast("Order", order)

    def _ask(self, reason: str) -> None:
        for ask in self._recorder.on_incomplete:
            ask(reason)
