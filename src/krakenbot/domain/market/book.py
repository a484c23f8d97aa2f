"""One L2 book: price levels in ticks and lots, proven by a checksum after every message.

Enters: snapshots and updates of a session, numbers as floats (or as Decimals, when they are too large for a float).
Leaves: a verdict for each message, and readings (`BookView`). Called by the public session; read by everything else.

The hot path makes no object per level. A side is three parallel lists, best first: signed price (bids negative, so
that both sides ascend), lots, and the digits that go into the checksum. A side's part of the checksum is computed
anew only when one of its ten best levels changed.
"""

from __future__ import annotations

import enum
from bisect import bisect_left
from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol
from zlib import crc32

from krakenbot.domain.market.freshness import utc_ns
from krakenbot.domain.values import Side

CHECKSUM_LEVELS = 10
FLOAT_LIMIT = 2**50
"""Below this, `round(float * 10**precision)` is the exact integer for every number of that precision."""
EXACT_LIMIT = 2**63 - 1


class Verdict(enum.Enum):
    """What became of a message: INEXACT asks for the same message again, decoded exactly; nothing else does."""

    GOOD = enum.auto()
    BAD = enum.auto()
    INEXACT = enum.auto()


class LevelChange(Protocol):
    """One level as decoded; quantity 0 removes it."""

    @property
    def price(self) -> float | Decimal:
        """Return the price in quote units."""

    @property
    def qty(self) -> float | Decimal:
        """Return the quantity in base units."""


class _LevelSide:
    """One side, best level first."""

    __slots__ = ("digits", "keys", "lots", "sign")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.lots: list[int] = []
        self.digits: list[str] = []

    def clear(self) -> None:
        self.keys.clear()
        self.lots.clear()
        self.digits.clear()

    def apply(self, changes: Sequence[LevelChange], price_scale: float, qty_scale: float, limit: int) -> bool | None:
        """Apply changes in their order; True when a checksum level changed, None when a number is too large."""
        keys, all_lots, digits = self.keys, self.lots, self.digits
        touched = False
        for change in changes:
            ticks = round(change.price * price_scale)  # type: ignore[operator]  # float*float or Decimal*int
            lots = round(change.qty * qty_scale)  # type: ignore[operator]
            if ticks + lots > limit:
                return None
            key = ticks * self.sign
            index = bisect_left(keys, key)
            if index < len(keys) and keys[index] == key:
                if lots:
                    all_lots[index] = lots
                    digits[index] = f"{ticks}{lots}"
                else:
                    del keys[index], all_lots[index], digits[index]
            elif lots:
                keys.insert(index, key)
                all_lots.insert(index, lots)
                digits.insert(index, f"{ticks}{lots}")
            else:
                # a removal of a level that was truncated away
                continue
            if index < CHECKSUM_LEVELS:
                touched = True
        return touched


class L2Book:
    """The L2 book of one symbol; invalid, and empty to read, until a snapshot has been verified."""

    def __init__(self, *, price_precision: int, qty_precision: int, depth: int) -> None:
        self.depth = depth
        self.is_valid = False
        self.invalid_reason = "no snapshot yet"
        self.received_mono = 0.0
        # text of the venue's time of the last message; parsed when asked for
        self._at = ""
        self._bids = _LevelSide(-1)
        self._asks = _LevelSide(1)
        # CRC-32 state after the asks, and the bids' digits that follow
        self._asks_crc = 0
        self._bids_digits = b""
        self.reshape(price_precision=price_precision, qty_precision=qty_precision)

    def reshape(self, *, price_precision: int, qty_precision: int) -> None:
        """Take over changed precisions of the instrument; a snapshot must follow."""
        self._float_scales = (10.0**price_precision, 10.0**qty_precision, FLOAT_LIMIT)
        self._exact_scales = (10**price_precision, 10**qty_precision, EXACT_LIMIT)

    def load(
        self,
        bids: Sequence[LevelChange],
        asks: Sequence[LevelChange],
        checksum: int,
        at: str,
        now_mono: float,
        *,
        exact: bool = False,
    ) -> Verdict:
        """Replace the book by a snapshot; `at` is the venue's RFC 3339 time or empty."""
        self._bids.clear()
        self._asks.clear()
        self._asks_crc = 0
        self._bids_digits = b""
        self._at = ""
        self.is_valid = True
        self.invalid_reason = ""
        return self.apply(bids, asks, checksum, at, now_mono, exact=exact)

    def apply(
        self,
        bids: Sequence[LevelChange],
        asks: Sequence[LevelChange],
        checksum: int,
        at: str,
        now_mono: float,
        *,
        exact: bool = False,
    ) -> Verdict:
        """Apply a whole message, truncate, and verify; after BAD the book is invalid and empty.

        Only to be called on a valid book. After INEXACT it must be called again with the exactly decoded message.
        """
        price_scale, qty_scale, limit = self._exact_scales if exact else self._float_scales
        bid_side, ask_side, depth = self._bids, self._asks, self.depth
        self.received_mono = now_mono
        # the first, inexact attempt may have applied a part: then both sides are computed anew
        if asks:
            touched = ask_side.apply(asks, price_scale, qty_scale, limit)
            if touched is None:
                return self._too_large(exact=exact)
            if len(ask_side.keys) > depth:
                del ask_side.keys[depth:], ask_side.lots[depth:], ask_side.digits[depth:]
            if touched or exact:
                self._asks_crc = crc32("".join(ask_side.digits[:CHECKSUM_LEVELS]).encode())
        if bids:
            touched = bid_side.apply(bids, price_scale, qty_scale, limit)
            if touched is None:
                return self._too_large(exact=exact)
            if len(bid_side.keys) > depth:
                del bid_side.keys[depth:], bid_side.lots[depth:], bid_side.digits[depth:]
            if touched or exact:
                self._bids_digits = "".join(bid_side.digits[:CHECKSUM_LEVELS]).encode()
        if crc32(self._bids_digits, self._asks_crc) != checksum:
            return self.invalidate("checksum mismatch")
        if bid_side.keys and ask_side.keys and bid_side.keys[0] + ask_side.keys[0] <= 0:
            return self.invalidate("crossed")
        if at < self._at and runs_back(self._at, at):
            return self.invalidate("time ran back")
        self._at = at
        return Verdict.GOOD

    def invalidate(self, reason: str) -> Verdict:
        """Drop the book at once; readings are empty until the next verified snapshot."""
        self.is_valid = False
        self.invalid_reason = reason
        self._bids.clear()
        self._asks.clear()
        return Verdict.BAD

    @property
    def updated_at_ns(self) -> int:
        """Return the venue's time of the last message; 0 before the first, or when the venue stated none."""
        try:
            return utc_ns(self._at)
        except ValueError:
            return 0

    def best_bid(self) -> tuple[int, int] | None:
        """Return the best bid as (price_ticks, size_lots)."""
        side = self._bids
        return (-side.keys[0], side.lots[0]) if side.keys else None

    def best_ask(self) -> tuple[int, int] | None:
        """Return the best ask as (price_ticks, size_lots)."""
        side = self._asks
        return (side.keys[0], side.lots[0]) if side.keys else None

    def levels(self, side: Side, count: int) -> list[tuple[int, int]]:
        """Return up to `count` best levels of a side (BUY: bids) as (price_ticks, size_lots), best first."""
        if side is Side.BUY:
            return [(-key, lots) for key, lots in zip(self._bids.keys[:count], self._bids.lots, strict=False)]
        return list(zip(self._asks.keys[:count], self._asks.lots, strict=False))

    def _too_large(self, *, exact: bool) -> Verdict:
        return self.invalidate("number too large") if exact else Verdict.INEXACT


def runs_back(before: str, after: str) -> bool:
    """Tell whether a venue time is earlier than the one before it; a text that is no time counts as earlier."""
    try:
        return utc_ns(after) < utc_ns(before)
    except ValueError:
        return True
