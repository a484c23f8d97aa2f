"""Orders out to the venue. Every row is committed before its request is sent; that is the caller's duty."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Protocol

from krakenbot.domain.execution.order import Order
from krakenbot.domain.values import ClOrdId, VenueOrderId


class OrderGateway(Protocol):
    """Sends requests and returns the venue's definite answer.

    Raises: VenueRejected on a definite refusal; VenueUnavailable when the request provably was never sent;
    OutcomeUnknown on everything else (timeout, disconnect after the send, 5xx, deadline elapsed).
    """

    async def submit(self, order: Order) -> VenueOrderId:
        """Send add_order for a committed row."""

    async def amend(
        self,
        order: Order,
        *,
        qty: Decimal,
        limit_price: Decimal | None,
        trigger_price: Decimal | None,
        deadline_at: datetime | None,
    ) -> None:
        """Amend a live order to a new total quantity and prices; post_only is repeated from the row."""

    async def cancel(self, cl_ord_id: ClOrdId) -> None:
        """Cancel a live order; VenueRejected "EOrder:Unknown order" means: find out what became of it."""
