"""Epochs: at each refresh of the universe one choice, measured, judged and published whole.

Enters: the feed's books and health, volumes from the recorder, pinned symbols from the decision database. Leaves: the
symbols that the feed holds, and epochs with their universe snapshots in both databases. A task of the ingest engine.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

from krakenbot.domain.engine.ingest_settings import IngestSettings
from krakenbot.domain.engine.market_recorder import MarketRecorder
from krakenbot.domain.engine.runs import RunKeeper
from krakenbot.domain.errors import SecondWriteFailed, StoreError
from krakenbot.domain.state.epoch import EpochCriteria, EpochStatus, judge_epoch
from krakenbot.domain.state.standing import Layer, Standing, StandingKeeper, StandingSettings, Trouble
from krakenbot.domain.state.universe import NO_UNIVERSE, UniverseChoice, UniverseSettings, choose_universe
from krakenbot.domain.values import Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.lineage_store import LineageStore
from krakenbot.ports.market_feed import FeedHealth, MarketFeed
from krakenbot.ports.sample_sink import SampleSink
from krakenbot.ports.state_store import StateRefresher

RETRY_S = 1.0
LEVEL3_CHANNEL = "level3"
_NAMED_LEAVERS = 20
_NAMED_OUT = 5


class EpochPublisher:
    """Chooses the universe and publishes epochs; `universe` is the choice in force."""

    def __init__(
        self,
        *,
        clock: Clock,
        feed: MarketFeed,
        sink: SampleSink,
        recorder: MarketRecorder,
        runs: RunKeeper,
        lineage_store: LineageStore,
        refresher: StateRefresher,
        events: EventSink,
        settings: IngestSettings,
        universe_settings: UniverseSettings,
        standing_settings: StandingSettings,
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._sink = sink
        self._recorder = recorder
        self._runs = runs
        self._lineage_store = lineage_store
        self._refresher = refresher
        self._events = events
        self._settings = settings
        self._universe_settings = universe_settings
        self._standings = StandingKeeper(standing_settings)
        self._instruments_due = True
        self._pinned: tuple[Symbol, ...] | None = None
        self._counts: Counter[str] = Counter()
        self._last: tuple[int, EpochStatus, tuple[str, ...]] | None = None
        self._behind_since: datetime | None = None
        self._behind_attempts = 0
        self.universe = NO_UNIVERSE

    async def start(self) -> None:
        """Publish the instruments and choose the first universe; databases that are away are said and waited for."""
        while True:
            try:
                await self._publish_instruments()
                self._pinned = await self._lineage_store.pinned_symbols()
            except StoreError as exc:
                self._events.emit("universe_not_chosen", reason=str(exc))
                await self._clock.sleep(RETRY_S)
                continue
            self._choose(self._pinned)
            return

    async def run(self) -> None:
        """Publish epochs until cancelled: on a grid, and at once when instruments changed.

        Between two epochs what the decision database lacks is tried again every second.
        """
        due_mono = self._clock.mono()
        while True:
            now_mono = self._clock.mono()
            self._instruments_due = self._instruments_due or self._recorder.instruments_changed
            if now_mono >= due_mono or self._recorder.instruments_changed:
                is_made = await self._refresh()
                if not is_made:
                    due_mono = self._clock.mono() + RETRY_S
                elif now_mono >= due_mono:
                    due_mono = max(due_mono + self._settings.epoch_interval_s, self._clock.mono())
            elif self._behind_since is not None:
                await self._catch_up()
            await self._clock.sleep(min(RETRY_S, max(0.0, due_mono - self._clock.mono())))

    def status(self) -> dict[str, object]:
        """Return what the status page shows of universe and epochs."""
        last, universe = self._last, self.universe
        return {
            "universe": {
                "pool": len(universe.pool),
                "l2": len(universe.l2),
                "l3": len(universe.l3),
                "execution": list(universe.execution),
                "pinned": list(universe.pinned),
                "left_out": dict(Counter(universe.left_out.values())),
                "left_out_first": first_by_reason(universe.left_out),
            },
            "epochs": dict(self._counts),
            "epoch": None if last is None else {"id": last[0], "status": str(last[1]), "reasons": list(last[2])},
            "decision_writes": {
                "behind_since": None if self._behind_since is None else self._behind_since.isoformat(),
                "attempts": self._behind_attempts,
            },
        }

    async def _refresh(self) -> bool:
        """Make one epoch of what is there now; return whether it exists, in one database at least."""
        try:
            await self._publish_instruments()
        except StoreError as exc:
            self._events.emit("instruments_not_published", reason=str(exc))
        self._choose(await self._pinned_now())
        try:
            await self._publish()
        except SecondWriteFailed as exc:
            self._say_behind(exc)
        except StoreError as exc:
            self._events.emit("epoch_not_published", reason=str(exc))
            return False
        else:
            self._say_whole(0)
        return True

    async def _publish_instruments(self) -> None:
        if self._instruments_due or self._recorder.instruments_changed:
            self._instruments_due, self._recorder.instruments_changed = True, False
            await self._refresher.publish_instruments(list(self._feed.instruments().values()))
            self._instruments_due = False

    async def _pinned_now(self) -> tuple[Symbol, ...]:
        """Return the pinned symbols; while they cannot be read the last ones stay pinned."""
        try:
            self._pinned = await self._lineage_store.pinned_symbols()
        except StoreError as exc:
            self._events.emit("pinned_not_read", kept=len(self._pinned or ()), reason=str(exc))
        return self._pinned or ()

    def _choose(self, pinned: tuple[Symbol, ...]) -> None:
        instruments, before = self._feed.instruments(), self.universe
        # A symbol in use keeps its last volume, however long ago that trade was.
        volumes = self._recorder.volumes_24h_quote(self._settings.volume_max_age_s)
        known = self._recorder.volumes_24h_quote(math.inf)
        volumes |= {symbol: known[symbol] for symbol in before.execution if symbol in known}
        self.universe = choose_universe(
            instruments.values(),
            volumes,
            configured=self._settings.symbols,
            pinned=pinned,
            settings=self._universe_settings,
            previous=before,
            standing=self._standing(),
        )
        self._follow(before)

    def _standing(self) -> Standing:
        return self._standings.observe(
            self._feed.instruments().values(), troubles_of(self._feed.health()), self._clock.mono()
        )

    def _follow(self, before: UniverseChoice) -> None:
        """Have the feed hold the choice, and say who came and who left, and why."""
        now = self.universe
        if (now.l2, now.l3) != (before.l2, before.l3):
            self._feed.set_symbols(now.l2, now.l3)
        out, out_before = Counter(now.left_out.values()), Counter(before.left_out.values())
        if (now.l2, now.l3, now.execution, out) != (before.l2, before.l3, before.execution, out_before):
            left = sorted(set(before.execution) - set(now.execution))
            self._events.emit(
                "universe",
                execution=len(now.execution),
                l2=len(now.l2),
                l3=len(now.l3),
                came=len(set(now.execution) - set(before.execution)),
                left=len(left),
                why={symbol: now.left_out.get(symbol, "no longer listed") for symbol in left[:_NAMED_LEAVERS]},
                left_out=dict(out),
            )
        if not now.execution and (before.execution or out != out_before):
            self._events.emit("universe_empty", left_out=dict(out), first=first_by_reason(now.left_out))

    async def _publish(self) -> None:
        universe = self.universe
        criteria = measure(
            self._feed, self._sink, universe, self._settings, wants_l3=self._universe_settings.l3_limit > 0
        )
        status, reasons = judge_epoch(criteria)
        epoch, _ = await self._lineage_store.publish_epoch(
            lineage_id=self._runs.lineage_id,
            run_id=self._runs.run_id,
            status=status,
            criteria=criteria,
            reasons=reasons,
            execution=universe.execution,
            l3=universe.l3,
            pinned=universe.pinned,
            at=self._clock.now(),
        )
        self._counts[status] += 1
        if self._last is None or self._last[1:] != (status, reasons):
            self._events.emit("epoch", epoch_id=epoch.epoch_id, status=str(status), reasons="; ".join(reasons))
        self._last = (epoch.epoch_id, status, reasons)

    async def _catch_up(self) -> None:
        try:
            copied = await self._lineage_store.publish_pending()
        except StoreError as exc:
            self._say_behind(exc)
        else:
            self._say_whole(copied)

    def _say_behind(self, failure: StoreError) -> None:
        self._behind_since = self._behind_since or self._clock.now()
        self._behind_attempts += 1
        self._events.emit(
            "decision_database_behind",
            since=self._behind_since,
            attempts=self._behind_attempts,
            reason=str(failure),
        )

    def _say_whole(self, copied: int) -> None:
        if self._behind_since is not None:
            self._events.emit(
                "decision_database_whole", since=self._behind_since, attempts=self._behind_attempts, copied=copied
            )
        self._behind_since, self._behind_attempts = None, 0


def first_by_reason(left_out: Mapping[Symbol, str]) -> dict[str, list[Symbol]]:
    """Return some symbols that are left out for each reason, for people."""
    found: dict[str, list[Symbol]] = {}
    for symbol, reason in sorted(left_out.items()):
        symbols = found.setdefault(reason, [])
        if len(symbols) < _NAMED_OUT:
            symbols.append(symbol)
    return found


def measure(
    feed: MarketFeed, sink: SampleSink, universe: UniverseChoice, settings: IngestSettings, *, wants_l3: bool
) -> EpochCriteria:
    """Return the criteria as they are now; `wants_l3` is whether the settings ask for any order queues.

    A book is fresh if it is valid and its connection lives, whatever its age: from its first snapshot on. Of several
    connections of a kind the one that is worst off counts for all: which book is whose is the feed's own matter.
    """
    health = feed.health()
    level3 = [stream for stream in health.streams if stream.stream.startswith(LEVEL3_CHANNEL) and stream.connected]
    l2_lives = _lives(health.heartbeat_age_s, health.lag_s, settings)
    # books of a connection that is down are invalid; a feed that tells of no streams has one heart for all
    l3_lives = all(_lives(stream.heartbeat_age_s, stream.lag_s, settings) for stream in level3) if level3 else l2_lives

    def l2_fresh(symbol: Symbol) -> bool:
        book = feed.book(symbol)
        return l2_lives and book is not None and book.is_valid

    def l3_fresh(symbol: Symbol) -> bool:
        queue = feed.queue(symbol)
        return l3_lives and queue is not None and queue.is_valid

    return EpochCriteria(
        symbols=len(universe.execution),
        l2_fresh=sum(map(l2_fresh, universe.execution)),
        l3_set=len(universe.l3),
        l3_fresh=sum(map(l3_fresh, universe.l3)),
        pinned=len(universe.pinned),
        pinned_l2_fresh=sum(map(l2_fresh, universe.pinned)),
        pinned_l3_fresh=sum(map(l3_fresh, universe.pinned)),
        writer_lag_s=sink.stats().lag_s,
        symbols_configured=len(settings.symbols) or None,
        l3_enabled=health.level3_enabled and wants_l3,
    )


def troubles_of(health: FeedHealth) -> Iterator[Trouble]:
    """Return what the feed says is wrong with single symbols; the reasons carry no ages, so that they compare."""
    for quarantine in health.quarantined:
        if quarantine.symbol:
            layer = Layer.L3 if quarantine.channel == LEVEL3_CHANNEL else Layer.L2
            yield Trouble(
                symbol=quarantine.symbol,
                layer=layer,
                reason=f"{quarantine.channel} quarantined: {quarantine.reason}",
            )
    for layer, refused in ((Layer.L2, health.refused_l2), (Layer.L3, health.refused_l3)):
        for symbol, reason in refused.items():
            yield Trouble(symbol=symbol, layer=layer, reason=f"refused by the venue: {reason}", for_ever=True)


def _lives(heartbeat_age_s: float | None, lag_s: float | None, settings: IngestSettings) -> bool:
    """Tell whether a connection lives.

    A slow reader is served late, not dropped: the heartbeat that came just now is as old as the lag.
    """
    return heartbeat_age_s is not None and heartbeat_age_s + (lag_s or 0.0) <= settings.heartbeat_max_age_s
