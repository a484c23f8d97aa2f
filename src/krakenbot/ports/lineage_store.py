"""Runs, lineages and epochs, written to the ingest database and to the decision database."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from krakenbot.domain.state.epoch import Epoch, EpochCriteria, EpochStatus, UniverseSnapshot
from krakenbot.domain.values import LineageId, RunId, Symbol


class LineageStore(Protocol):
    """Dual write, run and lineage first.

    The first write goes to the ingest database. When only the second one fails, SecondWriteFailed is raised and what
    was written waits there, in order, until `publish_pending` or the next writing call brings it over.
    """

    async def start_lineage(self, at: datetime) -> tuple[LineageId, RunId]:
        """Create a lineage and its first run (with its partitions) in both databases; end what a crash left open."""

    async def prepare_run(self) -> RunId:
        """Reserve the next run id and make its partitions, ahead of need; it belongs to no lineage yet."""

    async def start_run(self, lineage_id: LineageId, at: datetime, prepared: RunId | None = None) -> RunId:
        """Begin the next run of a lineage at an instant, and end the one before at the same instant."""

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

    async def publish_pending(self) -> int:
        """Bring to the decision database what it lacks; return how many epochs that were. Raises SecondWriteFailed."""

    async def pinned_symbols(self) -> tuple[Symbol, ...]:
        """Return the symbols with an open position or a live order in the decision database, sorted."""

    async def end_run(self, run_id: RunId, at: datetime) -> None:
        """Mark a run as ended in both databases."""
