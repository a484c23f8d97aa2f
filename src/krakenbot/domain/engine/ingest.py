"""Ingest: from the market feed to samples, epochs and state, for as long as it runs.

`IngestEngine.run` orders the steps: lineage and run, feed, universe, sampling, epochs, refresh answers, status.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from datetime import datetime

import anyio
from attrs import asdict, field, frozen, validators

from krakenbot.domain.engine.market_recorder import MarketRecorder
from krakenbot.domain.engine.refresh import RefreshServer, RefreshSettings
from krakenbot.domain.errors import StoreUnavailable, VenueUnavailable
from krakenbot.domain.state.epoch import EpochCriteria, EpochStatus, judge_epoch
from krakenbot.domain.state.universe import UniverseChoice, UniverseSettings, choose_universe
from krakenbot.domain.values import NS_PER_S, LineageId, RunId, Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.cycle_store import CycleStore
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.lineage_store import LineageStore
from krakenbot.ports.market_feed import MarketFeed
from krakenbot.ports.sample_sink import SampleSink
from krakenbot.ports.state_store import RefreshAnswers, StateRefresher


@frozen(kw_only=True)
class IngestSettings:
    """Rhythm of ingest, in seconds, and the symbols it is confined to.

    `symbols` empty means: all that belong to the universe. `first_snapshot_grace_s` is how long the first epoch waits
    for the first books. `volume_max_age_s` is how long a ticker's volume counts: a symbol left out for it is then
    looked at again.
    """

    symbols: tuple[Symbol, ...] = ()
    sample_interval_s: float = field(default=1.0, validator=validators.ge(0.1))
    epoch_interval_s: float = field(default=10.0, validator=validators.ge(1.0))
    status_interval_s: float = field(default=1.0, validator=validators.ge(0.1))
    heartbeat_max_age_s: float = field(default=10.0, validator=validators.gt(0))
    instruments_wait_s: float = field(default=60.0, validator=validators.gt(0))
    volume_max_age_s: float = field(default=3600.0, validator=validators.ge(1.0))
    first_snapshot_grace_s: float = field(default=10.0, validator=validators.ge(0))


STORE_RETRY_S = 1.0
_NO_UNIVERSE = UniverseChoice(pool=(), l2=(), l3=(), execution=(), pinned=(), left_out={})


class IngestEngine:
    """One run of ingest."""

    def __init__(
        self,
        *,
        clock: Clock,
        feed: MarketFeed,
        sink: SampleSink,
        lineage_store: LineageStore,
        refresher: StateRefresher,
        answers: RefreshAnswers,
        cycle_store: CycleStore,
        events: EventSink,
        settings: IngestSettings,
        universe_settings: UniverseSettings,
        refresh_settings: RefreshSettings,
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._sink = sink
        self._lineage_store = lineage_store
        self._refresher = refresher
        self._answers = answers
        self._cycle_store = cycle_store
        self._events = events
        self._settings = settings
        self._universe_settings = universe_settings
        self._refresh_settings = refresh_settings
        self._universe = _NO_UNIVERSE
        self._epochs: dict[str, int] = {}
        self._last_epoch: tuple[int, EpochStatus, tuple[str, ...]] | None = None

    async def run(self) -> None:
        """Run until cancelled; on the way out what was sampled is written and the run is ended."""
        lineage_id, run_id = await self._lineage_store.start_lineage(self._clock.now())
        self._events.emit("ingest_started", lineage_id=lineage_id, run_id=run_id)
        recorder = MarketRecorder(
            clock=self._clock, feed=self._feed, sink=self._sink, events=self._events, run_id=run_id
        )
        refresh = RefreshServer(
            clock=self._clock,
            refresher=self._refresher,
            answers=self._answers,
            events=self._events,
            settings=self._refresh_settings,
            lineage_id=lineage_id,
            run_id=run_id,
        )
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._sink.run)
                tasks.start_soon(self._feed.run, recorder)
                tasks.start_soon(
                    self._every, self._settings.status_interval_s, lambda: self._publish_status(recorder, refresh)
                )
                await self._wait_for_instruments(recorder)
                tasks.start_soon(self._sample_loop, recorder)
                tasks.start_soon(refresh.run)
                tasks.start_soon(self._epoch_loop, recorder, lineage_id, run_id)
        finally:
            with anyio.move_on_after(5.0, shield=True):
                await self._end(recorder, refresh, run_id)

    async def _end(self, recorder: MarketRecorder, refresh: RefreshServer, run_id: RunId) -> None:
        """Record what already happened: the run's end and the last counters."""
        try:
            await self._lineage_store.end_run(run_id, self._clock.now())
            await self._publish_status(recorder, refresh)
        except StoreUnavailable as exc:
            self._events.emit("run_end_not_recorded", reason=str(exc))
        self._events.emit("ingest_stopped", run_id=run_id)

    async def _wait_for_instruments(self, recorder: MarketRecorder) -> None:
        with anyio.move_on_after(self._settings.instruments_wait_s):
            while not self._feed.instruments():
                await self._clock.sleep(0.05)
        if not self._feed.instruments():
            raise VenueUnavailable(f"no instruments within {self._settings.instruments_wait_s:g} s of start")
        while not await self._has_universe(recorder):
            await self._clock.sleep(STORE_RETRY_S)
        queues = self._universe.l3 if self._feed.health().level3_enabled else ()
        with anyio.move_on_after(self._settings.first_snapshot_grace_s):
            while not (recorder.with_book.issuperset(self._universe.l2) and recorder.with_queue.issuperset(queues)):
                await self._clock.sleep(0.05)

    async def _has_universe(self, recorder: MarketRecorder) -> bool:
        """Choose the first universe; False while the decision database is away."""
        try:
            await self._publish_instruments(recorder)
            await self._choose_universe(recorder)
        except StoreUnavailable as exc:
            self._events.emit("universe_not_chosen", reason=str(exc))
            return False
        return True

    async def _every(self, interval_s: float, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step on a fixed grid; steps that would have been in the past are left out."""
        due = self._clock.mono()
        while True:
            await step()
            due += interval_s * max(1, math.ceil((self._clock.mono() - due) / interval_s))
            await self._clock.sleep(max(0.0, due - self._clock.mono()))

    async def _sample_loop(self, recorder: MarketRecorder) -> None:
        """Sample in the middle of each interval of the wall clock.

        Features count seconds: at their edge a few ms of lateness put two samples into one and none into the next.
        """
        interval_ns = round(self._settings.sample_interval_s * NS_PER_S)
        while True:
            since_ns = (self._clock.now_ns() - interval_ns // 2) % interval_ns
            await self._clock.sleep((interval_ns - since_ns) / NS_PER_S)
            recorder.sample(self._universe.l2)

    async def _epoch_loop(self, recorder: MarketRecorder, lineage_id: LineageId, run_id: RunId) -> None:
        due = self._clock.mono()
        while True:
            try:
                await self._publish_instruments(recorder)
                await self._choose_universe(recorder)
                await self._publish_epoch(lineage_id, run_id, self._clock.now())
                due += self._settings.epoch_interval_s
            except StoreUnavailable as exc:
                self._events.emit("epoch_not_published", reason=str(exc))
                due = self._clock.mono() + STORE_RETRY_S
            due = max(due, self._clock.mono())
            await self._clock.sleep(due - self._clock.mono())

    async def _publish_instruments(self, recorder: MarketRecorder) -> None:
        if recorder.instruments_changed:
            recorder.instruments_changed = False
            try:
                await self._refresher.publish_instruments(list(self._feed.instruments().values()))
            except StoreUnavailable:
                recorder.instruments_changed = True
                raise

    async def _choose_universe(self, recorder: MarketRecorder) -> None:
        instruments = self._feed.instruments()
        # a symbol without a ticker, or with none lately, is let in: only once it is subscribed does its ticker decide
        volumes = dict.fromkeys(instruments, self._universe_settings.min_volume_24h_quote)
        volumes |= recorder.volumes_24h_quote(self._settings.volume_max_age_s)
        universe = choose_universe(
            instruments.values(),
            volumes,
            configured=self._settings.symbols,
            pinned=await self._lineage_store.pinned_symbols(),
            settings=self._universe_settings,
        )
        if universe.l2 != self._universe.l2 or universe.l3 != self._universe.l3:
            self._feed.set_symbols(universe.l2, universe.l3)
            self._events.emit("universe", execution=len(universe.execution), l2=len(universe.l2), l3=len(universe.l3))
        self._universe = universe

    async def _publish_epoch(self, lineage_id: LineageId, run_id: RunId, at: datetime) -> None:
        universe = self._universe
        criteria = self._criteria(universe)
        status, reasons = judge_epoch(criteria)
        epoch, _ = await self._lineage_store.publish_epoch(
            lineage_id=lineage_id,
            run_id=run_id,
            status=status,
            criteria=criteria,
            reasons=reasons,
            execution=universe.execution,
            l3=universe.l3,
            pinned=universe.pinned,
            at=at,
        )
        self._epochs[status] = self._epochs.get(status, 0) + 1
        if self._last_epoch is None or self._last_epoch[1:] != (status, reasons):
            self._events.emit("epoch", epoch_id=epoch.epoch_id, status=str(status), reasons="; ".join(reasons))
        self._last_epoch = (epoch.epoch_id, status, reasons)

    def _criteria(self, universe: UniverseChoice) -> EpochCriteria:
        health = self._feed.health()
        age = health.heartbeat_age_s
        # a slow reader is served late, not dropped: the heartbeat that came just now is as old as the lag
        alive = age is not None and age + (health.lag_s or 0.0) <= self._settings.heartbeat_max_age_s

        def l2_fresh(symbol: Symbol) -> bool:
            book = self._feed.book(symbol)
            return alive and book is not None and book.is_valid

        def l3_fresh(symbol: Symbol) -> bool:
            queue = self._feed.queue(symbol)
            return alive and queue is not None and queue.is_valid

        return EpochCriteria(
            symbols=len(universe.execution),
            l2_fresh=sum(map(l2_fresh, universe.execution)),
            l3_set=len(universe.l3),
            l3_fresh=sum(map(l3_fresh, universe.l3)),
            pinned=len(universe.pinned),
            pinned_l2_fresh=sum(map(l2_fresh, universe.pinned)),
            pinned_l3_fresh=sum(map(l3_fresh, universe.pinned)),
            writer_lag_s=self._sink.stats().lag_s,
            symbols_configured=len(self._settings.symbols) or None,
            l3_enabled=health.level3_enabled,
        )

    async def _publish_status(self, recorder: MarketRecorder, refresh: RefreshServer) -> None:
        last = self._last_epoch
        body: dict[str, object] = {
            "feed": asdict(self._feed.health()),
            "sink": asdict(self._sink.stats()),
            "universe": {"execution": list(self._universe.execution), "l3": len(self._universe.l3)},
            "epochs": dict(self._epochs),
            "epoch": None if last is None else {"id": last[0], "status": str(last[1]), "reasons": list(last[2])},
            "generations": refresh.generations,
            "refresh_failures": refresh.failures,
            "refresh_s": refresh.last_duration_s,
            "missing_trades": sum(recorder.missing_trades.values()),
        }
        try:
            await self._cycle_store.publish_status("ingest", self._clock.now(), body)
        except StoreUnavailable as exc:
            self._events.emit("status_not_published", reason=str(exc))
