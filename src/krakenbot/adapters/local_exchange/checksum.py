"""Compute the venue's checksums from a book; own code, shared with nothing.

The text of one number is its digits without the point and without leading zeros, which for a scaled integer
is `str(integer)`. Ten best levels a side, asks ascending and then bids descending, CRC-32 (FACTS 7.1, 8.1).
"""

from __future__ import annotations

from zlib import crc32

from krakenbot.adapters.local_exchange.matching.book import Book, BookSide

LEVELS = 10


def book_checksum(book: Book) -> int:
    """Return the checksum of the aggregated book."""
    return crc32(_level2_text(book.bids).encode(), crc32(_level2_text(book.asks).encode()))


def level3_checksum(book: Book) -> int:
    """Return the checksum over every order of the ten best levels, in queue order."""
    return crc32(_level3_text(book.bids).encode(), crc32(_level3_text(book.asks).encode()))


def _level2_text(side: BookSide) -> str:
    if side.level2_text is None:
        levels = side.levels
        side.level2_text = "".join([f"{abs(key)}{levels[key].size_lots}" for key in reversed(side.keys[-LEVELS:])])
    return side.level2_text


def _level3_text(side: BookSide) -> str:
    if side.level3_text is None:
        parts = []
        for key in reversed(side.keys[-LEVELS:]):
            level = side.levels[key]
            if level.level3_text is None:
                price = abs(key)
                level.level3_text = "".join([f"{price}{o.remaining_lots}" for o in level.orders.values()])
            parts.append(level.level3_text)
        side.level3_text = "".join(parts)
    return side.level3_text
