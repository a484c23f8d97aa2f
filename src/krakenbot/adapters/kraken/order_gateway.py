"""Orders out over the private stream: implements `ports.order_gateway`.

Enters: committed order rows. Leaves: add_order, amend_order and cancel_order, and the venue's definite answer. The
caller has committed the row; nothing here is ever sent twice.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from attrs import frozen

from krakenbot.adapters.kraken.codec.private import Reply, canonical_cl_ord_id
from krakenbot.adapters.kraken.errors import order_error
from krakenbot.adapters.kraken.private_stream import PrivateStream
from krakenbot.domain.decision.plan import StopTrigger
from krakenbot.domain.errors import OutcomeUnknown, invariant
from krakenbot.domain.execution.order import Order, OrderRole, OrderType
from krakenbot.domain.values import ClOrdId, VenueOrderId


@frozen(kw_only=True)
class OrderGatewaySettings:
    """`reply_timeout_s` is above Kraken's default deadline of 5 s, so that "Deadline elapsed" still arrives."""

    reply_timeout_s: float = 6.0


class KrakenOrderGateway:
    """Sends requests on the stream that the executions feed keeps open.

    Raises, for all methods: VenueRejected on a definite refusal; VenueUnavailable when the request provably was
    never sent; OutcomeUnknown on everything else.
    """

    def __init__(self, *, stream: PrivateStream, settings: OrderGatewaySettings) -> None:
        self._stream = stream
        self._settings = settings

    async def submit(self, order: Order) -> VenueOrderId:
        """Send add_order for a committed row and return the venue's id of the order."""
        reply = await self._request("add_order", add_order_params(order), order.cl_ord_id)
        if reply.order_id is None:
            raise OutcomeUnknown(order.cl_ord_id, "add_order was acknowledged without an order_id")
        return reply.order_id

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
        params = amend_order_params(
            order,
            qty=qty,
            limit_price=limit_price,
            trigger_price=trigger_price,
            deadline_at=deadline_at,
        )
        await self._request("amend_order", params, order.cl_ord_id)

    async def cancel(self, cl_ord_id: ClOrdId) -> None:
        """Cancel a live order; VenueRejected "EOrder:Unknown order" means: find out what became of it."""
        await self._request("cancel_order", {"cl_ord_id": [cl_ord_id]}, cl_ord_id)

    async def _request(self, method: str, params: dict[str, Any], cl_ord_id: ClOrdId) -> Reply:
        timeout_s = self._settings.reply_timeout_s
        reply = await self._stream.request(method, params, cl_ord_id=cl_ord_id, timeout_s=timeout_s)
        if not reply.is_success:
            raise order_error(reply.error or "refused without a reason", cl_ord_id)
        if reply.cl_ord_id is not None and canonical_cl_ord_id(reply.cl_ord_id) != canonical_cl_ord_id(cl_ord_id):
            raise OutcomeUnknown(cl_ord_id, f"{method} was acknowledged for another order")
        return reply


def add_order_params(order: Order) -> dict[str, Any]:
    """Return the parameters of add_order for a row; prices and quantities stay `Decimal` (the codec writes them)."""
    params: dict[str, Any] = {
        "order_type": order.order_type.value,
        "side": order.side.value,
        "symbol": order.symbol,
        "order_qty": order.qty,
        "cl_ord_id": order.cl_ord_id,
        "fee_preference": "quote",
    }
    match order.order_type:
        case OrderType.LIMIT:
            invariant(order.limit_price is not None, "order_shape", "a limit order has a limit price")
            params["limit_price"] = order.limit_price
            if order.post_only:
                params["post_only"] = True
        case OrderType.STOP_LOSS:
            invariant(order.trigger_price is not None, "order_shape", "a stop has a trigger price")
            reference = order.trigger or StopTrigger.LAST
            params["triggers"] = {"reference": reference.value, "price": order.trigger_price}
        case OrderType.MARKET:
            pass
    if order.role is not OrderRole.ENTRY:
        # the venue's default would cancel the exit, not our own resting bid, when both could meet
        params["stp_type"] = "cancel_oldest"
    if order.expire_at is not None:
        params["time_in_force"] = "gtd"
        params["expire_time"] = _rfc3339(order.expire_at, "seconds")
    if order.deadline_at is not None:
        params["deadline"] = _rfc3339(order.deadline_at, "milliseconds")
    return params


def amend_order_params(
    order: Order,
    *,
    qty: Decimal,
    limit_price: Decimal | None,
    trigger_price: Decimal | None,
    deadline_at: datetime | None,
) -> dict[str, Any]:
    """Return the parameters of amend_order; `qty` is the new total, not the remainder."""
    params: dict[str, Any] = {"cl_ord_id": order.cl_ord_id, "order_qty": qty}
    if limit_price is not None:
        params["limit_price"] = limit_price
    if trigger_price is not None:
        params["trigger_price"] = trigger_price
    if order.post_only:
        # not inherited: without it an amended price could take
        params["post_only"] = True
    if deadline_at is not None:
        params["deadline"] = _rfc3339(deadline_at, "milliseconds")
    return params


def _rfc3339(at: datetime, precision: str) -> str:
    # isoformat cuts, it does not round: the venue never keeps an order longer than its row says
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"
