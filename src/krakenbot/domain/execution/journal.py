"""What is written to the local journal before it is sent while the decision database is away, and how it is read back.

Enters: the row of an order and what is about to be asked for it. Leaves: a record; later, the change that brings a row
of the database up to what the record says. Made by the desk, replayed by the start of the engine.

A record tells what was about to be sent, never what became of it: that is found at the venue. So a replayed order is
one whose outcome is unknown, and a step that its row can no longer take changes nothing.
"""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal

from attrs import evolve, frozen

from krakenbot.domain.execution.change import OrderChange, OrderEventRow
from krakenbot.domain.execution.order import Advanced, Order, OrderEvent, OrderRole, OrderState, advance
from krakenbot.domain.values import JournalId


class JournalKind(enum.StrEnum):
    """What follows a record: nothing yet (a row is reserved), or a request."""

    ROW = "row"
    SUBMIT = "submit"
    AMEND = "amend"
    CANCEL = "cancel"


_EVENTS = {
    JournalKind.SUBMIT: OrderEvent.SUBMIT_SENT,
    JournalKind.AMEND: OrderEvent.AMEND_SENT,
    JournalKind.CANCEL: OrderEvent.CANCEL_SENT,
}


@frozen(kw_only=True)
class JournalRecord:
    """One record; `order` is the row before the request, and what is None in the request keeps its value."""

    journal_id: JournalId
    at: datetime
    kind: JournalKind
    order: Order
    qty: Decimal | None = None
    limit_price: Decimal | None = None
    trigger_price: Decimal | None = None
    deadline_at: datetime | None = None


def replay_change(record: JournalRecord, row: Order | None) -> OrderChange:
    """Return what a record changes in the database, where `row` is the order's row, None when it has none.

    An exit without a row gets one; an entry never does, since its row is committed before it is sent in any case.
    """
    done = OrderChange(journal_ids=(record.journal_id,))
    if row is None:
        return done if record.order.role is OrderRole.ENTRY else _inserted(record)
    event = _EVENTS.get(record.kind)
    if event is None or row.state.is_terminal:
        return done
    is_submit = record.kind is JournalKind.SUBMIT
    outcome = advance(
        row,
        event,
        at=record.at,
        qty=record.qty if is_submit else None,
        trigger_price=record.trigger_price if is_submit else None,
        deadline_at=record.deadline_at if is_submit else None,
    )
    if not isinstance(outcome, Advanced):
        return done
    return evolve(done, orders=(outcome.order,), events=(_event_row(record, event, outcome.order, row.state),))


def _inserted(record: JournalRecord) -> OrderChange:
    # What was filled meanwhile is booked from the venue, fill by fill.
    reserved = evolve(record.order, state=OrderState.PENDING_SUBMIT, state_at=record.at, cum_qty=Decimal(0))
    if record.kind is JournalKind.ROW:
        return OrderChange(inserts=(reserved,), journal_ids=(record.journal_id,))
    sent = evolve(
        reserved,
        state=OrderState.SUBMITTED,
        qty=reserved.qty if record.qty is None else record.qty,
        limit_price=reserved.limit_price if record.limit_price is None else record.limit_price,
        trigger_price=reserved.trigger_price if record.trigger_price is None else record.trigger_price,
        deadline_at=reserved.deadline_at if record.deadline_at is None else record.deadline_at,
    )
    return OrderChange(
        inserts=(sent,),
        events=(_event_row(record, OrderEvent.SUBMIT_SENT, sent, OrderState.PENDING_SUBMIT),),
        journal_ids=(record.journal_id,),
    )


def _event_row(record: JournalRecord, event: OrderEvent, after: Order, from_state: OrderState) -> OrderEventRow:
    asked = {"qty": record.qty, "limit_price": record.limit_price, "trigger_price": record.trigger_price}
    detail: dict[str, object] = {name: str(value) for name, value in asked.items() if value is not None}
    return OrderEventRow(
        cl_ord_id=after.cl_ord_id,
        at=record.at,
        event=event,
        from_state=from_state,
        to_state=after.state,
        detail=detail | {"journal_id": record.journal_id},
    )
