"""Takes the executions feed: each report through the tracker, one change each, in order.

Enters: batches of the feed. Leaves: results for the recorder, requests for a ladder after every snapshot, gap and
missing fill, and own orders without a row handed to the reconciler. It never waits for the database or for an answer,
so a slow one can't hold up reports.
"""

from __future__ import annotations

from collections.abc import Callable

from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.reconcile import Reconciler
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.errors import VenueUnavailable
from krakenbot.domain.execution.reports import ExecutionBatch, ExecutionReport
from krakenbot.domain.values import ClOrdId
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.execution_feed import ExecutionFeed


class ExecutionsConsumer:
    """Consumes the private stream until cancelled."""

    def __init__(
        self,
        *,
        clock: Clock,
        execution_feed: ExecutionFeed,
        recorder: Recorder,
        reconciler: Reconciler,
        settings: ExecutionSettings,
        event_sink: EventSink,
    ) -> None:
        self._clock = clock
        self._feed = execution_feed
        self._recorder = recorder
        self._reconciler = reconciler
        self._settings = settings
        self._sink = event_sink
        self.reports = 0
        self.snapshots = 0
        self.gaps = 0
        self.on_report: list[Callable[[ExecutionReport], None]] = []

    async def run(self) -> None:
        """Consume batches until cancelled; a feed that ends is opened again.

        Raises InvariantViolated for an error of ours.
        """
        # It ends the process: stops stay at the venue, and the next start reconciles from what the store has.
        while True:
            try:
                async with self._feed.open() as batches:
                    async for batch in batches:
                        self.take(batch)
            except VenueUnavailable as error:
                self._sink.emit("executions_lost", error=str(error))
            self._reconciler.request("executions_closed")
            await self._clock.sleep(1.0)

    def take(self, batch: ExecutionBatch) -> None:
        """Apply one batch."""
        at = self._clock.now()
        for report in batch.reports:
            self.reports += 1
            applied = self._recorder.tracker.apply_report(report, at)
            self._recorder.take(applied)
            for listener in self.on_report:
                listener(report)
            for stranger in applied.strangers:
                self._sink.emit("own_order_without_row", cl_ord_id=stranger.cl_ord_id, order_id=stranger.order_id)
                self._reconciler.request("own_order_without_row")
        if batch.is_snapshot:
            self.snapshots += 1
            self._reconciler.request("snapshot")
        if batch.gap:
            self.gaps += 1
            self._sink.emit("executions_gap", sequence=batch.sequence)
            self._reconciler.request("gap")

    async def watch_overdue(self) -> None:
        """Ask for a ladder while an order that the venue closed still lacks fills, until cancelled.

        Queries lag by up to a minute: the same orders are asked for ever more rarely.
        """
        before: list[ClOrdId] = []
        wait_s = self._settings.fills_overdue_s
        while True:
            await self._clock.sleep(wait_s)
            overdue = self._recorder.tracker.overdue(self._clock.now(), self._settings.fills_overdue_s)
            is_same = bool(overdue) and overdue == before
            wait_s = min(2 * wait_s, self._settings.ladder_interval_s) if is_same else self._settings.fills_overdue_s
            before = overdue
            if overdue:
                self._sink.emit("fills_overdue", cl_ord_ids=overdue)
                self._reconciler.ask_soon("fills_overdue")
