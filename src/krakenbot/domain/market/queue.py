"""One L3 book: the FIFO queue of orders at every price, proven by a checksum after every message.

Enters: snapshots and updates of the level3 session. Leaves: a verdict for each message, and readings (`QueueView`):
what stands ahead of an order. Called by the level3 session; read by the queue decisions and the sampler.

A side is two parallel lists, best first (signed price, and the level's digits for the checksum), beside a mapping
of price to an insertion-ordered dict of order id to the text of its lots. Volume is summed when somebody asks.
Rules of the feed (recorded, 2026-09): the adds of one message enter in the order of their own timestamps; an
order that left the window of levels comes back under the same id; a modified order keeps its place.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from itertools import takewhile
from typing import Protocol, TypeVar
from zlib import crc32

from krakenbot.domain.market.book import CHECKSUM_LEVELS, EXACT_LIMIT, FLOAT_LIMIT, Verdict, runs_back
from krakenbot.domain.market.freshness import utc_ns
from krakenbot.domain.market.places import QueuePlaces, Watch
from krakenbot.domain.market.views import LevelQueue, QueuePosition
from krakenbot.domain.values import NS_PER_S, Side

# a member of an enum costs more to look up than a global
_GOOD, _BAD, _INEXACT = Verdict.GOOD, Verdict.BAD, Verdict.INEXACT


class OrderChange(Protocol):
    """One order as decoded; `event` is add, modify or delete, and empty in a snapshot."""

    @property
    def order_id(self) -> str:
        """Return the venue's order id."""

    @property
    def limit_price(self) -> float:
        """Return the price in quote units."""

    @property
    def order_qty(self) -> float | Decimal:
        """Return the visible remaining quantity in base units."""

    @property
    def timestamp(self) -> str:
        """Return the venue's RFC 3339 time of the order's insertion or amendment."""

    @property
    def event(self) -> str:
        """Return what happened."""


Change = TypeVar("Change", bound=OrderChange)


class _QueueSide:
    """One side, best level first."""

    __slots__ = ("added_lots", "at", "digits", "key_of", "keys", "levels", "removed_lots", "sign", "watched")

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.keys: list[int] = []
        self.digits: list[str] = []
        self.levels: dict[int, dict[str, str]] = {}
        self.key_of: dict[str, int] = {}
        # venue time at which each order joined its queue
        self.at: dict[str, str] = {}
        # the levels at which somebody follows a place
        self.watched: dict[int, Watch] = {}
        self.added_lots = 0
        self.removed_lots = 0

    def clear(self) -> None:
        self.keys.clear()
        self.digits.clear()
        self.levels.clear()
        self.key_of.clear()
        self.at.clear()

    def shows(self, key: int, depth: int) -> bool:
        """Tell whether an order at a price would be seen; beyond the last of `depth` levels none is."""
        return len(self.keys) < depth or key <= self.keys[-1]

    def apply(self, changes: Sequence[OrderChange], price_scale: float, qty_scale: float) -> int:
        """Apply changes in their order; the index of the best level changed."""
        best = CHECKSUM_LEVELS
        for change in changes if len(changes) < 2 else in_queue_order(changes):
            ticks = round(change.limit_price * price_scale)
            lots = round(change.order_qty * qty_scale)  # type: ignore[operator]  # float * float or Decimal * int
            if not 0 < ticks <= FLOAT_LIMIT:
                raise OverflowError("price out of range")
            order_id, event = change.order_id, change.event
            old_key = self.key_of.get(order_id)
            key = ticks * self.sign
            if event == "delete" or not lots:
                if old_key is None:
                    continue
                index = self._remove(order_id, old_key)
            elif event == "modify" and old_key is None:
                # out of the window of levels; were it inside, the checksum would tell
                continue
            elif event == "modify" and old_key == key:
                index = self._resize(order_id, key, lots)
            else:
                # an order that comes back, or that moves to another price, goes to the back
                if old_key is not None:
                    best = min(best, self._remove(order_id, old_key))
                index = self._append(order_id, key, str(lots), change.timestamp)
            best = min(best, index)
        return best

    def truncate(self, depth: int) -> None:
        if len(self.keys) <= depth:
            return
        for key in self.keys[depth:]:
            for order_id in self.levels.pop(key):
                del self.key_of[order_id], self.at[order_id]
        del self.keys[depth:], self.digits[depth:]

    def text(self) -> bytes:
        # a slice of a short list costs more than the join
        digits = self.digits
        return "".join(digits if len(digits) <= CHECKSUM_LEVELS else digits[:CHECKSUM_LEVELS]).encode()

    def _append(self, order_id: str, key: int, lots: str, at: str) -> int:
        level = self.levels.get(key)
        index = bisect_left(self.keys, key)
        if level is None:
            self.levels[key] = {order_id: lots}
            self.keys.insert(index, key)
            self.digits.insert(index, f"{abs(key)}{lots}")
        else:
            level[order_id] = lots
            self.digits[index] += f"{abs(key)}{lots}"
        self.key_of[order_id] = key
        self.at[order_id] = at
        if index == 0:
            self.added_lots += int(lots)
        if key in self.watched:
            self.watched[key].on_append(order_id)
        return index

    def _remove(self, order_id: str, key: int) -> int:
        level = self.levels[key]
        index = bisect_left(self.keys, key)
        lots = level.pop(order_id)
        del self.key_of[order_id], self.at[order_id]
        if index == 0:
            self.removed_lots += int(lots)
        if key in self.watched:
            self.watched[key].on_remove(order_id, int(lots))
        if level:
            price = str(abs(key))
            self.digits[index] = price + price.join(level.values())
        else:
            del self.levels[key], self.keys[index], self.digits[index]
        return index

    def _resize(self, order_id: str, key: int, lots: int) -> int:
        level = self.levels[key]
        index = bisect_left(self.keys, key)
        if index == 0 or key in self.watched:
            grown = lots - int(level[order_id])
            if index == 0:
                self.added_lots += max(grown, 0)
                self.removed_lots += max(-grown, 0)
            if key in self.watched:
                self.watched[key].on_resize(order_id, -grown)
        level[order_id] = str(lots)
        price = str(abs(key))
        self.digits[index] = price + price.join(level.values())
        return index


class L3Book:
    """The L3 book of one symbol; invalid, and empty to read, until a snapshot has been verified."""

    def __init__(self, *, price_precision: int, qty_precision: int, depth: int) -> None:
        self.depth = depth
        self.is_valid = False
        self.invalid_reason = "no snapshot yet"
        self.received_mono = 0.0
        self._at = ""
        self._bids = _QueueSide(-1)
        self._asks = _QueueSide(1)
        self._asks_crc = 0
        self._bids_text = b""
        self.places = QueuePlaces(self, self._bids, self._asks)
        self._shape = (0, 0)
        self.reshape(price_precision=price_precision, qty_precision=qty_precision)

    def reshape(self, *, price_precision: int, qty_precision: int) -> None:
        """Take over changed precisions of the instrument; a snapshot must follow."""
        if self._shape != (price_precision, qty_precision):
            self.places.end_all()
        self._shape = (price_precision, qty_precision)
        self._qty_precision = qty_precision
        self._quote_per_tick_lot = 10.0 ** -(price_precision + qty_precision)
        self.places.quote_per_tick_lot = self._quote_per_tick_lot
        self._scales = (10.0**price_precision, 10.0**qty_precision)
        self._qty_limit = FLOAT_LIMIT / 10.0**qty_precision
        self._is_exact = False

    def load(
        self, bids: Sequence[OrderChange], asks: Sequence[OrderChange], checksum: int, at: str, now_mono: float
    ) -> Verdict:
        """Replace the book by a snapshot; `at` is the venue's RFC 3339 time or empty."""
        self._clear()
        self._at = ""
        self.is_valid = True
        self.invalid_reason = ""
        verdict = self.apply(bids, asks, checksum, at, now_mono)
        # what a snapshot brings did not come to the touch
        self.take_touch_counters()
        return verdict

    @contextmanager
    def exactly(self) -> Iterator[None]:
        """Take quantities as Decimals while the context lasts: for a message that was INEXACT."""
        scales, limit = self._scales, self._qty_limit
        self._scales = (scales[0], 10**self._qty_precision)
        self._qty_limit = EXACT_LIMIT / 10.0**self._qty_precision
        self._is_exact = True
        try:
            yield
        finally:
            self._scales, self._qty_limit, self._is_exact = scales, limit, False

    def apply(
        self, bids: Sequence[OrderChange], asks: Sequence[OrderChange], checksum: int, at: str, now_mono: float
    ) -> Verdict:
        """Apply a whole message, truncate by price levels, and verify; after BAD the book is invalid and empty.

        Only to be called on a valid book. After INEXACT it must be called again, within `exactly`, with the exactly
        decoded message. Raises OverflowError for a price of more than 2^50 ticks; then it must be invalidated.
        """
        bid_side, ask_side, limit = self._bids, self._asks, self._qty_limit
        # before anything is applied: a message applied in part and then again would be counted twice at the touch
        for changes in (asks, bids):
            for change in changes:
                if change.order_qty >= limit:
                    return self._too_large()
        self.received_mono = now_mono
        best = CHECKSUM_LEVELS
        if asks:
            touched = ask_side.apply(asks, *self._scales)
            ask_side.truncate(self.depth)
            if touched < CHECKSUM_LEVELS:
                best = touched
                self._asks_crc = crc32(ask_side.text())
        if bids:
            touched = bid_side.apply(bids, *self._scales)
            bid_side.truncate(self.depth)
            if touched < CHECKSUM_LEVELS:
                best = min(best, touched)
                self._bids_text = bid_side.text()
        if crc32(self._bids_text, self._asks_crc) != checksum:
            return self.invalidate("checksum mismatch")
        if best == 0 and bid_side.keys and ask_side.keys and bid_side.keys[0] + ask_side.keys[0] <= 0:
            return self.invalidate("crossed")
        if at < self._at and runs_back(self._at, at):
            return self.invalidate("time ran back")
        self._at = at
        if bid_side.watched or ask_side.watched:
            self.places.end_message()
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

    def best(self, side: Side) -> int | None:
        """Return the best price in ticks of a side (BUY: bids)."""
        keys = self._side(side).keys
        return abs(keys[0]) if keys else None

    def prices(self, side: Side, count: int) -> list[int]:
        """Return the prices in ticks of up to `count` best levels."""
        return [abs(key) for key in self._side(side).keys[:count]]

    def orders(self, side: Side, price_ticks: int) -> list[tuple[str, int]]:
        """Return the queue at a price as (order_id, lots), first in line first; empty when there is none."""
        book_side = self._side(side)
        level = book_side.levels.get(price_ticks * book_side.sign, {})
        return [(order_id, int(lots)) for order_id, lots in level.items()]

    def level(self, side: Side, price_ticks: int, at_ns: int) -> LevelQueue | None:
        """Return the queue at a price; None when the level does not exist."""
        book_side = self._side(side)
        level = book_side.levels.get(price_ticks * book_side.sign)
        if level is None:
            return None
        sizes = [int(lots) for lots in level.values()]
        total = sum(sizes)
        ages_ns = [_age_ns(book_side.at[order_id], at_ns) for order_id in level]
        return LevelQueue(
            price_ticks=price_ticks,
            size_lots=total,
            orders=len(sizes),
            mean_age_s=sum(ages_ns) / len(ages_ns) / NS_PER_S,
            largest_share=max(sizes) / total,
        )

    def position_of(self, order_id: str) -> QueuePosition | None:
        """Return what stands ahead of an order; None when the book does not hold it."""
        for side in (self._bids, self._asks):
            key = side.key_of.get(order_id)
            if key is not None:
                level = side.levels[key]
                ahead = [int(level[other]) for other in takewhile(order_id.__ne__, level)]
                return self._position(side, key, ahead, int(level[order_id]))
        return None

    def position_at(self, side: Side, price_ticks: int, size_lots: int = 0) -> QueuePosition | None:
        """Return what would stand ahead of a new order of this size at a price.

        None when the book cannot tell (invalid, or the price is beyond its window of levels), or the order would take.
        """
        book_side, other = self._side(side), self._side(side.opposite)
        key = price_ticks * book_side.sign
        if not self.is_valid or not book_side.shows(key, self.depth) or (other.keys and key + other.keys[0] <= 0):
            return None
        return self._position(book_side, key, [lots for _, lots in self.orders(side, price_ticks)], size_lots)

    def take_touch_counters(self) -> tuple[float, float, float, float]:
        """Return and reset (bid_added, bid_removed, ask_added, ask_removed) at the touch, in lots."""
        bids, asks = self._bids, self._asks
        counters = (bids.added_lots, bids.removed_lots, asks.added_lots, asks.removed_lots)
        bids.added_lots = bids.removed_lots = asks.added_lots = asks.removed_lots = 0
        return counters

    def _side(self, side: Side) -> _QueueSide:
        return self._bids if side is Side.BUY else self._asks

    def _position(self, side: _QueueSide, key: int, ahead: list[int], size_lots: int) -> QueuePosition:
        ahead_lots = sum(ahead)
        better = [side.levels[each] for each in side.keys[: bisect_left(side.keys, key)]]
        return QueuePosition(
            ahead_lots=ahead_lots,
            ahead_orders=len(ahead),
            ahead_notional_quote=abs(key) * ahead_lots * self._quote_per_tick_lot,
            level_lots=sum(map(int, side.levels.get(key, {}).values())),
            better_lots=sum(sum(map(int, level.values())) for level in better),
            better_orders=sum(map(len, better)),
            size_lots=size_lots,
        )

    def _clear(self) -> None:
        self.places.lose()
        self._bids.clear()
        self._asks.clear()
        self._asks_crc = 0
        self._bids_text = b""

    def _too_large(self) -> Verdict:
        return self.invalidate("number too large") if self._is_exact else _INEXACT


def in_queue_order(changes: Sequence[Change]) -> Sequence[Change]:
    """Return the changes of one message with its adds sorted by their own timestamps, in the places of adds."""
    adds = [change for change in changes if change.event == "add"]
    if len(adds) < 2:
        return changes
    # without the final Z, texts with fewer digits of fraction still compare rightly
    in_order = sorted(adds, key=lambda change: change.timestamp[:-1])
    if in_order == adds:
        return changes
    arranged = iter(in_order)
    return [next(arranged) if change.event == "add" else change for change in changes]


def _age_ns(joined_at: str, at_ns: int) -> int:
    try:
        return max(at_ns - utc_ns(joined_at), 0)
    except ValueError:
        return 0
