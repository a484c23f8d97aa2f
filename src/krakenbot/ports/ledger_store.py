"""Where the tie-out with the venue's ledger stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from krakenbot.domain.execution.tie_out import Cursor, Named
from krakenbot.domain.values import VenueId


class LedgerStore(Protocol):
    """The decision database's cursor and named differences. Raises StoreUnavailable when it is away."""

    async def load_cursor(self, venue_id: VenueId) -> Cursor | None:
        """Return the cursor; None before the first tie-out, and when a person has removed it to begin anew."""

    async def save_cursor(self, venue_id: VenueId, cursor: Cursor, named: Sequence[Named]) -> None:
        """Move the cursor on, and append what was named on the way, in one transaction."""
