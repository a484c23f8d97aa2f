"""The file that the ingest benchmark plays: frames of 600 symbols as our exchange sent them, with the venue's times.

Made once and kept in the user's cache folder. The exchange's time is stepped: every symbol is subscribed while it
stands still, so that all snapshots are of one instant, and then it moves in steps, however slow the machine is. A
frame's time is the venue's; the frames of one step are spread over it in the order in which they came. The format is
that of docs/recording.md, so that `krakenbot exchange --flow playback` reads it too.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import platformdirs
import websockets
from tests.bench._process import exchange_process
from tests.bench._subscriber import LEVEL3_SYMBOLS, call

from krakenbot.adapters.local_exchange.playback.recording_format import SocketPath
from krakenbot.adapters.local_exchange.playback.writer import RecordingWriter

VERSION = 1
"""Raise it when the frames are to be made anew."""
SYMBOLS = 600
FRAMES = 440_000
"""88 s at 5,000/s: the first minute's benchmark with its warm-up."""
BOOK_DEPTH = 100
STEP_S = 0.05
NS_PER_S = 1_000_000_000


def recording(symbols: int = SYMBOLS, frames: int = FRAMES) -> Path:
    """Return the folder of the recording; makes it when it is not there yet."""
    folder = Path(platformdirs.user_cache_dir("krakenbot")) / f"bench-ingest-{VERSION}-{symbols}-{frames}"
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="kb-bench-", dir=folder.parent) as name:
            options = ("--symbols", str(symbols), "--limits", "off", "--time", "stepped", "--flow", "seeded")
            with exchange_process(Path(name), *options) as ready:
                asyncio.run(_Maker(ready, Path(name) / "made", frames).make())
            shutil.move(Path(name) / "made", folder)
    return folder


class _Maker:
    def __init__(self, ready: dict[str, Any], folder: Path, frames: int) -> None:
        self._ready = ready
        self._folder = folder
        self._wanted = frames
        self._kept: list[tuple[str, SocketPath, str]] = []
        self._sockets: list[Any] = []
        self._pongs: list[asyncio.Event] = []

    async def make(self) -> None:
        symbols, ready = self._ready["symbols"], self._ready
        token = (await asyncio.to_thread(call, ready["rest_url"], "GetWebSocketsToken"))["token"]
        async with asyncio.TaskGroup() as tasks:
            readers = []
            parts = [symbols[start : start + LEVEL3_SYMBOLS] for start in range(0, len(symbols), LEVEL3_SYMBOLS)]
            for number in range(1 + len(parts)):
                path: SocketPath = "level3" if number else "public"
                socket = await websockets.connect(ready[f"ws_{path}_url"], proxy=None, max_size=None, compression=None)
                self._sockets.append(socket)
                self._pongs.append(asyncio.Event())
                readers.append(tasks.create_task(self._read(number, socket, path)))
            public = self._sockets[0]
            await _ask(public, "instrument", None)
            for start in range(0, len(symbols), 50):
                some = symbols[start : start + 50]
                await _ask(public, "book", some, depth=BOOK_DEPTH)
                await _ask(public, "ticker", some, event_trigger="bbo")
                await _ask(public, "trade", some, snapshot=True)
            for socket, part in zip(self._sockets[1:], parts, strict=True):
                for start in range(0, len(part), 50):
                    await _ask(socket, "level3", part[start : start + 50], depth=10, token=token)
            with RecordingWriter(self._folder, symbols=symbols) as writer:
                await self._write(writer)
            for reader in readers:
                reader.cancel()
            for socket in self._sockets:
                await socket.close()

    async def _write(self, writer: RecordingWriter) -> None:
        now_ns = time.time_ns()
        await self._all_read()
        written = 0
        while True:
            kept, self._kept = self._kept, []
            for place, (name, path, text) in enumerate(kept):
                writer.write(now_ns + round(STEP_S * NS_PER_S * place / len(kept)), name, path, "in", text)
            written += len(kept)
            if written >= self._wanted:
                return
            now_ns = await asyncio.to_thread(_advance, self._ready["rest_url"], STEP_S) - round(STEP_S * NS_PER_S)
            await self._all_read()

    async def _all_read(self) -> None:
        """Wait until everything that was sent has been read: answers come in order."""
        for socket, pong in zip(self._sockets, self._pongs, strict=True):
            pong.clear()
            await socket.send('{"method":"ping"}')
        async with asyncio.timeout(60):
            for pong in self._pongs:
                await pong.wait()

    async def _read(self, number: int, socket: Any, path: SocketPath) -> None:
        name = f"{path}-{number}"
        while True:
            text = await socket.recv()
            if text.startswith('{"method":"pong"'):
                self._pongs[number].set()
            elif not text.startswith('{"channel":"heartbeat"'):
                self._kept.append((name, path, text))


async def _ask(socket: Any, channel: str, symbols: list[str] | None, **more: Any) -> None:
    params = {"channel": channel, **({"symbol": symbols} if symbols else {}), **more}
    await socket.send(json.dumps({"method": "subscribe", "params": params}))


def _advance(rest_url: str, duration_s: float) -> int:
    request = urllib.request.Request(  # noqa: S310 - loopback
        f"{rest_url}/control/advance", json.dumps({"seconds": duration_s}).encode()
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=60) as answer:
        return int(json.load(answer)["now_ns"])
