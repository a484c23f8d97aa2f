"""What an order must hold in each state, beside the state itself.

Enters: an order that has just come into a state. Leaves: nothing, or InvariantViolated. Called by the tracker after
every step that changes a state; docs/order_states.md is generated from the same rules. What holds on the way into a
terminal state may be less true later: a late fill raises the filled quantity of an order that was given up.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from krakenbot.domain.errors import invariant
from krakenbot.domain.execution.order import Order, OrderRole, OrderState


@frozen(kw_only=True)
class Datum:
    """One thing that an order holds; `text` is for the page and for the error."""

    text: str
    is_held: Callable[[Order], bool]


_QUANTITY = Datum(text="a quantity above 0", is_held=lambda order: order.qty > 0)
_NOTHING_FILLED = Datum(text="nothing filled", is_held=lambda order: order.cum_qty == 0)
_SOMETHING_FILLED = Datum(text="a filled quantity above 0", is_held=lambda order: order.cum_qty > 0)
_VENUE_ID = Datum(text="the venue's order id", is_held=lambda order: order.venue_order_id is not None)
_SINCE = Datum(text="since when", is_held=lambda order: order.state_at is not None)
_REASON = Datum(text="the reason", is_held=lambda order: bool(order.reason))
_DEADLINE = Datum(text="the deadline of its request", is_held=lambda order: order.deadline_at is not None)
_LIFETIME = Datum(
    text="as an entry, a deadline and an expire time",
    is_held=lambda order: (
        order.role is not OrderRole.ENTRY or (order.deadline_at is not None and order.expire_at is not None)
    ),
)

STATE_DATA: dict[OrderState, tuple[Datum, ...]] = {
    OrderState.PENDING_SUBMIT: (_QUANTITY, _NOTHING_FILLED, _LIFETIME),
    OrderState.SUBMITTED: (_QUANTITY, _NOTHING_FILLED, _LIFETIME, _DEADLINE),
    # The horizon of a proof counts from these.
    OrderState.UNKNOWN: (_QUANTITY, _NOTHING_FILLED, _LIFETIME, _SINCE),
    OrderState.ACKED: (_QUANTITY, _NOTHING_FILLED, _VENUE_ID),
    OrderState.OPEN: (_QUANTITY, _NOTHING_FILLED, _VENUE_ID),
    OrderState.PARTIALLY_FILLED: (_QUANTITY, _SOMETHING_FILLED, _VENUE_ID),
    OrderState.PENDING_AMEND: (_QUANTITY, _VENUE_ID, _SINCE),
    OrderState.PENDING_CANCEL: (_QUANTITY, _VENUE_ID, _SINCE),
    OrderState.FILLED: (_SOMETHING_FILLED, _VENUE_ID, _SINCE),
    OrderState.CANCELED: (_VENUE_ID, _SINCE),
    OrderState.EXPIRED: (_VENUE_ID, _SINCE),
    OrderState.REJECTED: (_NOTHING_FILLED, _REASON, _SINCE),
    OrderState.NEVER_ACCEPTED: (_NOTHING_FILLED, _REASON, _SINCE),
}


def check_data(order: Order) -> None:
    """Raise InvariantViolated when an order lacks what its state needs."""
    for datum in STATE_DATA[order.state]:
        invariant(datum.is_held(order), "I7", f"{order.cl_ord_id} is {order.state} without {datum.text}")
