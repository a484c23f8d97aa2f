"""The books of the played file: what a reader of them holds, the way back to their beginning, and deeper ones.

Enters: rows of `book` and `level3` as recorded. Leaves: rows as they are played. Called by `_wire`.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from attrs import frozen

DEEP_LEVELS = 100
CHECKSUM_LEVELS = 10
Level = dict[str, msgspec.Raw]


class Row(msgspec.Struct):
    """One book as in a frame; numbers stay the texts that they are."""

    bids: list[Level]
    asks: list[Level]
    checksum: int
    timestamp: str = ""


class Frame(msgspec.Struct):
    data: list[Row]


row_of = msgspec.json.Decoder(Frame).decode


@frozen
class Ladder:
    """Levels behind all recorded ones, the best first: as many of them are seen as there is room for."""

    bids: list[Level]
    asks: list[Level]


class Seen:
    """What a reader may hold of a book at the end of a turn, and what it held at its beginning."""

    def __init__(self, snapshot: Row, key: tuple[str, str], ladder: Ladder | None = None) -> None:
        self._snapshot = snapshot
        self._channel, self._symbol = key
        self._is_queue = self._channel == "level3"
        self._ladder = ladder
        self._bids: dict[bytes, Level] = {}
        self._asks: dict[bytes, Level] = {}
        self.take(snapshot)

    @property
    def counts(self) -> tuple[int, int]:
        """Return how many recorded levels, or orders, there are on each side."""
        return len(self._bids), len(self._asks)

    def take(self, row: Row) -> str | None:
        """Take a row; return the update to play instead of its own, None when its own does."""
        before, name = self.counts, "order_id" if self._is_queue else "price"
        for changes, held in ((row.bids, self._bids), (row.asks, self._asks)):
            for change in changes:
                if self._goes(change):
                    held.pop(bytes(change[name]), None)
                else:
                    held[bytes(change[name])] = change
        bids, asks = self._come(before)
        return self._text("update", row, row.bids + bids, row.asks + asks) if bids or asks else None

    def snapshot_text(self) -> str:
        """Return the snapshot with the levels of the ladder that it shows; before anything else was taken."""
        row = self._snapshot
        bids, asks = self._come((DEEP_LEVELS, DEEP_LEVELS))
        return self._text("snapshot", row, row.bids + bids, row.asks + asks)

    def way_back(self, at: str) -> str:
        """Return the update that leads back; what a reader has truncated away it need not find."""
        began = self._snapshot
        before = self.counts
        bids, asks = self._back(self._bids, began.bids, at), self._back(self._asks, began.asks, at)
        if self._ladder is not None:
            self._bids, self._asks = _by_price(began.bids), _by_price(began.asks)
        more_bids, more_asks = self._come(before)
        row = Row(bids=[], asks=[], checksum=began.checksum, timestamp=at)
        return self._text("update", row, bids + more_bids, asks + more_asks)

    def _come(self, before: tuple[int, int]) -> tuple[list[Level], list[Level]]:
        """Return the levels of the ladder that come into sight since there were so many before them."""
        if self._ladder is None:
            return [], []
        (bids, asks), ladder = self.counts, self._ladder
        return (
            ladder.bids[max(0, DEEP_LEVELS - before[0]) : max(0, DEEP_LEVELS - bids)],
            ladder.asks[max(0, DEEP_LEVELS - before[1]) : max(0, DEEP_LEVELS - asks)],
        )

    def _text(self, kind: str, row: Row, bids: list[Any], asks: list[Any]) -> str:
        data = {"symbol": self._symbol, "bids": bids, "asks": asks, "checksum": row.checksum}
        if row.timestamp:
            data["timestamp"] = row.timestamp
        return msgspec.json.encode({"channel": self._channel, "type": kind, "data": [data]}).decode()

    def _goes(self, change: Level) -> bool:
        return bytes(change.get("event", b"")) == b'"delete"' if self._is_queue else not float(bytes(change["qty"]))

    def _back(self, held: dict[bytes, Level], began: list[Level], at: str) -> Any:
        if self._is_queue:
            gone = [{**order, "event": "delete", "timestamp": at} for order in held.values()]
            return gone + [{"event": "add", **order} for order in began]
        kept = {bytes(level["price"]) for level in began}
        return [{"price": level["price"], "qty": 0} for price, level in held.items() if price not in kept] + began


class Reach:
    """How far the recorded levels of a book reach, to know where a ladder may begin."""

    def __init__(self, snapshot: Row, key: tuple[str, str]) -> None:
        self._seen = Seen(snapshot, key)
        self._bids: list[Decimal] = []
        self._asks: list[Decimal] = []
        self._snapshot = snapshot
        self._fewest = DEEP_LEVELS
        self.take(snapshot)

    def take(self, row: Row) -> None:
        self._seen.take(row)
        self._fewest = min(self._fewest, *self._seen.counts)
        if row.bids:
            self._bids = [min([*self._bids, *map(_price, row.bids)])]
        if row.asks:
            self._asks = [max([*self._asks, *map(_price, row.asks)])]

    def ladder(self) -> Ladder | None:
        """Return the ladder; None where a checksum would meet it, or where prices end before it does."""
        if self._fewest < CHECKSUM_LEVELS:
            return None
        lowest, highest = self._bids[0], self._asks[0]
        step = Decimal((0, (1,), int(lowest.as_tuple().exponent)))
        bids = [lowest - step * number for number in range(1, DEEP_LEVELS + 1)]
        if bids[-1] <= 0:
            return None
        asks = [highest + step * number for number in range(1, DEEP_LEVELS + 1)]
        row = self._snapshot
        return Ladder(_levels(bids, row.bids[-1]["qty"]), _levels(asks, row.asks[-1]["qty"]))


def _price(level: Level) -> Decimal:
    return Decimal(bytes(level["price"]).decode())


def _by_price(levels: list[Level]) -> dict[bytes, Level]:
    return {bytes(level["price"]): level for level in levels}


def _levels(prices: list[Decimal], qty: msgspec.Raw) -> list[Level]:
    return [{"price": msgspec.Raw(f"{price:f}".encode()), "qty": qty} for price in prices]
