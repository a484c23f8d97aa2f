"""Twin of the PostgreSQL ledger store."""

from __future__ import annotations

from collections.abc import Sequence

from krakenbot.domain.execution.tie_out import Cursor, Named
from krakenbot.domain.values import VenueId


class MemoryLedgerStore:
    """LedgerStore in memory."""

    def __init__(self) -> None:
        self._cursors: dict[VenueId, Cursor] = {}
        self.named: list[tuple[VenueId, Named]] = []

    async def load_cursor(self, venue_id: VenueId) -> Cursor | None:
        """Return the cursor of a venue."""
        return self._cursors.get(venue_id)

    async def save_cursor(self, venue_id: VenueId, cursor: Cursor, named: Sequence[Named]) -> None:
        """Move the cursor on and append what was named."""
        before = self._cursors.get(venue_id)
        if before is None or before.at <= cursor.at:
            self._cursors[venue_id] = cursor
        self.named += [(venue_id, one) for one in named]
