"""Carry one Sans-I/O session over one WebSocket.

Enters: a URL and a session. Leaves: the session's frames on the wire, and the reason why the connection ended.
Called by the market feed and by the private side, which make a new session and a new connection every time.
Frames are handled in the receive loop itself: a stream between socket and session would cost more than the book.
"""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel
from attrs import frozen
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.protocol import State

from krakenbot.adapters.kraken.protocol.session import Session
from krakenbot.domain.errors import VenueUnavailable
from krakenbot.ports.clock import Clock

MIB = 1024 * 1024
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# at DEBUG the library logs frames, and every private frame of ours ends with the token
_NO_FRAMES = logging.getLogger("krakenbot.websocket")
_NO_FRAMES.setLevel(logging.WARNING)


@frozen(kw_only=True)
class ConnectionSettings:
    """Limits of one connection.

    `max_frame_bytes` closes the connection when the venue sends a larger frame. `deadline_poll_s` is how late a
    session's deadline may be noticed. `slice_s` is how long the receive loop runs before it lets other tasks run.
    """

    connect_timeout_s: float = 10.0
    send_timeout_s: float = 5.0
    close_timeout_s: float = 1.0
    max_frame_bytes: int = 4 * MIB
    deadline_poll_s: float = 0.1
    slice_s: float = 0.004


class Connection:
    """One attempt to connect and one connection; not to be used again after `run` has returned."""

    def __init__(self, *, url: str, session: Session, clock: Clock, settings: ConnectionSettings) -> None:
        self._url = url
        self._session = session
        self._clock = clock
        self._settings = settings
        self._socket: ClientConnection | None = None
        # keeps the order of the session's frames when several tasks flush
        # without a turn of the loop first: an order that is ready is sent before anything else is done
        self._sending = anyio.Lock(fast_acquire=True)
        self._reason = ""
        self.refused_status: int | None = None
        """HTTP status with which the upgrade was refused; None when it was not."""
        self.retry_after_s = 0.0
        """Seconds that the venue asked to wait when it refused; 0 when it named none."""

    @property
    def was_open(self) -> bool:
        """Tell whether the upgrade went through."""
        return self._socket is not None

    @property
    def is_connected(self) -> bool:
        """Tell whether the socket is open."""
        return self._socket is not None and self._socket.state is State.OPEN

    async def run(self) -> str:
        """Connect, pump until the connection ends, and return why; raises nothing for a failing network."""
        try:
            socket = await self._connect()
        except InvalidStatus as error:
            self.refused_status = error.response.status_code
            self.retry_after_s = _retry_after_s(error.response.headers.get("Retry-After", ""))
            return f"upgrade refused with HTTP {error.response.status_code}"
        except TimeoutError:
            return "connect timed out"
        except (OSError, EOFError, WebSocketException) as error:
            return f"connect failed: {type(error).__name__}: {error}"
        self._socket = socket
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._watch_deadlines, tasks.cancel_scope)
                await self._pump(socket)
                tasks.cancel_scope.cancel()
        finally:
            await self._close(socket)
        return self._reason

    async def flush(self) -> bool:
        """Send what the session holds now; False when not connected, and then nothing was taken or sent.

        Raises VenueUnavailable when sending failed half-way: a part may have reached the venue, so whoever put
        an order into the session must take its outcome as unknown.
        """
        async with self._sending:
            socket = self._socket
            if socket is None or socket.state is not State.OPEN:
                return False
            for frame in self._session.to_send():
                await self._send(socket, frame)
        return True

    async def _connect(self) -> ClientConnection:
        host = urlsplit(self._url).hostname
        with anyio.fail_after(self._settings.connect_timeout_s):
            # awaited, not iterated: the iterator has a retry policy of its own, in which 429 is fatal
            return await connect(
                self._url,
                proxy=None if host in _LOOPBACK else True,
                open_timeout=None,
                close_timeout=self._settings.close_timeout_s,
                max_size=self._settings.max_frame_bytes,
                max_queue=64,
                compression=None,
                ping_interval=None,
                logger=_NO_FRAMES,
            )

    async def _pump(self, socket: ClientConnection) -> None:
        session, mono, slice_s = self._session, self._clock.mono, self._settings.slice_s
        try:
            await self.flush()
            slice_end = mono() + slice_s
            while True:
                # bytes: the codec reads them directly, and text that is not UTF-8 stays a counted frame
                frame = await socket.recv(decode=False)
                now = mono()
                session.receive(frame, now)
                frames = session.to_send()
                if frames:
                    await self._send_all(socket, frames)
                if session.close_reason is not None:
                    self._reason = session.close_reason
                    return
                if now >= slice_end:
                    # recv does not yield while frames are queued
                    await anyio.lowlevel.checkpoint()
                    slice_end = mono() + slice_s
        except ConnectionClosed as error:
            self._reason = self._reason or f"closed by the venue: {error}"
        except VenueUnavailable as error:
            self._reason = self._reason or str(error)

    async def _send_all(self, socket: ClientConnection, frames: list[str]) -> None:
        async with self._sending:
            for frame in frames:
                await self._send(socket, frame)

    async def _send(self, socket: ClientConnection, frame: str) -> None:
        try:
            with anyio.fail_after(self._settings.send_timeout_s):
                await socket.send(frame)
        except TimeoutError:
            self._reason = self._reason or "send timed out"
            socket.transport.abort()
            raise VenueUnavailable("send timed out") from None
        except (ConnectionClosed, OSError) as error:
            raise VenueUnavailable(f"send failed: {error}") from error

    async def _watch_deadlines(self, scope: anyio.CancelScope) -> None:
        session, clock, poll_s = self._session, self._clock, self._settings.deadline_poll_s
        while True:
            deadline = session.next_deadline()
            now = clock.mono()
            if deadline is not None and deadline <= now:
                session.on_deadline(now)
                try:
                    await self.flush()
                except VenueUnavailable as error:
                    self._reason = self._reason or str(error)
                    scope.cancel()
                    return
            if session.close_reason is not None:
                self._reason = session.close_reason
                scope.cancel()
                return
            deadline = session.next_deadline()
            wait_s = poll_s if deadline is None else min(poll_s, deadline - clock.mono())
            await clock.sleep(max(wait_s, poll_s / 10))

    async def _close(self, socket: ClientConnection) -> None:
        with anyio.move_on_after(self._settings.close_timeout_s * 2, shield=True):
            await socket.close()
        if socket.state is not State.CLOSED:
            socket.transport.abort()


def _retry_after_s(text: str) -> float:
    """Return the seconds of a Retry-After header; 0 for a date or nonsense, since our own wait is long enough."""
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else 0.0
