"""Kraken's market data as the port `MarketFeed`: its symbols spread over public and level3 connections.

Enters: URLs, a source of tokens (None without a key), wanted symbols. Leaves: listener calls, books to read,
health. Called by the ingest engine, and by execution for its live views.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence

import anyio
from attrs import field, frozen

from krakenbot.adapters.kraken.market_streams import POLL_S, MarketStream, StreamSettings, Surroundings, assign
from krakenbot.adapters.kraken.protocol.budget import Budget, ConnectionBudget
from krakenbot.adapters.kraken.protocol.level3 import Level3Session
from krakenbot.adapters.kraken.protocol.market_session import MarketSession, SessionSettings
from krakenbot.adapters.kraken.protocol.market_state import MarketState, Outage, Pacing
from krakenbot.adapters.kraken.protocol.public import PublicSession
from krakenbot.adapters.kraken.protocol.quarantine import QuarantineSettings, Troubles
from krakenbot.adapters.kraken.ws import Connection, ConnectionSettings
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.views import BookView, QueueView
from krakenbot.domain.values import Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.market_feed import FeedHealth, MarketListener, Quarantine

TokenSource = Callable[[], Awaitable[str]]
"""Fetch a fresh WebSocket token; raises VenueError."""


@frozen(kw_only=True)
class MarketFeedSettings:
    """Limits of the feed.

    Rates are symbols a second for the public streams and Kraken's cost units for level3 (5 for a symbol at depth 10,
    of 200 a second: the rest is left to other users of the key). `level3_symbols` is Kraken's limit per connection;
    for public connections it names none, and `public_symbols` is ours. `attempts_burst` and `attempts_per_10_min`
    are this feed's share of the 150 connections in ten minutes that Kraken allows an address; after a 429 nobody
    tries for `ban_first_s`, doubling up to `ban_max_s`.
    """

    session: SessionSettings = field(factory=SessionSettings)
    connection: ConnectionSettings = field(factory=ConnectionSettings)
    stream: StreamSettings = field(factory=StreamSettings)
    quarantine: QuarantineSettings = field(factory=QuarantineSettings)
    public_symbols: int = 500
    level3_symbols: int = 200
    public_rate_per_s: float = 200.0
    level3_rate_per_s: float = 150.0
    resync_rate_per_s: float = 10.0
    resync_burst: float = 50.0
    token_timeout_s: float = 10.0
    attempts_burst: int = 15
    attempts_per_10_min: int = 35
    ban_first_s: float = 30.0
    ban_max_s: float = 600.0


class KrakenMarketFeed:
    """A live market data feed over as many public and level3 connections as the symbols need."""

    def __init__(
        self,
        *,
        public_url: str,
        level3_url: str,
        clock: Clock,
        settings: MarketFeedSettings | None = None,
        token_source: TokenSource | None = None,
        jitter: Callable[[], float] = random.random,
        carrier: Callable[..., Connection] = Connection,
    ) -> None:
        self._public_url = public_url
        self._level3_url = level3_url
        self._clock = clock
        self._settings = settings = settings or MarketFeedSettings()
        self._token_source = token_source
        self._state = MarketState(troubles=Troubles(settings=settings.quarantine))
        self._listener: MarketListener | None = None
        self._around = Surroundings(
            clock=clock,
            state=self._state,
            attempts=ConnectionBudget(
                burst=settings.attempts_burst,
                per_10_min=settings.attempts_per_10_min,
                ban_first_s=settings.ban_first_s,
                ban_max_s=settings.ban_max_s,
            ),
            jitter=jitter,
            # makes the connection of a session; a recorder brings one that keeps the frames
            carrier=carrier,
            settings=settings.stream,
            connection=settings.connection,
        )
        self._public_pacing = self._pacing(settings.public_rate_per_s, jitter)
        self._level3_pacing = self._pacing(settings.level3_rate_per_s, jitter)
        # the first public stream holds the instruments too
        self._public = [self._public_stream(1)]
        self._level3: list[MarketStream] = []
        self._wanted_since: dict[Symbol, float] = {}

    async def run(self, listener: MarketListener) -> None:
        """Connect and stay connected until cancelled; raises nothing for a failing venue."""
        self._listener = listener
        started: set[MarketStream] = set()
        async with anyio.create_task_group() as tasks:
            while True:
                for stream in (*self._public, *self._level3):
                    if stream not in started:
                        started.add(stream)
                        tasks.start_soon(stream.run, listener)
                await self._clock.sleep(POLL_S)

    def set_symbols(self, l2: Sequence[Symbol], l3: Sequence[Symbol]) -> None:
        """Say which symbols to hold: L2 book, ticker and trades for `l2`, L3 for `l3` too. Takes effect soon."""
        now_mono, limits = self._clock.mono(), self._settings
        self._wanted_since = {symbol: self._wanted_since.get(symbol, now_mono) for symbol in (*l2, *l3)}
        assign(
            self._public,
            tuple(dict.fromkeys(l2)),
            limits.public_symbols,
            lambda: self._public_stream(len(self._public) + 1),
        )
        if self._token_source is not None:
            assign(
                self._level3,
                tuple(dict.fromkeys(l3)),
                limits.level3_symbols,
                lambda: self._level3_stream(len(self._level3) + 1),
            )
        for stream in (*self._public, *self._level3):
            stream.follow(now_mono)
        # those of connections that are down
        for gone in set(self._state.books).difference(l2):
            del self._state.books[gone]
        for gone in set(self._state.queues).difference(l3):
            del self._state.queues[gone]

    def instruments(self) -> dict[Symbol, Instrument]:
        """Return the instruments known so far."""
        return dict(self._state.instruments)

    def book(self, symbol: Symbol) -> BookView | None:
        """Return the L2 book of a symbol; None when it is not subscribed."""
        return self._state.books.get(symbol)

    def queue(self, symbol: Symbol) -> QueueView | None:
        """Return the L3 book of a symbol; None when it is not subscribed."""
        return self._state.queues.get(symbol)

    def health(self) -> FeedHealth:
        """Return the feed's counters and what does not work."""
        state, now_mono = self._state, self._clock.mono()
        public = [stream.health(now_mono) for stream in self._public]
        level3 = [stream.health(now_mono) for stream in self._level3]
        sessions = [stream.session for stream in self._public if stream.session is not None]
        offsets = [session.lag.clock_offset_s(self._clock.now_ns(), now_mono) for session in sessions]
        return FeedHealth(
            connected=all(each.connected for number, each in enumerate(public) if each.symbols or number == 0),
            venue_status=state.venue_status,
            heartbeat_age_s=max((age for each in public if (age := each.heartbeat_age_s) is not None), default=None),
            frames=state.frame_counts(),
            errors=dict(state.errors),
            book_ok=state.l2.ok,
            book_bad=state.l2.bad,
            level3_ok=state.l3.ok,
            level3_bad=state.l3.bad,
            resyncs=state.resyncs,
            reconnects=sum(each.reconnects for each in (*public, *level3)),
            level3_enabled=self._token_source is not None,
            quarantined=(*self._unlisted(now_mono), *state.troubles.quarantined(now_mono)),
            refused_l2=state.troubles.refused(PublicSession.channels, now_mono),
            refused_l3=state.troubles.refused(Level3Session.channels, now_mono),
            streams=(*public, *level3),
            lag_s=max((lag for each in public if (lag := each.lag_s) is not None), default=None),
            clock_offset_s=next((offset for offset in offsets if offset is not None), None),
        )

    def _pacing(self, rate_per_s: float, jitter: Callable[[], float]) -> Pacing:
        settings = self._settings
        return Pacing(
            budget=Budget(rate_per_s=rate_per_s, burst=rate_per_s),
            resync_budget=Budget(rate_per_s=settings.resync_rate_per_s, burst=settings.resync_burst),
            jitter=jitter,
        )

    def _unlisted(self, now_mono: float) -> list[Quarantine]:
        """Return the wanted symbols that the venue does not list, once it has listed any."""
        if not self._state.instruments:
            return []
        return [
            Quarantine(
                channel="instrument",
                symbol=symbol,
                reason="the venue does not list it",
                age_s=now_mono - since_mono,
                attempts=0,
                is_refused=True,
                retry_in_s=0.0,
            )
            for symbol, since_mono in self._wanted_since.items()
            if symbol not in self._state.instruments
        ]

    def _public_stream(self, number: int) -> MarketStream:
        return MarketStream(
            name=_name(PublicSession.stream, number),
            url=self._public_url,
            around=self._around,
            open_session=self._open_public,
            is_needed=self._knows_any if number > 1 else lambda _: True,
        )

    def _level3_stream(self, number: int) -> MarketStream:
        return MarketStream(
            name=_name(Level3Session.stream, number),
            url=self._level3_url,
            around=self._around,
            open_session=self._open_level3,
            is_needed=self._knows_any,
        )

    def _knows_any(self, stream: MarketStream) -> bool:
        return any(symbol in self._state.instruments for symbol in stream.symbols)

    async def _open_public(self, stream: MarketStream, outage: Outage | None) -> MarketSession:
        return PublicSession(
            name=stream.name,
            state=self._state,
            listener=self._told(),
            settings=self._settings.session,
            pacing=self._public_pacing,
            instruments_changed=self._on_instruments,
            symbols=stream.symbols,
            has_instruments=stream is self._public[0],
            outage=outage,
            now_mono=self._clock.mono(),
        )

    async def _open_level3(self, stream: MarketStream, outage: Outage | None) -> MarketSession:
        if self._token_source is None:
            raise RuntimeError("level3 without a source of tokens")
        with anyio.fail_after(self._settings.token_timeout_s):
            token = await self._token_source()
        return Level3Session(
            name=stream.name,
            state=self._state,
            listener=self._told(),
            settings=self._settings.session,
            pacing=self._level3_pacing,
            token=token,
            symbols=stream.symbols,
            outage=outage,
            now_mono=self._clock.mono(),
        )

    def _told(self) -> MarketListener:
        if self._listener is None:
            raise RuntimeError("a stream before the feed runs")
        return self._listener

    def _on_instruments(self, reshaped: Mapping[Symbol, str], now_mono: float) -> None:
        """Let every connection take over new and changed instruments."""
        for stream in (*self._public, *self._level3):
            if stream.session is not None:
                for symbol, reason in reshaped.items():
                    stream.session.reshape(symbol, reason, now_mono)
                stream.follow(now_mono)


def _name(path: str, number: int) -> str:
    return path if number == 1 else f"{path}-{number}"
