"""From a recording to WebSocket frames that are ready to be written: one turn of a play without end.

Enters: a recording and a rate. Leaves: a folder with the frames in the order of their times (`FRAMES`), and what they
are (`INDEX`, `SIZES`, `KEYS`). Made once for each recording and rate; the sender only reads it. All times are moved
to some that begin at `ZERO_S`, and stretched so that a turn takes whole seconds: to play it at any moment, and again,
whole seconds are exchanged and nothing else.

At the end of a turn each book is led back to where it began by one update of its own, right after its last: every
level or order that is there now goes, those of the first snapshot come, and the checksum is that of the snapshot.
The last price of a symbol that has traded is led back by a trade and a ticker, right after the last of either: a
ticker whose `last` moves without a trade is what shows a dead subscription of trades. So the next turn follows as if
nothing had been played again; ids of trades go on where they ended.

Our exchange's books have some 25 levels a side: every fourth gets a ladder behind them, so that it has 100.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from attrs import define, field
from tests.bench._wire_books import DEEP_LEVELS, Reach, Seen, row_of

from krakenbot.adapters.local_exchange.playback.reader import Recording

VERSION = 3
"""Raise it when the wire is to be made anew."""
FRAMES, INDEX, KEYS, SIZES = "frames", "index.json", "keys", "sizes"
NS_PER_S = 1_000_000_000
ZERO_S = 946_684_800
"""2000-01-01: no second of ours."""
SLICE_S = 0.002
"""What is due within so long is written at once: a venue's writer too sends what has gathered."""
DEEP_EVERY = 4
STEP_NS = 50_000_000
"""The recorded times may be this much later than those of their frames (_frames.STEP_S)."""
_CHANNEL = re.compile(r'\{"channel":"([a-z0-9]+)"')
_SYMBOL = re.compile(r'"symbol":"([^"]+)"')
STAMP = re.compile(r'"timestamp":"([0-9T:-]{19})(?:\.(\d{1,9}))?Z"')
TRADE_ID = re.compile(r'"trade_id":(\d+)')
Key = tuple[str, str]
_LAST_PRICE = "last price"


def key_of(text: str) -> Key:
    """Return channel and first symbol of a data frame; the symbol of an instrument frame means nothing."""
    channel, symbol = _CHANNEL.match(text), _SYMBOL.search(text)
    return channel[1] if channel else "", symbol[1] if symbol else ""


def is_snapshot(text: str) -> bool:
    return '"type":"snapshot"' in text[:200]


def framed(text: str) -> bytes:
    """Return a text as the WebSocket frame of a server."""
    content = text.encode()
    size = len(content)
    if size < 126:
        return b"\x81" + bytes([size]) + content
    return (b"\x81\x7e" + size.to_bytes(2, "big") if size < 65536 else b"\x81\x7f" + size.to_bytes(8, "big")) + content


def content_of(frame: bytes) -> bytes:
    """Return what `framed` has put into a frame."""
    return frame[2 if frame[1] < 126 else 4 if frame[1] == 126 else 10 :]


@lru_cache(maxsize=4096)
def seconds_of(text: str) -> int:
    return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp())


@lru_cache(maxsize=4096)
def text_of(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@define(kw_only=True)
class Slice:
    """What is written at once: `frames` from the index `first` on, `size` bytes, and the whole seconds in them."""

    due_s: float
    first: int
    frames: int = 0
    size: int = 0
    seconds: set[int] = field(factory=set)


@define(kw_only=True)
class Index:
    """What the file holds; `keys` are those of the frames' numbers, snapshots have the times of the wire."""

    snapshots: list[tuple[Key, str]]
    trades: dict[str, int]
    keys: list[Key]
    messages: int
    period_s: int
    slices: list[Slice]


class Wire:
    """One turn of the play, as the sender reads it."""

    def __init__(self, folder: Path) -> None:
        index = msgspec.json.decode((folder / INDEX).read_bytes(), type=Index)
        self.file = folder / FRAMES
        self.snapshots = dict(index.snapshots)
        self.trades = index.trades
        """How many ids of trades a turn uses up, by symbol."""
        self.keys = index.keys
        self.messages, self.period_s = index.messages, index.period_s
        self.slices = index.slices
        self.deep_books = sum(text.count('"price"') >= 2 * DEEP_LEVELS for text in self.snapshots.values())
        """How many books have all the levels that are asked for."""
        self.frame_keys, self.frame_sizes = array("H"), array("I")
        self.frame_keys.frombytes((folder / KEYS).read_bytes())
        self.frame_sizes.frombytes((folder / SIZES).read_bytes())


def wire_of(recording: Path, rate_per_s: float) -> Path:
    """Return the folder of the wire of a recording; makes it when it is not there yet."""
    folder = recording.with_name(f"{recording.name}-wire-{VERSION}-{rate_per_s:g}")
    if not folder.exists():
        with tempfile.TemporaryDirectory(prefix="kb-bench-", dir=folder.parent) as name:
            made = Path(name) / "made"
            made.mkdir()
            _Maker(recording, made, rate_per_s)
            shutil.move(made, folder)
    return folder


class _Maker:
    def __init__(self, recording: Path, folder: Path, rate_per_s: float) -> None:
        self._recording = Recording(recording)
        self.snapshots: dict[Key, str] = {}
        self.trades: Counter[str] = Counter()
        self.keys: list[Key] = []
        self.frame_keys = array("H")
        self.frame_sizes = array("I")
        self.slices: list[Slice] = []
        self._number_of: dict[Key, int] = {}
        self._books: dict[Key, Seen] = {}
        self._reaches: dict[Key, Reach] = {}
        self._traded: dict[str, str] = {}
        updates, last = self._survey()
        # the ways back are messages too
        messages = updates + len(self._books) + 2 * len(self._traded)
        self.trades.update(list(self._traded))
        self._deepen()
        period_s = max(1, int(messages / rate_per_s))
        self._speed = self._span_ns / NS_PER_S / period_s
        self._write(folder / FRAMES, last)
        index = Index(
            snapshots=[(key, self.present(text)) for key, text in self.snapshots.items()],
            trades=self.trades,
            keys=self.keys,
            messages=messages,
            period_s=period_s,
            slices=self.slices,
        )
        (folder / INDEX).write_bytes(msgspec.json.encode(index))
        (folder / KEYS).write_bytes(self.frame_keys.tobytes())
        (folder / SIZES).write_bytes(self.frame_sizes.tobytes())

    def present(self, text: str, seconds: set[int] | None = None) -> str:
        """Move the times of a frame to those of the wire; add their whole seconds to `seconds`."""
        first_ns, speed = self._first_ns, self._speed

        def moved(found: re.Match[str]) -> str:
            digits = found[2] or ""
            at_ns = round((seconds_of(found[1]) * NS_PER_S + int(digits.ljust(9, "0")) - first_ns) / speed)
            second, rest = divmod(at_ns, NS_PER_S)
            if seconds is not None:
                seconds.add(second)
            return f'"timestamp":"{text_of(ZERO_S + second)}.{rest:09d}'[: -9 + max(len(digits), 6) or None] + 'Z"'

        return STAMP.sub(moved, text)

    def _survey(self) -> tuple[int, dict[Key, int]]:
        """Read snapshots and span; return the number of updates, and which is the last of each book and last price."""
        updates, last_ns = 0, 0
        last: dict[Key, int] = {}
        self._first_ns = 0
        for frame in self._recording.frames():
            key = key_of(frame.f)
            if not key[0] or key[0] == "status" or '"method"' in frame.f[:20]:
                continue
            if is_snapshot(frame.f):
                self.snapshots.setdefault(("instrument", "") if key[0] == "instrument" else key, frame.f)
                continue
            if key[0] in {"book", "level3"}:
                last[key] = updates
                self._follow(key, frame.f)
            else:
                last[_LAST_PRICE, key[1]] = updates
            if key[0] == "trade":
                self.trades[key[1]] += len(TRADE_ID.findall(frame.f))
                self._traded[key[1]] = frame.f
            updates += 1
            self._first_ns = self._first_ns or frame.t
            last_ns = frame.t
        self._span_ns = last_ns - self._first_ns + STEP_NS
        return updates, last

    def _follow(self, key: Key, text: str) -> None:
        if key not in self._books:
            self._books[key] = Seen(row_of(self.snapshots[key]).data[0], key)
            if key[0] == "book" and len(self._books) % DEEP_EVERY == 0:
                self._reaches[key] = Reach(row_of(self.snapshots[key]).data[0], key)
        if key in self._reaches:
            self._reaches[key].take(row_of(text).data[0])

    def _deepen(self) -> None:
        for key, reach in self._reaches.items():
            if (ladder := reach.ladder()) is not None:
                self._books[key] = Seen(row_of(self.snapshots[key]).data[0], key, ladder)
                self.snapshots[key] = self._books[key].snapshot_text()

    def _updates(self) -> Iterator[tuple[int, Key, str]]:
        for frame in self._recording.frames():
            if '"method"' not in frame.f[:20] and not is_snapshot(frame.f) and (key := key_of(frame.f))[0] != "status":
                yield frame.t - self._first_ns, key, frame.f

    def _write(self, file: Path, last: dict[Key, int]) -> None:
        with file.open("wb", buffering=1 << 20) as out:
            for number, (at_ns, key, text) in enumerate(self._updates()):
                due_s = at_ns / NS_PER_S / self._speed
                if not self.slices or due_s >= self.slices[-1].due_s + SLICE_S:
                    self.slices.append(Slice(due_s=due_s, first=len(self.frame_keys)))
                if (book := self._books.get(key)) is None:
                    self._add(out, key, text)
                else:
                    row = row_of(text).data[0]
                    self._add(out, key, book.take(row) or text)
                    if last[key] == number:
                        self._add(out, key, book.way_back(row.timestamp))
                if last.get((_LAST_PRICE, key[1])) == number and (trade := self._traded.get(key[1])) is not None:
                    ticker = self.snapshots["ticker", key[1]]
                    for channel, back in _price_back(trade, ticker, text):
                        self._add(out, (channel, key[1]), back)

    def _add(self, out: Any, key: Key, text: str) -> None:
        part = self.slices[-1]
        content = framed(self.present(text, part.seconds))
        out.write(content)
        if key not in self._number_of:
            self._number_of[key] = len(self.keys)
            self.keys.append(key)
        self.frame_keys.append(self._number_of[key])
        self.frame_sizes.append(len(content))
        part.frames += 1
        part.size += len(content)


def _price_back(trade: str, ticker: str, at: str) -> Iterator[tuple[str, str]]:
    """Yield a trade and a ticker that lead a last price back to that of the ticker's snapshot.

    `trade` is the symbol's last trade frame, and `at` the frame after which they come.
    """
    began, sold, moment = (_rows_of(text).data for text in (ticker, trade, at))
    now = {"timestamp": moment[-1]["timestamp"]}
    number = max(int(bytes(row["trade_id"])) for row in sold) + 1
    price_and_id = {"price": began[0]["last"], "trade_id": number}
    rows = {"trade": {**sold[-1], **price_and_id, **now}, "ticker": {**began[0], **now}}
    for channel, row in rows.items():
        yield channel, msgspec.json.encode({"channel": channel, "type": "update", "data": [row]}).decode()


class _Rows(msgspec.Struct):
    data: list[dict[str, msgspec.Raw]]


_rows_of = msgspec.json.Decoder(_Rows).decode
