"""Retention: space is given back while ingest goes on.

Enters: the stored runs and their sizes. Leaves: dropped partitions, fewer old epochs, and an event for each step. An
engine task of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from krakenbot.domain.errors import StoreConflict, StoreUnavailable
from krakenbot.domain.state.retention import RetentionPlan, RetentionSettings, plan_retention
from krakenbot.domain.values import RunId
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.retention_store import RetentionStore

WINDOW_SLACK_S = 120.0
"""Beyond the reach of the windows: refreshes lag, and late rows still go to the run before."""
DELETE_ROWS = 20_000
DELETE_STEPS = 20
PRUNE_EPOCHS = 1_000
PRUNE_STEPS = 20


class Retention:
    """Drops what is old or too much; `reach_s` is how far back the windows read."""

    def __init__(
        self,
        *,
        clock: Clock,
        store: RetentionStore,
        events: EventSink,
        settings: RetentionSettings,
        reach_s: float,
    ) -> None:
        self._clock = clock
        self._store = store
        self._events = events
        self._settings = settings
        self._window_s = max(settings.keep_s, reach_s + WINDOW_SLACK_S)
        self.dropped_runs = 0
        self.size_bytes = 0
        self.over_bytes = 0
        self.failures = 0

    async def run(self) -> None:
        """Check until cancelled; a database that is away, busy or refuses is said and tried again by the next check."""
        while True:
            try:
                await self.step()
            except (StoreUnavailable, StoreConflict) as exc:
                self.failures += 1
                self._events.emit("retention_failed", reason=str(exc))
            await self._clock.sleep(self._settings.check_interval_s)

    async def step(self) -> None:
        """Drop runs, then trim the one that goes on if that was not enough, then prune epochs."""
        at = self._clock.now()
        runs = await self._store.stored_runs()
        plan = plan_retention(
            runs, await self._store.open_since(), at=at, window_s=self._window_s, settings=self._settings
        )
        self.size_bytes = sum(run.size_bytes for run in runs)
        for run_id, cause in plan.drops:
            freed_bytes = await self._store.drop_run(run_id, at)
            self.size_bytes -= freed_bytes
            self.dropped_runs += 1
            self._events.emit("run_dropped", run_id=run_id, freed_bytes=freed_bytes, cause=cause)
        await self._say_what_is_too_much(plan, at)
        await self._prune(at)

    async def _say_what_is_too_much(self, plan: RetentionPlan, at: datetime) -> None:
        if plan.over_bytes:
            self._events.emit(
                "retention_over_limit",
                over_bytes=plan.over_bytes,
                limit_bytes=self._settings.max_bytes,
                kept={str(run_id): reason for run_id, reason in plan.kept.items()},
            )
            if plan.trim is not None:
                await self._trim(plan.trim, at)
        self.over_bytes = plan.over_bytes

    async def _trim(self, run_id: RunId, at: datetime) -> None:
        """Delete row by row, in bounded steps: the last resort, for a run that cannot be dropped as a whole."""
        before = at - timedelta(seconds=self._window_s)
        deleted = await _in_steps(lambda: self._store.delete_rows(run_id, before, DELETE_ROWS), DELETE_STEPS)
        if deleted:
            self._events.emit("run_rows_deleted", run_id=run_id, rows=deleted, before=before)

    async def _prune(self, at: datetime) -> None:
        before = at - timedelta(seconds=self._settings.epochs_max_age_s)
        pruned = await _in_steps(lambda: self._store.prune_epochs(before, PRUNE_EPOCHS), PRUNE_STEPS)
        if pruned:
            self._events.emit("epochs_pruned", count=pruned, before=before)
        forgotten = await _in_steps(lambda: self._store.forget_lineages(DELETE_ROWS), DELETE_STEPS)
        if forgotten:
            self._events.emit("lineages_forgotten", rows=forgotten)
        described = await _in_steps(lambda: self._store.forget_runs(DELETE_ROWS), DELETE_STEPS)
        if described:
            self._events.emit("runs_forgotten", rows=described)


async def _in_steps(step: Callable[[], Awaitable[int]], most: int) -> int:
    """Repeat a bounded deletion until it finds nothing, or often enough for one check; return how many rows went."""
    total = 0
    for _ in range(most):
        count = await step()
        total += count
        if not count:
            break
    return total
