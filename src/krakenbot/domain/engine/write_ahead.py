"""Puts what is about to be sent on record first: in the database, or in the local journal while that is away.

Enters: the row of an exit, or a request on a row that is on record. Leaves: a committed or journaled row; the id of the
journal's record, for the change that replays it. Called by the desk only.

An exit whose row can be kept nowhere is not sent (I1). A cancel, an amend, or the sending of a row that is on record
already goes on without the journal: what its record would tell is found at the venue.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from attrs import evolve

from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.execution.change import OrderChange, OrderEventRow
from krakenbot.domain.execution.journal import JournalKind, JournalRecord
from krakenbot.domain.execution.order import Order, OrderRole
from krakenbot.domain.values import JournalId
from krakenbot.ports.clock import Clock, IdSource
from krakenbot.ports.event_sink import EventSink

# A bare position waits no longer than this for the database before its exit's row goes to the journal.
_ROW_WAIT_S = 1.5
ROW_JOURNALED = "row_journaled"


class WriteAhead:
    """Puts rows and requests on record."""

    def __init__(self, *, clock: Clock, ids: IdSource, recorder: Recorder, event_sink: EventSink) -> None:
        self._clock = clock
        self._ids = ids
        self._recorder = recorder
        self._sink = event_sink

    async def keep_row(self, order: Order) -> bool:
        """Commit the row of an exit, or journal it; False when neither can be done, and then it must not be sent."""
        inserts: tuple[Order, ...] = (order,)
        if self._recorder.is_store_available:
            if await self._recorder.commit(OrderChange(inserts=inserts), _ROW_WAIT_S):
                return True
            # It is queued, and will be committed when the store is back.
            inserts = ()
        record = self._record(JournalKind.ROW, order)
        if await self._recorder.write_ahead(record):
            self._recorder.put(
                OrderChange(inserts=inserts, events=(_journaled(record),), journal_ids=(record.journal_id,))
            )
            return True
        self._sink.emit("exit_waits_for_store", symbol=order.symbol, kind=order.exit_kind)
        if not inserts:
            self._recorder.withdraw_queued(order, self._clock.now())
        return False

    async def keep_request(
        self,
        kind: JournalKind,
        order: Order,
        *,
        qty: Decimal | None = None,
        limit_price: Decimal | None = None,
        trigger_price: Decimal | None = None,
        deadline_at: datetime | None = None,
    ) -> tuple[JournalId, ...]:
        """Journal a request while the store is away; return the record's id, nothing when there is no record."""
        if self._recorder.is_store_available or (order.role is OrderRole.ENTRY and kind is not JournalKind.CANCEL):
            return ()
        record = evolve(
            self._record(kind, order),
            qty=qty,
            limit_price=limit_price,
            trigger_price=trigger_price,
            deadline_at=deadline_at,
        )
        return (record.journal_id,) if await self._recorder.write_ahead(record) else ()

    def _record(self, kind: JournalKind, order: Order) -> JournalRecord:
        return JournalRecord(
            journal_id=JournalId(self._ids.order_suffix()), at=self._clock.now(), kind=kind, order=order
        )


def _journaled(record: JournalRecord) -> OrderEventRow:
    order = record.order
    return OrderEventRow(
        cl_ord_id=order.cl_ord_id,
        at=record.at,
        event=ROW_JOURNALED,
        from_state=order.state,
        to_state=order.state,
        detail={"journal_id": record.journal_id},
    )
