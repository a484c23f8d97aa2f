"""One connection of the market feed, over and over: when it connects, how it waits, what it tells of a gap.

Enters: a way to make the next session, the symbols of the connection. Leaves: a session while there is one, calls to
the listener when the connection comes and goes. Made and run by the market feed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from attrs import field, frozen

from krakenbot.adapters.kraken.backoff import backoff_s
from krakenbot.adapters.kraken.protocol.budget import ConnectionBudget
from krakenbot.adapters.kraken.protocol.market_session import MarketSession
from krakenbot.adapters.kraken.protocol.market_state import MarketState, Outage
from krakenbot.adapters.kraken.ws import Connection, ConnectionSettings
from krakenbot.domain.errors import VenueError, VenueRejected
from krakenbot.domain.values import Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.market_feed import MarketListener, StreamHealth

POLL_S = 0.1
_TOO_MANY_REQUESTS = 429
# no reason to hurry: nothing is matched, and an eager client gains nothing
_OUT_OF_SERVICE = frozenset({"maintenance", "cancel_only"})


@frozen(kw_only=True)
class StreamSettings:
    """Rhythm of reconnecting, in seconds.

    A connection that lived for `stable_after_s` starts the backoff anew. `outage_backoff_s` is the least wait while
    the venue is out of service, `denied_first_s` the wait after a refused key, doubling up to `denied_max_s`.
    """

    stable_after_s: float = 30.0
    outage_backoff_s: float = 5.0
    denied_first_s: float = 60.0
    denied_max_s: float = 600.0


@frozen(kw_only=True)
class Surroundings:
    """What all connections of one feed share."""

    clock: Clock
    state: MarketState
    attempts: ConnectionBudget
    jitter: Callable[[], float]
    carrier: Callable[..., Connection]
    settings: StreamSettings = field(factory=StreamSettings)
    connection: ConnectionSettings = field(factory=ConnectionSettings)


class MarketStream:
    """One connection's place in the feed; `symbols` is kept by the feed, `session` is None between connections."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        around: Surroundings,
        open_session: Callable[[MarketStream, Outage | None], Awaitable[MarketSession]],
        is_needed: Callable[[MarketStream], bool],
    ) -> None:
        self.name = name
        self.symbols: list[Symbol] = []
        self.session: MarketSession | None = None
        self.reconnects = 0
        self._url = url
        self._around = around
        self._open_session = open_session
        self._is_needed = is_needed
        self._connection: Connection | None = None
        self._denials = 0
        # of the present gap, once there was a connection: since when, why, and how many were tried
        self._down_mono: float | None = None
        self._down_reason = ""
        self._tried = 0

    async def run(self, listener: MarketListener) -> None:
        """Connect and stay connected until cancelled; raises nothing for a failing venue."""
        clock, settings = self._around.clock, self._around.settings
        attempt = 0
        while True:
            await self._wait_for_leave()
            started_mono = clock.mono()
            reason = await self._connect_once()
            listener.on_connection(self.name, up=False, reason=reason)
            if not self._is_needed(self):
                attempt = 0
                continue
            self.reconnects += 1
            if clock.mono() - started_mono >= settings.stable_after_s:
                attempt = 0
            await clock.sleep(self._wait_s(attempt))
            attempt += 1

    def follow(self, now_mono: float) -> None:
        """Hand the symbols to the session."""
        if self.session is not None:
            self.session.follow_symbols(self.symbols, now_mono)

    def health(self, now_mono: float) -> StreamHealth:
        """Return the state of the connection."""
        session, connection = self.session, self._connection
        last_mono = None if session is None else session.last_frame_mono
        return StreamHealth(
            stream=self.name,
            connected=connection is not None and connection.is_connected,
            symbols=len(self.symbols),
            heartbeat_age_s=None if last_mono is None else now_mono - last_mono,
            lag_s=None if session is None else session.lag.lag_s,
            reconnects=self.reconnects,
        )

    async def _wait_for_leave(self) -> None:
        """Wait until the connection is of use, and until the address may try once more."""
        clock = self._around.clock
        while not self._is_needed(self):
            # without a subscription the venue closes the connection
            self._down_mono = None
            await clock.sleep(POLL_S)
        while (wait_s := self._around.attempts.take(clock.mono())) > 0:
            await clock.sleep(max(wait_s, 0.01))

    async def _connect_once(self) -> str:
        """Return why the connection ended, or why there was none."""
        outage = None
        if self._down_mono is not None:
            self._tried += 1
            outage = Outage(since_mono=self._down_mono, reason=self._down_reason, attempts=self._tried)
        try:
            session = await self._open_session(self, outage)
        except (VenueError, TimeoutError) as error:
            self._around.state.count_error(f"{self.name}: no token")
            self._denials = self._denials + 1 if isinstance(error, VenueRejected) else 0
            return f"no token: {error!r}"
        self._denials = 0
        self.session = session
        try:
            reason = await self._carry(session)
        finally:
            self.session = self._connection = None
        if session.last_frame_mono is not None:
            self._down_mono, self._down_reason, self._tried = session.last_frame_mono, reason, 0
        return reason

    async def _carry(self, session: MarketSession) -> str:
        around = self._around
        connection = around.carrier(url=self._url, session=session, clock=around.clock, settings=around.connection)
        self._connection = connection
        try:
            reason = await connection.run()
        except BaseException:
            session.stopped()
            raise
        if connection.refused_status == _TOO_MANY_REQUESTS:
            around.attempts.banned(around.clock.mono(), connection.retry_after_s, around.jitter())
        elif connection.was_open:
            around.attempts.admitted()
        session.closed(reason)
        return reason

    def _wait_s(self, attempt: int) -> float:
        settings, jitter = self._around.settings, self._around.jitter()
        if self._denials:
            # a matter of rights, not of the network
            denied_s = settings.denied_first_s * 2.0 ** min(self._denials - 1, 16)
            return min(settings.denied_max_s, denied_s) * (0.75 + 0.5 * jitter)
        least_s = settings.outage_backoff_s if self._around.state.venue_status in _OUT_OF_SERVICE else 0.0
        return max(least_s * (1.0 + 0.5 * jitter), backoff_s(attempt, jitter))


def assign(
    streams: list[MarketStream], symbols: Sequence[Symbol], limit: int, make: Callable[[], MarketStream]
) -> None:
    """Keep every symbol on its connection; put new ones where there is room, if need be on a further connection."""
    wanted = set(symbols)
    for stream in streams:
        stream.symbols = [symbol for symbol in stream.symbols if symbol in wanted]
    held = {symbol for stream in streams for symbol in stream.symbols}
    for symbol in symbols:
        if symbol in held:
            continue
        roomy = next((each for each in streams if len(each.symbols) < limit), None)
        if roomy is None:
            roomy = make()
            streams.append(roomy)
        roomy.symbols.append(symbol)
