"""The order gateway with every request counted: the one place that spends points of the trading counter.

Enters: requests of the desk. Leaves: the same requests, counted before they are sent and settled when they are
answered. An entry or the reprice of an entry that would eat the reserve is not sent, which is certain and says so;
exits and cancels always pass (I17).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from decimal import Decimal
from typing import TypeVar

from krakenbot.domain.errors import VenueRejected, VenueUnavailable
from krakenbot.domain.execution.order import Order, OrderRole
from krakenbot.domain.execution.rate import RateBudget, Spend, is_over_limit
from krakenbot.domain.values import ClOrdId, Symbol, VenueOrderId
from krakenbot.ports.clock import Clock
from krakenbot.ports.order_gateway import OrderGateway

T = TypeVar("T")


class CountedGateway:
    """Implements `OrderGateway`; `symbol_of` finds the symbol of an order that is to be cancelled."""

    def __init__(
        self,
        *,
        gateway: OrderGateway,
        rate: RateBudget,
        clock: Clock,
        symbol_of: Callable[[ClOrdId], Symbol | None],
    ) -> None:
        self._gateway = gateway
        self._rate = rate
        self._clock = clock
        self._symbol_of = symbol_of
        self.refused = 0

    async def submit(self, order: Order) -> VenueOrderId:
        """Send add_order; an entry raises VenueUnavailable when its symbol's points are kept for exits."""
        mono = self._clock.mono()
        if order.role is OrderRole.ENTRY and not self._rate.allows_entry(order.symbol, mono):
            self._refuse(order.symbol)
        spend = self._rate.add_sent(order.symbol, order.cl_ord_id, mono)
        return await self._settled(spend, self._gateway.submit(order))

    async def amend(
        self,
        order: Order,
        *,
        qty: Decimal,
        limit_price: Decimal | None,
        trigger_price: Decimal | None,
        deadline_at: datetime | None,
    ) -> None:
        """Amend an order; an entry raises VenueUnavailable when its symbol's points are kept for exits."""
        mono = self._clock.mono()
        is_reprice = order.role is OrderRole.ENTRY
        if is_reprice and not self._rate.allows_reprice(order.cl_ord_id, order.symbol, mono):
            self._refuse(order.symbol)
        spend = self._rate.amend_sent(order.symbol, order.cl_ord_id, mono)
        request = self._gateway.amend(
            order, qty=qty, limit_price=limit_price, trigger_price=trigger_price, deadline_at=deadline_at
        )
        await self._settled(spend, request)

    async def cancel(self, cl_ord_id: ClOrdId) -> None:
        """Cancel an order; one whose symbol nobody knows is counted when the venue tells of it."""
        symbol = self._symbol_of(cl_ord_id)
        if symbol is None:
            await self._gateway.cancel(cl_ord_id)
            return
        spend = self._rate.cancel_sent(symbol, cl_ord_id, self._clock.mono())
        await self._settled(spend, self._gateway.cancel(cl_ord_id))

    def _refuse(self, symbol: Symbol) -> None:
        self.refused += 1
        raise VenueUnavailable(f"RATE_BUDGET: the points of {symbol} are kept for cancels and exits")

    async def _settled(self, spend: Spend, request: Awaitable[T]) -> T:
        """Wait for a request; without a definite answer its points stay as they are."""
        try:
            answer = await request
        except VenueUnavailable:
            self._rate.not_sent(spend)
            raise
        except VenueRejected as rejected:
            mono = self._clock.mono()
            self._rate.answered(spend, mono)
            if is_over_limit(rejected.reason):
                self._rate.hit(spend.symbol, mono)
            raise
        self._rate.answered(spend, self._clock.mono())
        return answer
