"""Kraken's market data as the port `MarketFeed`: sockets, sessions, reconnects, shards of level3.

Enters: URLs, a source of tokens (None without a key), wanted symbols. Leaves: listener calls, books to read,
health. Called by the ingest engine, and by execution for its live views.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence

import anyio
from attrs import field, frozen

from krakenbot.adapters.kraken.protocol.budget import Budget
from krakenbot.adapters.kraken.protocol.level3 import Level3Session
from krakenbot.adapters.kraken.protocol.market_session import MarketSession, MarketState, Pacing, SessionSettings
from krakenbot.adapters.kraken.protocol.public import PublicSession
from krakenbot.adapters.kraken.ws import Connection, ConnectionSettings, backoff_s
from krakenbot.domain.errors import VenueError, VenueRejected
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.views import BookView, QueueView
from krakenbot.domain.values import Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.market_feed import FeedHealth, MarketListener

TokenSource = Callable[[], Awaitable[str]]
"""Fetch a fresh WebSocket token; raises VenueError."""
_POLL_S = 0.1
_REJECTED_ATTEMPTS = 16


@frozen(kw_only=True)
class MarketFeedSettings:
    """Limits of the feed.

    Rates are symbols a second for the public stream and Kraken's cost units for level3 (5 for a symbol at depth 10,
    of 200 a second: the rest is left to other users of the key). `level3_symbols` is Kraken's limit per connection.
    A connection that lived for `stable_after_s` starts the backoff anew.
    """

    session: SessionSettings = field(factory=SessionSettings)
    connection: ConnectionSettings = field(factory=ConnectionSettings)
    level3_symbols: int = 200
    public_rate_per_s: float = 200.0
    level3_rate_per_s: float = 150.0
    resync_rate_per_s: float = 4.0
    resync_burst: float = 20.0
    token_timeout_s: float = 10.0
    stable_after_s: float = 30.0


class KrakenMarketFeed:
    """A live market data feed over one public and as many level3 connections as the symbols need."""

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
        self._jitter = jitter
        # makes the connection of a session; a recorder brings one that keeps the frames
        self._carrier = carrier
        self._state = MarketState()
        self._public: PublicSession | None = None
        self._connected: Connection | None = None
        # symbols of each level3 connection, and its session while there is one
        self._shards: list[list[Symbol]] = []
        self._level3: dict[int, Level3Session] = {}
        self._public_pacing = self._pacing(settings.public_rate_per_s)
        self._level3_pacing = self._pacing(settings.level3_rate_per_s)

    async def run(self, listener: MarketListener) -> None:
        """Connect and stay connected until cancelled; raises nothing for a failing venue."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._run_public, listener)
            started = 0
            while self._token_source is not None:
                for shard in range(started, len(self._shards)):
                    tasks.start_soon(self._run_level3, shard, self._token_source, listener)
                started = len(self._shards)
                await self._clock.sleep(_POLL_S)

    def set_symbols(self, l2: Sequence[Symbol], l3: Sequence[Symbol]) -> None:
        """Say which symbols to hold: L2 book, ticker and trades for `l2`, L3 for `l3` too. Takes effect soon."""
        self._state.wanted_l2 = tuple(dict.fromkeys(l2))
        if self._token_source is not None:
            self._assign(tuple(dict.fromkeys(l3)))
        self._follow(self._clock.mono())

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
        """Return the feed's counters."""
        state, now, public = self._state, self._clock.mono(), self._public
        quarantined: dict[str, str] = {}
        sessions: list[MarketSession] = [*self._level3.values(), *([] if public is None else [public])]
        for session in sessions:
            quarantined |= session.quarantined(now)
        last = None if public is None else public.last_frame_mono
        return FeedHealth(
            connected=self._connected is not None and self._connected.is_connected,
            venue_status=state.venue_status,
            heartbeat_age_s=None if last is None else now - last,
            frames=state.frame_counts(),
            errors=dict(state.errors),
            book_ok=state.l2.ok,
            book_bad=state.l2.bad,
            level3_ok=state.l3.ok,
            level3_bad=state.l3.bad,
            resyncs=state.resyncs,
            reconnects=state.reconnects,
            level3_enabled=self._token_source is not None,
            quarantined=quarantined,
            lag_s=None if public is None else public.lag.lag_s,
        )

    def _pacing(self, rate_per_s: float) -> Pacing:
        settings = self._settings
        return Pacing(
            budget=Budget(rate_per_s=rate_per_s, burst=rate_per_s),
            resync_budget=Budget(rate_per_s=settings.resync_rate_per_s, burst=settings.resync_burst),
            jitter=self._jitter,
        )

    def _assign(self, symbols: Sequence[Symbol]) -> None:
        """Keep every symbol on its connection; put new ones where there is room."""
        wanted = set(symbols)
        self._shards = [[symbol for symbol in shard if symbol in wanted] for shard in self._shards]
        held = {symbol for shard in self._shards for symbol in shard}
        for symbol in symbols:
            if symbol not in held:
                roomy = (shard for shard in self._shards if len(shard) < self._settings.level3_symbols)
                shard = next(roomy, None)
                if shard is None:
                    shard = []
                    self._shards.append(shard)
                shard.append(symbol)

    def _follow(self, now_mono: float) -> None:
        if self._public is not None:
            self._public.follow_symbols(now_mono)
        for shard, session in self._level3.items():
            session.follow_symbols(self._shards[shard], now_mono)

    def _on_instruments(self, _: Sequence[Instrument], reshaped: Sequence[Symbol], now_mono: float) -> None:
        for shard, session in self._level3.items():
            for symbol in reshaped:
                session.reshape(symbol, now_mono)
            session.follow_symbols(self._shards[shard], now_mono)

    async def _run_public(self, listener: MarketListener) -> None:
        attempt = 0
        while True:
            started = self._clock.mono()
            session = PublicSession(
                state=self._state,
                listener=listener,
                settings=self._settings.session,
                pacing=self._public_pacing,
                instruments_changed=self._on_instruments,
                now_mono=started,
            )
            self._public = session
            reason = await self._carry(self._public_url, session)
            attempt = await self._wait(session, reason, listener, attempt, started)

    async def _run_level3(self, shard: int, token_source: TokenSource, listener: MarketListener) -> None:
        attempt = 0
        while True:
            # without an instrument nothing could be subscribed, and the venue closes idle connections
            while not any(symbol in self._state.instruments for symbol in self._shards[shard]):
                await self._clock.sleep(_POLL_S)
            started = self._clock.mono()
            session = None
            try:
                with anyio.fail_after(self._settings.token_timeout_s):
                    token = await token_source()
            except (VenueError, TimeoutError) as error:
                reason = f"no token: {error!r}"
                self._state.count_error("level3: no token")
                if isinstance(error, VenueRejected):
                    # a matter of rights, not of the network: no hurry
                    attempt = _REJECTED_ATTEMPTS
            else:
                session = Level3Session(
                    state=self._state,
                    listener=listener,
                    settings=self._settings.session,
                    pacing=self._level3_pacing,
                    token=token,
                    symbols=self._shards[shard],
                    now_mono=started,
                )
                self._level3[shard] = session
                try:
                    reason = await self._carry(self._level3_url, session)
                finally:
                    del self._level3[shard]
            attempt = await self._wait(session, reason, listener, attempt, started)

    async def _carry(self, url: str, session: MarketSession) -> str:
        connection = self._carrier(url=url, session=session, clock=self._clock, settings=self._settings.connection)
        if session is self._public:
            self._connected = connection
        try:
            reason = await connection.run()
        except BaseException:
            session.stopped()
            raise
        session.closed(reason)
        return reason

    async def _wait(
        self, session: MarketSession | None, reason: str, listener: MarketListener, attempt: int, started_mono: float
    ) -> int:
        """Tell of the lost connection, wait, and return the number of the next attempt."""
        stream = Level3Session.stream if session is None else session.stream
        listener.on_connection(stream, up=False, reason=reason)
        self._state.reconnects += 1
        if self._clock.mono() - started_mono >= self._settings.stable_after_s:
            attempt = 0
        await self._clock.sleep(backoff_s(attempt, self._jitter()))
        return attempt + 1
