"""Keep what was recorded of one subscription, and hand it to its readers.

A stream is one channel of one symbol at one depth (or ticker trigger). In: recorded frames, already decoded. Out:
the same texts to readers who came in time, snapshots of the replayed state to later ones. Called by the feed, which
knows the readers, and by the player, which knows the frames.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from krakenbot.adapters.local_exchange.checksum import book_checksum, level3_checksum
from krakenbot.adapters.local_exchange.feeds import Reader
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules
from krakenbot.adapters.local_exchange.playback.frames import BookData, Level3Data, TradeRow
from krakenbot.adapters.local_exchange.playback.mirror import Level2Mirror, Level3Mirror, Mirror
from krakenbot.adapters.local_exchange.playback.rows import IdOf, Level2Rows, Level3Rows, Rows

SNAPSHOT_TRADES: Final = 50


class BookStream:
    """One recorded book, L2 or level3, with readers of its own depth and of smaller ones."""

    def __init__(self, mirror: Mirror, rules: InstrumentRules, id_of: IdOf) -> None:
        self.mirror = mirror
        self.readers: dict[Reader, None] = {}
        self.derived: dict[int, dict[Reader, None]] = {}
        self.connection: str | None = None
        self.stamp = ""
        self._derived_rows: dict[int, Rows] = {}
        self._rules = rules
        self._id_of = id_of
        # The recorded snapshot, as long as nothing has changed since.
        self._snapshot: str | None = None

    @property
    def depth(self) -> int:
        """Return the recorded depth."""
        return self.mirror.depth

    def apply(self, data: BookData | Level3Data, text: str, *, is_snapshot: bool, at_ns: int) -> bool:
        """Follow one frame; tell whether its checksum is right."""
        if is_snapshot:
            self.mirror.reset()
        if isinstance(data, BookData) and isinstance(self.mirror, Level2Mirror):
            self.mirror.apply("buy", data.bids, at_ns)
            self.mirror.apply("sell", data.asks, at_ns)
        elif isinstance(data, Level3Data) and isinstance(self.mirror, Level3Mirror):
            self.mirror.apply("buy", data.bids)
            self.mirror.apply("sell", data.asks)
        self.mirror.truncate()
        self._snapshot = text if is_snapshot else None
        self.stamp = data.timestamp or self.stamp
        checksum = book_checksum if isinstance(data, BookData) else level3_checksum
        return checksum(self.mirror.book) == data.checksum

    def forward(self, text: str, *, is_snapshot: bool) -> None:
        """Send a recorded frame to readers of its depth, and what follows from it to those of smaller ones."""
        for reader in list(self.readers):
            reader.push(text)
        for depth, readers in self.derived.items():
            rows, book = self._derived_rows[depth], self.mirror.book
            frame = rows.snapshot(book, self.stamp) if is_snapshot else rows.update(book, self.stamp)
            for reader in list(readers) if frame is not None else ():
                reader.push(frame or "")

    def read(self, reader: Reader, depth: int) -> str:
        """Subscribe a reader; return the recorded snapshot while it stands, else one of the replayed state."""
        if depth == self.depth:
            self.readers[reader] = None
            return self._snapshot or self.rows(depth).snapshot(self.mirror.book, self.stamp)
        self.derived.setdefault(depth, {})[reader] = None
        # Every reader of a depth holds the same, so that a new snapshot changes nothing for the others.
        rows = self._derived_rows.setdefault(depth, self.rows(depth))
        return rows.snapshot(self.mirror.book, self.stamp)

    def leave(self, reader: Reader) -> None:
        """End a subscription at whatever depth."""
        self.readers.pop(reader, None)
        for depth in list(self.derived):
            self.derived[depth].pop(reader, None)
            if not self.derived[depth]:
                del self.derived[depth], self._derived_rows[depth]

    def rows(self, depth: int) -> Rows:
        """Return rows of this kind of book at a depth."""
        if isinstance(self.mirror, Level2Mirror):
            return Level2Rows(self._rules, depth)
        return Level3Rows(self._rules, depth, self._id_of)


class TradeStream:
    """The recorded prints of a symbol."""

    def __init__(self) -> None:
        self.readers: dict[Reader, None] = {}
        self.last_id = 0
        self._rows: deque[str] = deque(maxlen=SNAPSHOT_TRADES)
        self._snapshot: str | None = None

    def take(self, rows: list[tuple[TradeRow, str]], text: str, *, is_snapshot: bool) -> list[TradeRow]:
        """Follow one frame; return the prints that are new."""
        fresh = [(row, row_text) for row, row_text in rows if row.trade_id > self.last_id]
        for row, row_text in fresh:
            self.last_id = row.trade_id
            self._rows.append(row_text)
        self._snapshot = text if is_snapshot else None
        return [row for row, _ in fresh]

    def forward(self, text: str) -> None:
        """Send a recorded frame."""
        for reader in list(self.readers):
            reader.push(text)

    def read(self, reader: Reader) -> str:
        """Subscribe a reader; return the recorded snapshot while it stands, else the last 50 prints played."""
        self.readers[reader] = None
        return self._snapshot or f'{{"channel":"trade","type":"snapshot","data":[{",".join(self._rows)}]}}'


class TickerStream:
    """The recorded ticker of a symbol at one trigger."""

    def __init__(self) -> None:
        self.readers: dict[Reader, None] = {}
        self._row = ""
        self._snapshot: str | None = None

    def take(self, row: str, text: str, *, is_snapshot: bool) -> None:
        """Follow one frame."""
        self._row = row
        self._snapshot = text if is_snapshot else None

    def forward(self, text: str) -> None:
        """Send a recorded frame."""
        for reader in list(self.readers):
            reader.push(text)

    def read(self, reader: Reader) -> str:
        """Subscribe a reader; return the recorded snapshot while it stands, else the last row played as one."""
        self.readers[reader] = None
        return self._snapshot or f'{{"channel":"ticker","type":"snapshot","data":[{self._row}]}}'
