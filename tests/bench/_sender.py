"""Play a recording to one ingest: `python -m tests.bench._sender WIRE SECONDS OUT`.

Speaks just enough of WS v2: status, acks, snapshots, pongs, heartbeats, and the frames of the wire (_wire.py) at their
times, moved to the present, since a state of windows that hold only old rows costs nothing. A longer run plays it
again. Frames are made beforehand and written by slices of 2 ms: the sender must not need the CPU that it measures.
Writes its port to OUT, then, when the play ends or is stopped, what it sent per second.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.bench._wire import (
    NS_PER_S,
    STAMP,
    TRADE_ID,
    ZERO_S,
    Key,
    Slice,
    Wire,
    content_of,
    framed,
    seconds_of,
    text_of,
)
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

HEARTBEAT_S = 1.0
QUIET_S = 3.0
TURN_S = 0.001


class Sender:
    def __init__(self, wire: Wire, seconds: float) -> None:
        self._wire = wire
        self._seconds = seconds
        self._asked_at = 0.0
        self._subscribed: dict[Key, Any] = {}
        # whom each key of the wire goes to
        self._targets: list[Any] = [None] * len(wire.keys)
        self._number_of = {key: number for number, key in enumerate(wire.keys)}
        self._connections: set[Any] = set()
        self._begun = asyncio.Event()
        self._zero_s = time.time_ns() // NS_PER_S
        self.sent: list[int] = []
        self.again = 0
        self.bytes = 0
        self.latest_s = 0.0

    async def serve(self, connection: Any) -> None:
        self._connections.add(connection)
        try:
            await connection.send(
                '{"channel":"status","type":"update","data":[{"system":"online","api_version":"v2",'
                '"connection_id":1,"version":"2.0.0"}]}'
            )
            async for text in connection:
                await self._answer(connection, json.loads(text))
        except ConnectionClosed:
            pass
        finally:
            self._connections.discard(connection)

    def found(self) -> dict[str, Any]:
        """Return what was sent, and how many books were asked for again."""
        return {
            "sent": self.sent,
            "bytes": self.bytes,
            "again": self.again,
            "deep_books": self._wire.deep_books,
            "cpu_s": time.process_time(),
            "latest_s": round(self.latest_s, 3),
            "subscribed": Counter(channel for channel, _ in self._subscribed),
        }

    async def begin(self) -> None:
        """Let the play begin, at a whole second, once all is subscribed and nothing more is asked for.

        Who subscribed later would get the snapshot of a book that has moved on.
        """
        while None in self._targets or time.perf_counter() < self._asked_at + QUIET_S:
            await asyncio.sleep(0.1)
        now_ns = time.time_ns()
        self._zero_s = now_ns // NS_PER_S + 1
        await asyncio.sleep(self._zero_s - now_ns / NS_PER_S)
        self._begun.set()

    async def play(self) -> None:
        """Send the frames of what is subscribed for `seconds`."""
        await self._begun.wait()
        started, turn = time.perf_counter(), 0
        while True:
            with self._wire.file.open("rb", buffering=1 << 20) as file:
                for part in self._wire.slices:
                    due_s = part.due_s + turn * self._wire.period_s
                    if due_s >= self._seconds:
                        return
                    while (wait_s := started + due_s - time.perf_counter()) > 0:
                        await asyncio.sleep(max(wait_s, TURN_S))
                    self._write(part, file.read(part.size), turn)
                    now_s = time.perf_counter() - started
                    self.latest_s = max(self.latest_s, now_s - due_s)
                    if now_s - due_s > TURN_S:
                        # late: what came in must be heard all the same
                        await asyncio.sleep(0)
                    self._count(int(now_s), part.frames)
            turn += 1

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            for connection in list(self._connections):
                try:
                    await connection.send('{"channel":"heartbeat"}')
                except ConnectionClosed:
                    continue

    def _write(self, part: Slice, content: bytes, turn: int) -> None:
        """Write a slice: the frames of each connection at once, between two of the library's own."""
        base_s = self._zero_s + turn * self._wire.period_s
        for second in part.seconds:
            content = content.replace(text_of(ZERO_S + second).encode(), text_of(base_s + second).encode())
        keys, sizes, targets = self._wire.frame_keys, self._wire.frame_sizes, self._targets
        parts: dict[Any, list[bytes]] = {}
        start = 0
        for index in range(part.first, part.first + part.frames):
            end = start + sizes[index]
            target, frame = targets[keys[index]], content[start:end]
            start = end
            if target is None:
                continue
            if turn and self._wire.keys[keys[index]][0] == "trade":
                frame = self._numbered(frame, turn * self._wire.trades[self._wire.keys[keys[index]][1]])
            parts.setdefault(target, []).append(frame)
        for connection, frames in parts.items():
            if not connection.transport.is_closing() and connection.state is State.OPEN:
                connection.transport.write(b"".join(frames))
        self.bytes += len(content)

    def _numbered(self, frame: bytes, ahead: int) -> bytes:
        text = content_of(frame).decode()
        return framed(TRADE_ID.sub(lambda found: f'"trade_id":{int(found[1]) + ahead}', text))

    def _count(self, second: int, frames: int) -> None:
        while len(self.sent) <= second:
            self.sent.append(0)
        self.sent[second] += frames

    async def _answer(self, connection: Any, request: dict[str, Any]) -> None:
        method, params = request.get("method"), request.get("params") or {}
        if method == "ping":
            await connection.send(json.dumps({"method": "pong", "req_id": request.get("req_id")}))
            return
        channel = params["channel"]
        for symbol in params.get("symbol", [""]):
            result = {name: value for name, value in params.items() if name not in {"symbol", "token"}}
            result |= {"symbol": symbol} if symbol else {}
            ack = {"method": method, "result": result, "success": True, "req_id": request.get("req_id")}
            await connection.send(json.dumps(ack))
            key = channel, symbol
            if method == "unsubscribe":
                self._subscribed.pop(key, None)
                self._aim(key, None)
                continue
            self.again += self._begun.is_set()
            self._subscribed[key] = connection
            self._aim(key, connection)
            if key in self._wire.snapshots:
                await connection.send(self._present(self._wire.snapshots[key]))
        self._asked_at = time.perf_counter()

    def _aim(self, key: Key, connection: Any) -> None:
        if key in self._number_of:
            self._targets[self._number_of[key]] = connection

    def _present(self, text: str) -> str:
        """Move the times of a snapshot to ours; they are all of the time before the play."""
        return STAMP.sub(
            lambda found: found[0].replace(found[1], text_of(seconds_of(found[1]) - ZERO_S + self._zero_s)), text
        )


async def main(wire: Path, seconds: float, out: Path) -> dict[str, Any]:
    sender = Sender(Wire(wire), seconds)
    async with serve(sender.serve, "127.0.0.1", 0, compression=None, ping_interval=None, max_size=None) as server:
        out.with_suffix(".part").write_text(json.dumps({"port": server.sockets[0].getsockname()[1]}))
        out.with_suffix(".part").rename(out)
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            begin = tasks.create_task(sender.begin())
            beat, play = tasks.create_task(sender.beat()), tasks.create_task(sender.play())
            loop.add_signal_handler(signal.SIGTERM, play.cancel)
            await asyncio.wait([play])
            beat.cancel()
            begin.cancel()
    return sender.found()


if __name__ == "__main__":
    *_, out = sys.argv
    found = asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2]), Path(out)))
    Path(out).write_text(json.dumps(found))
