"""Replays the local journal into the decision database: what an earlier process sent while the database was away.

Enters: the records that the journal kept. Leaves: rows and events, each record once and in order. Called by start-up,
before rows are loaded and before the first ladder: only then does the new leader know of every order that the old one
may have sent.
"""

from __future__ import annotations

from collections import deque

from krakenbot.domain.errors import StoreConflict
from krakenbot.domain.execution.journal import JournalRecord, replay_change
from krakenbot.domain.values import LeaseEpoch
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.order_store import OrderStore

_KNOWN_KEY = "order_journal_pkey"


async def replay_journal(
    records: deque[JournalRecord], store: OrderStore, lease_epoch: LeaseEpoch, event_sink: EventSink
) -> None:
    """Commit every record that the store does not have yet; what is done leaves `records`.

    So it goes on where it was after StoreUnavailable or a cancellation, however many there are. A record that the
    store refuses is told and left out: its order shows as one without a row, and is cancelled.
    """
    count = len(records)
    new = 0
    while records:
        record = records[0]
        row = await store.find_order(record.order.cl_ord_id)
        try:
            await store.apply(replay_change(record, row), lease_epoch)
        except StoreConflict as conflict:
            if conflict.constraint != _KNOWN_KEY:
                event_sink.emit(
                    "journal_conflict",
                    journal_id=record.journal_id,
                    cl_ord_id=record.order.cl_ord_id,
                    error=str(conflict),
                )
        else:
            new += 1
        records.popleft()
    if count:
        event_sink.emit("journal_replayed", records=count, new=new)
