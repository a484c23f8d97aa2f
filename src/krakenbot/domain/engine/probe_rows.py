"""Rows of queue probes that have ended, on their way to the store.

Enters: probes whose figures are final. Leaves: batches in the probe store; what waits is bounded and counted. Called by
`engine.probes`.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from datetime import timedelta

import anyio

from krakenbot.domain.errors import StoreConflict, StoreError
from krakenbot.domain.market.probe import Probe
from krakenbot.domain.values import LineageId, VenueId
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.probe_store import ProbeStore

BATCH_ROWS = 500
WAITING_ROWS = 20_000
STORE_TIMEOUT_S = 10.0


class ProbeRows:
    """The rows of one ingest process; kept for `keep_days` whole days in the store."""

    def __init__(
        self, *, clock: Clock, store: ProbeStore, events: EventSink, venue_id: VenueId, keep_days: int
    ) -> None:
        self._clock = clock
        self._store = store
        self._events = events
        self._venue_id = venue_id
        self._keep_days = keep_days
        self._rows: deque[Probe] = deque()
        self._batch_rows = BATCH_ROWS
        self._store_is_away = False
        self.recorded = 0
        self.dropped = 0

    def __len__(self) -> int:
        """Return how many rows wait."""
        return len(self._rows)

    def add(self, probes: Iterable[Probe]) -> None:
        """Take probes whose rows are whole."""
        self._rows.extend(probes)

    async def flush_all(self, lineage_id: LineageId) -> None:
        """Store what waits, until the store is away."""
        while self._rows and await self.flush(lineage_id):
            pass

    async def flush(self, lineage_id: LineageId) -> bool:
        """Store one batch; False when the store is away. What waits is bounded, the oldest is dropped and counted.

        A batch that a constraint refuses is tried again in halves, until the row that is refused alone is dropped.
        """
        while len(self._rows) > WAITING_ROWS:
            self._rows.popleft()
            self.dropped += 1
        batch = list(itertools.islice(self._rows, self._batch_rows))
        if not batch:
            return True
        try:
            with anyio.fail_after(STORE_TIMEOUT_S):
                await self._store.record(self._venue_id, lineage_id, batch)
        except StoreConflict as exc:
            self._split(batch, exc)
            return True
        except (StoreError, TimeoutError) as exc:
            # Away, or not as it should be: rights or a schema can be mended, and the rows wait for it.
            self._say_away(str(exc) or "timeout")
            return False
        self._store_is_away = False
        self._batch_rows = min(2 * self._batch_rows, BATCH_ROWS)
        for _ in batch:
            self._rows.popleft()
        self.recorded += len(batch)
        return True

    async def retain(self) -> None:
        """Drop the days that are older than the time for which rows are kept."""
        before = self._clock.now() - timedelta(days=self._keep_days)
        try:
            with anyio.fail_after(STORE_TIMEOUT_S):
                days = await self._store.drop_before(before)
        except (StoreError, TimeoutError) as exc:
            self._say_away(str(exc) or "timeout")
            return
        if days:
            self._events.emit("probes_dropped", days=days, before=before.date().isoformat())

    def _split(self, batch: list[Probe], refusal: StoreConflict) -> None:
        self._batch_rows = max(len(batch) // 2, 1)
        if len(batch) == 1:
            self._rows.popleft()
            self.dropped += 1
            self._events.emit("probe_refused", symbol=batch[0].symbol, number=batch[0].probe_no, reason=str(refusal))

    def _say_away(self, reason: str) -> None:
        if not self._store_is_away:
            self._events.emit("probes_not_recorded", reason=reason, waiting=len(self._rows))
        self._store_is_away = True
