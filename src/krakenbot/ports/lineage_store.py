"""Runs, lineages and epochs, written to the ingest database and to the decision database."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from krakenbot.domain.state.epoch import Epoch, EpochCriteria, EpochStatus, UniverseSnapshot
from krakenbot.domain.values import LineageId, RunId, Symbol


class LineageStore(Protocol):
    """Dual write, run and lineage first; a failed second write raises StoreUnavailable and may be repeated."""

    async def start_lineage(self, at: datetime) -> tuple[LineageId, RunId]:
        """Create a lineage and its first run (with its partitions) in both databases."""

    async def publish_epoch(
        self,
        *,
        lineage_id: LineageId,
        run_id: RunId,
        status: EpochStatus,
        criteria: EpochCriteria,
        reasons: tuple[str, ...],
        execution: tuple[Symbol, ...],
        l3: tuple[Symbol, ...],
        pinned: tuple[Symbol, ...],
        at: datetime,
    ) -> tuple[Epoch, UniverseSnapshot]:
        """Create the next epoch of a lineage with its universe snapshot, whole, in both databases."""

    async def pinned_symbols(self) -> tuple[Symbol, ...]:
        """Return the symbols with an open position or a live order in the decision database, sorted."""

    async def end_run(self, run_id: RunId, at: datetime) -> None:
        """Mark a run as ended in both databases."""
