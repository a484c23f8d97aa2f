"""Compute the venue's checksums from a book; own code, shared with nothing.

The text of one number is its digits without the point and without leading zeros, which for a scaled integer
is `str(integer)`. Ten best levels a side, asks ascending and then bids descending, CRC-32 (FACTS 7.1, 8.1).
A symbol's feed keeps one object of each kind while somebody reads: it remembers the text of every level and
recomputes a side only when one of its ten best levels changed.
"""

from __future__ import annotations

from zlib import crc32

from krakenbot.adapters.local_exchange.matching.book import BOTTOM, Book, BookSide, Changes, SideChanges

LEVELS = 10


def book_checksum(book: Book) -> int:
    """Return the checksum of the aggregated book."""
    return Checksum(Level2Digits(book.bids), Level2Digits(book.asks)).value


def level3_checksum(book: Book) -> int:
    """Return the checksum over every order of the ten best levels, in queue order."""
    return Checksum(Level3Digits(book.bids), Level3Digits(book.asks)).value


class Level2Digits:
    """Price and size of the ten best levels of a side."""

    def __init__(self, side: BookSide) -> None:
        self._side = side
        self._texts: dict[int, str] = {}
        self._floor = BOTTOM
        self.text = b""
        self._join()

    def update(self, changes: SideChanges) -> bool:
        """Follow what changed; tell whether the text may be another one."""
        floor, texts, levels, is_touched = self._floor, self._texts, self._side.levels, False
        for key in changes.keys:
            if key >= floor and key in levels:
                texts[key] = self._level(key)
                is_touched = True
            else:
                texts.pop(key, None)
                is_touched = is_touched or key >= floor
        if is_touched:
            self._join()
        return is_touched

    def _join(self) -> None:
        best = self._side.keys[: -LEVELS - 1 : -1]
        self._floor = best[-1] if len(best) == LEVELS else BOTTOM
        texts = self._texts
        try:
            self.text = "".join([texts[key] for key in best]).encode()
        except KeyError:
            # A level came up from below the tenth; its text was dropped when it last changed.
            texts.update([(key, self._level(key)) for key in best if key not in texts])
            self.text = "".join([texts[key] for key in best]).encode()

    def _level(self, key: int) -> str:
        return f"{abs(key)}{self._side.levels[key].size_lots}"


class Level3Digits(Level2Digits):
    """Price and size of every order in the ten best levels of a side."""

    def update(self, changes: SideChanges) -> bool:
        """Follow what changed; tell whether the text may be another one."""
        if len(changes.events) == 1:
            event, _order, key, lots = changes.events[0]
            if event == "add" and key in self._texts and key >= self._floor:
                # Whoever joins a queue stands at its end.
                self._texts[key] += f"{abs(key)}{lots}"
                self._join()
                return True
        return super().update(changes)

    def _level(self, key: int) -> str:
        price = abs(key)
        return "".join([f"{price}{order.remaining_lots}" for order in self._side.levels[key].orders.values()])


class Checksum:
    """Chain both sides: the asks' part is kept, the bids go on from it."""

    def __init__(self, bids: Level2Digits, asks: Level2Digits) -> None:
        self._bids = bids
        self._asks = asks
        self._asks_crc = crc32(asks.text)
        self.value = crc32(bids.text, self._asks_crc)

    def update(self, changes: Changes) -> int:
        """Follow one operation, and return the checksum after it; it must hear of every one."""
        bids, asks = changes.bids, changes.asks
        is_changed = bids.keys and self._bids.update(bids)
        if asks.keys and self._asks.update(asks):
            self._asks_crc = crc32(self._asks.text)
            is_changed = True
        if is_changed:
            self.value = crc32(self._bids.text, self._asks_crc)
        return self.value
