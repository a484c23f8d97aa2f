"""Ingest: from the market feed to samples, epochs and state, for as long as it runs.

`IngestEngine.run` orders the steps: lineage and run, feed, universe, then side by side sampling, epochs, refresh
answers, rotation of runs, retention and status.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
from attrs import asdict

from krakenbot.domain.engine.epochs import EpochPublisher
from krakenbot.domain.engine.ingest_settings import IngestSettings
from krakenbot.domain.engine.market_recorder import MarketRecorder
from krakenbot.domain.engine.probes import QueueProbes
from krakenbot.domain.engine.refresh import RefreshServer, RefreshSettings
from krakenbot.domain.engine.retention import Retention
from krakenbot.domain.engine.runs import RunKeeper
from krakenbot.domain.engine.trade_refill import TradeRefill
from krakenbot.domain.errors import StoreError, VenueUnavailable
from krakenbot.domain.state.retention import RetentionSettings, RunSettings
from krakenbot.domain.state.standing import StandingSettings
from krakenbot.domain.state.universe import UniverseSettings
from krakenbot.domain.values import NS_PER_S
from krakenbot.ports.clock import Clock
from krakenbot.ports.cycle_store import CycleStore
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.lineage_store import LineageStore
from krakenbot.ports.market_feed import MarketFeed
from krakenbot.ports.retention_store import RetentionStore
from krakenbot.ports.sample_sink import SampleSink
from krakenbot.ports.state_store import RefreshAnswers, StateRefresher

_SAMPLE_SLICE = 50


class IngestEngine:
    """One life of ingest: one lineage."""

    def __init__(
        self,
        *,
        clock: Clock,
        feed: MarketFeed,
        sink: SampleSink,
        lineage_store: LineageStore,
        retention_store: RetentionStore,
        refresher: StateRefresher,
        answers: RefreshAnswers,
        cycle_store: CycleStore,
        events: EventSink,
        settings: IngestSettings,
        universe_settings: UniverseSettings,
        standing_settings: StandingSettings,
        refresh_settings: RefreshSettings,
        run_settings: RunSettings,
        retention_settings: RetentionSettings,
        window_reach_s: float,
        probes: QueueProbes | None = None,
        refill: TradeRefill | None = None,
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._sink = sink
        self._lineage_store = lineage_store
        self._refresher = refresher
        self._answers = answers
        self._cycle_store = cycle_store
        self._events = events
        self._probes = probes
        self._refill = refill
        self._settings = settings
        self._universe_settings = universe_settings
        self._standing_settings = standing_settings
        self._refresh_settings = refresh_settings
        self._runs = RunKeeper(
            clock=clock,
            store=lineage_store,
            events=events,
            settings=run_settings,
            rows_written=lambda: sum(sink.stats().rows.values()),
        )
        self._retention = Retention(
            clock=clock,
            store=retention_store,
            events=events,
            settings=retention_settings,
            reach_s=window_reach_s,
        )

    async def run(self) -> None:
        """Run until cancelled; on the way out what was sampled is written and the run is ended."""
        runs = self._runs
        await runs.start()
        self._events.emit("ingest_started", lineage_id=runs.lineage_id, run_id=runs.run_id)
        recorder = self._make_recorder()
        refresh = self._make_refresh()
        epochs = self._make_epochs(recorder)
        runs.tell(recorder.use_run)
        runs.tell(refresh.use_run)

        async def publish_status() -> None:
            await self._publish_status(recorder, refresh, epochs)

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._sink.run)
                tasks.start_soon(self._feed.run, self._probes.listen(recorder) if self._probes else recorder)
                tasks.start_soon(self._every, self._settings.status_interval_s, publish_status)
                await self._wait_for_instruments()
                await epochs.start()
                await self._wait_for_books(recorder, epochs)
                tasks.start_soon(self._sample_loop, recorder, epochs)
                tasks.start_soon(refresh.run)
                tasks.start_soon(epochs.run)
                tasks.start_soon(runs.run)
                tasks.start_soon(self._retention.run)
                if self._refill is not None:
                    tasks.start_soon(self._refill.run)
                if self._probes is not None:
                    tasks.start_soon(self._probes.run, runs.lineage_id, lambda: epochs.universe.l3)
        finally:
            with anyio.move_on_after(5.0, shield=True):
                await self._end(publish_status)

    def _make_recorder(self) -> MarketRecorder:
        return MarketRecorder(
            clock=self._clock, feed=self._feed, sink=self._sink, events=self._events, run_id=self._runs.run_id
        )

    def _make_refresh(self) -> RefreshServer:
        return RefreshServer(
            clock=self._clock,
            refresher=self._refresher,
            answers=self._answers,
            events=self._events,
            settings=self._refresh_settings,
            lineage_id=self._runs.lineage_id,
            run_id=self._runs.run_id,
        )

    def _make_epochs(self, recorder: MarketRecorder) -> EpochPublisher:
        return EpochPublisher(
            clock=self._clock,
            feed=self._feed,
            sink=self._sink,
            recorder=recorder,
            runs=self._runs,
            lineage_store=self._lineage_store,
            refresher=self._refresher,
            events=self._events,
            settings=self._settings,
            universe_settings=self._universe_settings,
            standing_settings=self._standing_settings,
        )

    async def _end(self, publish_status: Callable[[], Awaitable[None]]) -> None:
        """Record what already happened: the run's end, probes and the last counters."""
        try:
            await self._runs.end()
        except StoreError as exc:
            self._events.emit("run_end_not_recorded", reason=str(exc))
        if self._probes is not None:
            await self._probes.end(self._runs.lineage_id)
        await publish_status()
        self._events.emit("ingest_stopped", run_id=self._runs.run_id)

    async def _wait_for_instruments(self) -> None:
        with anyio.move_on_after(self._settings.instruments_wait_s):
            while not self._feed.instruments():
                await self._clock.sleep(0.05)
        if not self._feed.instruments():
            raise VenueUnavailable(f"no instruments within {self._settings.instruments_wait_s:g} s of start")

    async def _wait_for_books(self, recorder: MarketRecorder, epochs: EpochPublisher) -> None:
        """Give the first books a moment: an epoch of empty ones would only be invalid."""
        queues = epochs.universe.l3 if self._feed.health().level3_enabled else ()
        with anyio.move_on_after(self._settings.first_snapshot_grace_s):
            while not (recorder.with_book.issuperset(epochs.universe.l2) and recorder.with_queue.issuperset(queues)):
                await self._clock.sleep(0.05)

    async def _every(self, interval_s: float, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step on a fixed grid; steps that would have been in the past are left out."""
        due = self._clock.mono()
        while True:
            await step()
            due += interval_s * max(1, math.ceil((self._clock.mono() - due) / interval_s))
            await self._clock.sleep(max(0.0, due - self._clock.mono()))

    async def _sample_loop(self, recorder: MarketRecorder, epochs: EpochPublisher) -> None:
        """Sample in the middle of each interval of the wall clock.

        Features count seconds: at their edge a few ms of lateness put two samples into one and none into the next.
        """
        interval_ns = round(self._settings.sample_interval_s * NS_PER_S)
        while True:
            since_ns = (self._clock.now_ns() - interval_ns // 2) % interval_ns
            await self._clock.sleep((interval_ns - since_ns) / NS_PER_S)
            symbols = epochs.universe.l2
            for start in range(0, len(symbols), _SAMPLE_SLICE):
                recorder.sample(symbols[start : start + _SAMPLE_SLICE])
                # 600 symbols in one go would hold up every socket for 60 to 80 ms
                await anyio.lowlevel.checkpoint()

    async def _publish_status(self, recorder: MarketRecorder, refresh: RefreshServer, epochs: EpochPublisher) -> None:
        runs, retention = self._runs, self._retention
        body: dict[str, object] = {
            "feed": asdict(self._feed.health()),
            "sink": asdict(self._sink.stats()),
            **epochs.status(),
            "run": {"id": runs.run_id, "lineage": runs.lineage_id, "rows": runs.rows, "rotations": runs.rotations},
            "retention": {
                "size_bytes": retention.size_bytes,
                "over_bytes": retention.over_bytes,
                "dropped_runs": retention.dropped_runs,
                "failures": retention.failures,
            },
            "generations": refresh.generations,
            "refresh_failures": refresh.failures,
            "refresh_s": refresh.last_duration_s,
            "missing_trades": sum(recorder.missing_trades.values()),
            "probes": {} if self._probes is None else self._probes.status(),
        }
        try:
            await self._cycle_store.publish_status("ingest", self._clock.now(), body)
        except StoreError as exc:
            self._events.emit("status_not_published", reason=str(exc))
