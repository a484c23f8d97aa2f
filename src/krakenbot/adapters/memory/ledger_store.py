"""Twin of the PostgreSQL ledger store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from krakenbot.domain.execution.ledger import Acceptance, Cursor, Named
from krakenbot.domain.values import Asset, VenueId


class MemoryLedgerStore:
    """LedgerStore in memory."""

    def __init__(self) -> None:
        self._cursors: dict[VenueId, Cursor] = {}
        self._acceptances: list[tuple[VenueId, Acceptance]] = []
        self.named: list[tuple[VenueId, Named]] = []
        self.settled: dict[int, bool] = {}

    async def load_cursor(self, venue_id: VenueId) -> Cursor | None:
        """Return the cursor of a venue."""
        return self._cursors.get(venue_id)

    async def save_cursor(
        self, venue_id: VenueId, cursor: Cursor, named: Sequence[Named], settled: Mapping[int, bool] | None = None
    ) -> None:
        """Move the cursor on and append what was named."""
        before = self._cursors.get(venue_id)
        if before is None or before.at <= cursor.at:
            self._cursors[venue_id] = cursor
        self.named += [(venue_id, one) for one in named]
        self.settled |= settled or {}

    async def accept(self, venue_id: VenueId, asset: Asset, amount: Decimal, who: str, reason: str) -> Acceptance:
        """Write down that a person accepts a difference."""
        number = len(self._acceptances) + 1
        made = Acceptance(number=number, asset=asset, amount=amount, who=who, reason=reason)
        self._acceptances.append((venue_id, made))
        return made

    async def open_acceptances(self, venue_id: VenueId) -> Sequence[Acceptance]:
        """Return the acceptances that were not looked at yet."""
        return [one for at, one in self._acceptances if at == venue_id and one.number not in self.settled]
