"""Twin of the retention store."""

from __future__ import annotations

from datetime import datetime

from krakenbot.adapters.memory.database import MemoryDatabase
from krakenbot.domain.errors import StoreUnavailable
from krakenbot.domain.market.samples import Sample, TickerSample
from krakenbot.domain.state.retention import StoredRun
from krakenbot.domain.state.windows import ns_of
from krakenbot.domain.values import RunId

ROW_BYTES = 100


class MemoryRetentionStore:
    """RetentionStore in memory; a row counts as `ROW_BYTES`."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._db = database

    async def stored_runs(self) -> list[StoredRun]:
        """Return every run that still has a place for rows."""
        return [
            StoredRun(
                run_id=run_id,
                lineage_id=self._db.runs.get(run_id),
                started_at=self._db.run_starts.get(run_id),
                ended_at=self._db.ended_runs.get(run_id),
                size_bytes=ROW_BYTES * len(rows),
            )
            for run_id, rows in sorted(self._db.samples.items())
        ]

    async def open_since(self) -> list[datetime | None]:
        """Return when each open order was made and each open position began."""
        held = [position.opened_at for position in self._db.positions.values() if position.qty]
        return [*held, *(order.created_at for order in self._db.orders.values() if not order.state.is_terminal)]

    async def drop_run(self, run_id: RunId, at: datetime) -> int:  # noqa: ARG002 # kept by the real one
        """Drop the rows of a run that does not go on."""
        if run_id in self._db.runs and run_id not in self._db.ended_runs:
            raise StoreUnavailable(f"run {run_id} goes on")
        return ROW_BYTES * len(self._db.samples.pop(run_id, []))

    async def delete_rows(self, run_id: RunId, before: datetime, limit: int) -> int:
        """Delete at most `limit` old rows of each kind."""
        before_ns, left, counts = ns_of(before), [], dict.fromkeys(map(type, self._db.samples[run_id]), 0)
        for row in self._db.samples[run_id]:
            if _stamp_ns(row) < before_ns and counts[type(row)] < limit:
                counts[type(row)] += 1
            else:
                left.append(row)
        self._db.samples[run_id] = left
        return sum(counts.values())

    async def prune_epochs(self, before: datetime, limit: int) -> int:
        """Delete at most `limit` of the oldest epochs; the newest always stays."""
        old = [epoch.epoch_id for epoch in self._db.epochs[:-1] if epoch.created_at < before][:limit]
        self._db.epochs = [epoch for epoch in self._db.epochs if epoch.epoch_id not in old]
        for epoch_id in old:
            del self._db.universes[epoch_id]
        return len(old)

    async def forget_lineages(self, limit: int) -> int:  # noqa: ARG002 # kept by the real one
        """Return 0: the twin's refresher keeps nothing between two calls."""
        return 0

    async def forget_runs(self, limit: int) -> int:  # noqa: ARG002 # kept by the real one
        """Return 0: the twin keeps nothing of a run beside its rows."""
        return 0


def _stamp_ns(row: Sample) -> int:
    return row.received_at_ns if isinstance(row, TickerSample) else row.at_ns
