"""Play a recording to one ingest: `python -m tests.bench._sender RECORDING RATE_PER_S SECONDS OUT`.

Speaks just enough of WS v2: status, acks, snapshots, pongs, heartbeats, and the recorded frames at the spacing of
their times, stretched so that the mean rate is RATE_PER_S. The exchange's own playback hands recorded times on byte
for byte; here they are moved to the present, since a state of windows that hold only old rows costs nothing. A
longer run plays the recording again: ahead of the first update of each book its snapshot is sent anew, and ids of
trades go on where they ended. Writes its port to OUT, then, when the play ends or is stopped, what it sent per second.
"""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from krakenbot.adapters.local_exchange.playback.reader import Recording

NS_PER_S = 1_000_000_000
BOOKS = ("book", "level3")
HEARTBEAT_S = 1.0
QUIET_S = 3.0
TURN_S = 0.001
YIELD_EVERY = 50
_CHANNEL = re.compile(r'\{"channel":"([a-z0-9]+)"')
_SYMBOL = re.compile(r'"symbol":"([^"]+)"')
_STAMP = re.compile(r'"timestamp":"([0-9T:-]{19})(?:\.(\d{1,9}))?Z"')
_TRADE_ID = re.compile(r'"trade_id":(\d+)')
Key = tuple[str, str]


def key_of(text: str) -> Key:
    """Return channel and first symbol of a data frame; the symbol of an instrument frame means nothing."""
    channel, symbol = _CHANNEL.match(text), _SYMBOL.search(text)
    return channel[1] if channel else "", symbol[1] if symbol else ""


def is_snapshot(text: str) -> bool:
    return '"type":"snapshot"' in text[:200]


@lru_cache(maxsize=4096)
def seconds_of(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())


@lru_cache(maxsize=4096)
def text_of(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class Contents:
    """What is in the recording: its snapshots, its span, and the trade ids of each symbol."""

    def __init__(self, folder: Path) -> None:
        self.recording = Recording(folder)
        self.snapshots: dict[Key, str] = {}
        self.updates: Counter[Key] = Counter()
        self.first_ns, self.last_ns = 0, 0
        ids: dict[str, list[int]] = {}
        for frame in self.recording.frames():
            key = key_of(frame.f)
            if not key[0] or '"method"' in frame.f[:20]:
                continue
            if is_snapshot(frame.f):
                self.snapshots.setdefault(("instrument", "") if key[0] == "instrument" else key, frame.f)
            else:
                self.updates[key] += 1
                self.first_ns = self.first_ns or frame.t
                self.last_ns = frame.t
            if key[0] == "trade" and _TRADE_ID.search(frame.f):
                ids.setdefault(key[1], []).extend(map(int, _TRADE_ID.findall(frame.f)))
        # the last id before the play is that of the snapshot
        before = {
            symbol: max(map(int, _TRADE_ID.findall(self.snapshots.get(("trade", symbol), ""))), default=min(found) - 1)
            for symbol, found in ids.items()
        }
        self.trades = {symbol: max(found) - before[symbol] for symbol, found in ids.items()}
        self.span_ns = self.last_ns - self.first_ns

    def updates_of(self) -> Iterator[tuple[int, Key, str]]:
        """Yield time since the first update, key and text of every update."""
        for frame in self.recording.frames():
            if '"method"' not in frame.f[:20] and not is_snapshot(frame.f) and (key := key_of(frame.f))[0] != "status":
                yield frame.t - self.first_ns, key, frame.f


class Sender:
    def __init__(self, contents: Contents, rate_per_s: float, seconds: float) -> None:
        self._contents = contents
        self._seconds = seconds
        self._rate_per_s = rate_per_s
        # recorded time in one of ours
        self._speed = 1.0
        self._asked_at = 0.0
        self._unyielded = 0
        self._subscribed: dict[Key, Any] = {}
        self._connections: set[Any] = set()
        self._begun = asyncio.Event()
        self._base_ns = time.time_ns()
        self.sent: list[int] = []
        self.again = 0
        self.bytes = 0

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
            "cpu_s": time.process_time(),
            "subscribed": Counter(channel for channel, _ in self._subscribed),
        }

    async def begin(self) -> None:
        """Let the play begin once nothing more is asked for; the symbols that nobody reads count for nothing."""
        while not any(key[0] == "level3" for key in self._subscribed) or (
            time.perf_counter() < self._asked_at + QUIET_S
        ):
            await asyncio.sleep(0.1)
        updates = sum(count for key, count in self._contents.updates.items() if key in self._subscribed)
        self._speed = self._rate_per_s * self._contents.span_ns / NS_PER_S / updates
        self._base_ns = time.time_ns()
        self._begun.set()

    async def play(self) -> None:
        """Send the updates of what is subscribed for `seconds`."""
        await self._begun.wait()
        started, loop_ns = time.perf_counter(), 0
        number = 0
        while True:
            fresh: set[Key] = set()
            for at_ns, key, text in self._contents.updates_of():
                if key not in self._subscribed:
                    continue
                due_s = (at_ns + loop_ns) / NS_PER_S / self._speed
                if due_s >= self._seconds:
                    return
                while (wait_s := started + due_s - time.perf_counter()) > 0:
                    await asyncio.sleep(max(wait_s, TURN_S))
                if number and key[0] in BOOKS and key not in fresh:
                    fresh.add(key)
                    await self._send(key, self._contents.snapshots[key], loop_ns, started)
                await self._send(key, self._numbered(key, text, number), loop_ns, started)
            loop_ns += self._contents.span_ns
            number += 1

    async def beat(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            for connection in list(self._connections):
                try:
                    await connection.send('{"channel":"heartbeat"}')
                except ConnectionClosed:
                    continue

    async def _send(self, key: Key, text: str, loop_ns: int, started: float) -> None:
        connection = self._subscribed.get(key)
        if connection is None:
            return
        content = self._present(text, loop_ns).encode()
        size = len(content)
        head = b"\x81" + (bytes([size]) if size < 126 else b"\x7e" + min(size, 65535).to_bytes(2, "big"))
        # The library's own send costs a third of the sender; a whole frame may be written between two of its own.
        if connection.transport.is_closing() or connection.state is not State.OPEN:
            return
        connection.transport.write((head if size < 65536 else b"\x81\x7f" + size.to_bytes(8, "big")) + content)
        self._unyielded += 1
        if self._unyielded >= YIELD_EVERY:
            self._unyielded = 0
            await asyncio.sleep(0)
        second = int(time.perf_counter() - started)
        while len(self.sent) <= second:
            self.sent.append(0)
        self.sent[second] += 1
        self.bytes += size

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
                continue
            self.again += self._begun.is_set()
            self._subscribed[key] = connection
            if key in self._contents.snapshots:
                await connection.send(self._present(self._contents.snapshots[key], 0))
        self._asked_at = time.perf_counter()

    def _present(self, text: str, loop_ns: int) -> str:
        """Move the times of a frame to ours."""
        first_ns, base_ns, speed = self._contents.first_ns, self._base_ns, self._speed

        def moved(found: re.Match[str]) -> str:
            digits = found[2] or ""
            at_ns = seconds_of(found[1]) * NS_PER_S + int(digits.ljust(9, "0")) + loop_ns - first_ns
            seconds, rest = divmod(base_ns + round(at_ns / speed), NS_PER_S)
            return f'"timestamp":"{text_of(seconds)}.{rest:09d}'[: -9 + max(len(digits), 6) or None] + 'Z"'

        return _STAMP.sub(moved, text)

    def _numbered(self, key: Key, text: str, number: int) -> str:
        if not number or key[0] != "trade":
            return text
        ahead = number * self._contents.trades[key[1]]
        return _TRADE_ID.sub(lambda found: f'"trade_id":{int(found[1]) + ahead}', text)


async def main(folder: Path, rate_per_s: float, seconds: float, out: Path) -> dict[str, Any]:
    sender = Sender(Contents(folder), rate_per_s, seconds)
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
    found = asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), Path(out)))
    Path(out).write_text(json.dumps(found))
