"""The order, its states, and (below) the table that leads from one to the next."""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal

from attrs import frozen

from krakenbot.domain.decision.plan import ExitKind, StopTrigger
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
