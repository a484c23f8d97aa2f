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

from krakenbot.domain.market.book import CHECKSUM_LEVELS, EXACT_LIMIT, FLOAT_LIMIT, PRICES_KEPT, Verdict, runs_back
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
    """One side, best level first; keys are signed ticks, bids negative, so that both sides ascend."""

    __slots__ = (
        "added_lots",
        "at",
        "digits",
        "key_at",
        "key_of",
        "keys",
        "levels",
        "price_scale",
        "prices",
        "removed_lots",
        "sign",
        "watched",
    )

    def __init__(self, sign: int) -> None:
        self.sign = sign
        self.price_scale = 1.0
        self.keys: list[int] = []
        self.digits: list[str] = []
        self.levels: dict[int, dict[str, str]] = {}
        self.key_of: dict[str, int] = {}
        # venue time at which each order joined its queue
        self.at: dict[str, str] = {}
        # keys and digits of the prices met lately: a price that comes back is not computed anew
        self.key_at: dict[float, int] = {}
        self.prices: dict[int, str] = {}
        # the levels at which somebody follows a place
        self.watched: dict[int, Watch] = {}
        self.added_lots = 0
        self.removed_lots = 0

    def reshape(self, price_scale: float) -> None:
        self.price_scale = price_scale
        self.key_at.clear()
        self.prices.clear()

    def clear(self) -> None:
        self.keys.clear()
        self.digits.clear()
        self.levels.clear()
        self.key_of.clear()
        self.at.clear()

    def shows(self, key: int, depth: int) -> bool:
        """Tell whether an order at a price would be seen; beyond the last of `depth` levels none is."""
        return len(self.keys) < depth or key <= self.keys[-1]

    def apply(self, changes: Sequence[OrderChange], qty_scale: float) -> int:
        """Apply changes in their order; return the index of the best level changed.

        What nearly every change is, a delete of an order that is held or an add of one that is not, is written out
        here: a call for each would cost a tenth of the whole.
        """
        keys, digits, levels, key_of = self.keys, self.digits, self.levels, self.key_of
        key_at, prices, watched = self.key_at, self.prices, self.watched
        best = CHECKSUM_LEVELS
        for change in changes if len(changes) < 2 else in_queue_order(changes):
            order_id = change.order_id
            event = change.event
            if event == "delete":
                key = key_of.pop(order_id, None)
                if key is None:
                    continue
                level = levels[key]
                lots = level.pop(order_id)
                del self.at[order_id]
                index = bisect_left(keys, key)
                if level:
                    price = prices[key]
                    digits[index] = price + price.join(level.values())
                else:
                    del levels[key], keys[index], digits[index]
                if not index:
                    self.removed_lots += int(lots)
                if key in watched:
                    watched[key].on_remove(order_id, int(lots))
            else:
                size_lots = (change.order_qty * qty_scale).__round__()  # type: ignore[operator]  # as in the L2 book
                key = key_at.get(change.limit_price) or self._key(change.limit_price)
                if order_id in key_of or not size_lots:
                    index = self._change(change, key, size_lots)
                elif event == "modify":
                    # out of the window of levels; were it inside, the checksum would tell
                    continue
                else:
                    index = bisect_left(keys, key)
                    text = f"{prices[key]}{size_lots}"
                    if key in levels:
                        digits[index] += text
                        levels[key][order_id] = str(size_lots)
                    else:
                        levels[key] = {order_id: str(size_lots)}
                        keys.insert(index, key)
                        digits.insert(index, text)
                    key_of[order_id] = key
                    self.at[order_id] = change.timestamp
                    if not index:
                        self.added_lots += size_lots
                    if key in watched:
                        watched[key].on_append(order_id)
            if index < best:  # noqa: PLR1730 - min costs a call for every change
                best = index
        return best

    def truncate(self, depth: int) -> None:
        for key in self.keys[depth:]:
            for order_id in self.levels.pop(key):
                del self.key_of[order_id], self.at[order_id]
        del self.keys[depth:], self.digits[depth:]

    def text(self) -> bytes:
        # a slice of a short list costs more than the join
        digits = self.digits
        return "".join(digits if len(digits) <= CHECKSUM_LEVELS else digits[:CHECKSUM_LEVELS]).encode()

    def _change(self, change: OrderChange, key: int, lots: int) -> int:
        """Apply a change of an order that is held, or one without quantity; return the index of the best level."""
        order_id = change.order_id
        old_key = self.key_of.get(order_id)
        if not lots:
            return CHECKSUM_LEVELS if old_key is None else self._remove(order_id, old_key)
        if old_key is None:
            raise ValueError(f"{order_id} is not held")
        if change.event == "modify" and old_key == key:
            return self._resize(order_id, key, lots)
        # an order that comes back, or that moves to another price, goes to the back
        return min(self._remove(order_id, old_key), self._append(order_id, key, str(lots), change.timestamp))

    def _key(self, price: float) -> int:
        """Return the key of a price that was not met lately; its digits are known from then on."""
        ticks = round(price * self.price_scale)
        if not 0 < ticks <= FLOAT_LIMIT:
            raise OverflowError("price out of range")
        if len(self.key_at) >= PRICES_KEPT:
            self.key_at.clear()
            for gone in self.prices.keys() - self.levels.keys():
                del self.prices[gone]
        key = ticks * self.sign
        self.key_at[price] = key
        self.prices[key] = str(ticks)
        return key

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
        self._crc = 0
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
        for side in (self._bids, self._asks):
            side.reshape(10.0**price_precision)
        self._qty_scale = 10.0**qty_precision
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
        scale, limit = self._qty_scale, self._qty_limit
        self._qty_scale = 10**self._qty_precision
        self._qty_limit = EXACT_LIMIT / 10.0**self._qty_precision
        self._is_exact = True
        try:
            yield
        finally:
            self._qty_scale, self._qty_limit, self._is_exact = scale, limit, False

    def apply(
        self, bids: Sequence[OrderChange], asks: Sequence[OrderChange], checksum: int, at: str, now_mono: float
    ) -> Verdict:
        """Apply a whole message, truncate by price levels, and verify; after BAD the book is invalid and empty.

        Only to be called on a valid book. After INEXACT it must be called again, within `exactly`, with the exactly
        decoded message. Raises OverflowError for a price of more than 2^50 ticks; then it must be invalidated.
        """
        bid_side, ask_side, limit = self._bids, self._asks, self._qty_limit
        # before anything is applied: a message applied in part and then again would be counted twice at the touch
        for change in asks:
            if change.order_qty >= limit:
                return self._too_large()
        for change in bids:
            if change.order_qty >= limit:
                return self._too_large()
        self.received_mono = now_mono
        best = CHECKSUM_LEVELS
        if asks:
            touched = ask_side.apply(asks, self._qty_scale)
            if len(ask_side.keys) > self.depth:
                ask_side.truncate(self.depth)
            if touched < CHECKSUM_LEVELS:
                best = touched
                self._asks_crc = crc32(ask_side.text())
        if bids:
            touched = bid_side.apply(bids, self._qty_scale)
            if len(bid_side.keys) > self.depth:
                bid_side.truncate(self.depth)
            if touched < CHECKSUM_LEVELS:
                best = min(best, touched)
                self._bids_text = bid_side.text()
        if best < CHECKSUM_LEVELS:
            self._crc = crc32(self._bids_text, self._asks_crc)
        if self._crc != checksum:
            return self.invalidate("checksum mismatch")
        if best == 0 and bid_side.keys and ask_side.keys and bid_side.keys[0] + ask_side.keys[0] <= 0:
            return self.invalidate("crossed")
        before = self._at
        # texts of different lengths do not compare as times do
        if (at < before or len(at) != len(before)) and before and runs_back(before, at):
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
        self._crc = 0

    def _too_large(self) -> Verdict:
        return self.invalidate("number too large") if self._is_exact else _INEXACT


def in_queue_order(changes: Sequence[Change]) -> Sequence[Change]:
    """Return the changes of one message with its adds sorted by their own timestamps, in the places of adds."""
    newest = ""
    for change in changes:
        if change.event == "add":
            at = change.timestamp
            if newest and (at < newest or len(at) != len(newest)):
                break
            newest = at
    else:
        return changes
    # without the final Z, texts with fewer digits of fraction compare rightly too
    adds = sorted((change for change in changes if change.event == "add"), key=lambda change: change.timestamp[:-1])
    arranged = iter(adds)
    return [next(arranged) if change.event == "add" else change for change in changes]


def _age_ns(joined_at: str, at_ns: int) -> int:
    try:
        return max(at_ns - utc_ns(joined_at), 0)
    except ValueError:
        return 0
