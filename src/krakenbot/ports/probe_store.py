"""Where queue probes are kept: labels for fill probability and for M, apart from orders."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from krakenbot.domain.market.probe import Probe, ProbeLabels
from krakenbot.domain.values import LineageId, VenueId


class ProbeStore(Protocol):
    """The decision database's probes, append-only. Raises StoreUnavailable when it is away."""

    async def record(self, venue_id: VenueId, lineage_id: LineageId, probes: Sequence[Probe]) -> None:
        """Append ended probes in one transaction; one that is there already is left as it is."""

    async def labels(self, venue_id: VenueId, since: datetime) -> Sequence[ProbeLabels]:
        """Return the labels of one venue by symbol group, kind, side and queue bucket, of probes ended since a time.

        Sorted by these four. Markouts are those of fills.
        """

    async def drop_before(self, at: datetime) -> int:
        """Drop the whole UTC days that lie before a time; return how many."""
