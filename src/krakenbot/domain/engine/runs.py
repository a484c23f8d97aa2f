"""Runs: one lineage for the life of the process, and one run after another within it.

Enters: the age and the size of the run that goes on. Leaves: the next run, made ahead of need, begun in both databases
and taken up by all who write, without a break in the feed. An engine task of its own; its effects are events.
"""

from __future__ import annotations

from collections.abc import Callable

from krakenbot.domain.errors import SecondWriteFailed, StoreError
from krakenbot.domain.state.retention import RunSettings
from krakenbot.domain.values import LineageId, RunId
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.lineage_store import LineageStore

START_RETRY_S = 1.0


class RunKeeper:
    """The current run of the lineage.

    `rows_written` returns how many raw rows were written since start; `take_up` is told of every new run, at once and
    in the same turn of the event loop, so that each row belongs to exactly one run.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        store: LineageStore,
        events: EventSink,
        settings: RunSettings,
        rows_written: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._store = store
        self._events = events
        self._settings = settings
        self._rows_written = rows_written
        self._take_up: list[Callable[[RunId], None]] = []
        self._prepared: RunId | None = None
        self._started_mono = 0.0
        self._rows_before = 0
        self.lineage_id = LineageId(0)
        self.run_id = RunId(0)
        self.rotations = 0

    async def start(self) -> None:
        """Begin a new lineage with its first run; databases that are away are said and waited for."""
        while True:
            try:
                self.lineage_id, run_id = await self._store.start_lineage(self._clock.now())
                break
            except StoreError as exc:
                self._events.emit("lineage_not_started", reason=str(exc))
            await self._clock.sleep(START_RETRY_S)
        self._go_on_in(run_id)

    def tell(self, take_up: Callable[[RunId], None]) -> None:
        """Have every new run told to `take_up`, which must be quick and must not raise."""
        self._take_up.append(take_up)

    async def run(self) -> None:
        """Prepare and rotate until cancelled; a database that is away is said, and the run goes on meanwhile."""
        while True:
            try:
                await self.step()
            except StoreError as exc:
                self._events.emit("run_not_rotated", run_id=self.run_id, reason=str(exc))
            await self._clock.sleep(self._settings.check_interval_s)

    async def step(self) -> None:
        """Make the next run ahead of need, and begin it when the current one is over."""
        if self._prepared is None:
            self._prepared = await self._store.prepare_run()
            self._events.emit("run_prepared", run_id=self._prepared)
        cause = self._settings.is_over(self._clock.mono() - self._started_mono, self.rows)
        if cause:
            await self._rotate(self._prepared, cause)

    @property
    def rows(self) -> int:
        """Return how many raw rows were written since the current run began."""
        return self._rows_written() - self._rows_before

    async def end(self) -> None:
        """Record the end of the current run; raises StoreError."""
        await self._store.end_run(self.run_id, self._clock.now())

    async def _rotate(self, run_id: RunId, cause: str) -> None:
        before, rows = self.run_id, self.rows
        try:
            await self._store.start_run(self.lineage_id, self._clock.now(), run_id)
        except SecondWriteFailed as exc:
            # The run has begun where its rows go. Epochs bring it over before they refer to it.
            self._events.emit("run_not_published", run_id=run_id, reason=str(exc))
        self._prepared = None
        self.rotations += 1
        self._go_on_in(run_id)
        self._events.emit("run_rotated", run_id=run_id, before=before, rows=rows, cause=cause)

    def _go_on_in(self, run_id: RunId) -> None:
        self.run_id = run_id
        self._started_mono = self._clock.mono()
        self._rows_before = self._rows_written()
        for take_up in self._take_up:
            take_up(run_id)
