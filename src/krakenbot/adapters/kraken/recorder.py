"""Keep every frame as received, with its time of receipt, in the format that docs/recording.md lays down.

Enters: the connections of a market feed, made by `FrameRecorder.connection`. Leaves: a folder of zstd-compressed
parts. Called by `apps.record`. Frames are encoded in the receive loop and written by a worker thread, so that a slow
disk delays no socket; what waits for the disk is bounded, and when it is full the connections are given up until
there is room: their next snapshot makes the recording whole again.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from itertools import count
from typing import Any, Literal

import anyio
import anyio.to_thread
import msgspec
from attrs import frozen

from krakenbot.adapters.kraken.protocol.session import Session, Tap
from krakenbot.adapters.kraken.recording_parts import RecordingParts
from krakenbot.adapters.kraken.ws import MIB, Connection
from krakenbot.domain.values import Symbol
from krakenbot.ports.clock import Clock

Direction = Literal["in", "open", "close"]
MAX_LINE_BYTES = 16 * MIB
"""A longer line is no frame to the reader."""
_INSTRUMENT = b'"instrument"'
_HEAD_BYTES = 200
_TOKEN = re.compile(r'("token"\s*:\s*")((?:[^"\\]|\\.)+)(")')
_END_S = 30.0


class _Line(msgspec.Struct, gc=False):
    t: int
    c: str
    p: str
    d: Direction
    f: str


class _Pair(msgspec.Struct, gc=False):
    symbol: str


class _InstrumentData(msgspec.Struct, gc=False):
    pairs: list[msgspec.Raw] = []


class _InstrumentFrame(msgspec.Struct, gc=False, tag_field="channel", tag="instrument"):
    data: _InstrumentData


_encode = msgspec.json.Encoder().encode
_decode_instruments = msgspec.json.Decoder(_InstrumentFrame).decode
_decode_pair = msgspec.json.Decoder(_Pair).decode


@frozen(kw_only=True)
class RecorderSettings:
    """Limits: `write_every_s` is how often what was received goes to disk, `waiting_bytes` how much may wait for it."""

    write_every_s: float = 0.5
    waiting_bytes: int = 64 * MIB


class FrameRecorder:
    """Collects frames of all connections; `run` writes them until it is cancelled."""

    def __init__(self, *, parts: RecordingParts, clock: Clock, settings: RecorderSettings | None = None) -> None:
        self._parts = parts
        self._clock = clock
        self._settings = settings or RecorderSettings()
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._writing_bytes = 0
        self._numbers: dict[str, count[int]] = {}
        self._pairs: dict[str, msgspec.Raw] = {}
        self.frames: Counter[str] = Counter()
        """Lines kept by path and direction, and `dropped`: frames that came while too much waited for the disk."""

    @property
    def waiting_bytes(self) -> int:
        """Return how much is in memory: received, or on its way to the disk."""
        return self._waiting_bytes + self._writing_bytes

    def connection(self, *, url: str, session: Any, **more: Any) -> Connection:
        """Return a connection of a market feed that keeps its frames; given to the feed as its `carrier`."""
        path = str(session.stream)
        number = next(self._numbers.setdefault(path, count(1)))
        name = f"{path}-{self._parts.first}.{number}"
        return _RecordedConnection(recorder=self, name=name, path=path, url=url, session=session, **more)

    def begin(self, symbols: Sequence[Symbol]) -> None:
        """Say which symbols are recorded, once their instruments have come in; nothing is written before."""
        pairs = [self._pairs[symbol] for symbol in symbols]
        self._parts.begin(symbols, _encode({"assets": [], "pairs": pairs}))

    def keep(self, connection: str, path: str, direction: Direction, text: str) -> bool:
        """Keep one frame, or one opening or end of a connection; False when there is no room for it.

        The end of a connection always has room: whoever plays the recording must know of the gap.
        """
        if self.waiting_bytes >= self._settings.waiting_bytes and direction == "in":
            self.frames["dropped"] += 1
            return False
        line = _encode(_Line(t=self._clock.now_ns(), c=connection, p=path, d=direction, f=text))
        if len(line) >= MAX_LINE_BYTES:
            self.frames["too long"] += 1
            return True
        self._waiting.append(line)
        self._waiting_bytes += len(line)
        self.frames[f"{path} {direction}"] += 1
        return True

    def note_instruments(self, frame: bytes) -> None:
        """Remember the rows of an instrument frame: every part's header names those of the recorded symbols."""
        try:
            pairs = _decode_instruments(frame).data.pairs
            self._pairs |= {_decode_pair(pair).symbol: pair for pair in map(msgspec.Raw.copy, pairs)}
        except (msgspec.MsgspecError, ValueError):
            return

    async def run(self) -> None:
        """Write until cancelled; raises StoreUnavailable when the disk fails. Afterwards you must call `finish`."""
        while True:
            await self._clock.sleep(self._settings.write_every_s)
            await self._write()

    async def finish(self) -> None:
        """Write the rest and end the part, once every connection has ended."""
        # a second signal ends the process all the same
        with anyio.move_on_after(_END_S, shield=True):
            await self._write(is_last=True)

    async def _write(self, *, is_last: bool = False) -> None:
        if not self._parts.has_begun:
            return
        lines, self._waiting = self._waiting, []
        self._writing_bytes, self._waiting_bytes = self._waiting_bytes, 0
        try:
            # shielded: a thread cannot be stopped, and its lines must not be written twice
            with anyio.CancelScope(shield=True):
                write = functools.partial(self._parts.write, lines, self._clock.now_ns(), is_last=is_last)
                await anyio.to_thread.run_sync(write)
        finally:
            self._writing_bytes = 0


class _RecordingTap(Tap):
    """Keeps frames before the session reads them; what it sends is not kept, since it carries tokens."""

    def __init__(self, recorder: FrameRecorder, session: Session, name: str, path: str) -> None:
        super().__init__(session)
        self._recorder = recorder
        self._name = name
        self._path = path
        self._is_full = False
        self._tokens: set[str] = set()

    @property
    def close_reason(self) -> str | None:
        """Return the session's reason, or that frames were lost."""
        return "the disk is too slow: frames were dropped" if self._is_full else super().close_reason

    def to_send(self) -> list[str]:
        """Return the session's frames, and remember their tokens."""
        frames = super().to_send()
        for frame in frames:
            self._tokens |= {found[2] for found in _TOKEN.finditer(frame)}
        return frames

    def without_tokens(self, text: str) -> str:
        """Return a text with every member `token`, and every token that was sent, blotted out."""
        if '"token"' in text:
            text = _TOKEN.sub(r"\1***\3", text)
        for token in self._tokens:
            # a slash may come back escaped
            text = text.replace(token, "***").replace(token.replace("/", "\\/"), "***")
        return text

    def receive(self, text: str | bytes, now_mono: float) -> None:
        """Keep a frame and hand it on; one that could not be kept is not handed on either."""
        frame = text.encode() if isinstance(text, str) else text
        kept = self.without_tokens(frame.decode(errors="replace"))
        if self._is_full or not self._recorder.keep(self._name, self._path, "in", kept):
            self._is_full = True
            return
        if _INSTRUMENT in frame[:_HEAD_BYTES]:
            self._recorder.note_instruments(frame)
        super().receive(text, now_mono)


class _RecordedConnection(Connection):
    def __init__(
        self, *, recorder: FrameRecorder, name: str, path: str, url: str, session: Session, **more: Any
    ) -> None:
        tap = _RecordingTap(recorder, session, name, path)
        super().__init__(url=url, session=tap, **more)
        self._tap = tap
        self._keep = functools.partial(recorder.keep, name, path)
        self._kept_url = url

    async def run(self) -> str:
        """Carry the session; where the connection began and why it ended stands in the recording."""
        self._keep("open", self._kept_url)
        reason = "the recorder was stopped"
        try:
            reason = await super().run()
        finally:
            self._keep("close", self._tap.without_tokens(reason))
        return reason
