"""The private connection of one account, kept up: what execution feed and order gateway share.

Enters: a source of tokens and the order gateway's requests. Leaves: execution batches to whoever runs the stream,
and answers to requests. A new token, session and connection for every attempt; retries back off with jitter and stay
within its share of what an address may try, which the market feed can't use up.
"""

from __future__ import annotations

import functools
import secrets
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from typing import Any, Final, Never

import anyio
from attrs import define, field, frozen

from krakenbot.adapters.kraken.backoff import backoff_s
from krakenbot.adapters.kraken.codec.private import Reply
from krakenbot.adapters.kraken.protocol.budget import ConnectionBudget
from krakenbot.adapters.kraken.protocol.private import PrivateSession, PrivateSessionSettings, ProtocolFault
from krakenbot.adapters.kraken.protocol.session import Tap
from krakenbot.adapters.kraken.ws import Connection, ConnectionSettings
from krakenbot.domain.errors import OutcomeUnknown, VenueRejected, VenueUnavailable
from krakenbot.domain.execution.reports import ExecutionBatch
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import Asset
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink

_OUT_OF_SERVICE: Final = frozenset({"maintenance", "cancel_only"})
_RANDOM: Final = secrets.SystemRandom()
_TOO_MANY_REQUESTS: Final = 429


@frozen(kw_only=True)
class PrivateStreamSettings:
    """How the stream is kept up; times in seconds.

    `outage_backoff_s` is the least wait while the venue is in maintenance or cancel_only, `refused_backoff_s` after
    it has refused the key: trying faster gains nothing there and can lead to a lockout. `late_replies` bounds how
    many requests without an answer are remembered. At most `attempts_burst` plus `attempts_per_10_min` connections are
    tried in ten minutes: with those of two market feeds that is below Kraken's limit of about 150 per address. After
    HTTP 429 nothing is tried for `ban_first_s`, doubling up to `ban_max_s`, or for as long as the venue says.
    """

    session: PrivateSessionSettings = field(factory=PrivateSessionSettings)
    connection: ConnectionSettings = field(factory=ConnectionSettings)
    outage_backoff_s: float = 5.0
    refused_backoff_s: float = 60.0
    late_replies: int = 1000
    attempts_burst: int = 15
    attempts_per_10_min: int = 25
    ban_first_s: float = 30.0
    ban_max_s: float = 600.0


@frozen(kw_only=True)
class LateReply:
    """An answer to a request whose outcome had already been given as unknown."""

    cl_ord_id: str
    reply: Reply


@define
class _Waiter:
    cl_ord_id: str
    done: anyio.Event = field(factory=anyio.Event)
    reply: Reply | None = None


class PrivateStream:
    """Connects, reconnects, passes batches on, and matches requests with replies.

    `tokens` returns a fresh WebSocket token; it may raise VenueUnavailable or VenueRejected.
    """

    def __init__(
        self,
        *,
        url: str,
        tokens: Callable[[], Awaitable[Secret]],
        clock: Clock,
        events: EventSink,
        settings: PrivateStreamSettings,
        on_late_reply: Callable[[LateReply], None] | None = None,
    ) -> None:
        self._url = url
        self._tokens = tokens
        self._clock = clock
        self._sink = events
        self._settings = settings
        self._attempts = ConnectionBudget(
            burst=settings.attempts_burst,
            per_10_min=settings.attempts_per_10_min,
            ban_first_s=settings.ban_first_s,
            ban_max_s=settings.ban_max_s,
        )
        self._on_late_reply = on_late_reply
        self._session: PrivateSession | None = None
        self._connection: Connection | None = None
        self._deliver: Callable[[ExecutionBatch], bool] | None = None
        self._waiters: dict[int, _Waiter] = {}
        self._late: dict[int, str] = {}
        self._had_snapshot = False
        self._venue_status = "unknown"
        self.connections = 0
        self.faults = 0

    @property
    def is_connected(self) -> bool:
        """Tell whether the socket is open, both channels are live, and frames keep coming."""
        session, connection = self._session, self._connection
        return session is not None and session.is_live and connection is not None and connection.is_connected

    @property
    def venue_status(self) -> str:
        """Return the last known system status; unknown before the first."""
        session = self._session
        if session is not None and session.venue_status != "unknown":
            return session.venue_status
        return self._venue_status

    @property
    def max_ratecount(self) -> int | None:
        """Return the threshold of the account's trading counter; None while not connected."""
        return None if self._session is None else self._session.max_ratecount

    def spot_amounts(self) -> dict[Asset, Decimal]:
        """Return what the spot wallets hold, holds not taken off; empty while not connected."""
        return {} if self._session is None else self._session.spot_amounts()

    async def run(self, deliver: Callable[[ExecutionBatch], bool]) -> Never:
        """Keep the stream up until cancelled.

        `deliver` takes one batch and returns False when it has no room; then the connection is dropped, and the
        snapshot of the next one, with `gap`, stands for what was lost.
        """
        self._deliver = deliver
        attempt = 0
        while True:
            while (leave_s := self._attempts.take(self._clock.mono())) > 0:
                await self._clock.sleep(max(leave_s, 0.01))
            was_live, least_wait_s, reason = await self._connect_once()
            attempt = 0 if was_live else attempt + 1
            wait_s = max(least_wait_s, backoff_s(attempt, _RANDOM.random()))
            self._sink.emit("private_stream_closed", reason=reason, attempt=attempt, wait_s=round(wait_s, 3))
            await self._clock.sleep(wait_s)

    async def request(self, method: str, params: Mapping[str, Any], *, cl_ord_id: str, timeout_s: float) -> Reply:
        """Send a trading request and return the venue's reply, whether success or error.

        Raises: VenueUnavailable when the request provably was not sent; OutcomeUnknown when it was, or may have
        been, and no reply came.
        """
        session, connection = self._session, self._connection
        if session is None or connection is None or not self.is_connected:
            raise VenueUnavailable("the private stream is not connected")
        req_id = session.request(method, params)
        waiter = _Waiter(cl_ord_id)
        self._waiters[req_id] = waiter
        cause = f"no reply within {timeout_s} s"
        is_withdrawn = False
        try:
            with anyio.move_on_after(timeout_s):
                try:
                    if await connection.flush():
                        await waiter.done.wait()
                        cause = "connection closed before the reply"
                    else:
                        cause = "connection closed before the send"
                except VenueUnavailable as error:
                    cause = str(error)
            if waiter.reply is not None:
                return waiter.reply
        finally:
            # also when the caller is cancelled: then the request is taken back, or its answer is late
            del self._waiters[req_id]
            is_withdrawn = waiter.reply is None and session.withdraw(req_id)
            if waiter.reply is None and not is_withdrawn and session is self._session:
                self._remember_late(req_id, cl_ord_id)
        if is_withdrawn:
            raise VenueUnavailable(cause)
        raise OutcomeUnknown(cl_ord_id, cause)

    async def _connect_once(self) -> tuple[bool, float, str]:
        """Return whether the stream became live, the least wait before the next attempt, and why it ended."""
        try:
            token = await self._tokens()
        except VenueUnavailable as error:
            return False, 0.0, f"no token: {error}"
        except VenueRejected as error:
            return False, self._refused(error.reason), f"token refused: {error.reason}"
        session = PrivateSession(
            token=token,
            gap=self._had_snapshot,
            settings=self._settings.session,
            now_mono=self._clock.mono(),
        )
        connection = Connection(
            url=self._url,
            session=_PrivateTap(session, self._take_events),
            clock=self._clock,
            settings=self._settings.connection,
        )
        self._session, self._connection = session, connection
        self.connections += 1
        was_live = False
        try:
            reason = await connection.run()
            was_live = session.has_execution_snapshot
            self._heed(connection)
        finally:
            self._end(session)
        if session.is_refused:
            return was_live, self._refused(reason), reason
        least_wait_s = self._settings.outage_backoff_s if self._venue_status in _OUT_OF_SERVICE else 0.0
        return was_live, least_wait_s, reason

    def _heed(self, connection: Connection) -> None:
        if connection.refused_status == _TOO_MANY_REQUESTS:
            self._attempts.banned(self._clock.mono(), connection.retry_after_s, _RANDOM.random())
            # its own event: while it lasts nothing tells of our orders, and nothing can be sent
            self._sink.emit("private_stream_banned", retry_after_s=connection.retry_after_s)
        elif connection.was_open:
            self._attempts.admitted()

    def _refused(self, reason: str) -> float:
        # its own event: a refused key needs a person, a lost network does not
        self._sink.emit("private_stream_refused", reason=reason)
        return self._settings.refused_backoff_s

    def _end(self, session: PrivateSession) -> None:
        if session.venue_status != "unknown":
            self._venue_status = session.venue_status
        self._session = self._connection = None
        self._late.clear()
        for waiter in self._waiters.values():
            waiter.done.set()

    def _take_events(self, session: PrivateSession) -> None:
        for event in session.events():
            match event:
                case ExecutionBatch():
                    self._pass_on(session, event)
                case Reply():
                    self._answer(event)
                case ProtocolFault(what=what):
                    self.faults += 1
                    self._sink.emit("private_protocol_fault", what=what)

    def _pass_on(self, session: PrivateSession, batch: ExecutionBatch) -> None:
        self._had_snapshot = self._had_snapshot or batch.is_snapshot
        if self._deliver is not None and not self._deliver(batch):
            session.close("the consumer of executions lags")

    def _answer(self, reply: Reply) -> None:
        req_id = reply.req_id
        if req_id is None:
            return
        waiter = self._waiters.get(req_id)
        if waiter is not None:
            waiter.reply = reply
            waiter.done.set()
            return
        cl_ord_id = self._late.pop(req_id, None)
        if cl_ord_id is not None:
            self._sink.emit("late_reply", cl_ord_id=cl_ord_id, method=reply.method, error=reply.error)
            if self._on_late_reply is not None:
                self._on_late_reply(LateReply(cl_ord_id=cl_ord_id, reply=reply))

    def _remember_late(self, req_id: int, cl_ord_id: str) -> None:
        self._late[req_id] = cl_ord_id
        if len(self._late) > self._settings.late_replies:
            del self._late[next(iter(self._late))]


class _PrivateTap(Tap):
    """Hands on the session's events as soon as they are there."""

    def __init__(self, session: PrivateSession, take_events: Callable[[PrivateSession], None]) -> None:
        super().__init__(session)
        self._take_events = functools.partial(take_events, session)

    def receive(self, text: str | bytes, now_mono: float) -> None:
        super().receive(text, now_mono)
        self._take_events()

    def on_deadline(self, now_mono: float) -> None:
        super().on_deadline(now_mono)
        self._take_events()
