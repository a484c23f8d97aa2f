"""Carry one WebSocket: delays each way, a bounded queue out, heartbeats, and errors that stay here.

The server runs one `Connection` per client. The protocol itself is in `protocol.session`.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Callable
from typing import Final

import anyio
import anyio.lowlevel
import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from krakenbot.adapters.local_exchange.clock_step import moved_stamps
from krakenbot.adapters.local_exchange.faults.link import Frame, Link, Special
from krakenbot.adapters.local_exchange.latency import Leg
from krakenbot.adapters.local_exchange.limits.counters import S
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.session import Path, Session
from krakenbot.adapters.local_exchange.sockets import send_frames, text_frame

HEARTBEAT_NS: Final = 1_000_000_000
MAX_QUEUED_FRAMES: Final = 50_000
MAX_QUEUED_CHARS: Final = 64 * 1024 * 1024
MAX_FRAMES_PER_WRITE: Final = 500
MAX_WAITING_REQUESTS: Final = 1000
MAX_WAITING_CHARS: Final = 4 * 1024 * 1024
SEND_TIMEOUT_S: Final = 120.0
DROP_GRACE_S: Final = 1.0
TOO_SLOW: Final = 1008

_log = structlog.get_logger("krakenbot.exchange")


class Connection:
    """One client's socket with its two legs."""

    def __init__(self, socket: WebSocket, exchange: Exchange, path: Path, legs: tuple[Leg, Leg]) -> None:
        self._socket = socket
        self._exchange = exchange
        self._inbound, self._outbound = legs
        self._clock = exchange.clock
        self._clock_ns: Callable[[], int] = exchange.clock_ns
        self._faults = exchange.faults
        self._transport = exchange.faults.transports.of(socket.scope)
        self._link = Link(exchange.faults, path, self, self._transport)
        self._session = Session(exchange, path, self)
        self._requests: deque[tuple[int, int, str]] = deque()
        self._frames: deque[tuple[int, Frame]] = deque()
        self._queued_chars = self._waiting_chars = 0
        self._has_request = anyio.Event()
        self._has_frame = anyio.Event()
        self._has_room = anyio.Event()
        self._is_too_slow = False
        self._is_writer_at_work = False
        self._is_write_planned = False

    def push(self, text: str) -> None:
        """Send one frame, as far as no scripted fault has it."""
        if self._exchange.step_s:
            text = moved_stamps(text, self._exchange.step_s * S)
        if self._faults.is_armed:
            self._link.send(text)
        else:
            self.queue(text)

    def queue(self, frame: Frame) -> None:
        """Queue one frame; a reader that lags by too much is dropped, as a queue cannot grow for ever."""
        if self._is_too_slow:
            return
        self._frames.append((self._outbound.due_ns(self._clock_ns()), frame))
        self._queued_chars += len(frame)
        if len(self._frames) > MAX_QUEUED_FRAMES or self._queued_chars > MAX_QUEUED_CHARS:
            self._is_too_slow = True
            self._exchange.counters["slow_readers_dropped"] += 1
            self._has_frame.set()
        elif not self._is_writer_at_work:
            self._plan_write()

    @property
    def queued_frames(self) -> int:
        """Return how many frames wait to be sent."""
        return len(self._frames)

    async def run(self) -> None:
        """Serve until either side closes."""
        await self._socket.accept()
        self._exchange.counters["connections"] += 1
        if self._faults.is_armed:
            self._link.opened()
        self._session.open()
        try:
            async with anyio.create_task_group() as tasks:
                for serve in (self._read, self._answer, self._write, self._beat, self._link.run):
                    tasks.start_soon(self._until_closed, serve, tasks.cancel_scope)
        finally:
            self._session.close()
            self._link.forget()
            self._frames.clear()
            self._requests.clear()
            self._is_writer_at_work = True  # nothing follows the close frame
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await self._close()
            if self._is_too_slow and self._transport is not None:
                # What the kernel did not take would hold the connection open for ever.
                asyncio.get_running_loop().call_later(DROP_GRACE_S, self._transport.abort)

    async def _until_closed(self, serve: Callable[[], object], scope: anyio.CancelScope) -> None:
        try:
            await serve()  # type: ignore[misc]
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            # Starlette reports a socket that went away in any of these ways.
            _log.debug("socket_closed", error=repr(error))
        except TimeoutError:
            self._exchange.counters["slow_readers_dropped"] += 1
        scope.cancel()

    async def _read(self) -> None:
        while True:
            if self._link.is_deaf:
                await self._link.hears()
            message = await self._socket.receive()
            if message["type"] != "websocket.receive":
                return
            received_ns = self._clock_ns()
            # A binary frame is no request: it is answered as any other malformed text.
            text = message.get("text") or ""
            due_ns = self._inbound.due_ns(received_ns)
            if due_ns <= received_ns and not self._requests and not self._faults.is_armed:
                self._handle(text, received_ns)
                # Nothing else gives way while a client's requests keep coming.
                await anyio.lowlevel.checkpoint()
                continue
            self._requests.append((due_ns, received_ns, text))
            self._waiting_chars += len(text)
            if self._faults.is_armed:
                self._has_request.set()
            elif len(self._requests) == 1:
                self._clock.call_at_ns(due_ns, self._answer_due)
            while len(self._requests) >= MAX_WAITING_REQUESTS or self._waiting_chars >= MAX_WAITING_CHARS:
                self._has_room = anyio.Event()
                await self._has_room.wait()

    def _answer_due(self) -> None:
        """Handle a request that is due, and have the next one handled in its turn."""
        if self._faults.is_armed:
            self._has_request.set()
            return
        if self._requests and self._requests[0][0] <= self._clock_ns():
            _due_ns, received_ns, text = self._requests.popleft()
            self._waiting_chars -= len(text)
            self._has_room.set()
            self._handle(text, received_ns)
        if self._requests:
            self._clock.call_at_ns(self._requests[0][0], self._answer_due)

    async def _answer(self) -> None:
        """Handle requests while faults may hold them back; without faults `_answer_due` does."""
        while True:
            await self._has_request.wait()
            self._has_request = anyio.Event()
            while self._requests:
                due_ns, received_ns, text = self._requests[0]
                await self._sleep_until(due_ns)
                self._requests.popleft()
                self._waiting_chars -= len(text)
                self._has_room.set()
                await self._link.carry(text, received_ns, self._handle)

    def _handle(self, text: str, received_ns: int) -> None:
        self._exchange.counters["requests"] += 1
        if self._exchange.step_s:
            text = moved_stamps(text, -self._exchange.step_s * S)
        try:
            self._session.receive(text, received_ns, self._exchange.catch_up())
        except Exception:  # noqa: BLE001, one client's request must not end the exchange for the others
            self._exchange.counters["internal_errors"] += 1
            _log.error("request_failed", traceback=traceback.format_exc(limit=8))
            self.push('{"error":"EGeneral:Internal error","method":"error","success":false}')
        if not self._is_writer_at_work and self._frames:
            # The answer does not wait for its turn, as long as no earlier frame does.
            self._write_due()

    def _plan_write(self) -> None:
        if not self._is_write_planned:
            self._is_write_planned = True
            self._clock.call_at_ns(self._frames[0][0], self._write_planned)

    def _write_planned(self) -> None:
        self._is_write_planned = False
        if not self._is_writer_at_work and self._frames:
            self._write_due()

    def _write_due(self) -> None:
        """Write what is due, as long as the socket takes it at once; else wake the writer, which can wait."""
        transport, first = self._transport, self._frames[0]
        if transport is None or not isinstance(first[1], str) or transport.get_write_buffer_size():
            self._is_writer_at_work = True
            self._has_frame.set()
        elif not transport.is_closing():
            texts, _no_special = self._take_due()
            transport.write(b"".join(texts))
            if self._frames:
                self._plan_write()

    async def _write(self) -> None:
        while not self._is_too_slow:
            await self._has_frame.wait()
            self._has_frame = anyio.Event()
            while self._frames and not self._is_too_slow:
                await self._sleep_until(self._frames[0][0])
                texts, special = self._take_due()
                with anyio.fail_after(SEND_TIMEOUT_S):
                    if texts:
                        await send_frames(self._socket, texts)
                    if special is not None:
                        await self._link.send_special(self._socket, special)
            self._is_writer_at_work = False

    def _take_due(self) -> tuple[list[bytes], Special | None]:
        """Take what is due from the queue, up to one write of texts and to the first special frame."""
        texts: list[bytes] = []
        frames, now_ns = self._frames, self._clock_ns()
        while frames and frames[0][0] <= now_ns and len(texts) < MAX_FRAMES_PER_WRITE:
            frame = frames[0][1]
            if not isinstance(frame, str) and texts:
                break
            frames.popleft()
            self._queued_chars -= len(frame)
            if not isinstance(frame, str):
                return texts, frame
            texts.append(text_frame(frame))
        return texts, None

    async def _beat(self) -> None:
        # The writer of a reader that stopped reading hangs in its send: this loop is what ends it.
        due_ns = self._clock_ns()
        while not self._is_too_slow:
            # One per second of the venue's time; after a stall they go on from now instead of in a burst.
            due_ns = max(due_ns + HEARTBEAT_NS, self._clock_ns())
            await self._clock.sleep_until_ns(due_ns)
            self._session.heartbeat()
            # A peer that is silent by script neither hears nor closes.
            if self._session.is_overdue(self._clock_ns()) and not self._link.is_deaf:
                self._exchange.counters["idle_closed"] += 1
                return

    async def _sleep_until(self, due_ns: int) -> None:
        if due_ns > self._clock_ns():
            await self._clock.sleep_until_ns(due_ns)

    async def _close(self) -> None:
        if self._socket.application_state is WebSocketState.CONNECTED:
            code = TOO_SLOW if self._is_too_slow else 1000
            await self._until_closed(lambda: self._socket.close(code), anyio.CancelScope())
