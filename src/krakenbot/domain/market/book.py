"""One L2 book: price levels in ticks and lots, proven by a checksum after every message.

Enters: snapshots and updates of a session, numbers as floats (quantities as Decimals, when too large for a float).
Leaves: a verdict for each message, and readings (`BookView`). Called by the public session; read by everything else.

The hot path makes no object per level. A side is two parallel lists, best first: signed price (bids negative, so that
both sides ascend), and the digits that go into the checksum, which hold the lots.
Prices are floats there: below 2^50 ticks, equal prices are equal floats and unequal ones are not. A side's part of
the checksum is computed anew only when one of its ten best levels changed.
"""

from __future__ import annotations

import enum
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from math import inf
from typing import Protocol
from zlib import crc32

from krakenbot.domain.market.freshness import utc_ns
from krakenbot.domain.values import BPS, Side

CHECKSUM_LEVELS = 10
FLOAT_LIMIT = 2**50
"""Below this, `round(float * 10**precision)` is the exact integer for every number of that precision."""
EXACT_LIMIT = 2**63 - 1
PRICES_KEPT = 512
"""Prices whose digits a book, or a side of a queue, remembers: 0.24 MiB a symbol when all are there."""


class Verdict(enum.Enum):
    """What became of a message: INEXACT asks for the same message again, decoded exactly; nothing else does."""

    GOOD = enum.auto()
    BAD = enum.auto()
    INEXACT = enum.auto()


# a member of an enum costs more to look up than a global
_GOOD, _BAD, _INEXACT = Verdict.GOOD, Verdict.BAD, Verdict.INEXACT


class LevelChange(Protocol):
    """One level as decoded; quantity 0 removes it."""

    @property
    def price(self) -> float:
        """Return the price in quote units."""

    @property
    def qty(self) -> float | Decimal:
        """Return the quantity in base units."""


class L2Book:
    """The L2 book of one symbol; invalid, and empty to read, until a snapshot has been verified.

    Each side is two parallel lists, best level first: signed price, and digits of price and lots. The prices end
    with an infinite one, so that every search ends at a price.
    """

    def __init__(self, *, price_precision: int, qty_precision: int, depth: int) -> None:
        self.depth = depth
        self.is_valid = False
        self.invalid_reason = "no snapshot yet"
        self.received_mono = 0.0
        # text of the venue's time of the last message; parsed when asked for
        self._at = ""
        self._bid_keys: list[float] = [inf]
        self._bid_digits: list[str] = []
        self._ask_keys: list[float] = [inf]
        # digits of every price met lately: a price that comes back is not computed anew
        self._prices: dict[float, str] = {}
        # never near what the book itself holds: each new price would search for one to forget
        self._prices_kept = max(PRICES_KEPT, 4 * depth)
        self._ask_digits: list[str] = []
        # CRC-32 state after the asks, the bids' digits that follow, and the checksum of both
        self._asks_crc = 0
        self._bids_text = b""
        self._crc = 0
        # the touch as it was last read, with the digits from which it was parsed
        self._bid_read: tuple[str, tuple[int, int]] = ("", (0, 0))
        self._ask_read: tuple[str, tuple[int, int]] = ("", (0, 0))
        self.reshape(price_precision=price_precision, qty_precision=qty_precision)

    def reshape(self, *, price_precision: int, qty_precision: int) -> None:
        """Take over changed precisions of the instrument; a snapshot must follow."""
        self._prices.clear()
        self._price_scale = 10.0**price_precision
        self._qty_precision = qty_precision
        self._qty_scale = 10.0**qty_precision
        self._qty_limit = FLOAT_LIMIT

    def load(
        self, bids: Sequence[LevelChange], asks: Sequence[LevelChange], checksum: int, at: str, now_mono: float
    ) -> Verdict:
        """Replace the book by a snapshot; `at` is the venue's RFC 3339 time or empty. Raises as `apply` does."""
        self._clear()
        self._at = ""
        self.is_valid = True
        self.invalid_reason = ""
        return self.apply(bids, asks, checksum, at, now_mono)

    @contextmanager
    def exactly(self) -> Iterator[None]:
        """Take quantities as Decimals while the context lasts: for a message that was INEXACT."""
        self._qty_scale, self._qty_limit = 10**self._qty_precision, EXACT_LIMIT
        # what the inexact attempt has applied is applied again, and must count as changed
        self._asks_crc = crc32(_text(self._ask_digits))
        self._bids_text = _text(self._bid_digits)
        self._crc = crc32(self._bids_text, self._asks_crc)
        try:
            yield
        finally:
            self._qty_scale, self._qty_limit = 10.0**self._qty_precision, FLOAT_LIMIT

    def apply(
        self, bids: Sequence[LevelChange], asks: Sequence[LevelChange], checksum: int, at: str, now_mono: float
    ) -> Verdict:
        """Apply a whole message, truncate, and verify; after BAD the book is invalid and empty.

        Only to be called on a valid book. After INEXACT it must be called again, within `exactly`, with the exactly
        decoded message. Raises OverflowError for a price of more than 2^50 ticks, where floats cannot tell neighbours
        apart, or of less than one; then the book must be invalidated.
        """
        # both sides are written out: a call for each costs a fifth of the whole, and a slice as much as the join
        self.received_mono = now_mono
        # one by one: a tuple of four would be built and taken apart
        prices = self._prices
        qty_scale = self._qty_scale
        limit = self._qty_limit
        depth = self.depth
        best = CHECKSUM_LEVELS
        if asks:
            touched = CHECKSUM_LEVELS
            keys, digits = self._ask_keys, self._ask_digits
            for change in asks:
                key = change.price
                # float * float or Decimal * int; the method, since looking up `round` costs as much as rounding
                lots = (change.qty * qty_scale).__round__()  # type: ignore[operator]
                index = bisect_left(keys, key)
                if keys[index] == key:
                    if lots:
                        digits[index] = f"{prices[key]}{lots}"
                    else:
                        del keys[index], digits[index]
                elif lots:
                    keys.insert(index, key)
                    digits.insert(index, f"{prices.get(key) or self._price(key)}{lots}")
                else:
                    # a removal of a level that was truncated away
                    continue
                if lots > limit:
                    return self._too_large()
                if index < touched:  # noqa: PLR1730 - min costs a call for every change
                    touched = index
            if len(digits) > depth:
                del keys[depth:-1], digits[depth:]
            if touched < CHECKSUM_LEVELS:
                best = touched
                text = "".join(digits if depth == CHECKSUM_LEVELS else digits[:CHECKSUM_LEVELS])
                self._asks_crc = crc32(text.encode())
        if bids:
            touched = CHECKSUM_LEVELS
            keys, digits = self._bid_keys, self._bid_digits
            for change in bids:
                key = -change.price
                lots = (change.qty * qty_scale).__round__()  # type: ignore[operator]  # as above
                index = bisect_left(keys, key)
                if keys[index] == key:
                    if lots:
                        digits[index] = f"{prices[key]}{lots}"
                    else:
                        del keys[index], digits[index]
                elif lots:
                    keys.insert(index, key)
                    digits.insert(index, f"{prices.get(key) or self._price(key)}{lots}")
                else:
                    continue
                if lots > limit:
                    return self._too_large()
                if index < touched:  # noqa: PLR1730 - min costs a call for every change
                    touched = index
            if len(digits) > depth:
                del keys[depth:-1], digits[depth:]
            if touched < CHECKSUM_LEVELS:
                best = min(best, touched)
                self._bids_text = "".join(digits if depth == CHECKSUM_LEVELS else digits[:CHECKSUM_LEVELS]).encode()
        if best < CHECKSUM_LEVELS:
            self._crc = crc32(self._bids_text, self._asks_crc)
        if self._crc != checksum:
            return self.invalidate("checksum mismatch")
        if best == 0 and self._bid_keys[0] + self._ask_keys[0] <= 0:
            return self.invalidate("crossed")
        before = self._at
        # texts of different lengths do not compare as times do
        if (at < before or len(at) != len(before)) and before and runs_back(before, at):
            return self.invalidate("time ran back")
        self._at = at
        return _GOOD

    def invalidate(self, reason: str) -> Verdict:
        """Drop the book at once; readings are empty until the next verified snapshot."""
        self.is_valid = False
        self.invalid_reason = reason
        self._clear()
        return _BAD

    @property
    def updated_at_ns(self) -> int:
        """Return the venue's time of the last message; 0 before the first, or when the venue stated none."""
        try:
            return utc_ns(self._at)
        except ValueError:
            return 0

    def best_bid(self) -> tuple[int, int] | None:
        """Return the best bid as (price_ticks, size_lots); the same object as long as it does not change."""
        if not self._bid_digits:
            return None
        digits = self._bid_digits[0]
        # the same object: equal digits may be those of another price with other lots
        if digits is not self._bid_read[0]:
            self._bid_read = (digits, self._level(self._bid_keys[0], digits))
        return self._bid_read[1]

    def best_ask(self) -> tuple[int, int] | None:
        """Return the best ask as (price_ticks, size_lots); the same object as long as it does not change."""
        if not self._ask_digits:
            return None
        digits = self._ask_digits[0]
        if digits is not self._ask_read[0]:
            self._ask_read = (digits, self._level(self._ask_keys[0], digits))
        return self._ask_read[1]

    def levels(self, side: Side, count: int) -> list[tuple[int, int]]:
        """Return up to `count` best levels of a side (BUY: bids) as (price_ticks, size_lots), best first."""
        keys, digits = (self._bid_keys, self._bid_digits) if side is Side.BUY else (self._ask_keys, self._ask_digits)
        return list(map(self._level, keys[:count], digits))

    def levels_near(self, side: Side, distance_bps: float, least: int) -> list[tuple[int, int]]:
        """Return the levels within a distance of the side's own best price, but the `least` best ones at any rate."""
        keys = self._bid_keys if side is Side.BUY else self._ask_keys
        # signed prices: on both sides farther is greater; what floats cannot tell apart is near
        farthest = keys[0] + abs(keys[0]) * distance_bps / BPS * (1 + 1e-9)
        return self.levels(side, max(least, bisect_right(keys, farthest)))

    def _level(self, key: float, digits: str) -> tuple[int, int]:
        price = self._prices[key]
        return int(price), int(digits[len(price) :])

    def _price(self, key: float) -> str:
        prices = self._prices
        if len(prices) >= self._prices_kept:
            for gone in prices.keys() - {*self._bid_keys, *self._ask_keys}:
                del prices[gone]
        ticks = round(abs(key) * self._price_scale)
        if not 0 < ticks <= FLOAT_LIMIT:
            raise OverflowError("price out of range")
        prices[key] = price = str(ticks)
        return price

    def _too_large(self) -> Verdict:
        return _INEXACT if self._qty_limit == FLOAT_LIMIT else self.invalidate("number too large")

    def _clear(self) -> None:
        for keys, digits in ((self._bid_keys, self._bid_digits), (self._ask_keys, self._ask_digits)):
            keys[:] = [inf]
            digits.clear()
        self._asks_crc = 0
        self._bids_text = b""
        self._crc = 0


def runs_back(before: str, after: str) -> bool:
    """Tell whether a venue time is earlier than the one before it; a text that is no time counts as earlier."""
    try:
        return utc_ns(after) < utc_ns(before)
    except ValueError:
        return True


def _text(digits: list[str]) -> bytes:
    return "".join(digits[:CHECKSUM_LEVELS]).encode()
