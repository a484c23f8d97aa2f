"""The order, its states, and the table that leads from one to the next.

Enters: an order and an event (a request that was sent, an answer, a report). Leaves: the order after it, or the word
that the table has no such step. Called by the tracker only; nothing else may change an order's state.

Theory of operation
-------------------
Everything that decides a state stands in TRANSITIONS and in one rule below it. The table knows nothing of prices,
of the position or of why an order was sent.

1. A row is born PENDING_SUBMIT and committed before anything is sent. A protective intent may stay there for as long
   as its entry has no fill, and is *withdrawn* when it will never be needed. Only what this process knows to be unsent
   can be withdrawn, so the way leads from PENDING_SUBMIT alone: NEVER_ACCEPTED with the event `withdrawn` means that
   nothing was sent, with `proven_absent` that a sent order was shown not to exist.
2. A request and the stream race. The stream may report `new`, `trade` or even `canceled` before the answer to our own
   request comes, so every state between birth and end takes every report. A late answer is a self-loop.
3. Outcome unknown is a state of its own. Nothing but a report, a query's row or a proof of absence leads out of it.
   A cancel may be sent while the outcome is unknown; it proves nothing, so the state stays.
4. `trade` never closes an order: the last trade still says "partially filled". `filled`, `canceled` and `expired`
   close it, and the tracker delivers them only when the ledger holds all that the venue says was filled.
5. While an amend or a cancel is under way, trades don't lead out of PENDING_AMEND or PENDING_CANCEL: what we wait for
   is still open. A refused or lost request leads back to what is known of the order.
6. Terminal states have self-loops only, for answers and reports that come late or twice. A trade is not among them:
   it goes to the ledger, the state stays, and the violation is an alarm.

The one rule outside the table: OPEN means that nothing is filled. A step that leads to OPEN with fills in the ledger
ends in PARTIALLY_FILLED.
"""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal

from attrs import evolve, frozen

from krakenbot.domain.decision.plan import ExitKind, StopTrigger
from krakenbot.domain.errors import invariant
from krakenbot.domain.values import (
    ClOrdId,
    Side,
    Symbol,
    VenueId,
    VenueOrderId,
)


class OrderState(enum.StrEnum):
    """The 13 states of an order; the last five are terminal and never left."""

    PENDING_SUBMIT = "pending_submit"
    SUBMITTED = "submitted"
    UNKNOWN = "unknown"
    ACKED = "acked"
    OPEN = "open"
    PARTIALLY_FILLED = "partially_filled"
    PENDING_AMEND = "pending_amend"
    PENDING_CANCEL = "pending_cancel"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"
    NEVER_ACCEPTED = "never_accepted"

    @property
    def is_terminal(self) -> bool:
        """Tell whether no event leads out of this state."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {
        OrderState.FILLED,
        OrderState.CANCELED,
        OrderState.EXPIRED,
        OrderState.REJECTED,
        OrderState.NEVER_ACCEPTED,
    }
)


class OrderRole(enum.StrEnum):
    """What an order is for."""

    ENTRY = "entry"
    PROTECTIVE_STOP = "protective_stop"
    TAKE_PROFIT = "take_profit"
    MARKET_EXIT = "market_exit"


class OrderType(enum.StrEnum):
    """Order types that the engine sends, in Kraken's words."""

    LIMIT = "limit"
    MARKET = "market"
    STOP_LOSS = "stop-loss"


@frozen(kw_only=True)
class Order:
    """One order as its row in execution_orders holds it.

    `parent_id` is the entry that a protective order belongs to, None for entries. `qty` is the latest total.
    `record` is the decision record of an entry, or the reason of an exit. `deadline_at` and `expire_at` bound when
    an entry can still appear at the venue (None for exits without them).
    """

    cl_ord_id: ClOrdId
    venue_id: VenueId
    symbol: Symbol
    side: Side
    role: OrderRole
    order_type: OrderType
    qty: Decimal
    limit_price: Decimal | None
    trigger_price: Decimal | None
    trigger: StopTrigger | None
    post_only: bool
    state: OrderState
    created_at: datetime
    deadline_at: datetime | None = None
    expire_at: datetime | None = None
    parent_id: ClOrdId | None = None
    exit_kind: ExitKind | None = None
    venue_order_id: VenueOrderId | None = None
    cum_qty: Decimal = Decimal(0)
    state_at: datetime | None = None
    reason: str = ""
    record: dict[str, object]

    @property
    def open_qty(self) -> Decimal:
        """Return what is left to fill; zero also when the venue filled more than the total."""
        return max(Decimal(0), self.qty - self.cum_qty)


class OrderEvent(enum.StrEnum):
    """What may happen to an order: our own requests, their answers, reports, and proofs."""

    SUBMIT_SENT = "submit_sent"
    NOT_SENT = "not_sent"
    WITHDRAWN = "withdrawn"
    ACKED = "acked"
    REJECTED = "rejected"
    OUTCOME_UNKNOWN = "outcome_unknown"
    REPORT_PENDING_NEW = "report_pending_new"
    REPORT_NEW = "report_new"
    TRADE = "trade"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    AMEND_SENT = "amend_sent"
    AMENDED = "amended"
    AMEND_REFUSED = "amend_refused"
    CANCEL_SENT = "cancel_sent"
    CANCEL_REFUSED = "cancel_refused"
    PROVEN_ABSENT = "proven_absent"


_S = OrderState
_E = OrderEvent

TRANSITIONS: dict[OrderState, dict[OrderEvent, OrderState]] = {
    _S.PENDING_SUBMIT: {
        _E.SUBMIT_SENT: _S.SUBMITTED,
        _E.WITHDRAWN: _S.NEVER_ACCEPTED,
        _E.ACKED: _S.ACKED,
        _E.REJECTED: _S.REJECTED,
        _E.OUTCOME_UNKNOWN: _S.UNKNOWN,
        _E.REPORT_PENDING_NEW: _S.ACKED,
        _E.REPORT_NEW: _S.OPEN,
        _E.TRADE: _S.PARTIALLY_FILLED,
        _E.FILLED: _S.FILLED,
        _E.CANCELED: _S.CANCELED,
        _E.EXPIRED: _S.EXPIRED,
    },
    _S.SUBMITTED: {
        _E.NOT_SENT: _S.PENDING_SUBMIT,
        _E.ACKED: _S.ACKED,
        _E.REJECTED: _S.REJECTED,
        _E.OUTCOME_UNKNOWN: _S.UNKNOWN,
        _E.REPORT_PENDING_NEW: _S.ACKED,
        _E.REPORT_NEW: _S.OPEN,
        _E.TRADE: _S.PARTIALLY_FILLED,
        _E.FILLED: _S.FILLED,
        _E.CANCELED: _S.CANCELED,
        _E.EXPIRED: _S.EXPIRED,
    },
    _S.UNKNOWN: {
        _E.ACKED: _S.ACKED,
        _E.REJECTED: _S.REJECTED,
        _E.OUTCOME_UNKNOWN: _S.UNKNOWN,
        _E.REPORT_PENDING_NEW: _S.ACKED,
        _E.REPORT_NEW: _S.OPEN,
        _E.TRADE: _S.PARTIALLY_FILLED,
        _E.FILLED: _S.FILLED,
        _E.CANCELED: _S.CANCELED,
        _E.EXPIRED: _S.EXPIRED,
        _E.CANCEL_SENT: _S.UNKNOWN,
        _E.CANCEL_REFUSED: _S.UNKNOWN,
        _E.PROVEN_ABSENT: _S.NEVER_ACCEPTED,
    },
    _S.ACKED: {
        _E.ACKED: _S.ACKED,
        _E.OUTCOME_UNKNOWN: _S.ACKED,
        _E.REPORT_PENDING_NEW: _S.ACKED,
        _E.REPORT_NEW: _S.OPEN,
        _E.TRADE: _S.PARTIALLY_FILLED,
        _E.FILLED: _S.FILLED,
        _E.CANCELED: _S.CANCELED,
        _E.EXPIRED: _S.EXPIRED,
        _E.AMEND_SENT: _S.PENDING_AMEND,
        _E.AMENDED: _S.OPEN,
        _E.AMEND_REFUSED: _S.ACKED,
        _E.CANCEL_SENT: _S.PENDING_CANCEL,
        _E.CANCEL_REFUSED: _S.ACKED,
    },
    _S.OPEN: {
        _E.ACKED: _S.OPEN,
        _E.OUTCOME_UNKNOWN: _S.OPEN,
        _E.REPORT_PENDING_NEW: _S.OPEN,
        _E.REPORT_NEW: _S.OPEN,
        _E.TRADE: _S.PARTIALLY_FILLED,
        _E.FILLED: _S.FILLED,
        _E.CANCELED: _S.CANCELED,
        _E.EXPIRED: _S.EXPIRED,
        _E.AMEND_SENT: _S.PENDING_AMEND,
        _E.AMENDED: _S.OPEN,
        _E.AMEND_REFUSED: _S.OPEN,
        _E.CANCEL_SENT: _S.PENDING_CANCEL,
        _E.CANCEL_REFUSED: _S.OPEN,
    },
    _S.PARTIALLY_FILLED: {
        _E.ACKED: _S.PARTIALLY_FILLED,
        _E.OUTCOME_UNKNOWN: _S.PARTIALLY_FILLED,
        _E.REPORT_PENDING_NEW: _S.PARTIALLY_FILLED,
        _E.REPORT_NEW: _S.PARTIALLY_FILLED,
        _E.TRADE: _S.PARTIALLY_FILLED,
        _E.FILLED: _S.FILLED,
        _E.CANCELED: _S.CANCELED,
        _E.EXPIRED: _S.EXPIRED,
        _E.AMEND_SENT: _S.PENDING_AMEND,
        _E.AMENDED: _S.PARTIALLY_FILLED,
        _E.AMEND_REFUSED: _S.PARTIALLY_FILLED,
        _E.CANCEL_SENT: _S.PENDING_CANCEL,
        _E.CANCEL_REFUSED: _S.PARTIALLY_FILLED,
    },
    _S.PENDING_AMEND: {
        _E.ACKED: _S.PENDING_AMEND,
        _E.OUTCOME_UNKNOWN: _S.PENDING_AMEND,
        _E.REPORT_PENDING_NEW: _S.PENDING_AMEND,
        _E.REPORT_NEW: _S.PENDING_AMEND,
        _E.TRADE: _S.PENDING_AMEND,
        _E.FILLED: _S.FILLED,
        _E.CANCELED: _S.CANCELED,
        _E.EXPIRED: _S.EXPIRED,
        _E.AMENDED: _S.OPEN,
        _E.AMEND_REFUSED: _S.OPEN,
        _E.CANCEL_SENT: _S.PENDING_CANCEL,
        _E.CANCEL_REFUSED: _S.PENDING_AMEND,
    },
    _S.PENDING_CANCEL: {
        _E.ACKED: _S.PENDING_CANCEL,
        _E.OUTCOME_UNKNOWN: _S.PENDING_CANCEL,
        _E.REPORT_PENDING_NEW: _S.PENDING_CANCEL,
        _E.REPORT_NEW: _S.PENDING_CANCEL,
        _E.TRADE: _S.PENDING_CANCEL,
        _E.FILLED: _S.FILLED,
        _E.CANCELED: _S.CANCELED,
        _E.EXPIRED: _S.EXPIRED,
        _E.AMENDED: _S.PENDING_CANCEL,
        _E.AMEND_REFUSED: _S.PENDING_CANCEL,
        _E.CANCEL_SENT: _S.PENDING_CANCEL,
        _E.CANCEL_REFUSED: _S.OPEN,
    },
    _S.FILLED: {
        _E.ACKED: _S.FILLED,
        _E.OUTCOME_UNKNOWN: _S.FILLED,
        _E.REPORT_PENDING_NEW: _S.FILLED,
        _E.REPORT_NEW: _S.FILLED,
        _E.FILLED: _S.FILLED,
        _E.AMENDED: _S.FILLED,
        _E.AMEND_REFUSED: _S.FILLED,
        _E.CANCEL_REFUSED: _S.FILLED,
    },
    _S.CANCELED: {
        _E.ACKED: _S.CANCELED,
        _E.OUTCOME_UNKNOWN: _S.CANCELED,
        _E.REPORT_PENDING_NEW: _S.CANCELED,
        _E.REPORT_NEW: _S.CANCELED,
        _E.CANCELED: _S.CANCELED,
        _E.AMENDED: _S.CANCELED,
        _E.AMEND_REFUSED: _S.CANCELED,
        _E.CANCEL_REFUSED: _S.CANCELED,
    },
    _S.EXPIRED: {
        _E.ACKED: _S.EXPIRED,
        _E.OUTCOME_UNKNOWN: _S.EXPIRED,
        _E.REPORT_PENDING_NEW: _S.EXPIRED,
        _E.REPORT_NEW: _S.EXPIRED,
        _E.EXPIRED: _S.EXPIRED,
        _E.AMENDED: _S.EXPIRED,
        _E.AMEND_REFUSED: _S.EXPIRED,
        _E.CANCEL_REFUSED: _S.EXPIRED,
    },
    _S.REJECTED: {
        _E.REJECTED: _S.REJECTED,
        _E.OUTCOME_UNKNOWN: _S.REJECTED,
        _E.CANCEL_REFUSED: _S.REJECTED,
    },
    _S.NEVER_ACCEPTED: {
        _E.REJECTED: _S.NEVER_ACCEPTED,
        _E.OUTCOME_UNKNOWN: _S.NEVER_ACCEPTED,
        _E.CANCEL_REFUSED: _S.NEVER_ACCEPTED,
        _E.PROVEN_ABSENT: _S.NEVER_ACCEPTED,
    },
}


@frozen(kw_only=True)
class Advanced:
    """A step that the table has; `order` is the row after it."""

    order: Order
    event: OrderEvent
    from_state: OrderState


@frozen(kw_only=True)
class ProtocolViolation:
    """An event that the table has no step for; the order is unchanged."""

    order: Order
    event: OrderEvent


def advance(
    order: Order,
    event: OrderEvent,
    *,
    at: datetime,
    venue_order_id: VenueOrderId | None = None,
    qty: Decimal | None = None,
    limit_price: Decimal | None = None,
    trigger_price: Decimal | None = None,
    deadline_at: datetime | None = None,
    reason: str | None = None,
) -> Advanced | ProtocolViolation:
    """Take one step of the table; what is None keeps its value.

    `qty` and prices are the ones that the venue holds after the event. The fills behind the step must be in
    `order.cum_qty` already.
    """
    target = TRANSITIONS[order.state].get(event)
    if target is None:
        return ProtocolViolation(order=order, event=event)
    if target is OrderState.OPEN and order.cum_qty > 0:
        target = OrderState.PARTIALLY_FILLED
    invariant(not order.state.is_terminal or target is order.state, "I7", f"{order.cl_ord_id} left {order.state}")
    after = evolve(
        order,
        state=target,
        state_at=at if target is not order.state else order.state_at,
        venue_order_id=order.venue_order_id if venue_order_id is None else venue_order_id,
        qty=order.qty if qty is None else qty,
        limit_price=order.limit_price if limit_price is None else limit_price,
        trigger_price=order.trigger_price if trigger_price is None else trigger_price,
        deadline_at=order.deadline_at if deadline_at is None else deadline_at,
        reason=order.reason if reason is None else reason,
    )
    invariant(after.cum_qty == order.cum_qty, "I8", f"{order.cl_ord_id}: a step changed the filled quantity")
    return Advanced(order=after, event=event, from_state=order.state)


def with_fill(order: Order, qty: Decimal) -> Order:
    """Return the order with one more fill in its filled quantity; the state is left to the table."""
    invariant(qty > 0, "I8", f"{order.cl_ord_id}: a fill of {qty}")
    after = evolve(order, cum_qty=order.cum_qty + qty)
    invariant(after.cum_qty > order.cum_qty, "I8", f"{order.cl_ord_id}: the filled quantity did not grow")
    return after
