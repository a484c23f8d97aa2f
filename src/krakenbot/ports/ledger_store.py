"""Where the tie-out with the venue's ledger stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from krakenbot.domain.execution.ledger import Acceptance, Cursor, Named
from krakenbot.domain.values import Asset, VenueId


class LedgerStore(Protocol):
    """The decision database's cursor and named differences. Raises StoreUnavailable when it is away."""

    async def load_cursor(self, venue_id: VenueId) -> Cursor | None:
        """Return the cursor; None before the first tie-out, and when a person has removed it to begin anew."""

    async def save_cursor(
        self, venue_id: VenueId, cursor: Cursor, named: Sequence[Named], settled: Mapping[int, bool] | None = None
    ) -> None:
        """Move the cursor on, and append what was named on the way, in one transaction.

        `settled` are numbers of acceptances that were looked at: whether each was applied.
        """

    async def accept(self, venue_id: VenueId, asset: Asset, amount: Decimal, who: str, reason: str) -> Acceptance:
        """Write down that a person accepts a difference of this amount."""

    async def open_acceptances(self, venue_id: VenueId) -> Sequence[Acceptance]:
        """Return the acceptances that were not looked at yet, in the order in which they were made."""
