"""What retention reads and removes: raw rows of runs, old epochs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from krakenbot.domain.state.retention import StoredRun
from krakenbot.domain.values import RunId


class RetentionStore(Protocol):
    """Removal in steps that can be repeated; every method raises StoreUnavailable when a database is away."""

    async def stored_runs(self) -> Sequence[StoredRun]:
        """Return every run that still has raw rows or partitions, by id."""

    async def open_since(self) -> Sequence[datetime | None]:
        """Return when each open order was made and each open position began; None for an unknown beginning."""

    async def drop_run(self, run_id: RunId, at: datetime) -> int:
        """Drop the raw rows of a run that has ended, and note it in both databases; return the bytes given back."""

    async def delete_rows(self, run_id: RunId, before: datetime, limit: int) -> int:
        """Delete at most `limit` rows per raw table of a run that are older than `before`; return how many."""

    async def prune_epochs(self, before: datetime, limit: int) -> int:
        """Delete at most `limit` of the oldest epochs made before an instant, in both databases; return how many."""

    async def forget_lineages(self, limit: int) -> int:
        """Delete at most `limit` rows per table of what refreshes keep for lineages that are over; return how many."""

    async def forget_runs(self, limit: int) -> int:
        """Delete at most `limit` rows per table of what describes runs without raw rows; return how many."""
