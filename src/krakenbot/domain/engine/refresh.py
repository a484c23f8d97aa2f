"""Ingest's answer to execution: one generation per request, refreshed, synced, stamped.

Enters: refresh requests from the decision database. Leaves: a generation that both sides name.
"""

from __future__ import annotations

from attrs import field, frozen
from attrs.validators import ge, gt, le

from krakenbot.domain.errors import StoreConflict, StoreUnavailable
from krakenbot.domain.values import LineageId, RunId
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.state_store import RefreshAnswers, StateRefresher


@frozen(kw_only=True)
class RefreshSettings:
    """How long one wait for requests lasts, and the pause after a failure; seconds."""

    request_wait_s: float = field(default=1.0, validator=[gt(0.0), le(60.0)])
    retry_s: float = field(default=0.5, validator=[ge(0.05), le(60.0)])


class RefreshServer:
    """Answers requests one after another; several waiting ones share a generation."""

    def __init__(
        self,
        *,
        clock: Clock,
        refresher: StateRefresher,
        answers: RefreshAnswers,
        events: EventSink,
        settings: RefreshSettings,
        lineage_id: LineageId,
        run_id: RunId,
    ) -> None:
        self._clock = clock
        self._refresher = refresher
        self._answers = answers
        self._events = events
        self._settings = settings
        self._lineage_id = lineage_id
        self._run_id = run_id
        self.generations = 0
        self.failures = 0
        self.last_duration_s: float | None = None

    def use_run(self, run_id: RunId) -> None:
        """Name another run in the generations from now on: the lineage, and so every window, stays."""
        self._run_id = run_id

    async def run(self) -> None:
        """Serve until cancelled; a database that is away, or refuses a value, is said and tried again."""
        while True:
            try:
                await self.serve_once()
            except (StoreUnavailable, StoreConflict) as exc:
                self.failures += 1
                self._events.emit("refresh_failed", reason=str(exc))
                await self._clock.sleep(self._settings.retry_s)

    async def serve_once(self) -> bool:
        """Answer the requests that are open within one wait; return whether there were any."""
        request_ids = await self._answers.wait_for_requests(self._settings.request_wait_s)
        if not request_ids:
            return False
        refreshed = await self._refresher.refresh(self._lineage_id, self._run_id, self._clock.now())
        await self._refresher.sync(refreshed.generation_id)
        await self._answers.answer(request_ids, refreshed.generation_id)
        self.generations += 1
        self.last_duration_s = refreshed.duration_s
        return True
