"""Places in a queue: what stands ahead of an order, or of one that we only imagine, and why that changed.

Enters: the changes of followed price levels (from the L3 book that owns this), public trades, the time. Leaves:
`Place`s, which are read at any time and never written by their reader. Called by the L3 book; used by whoever follows
resting orders and by the queue probes:

    place = queue.places.join(Side.BUY, price_ticks, size_lots)   # an imagined order at the back of the queue, now
    place = queue.places.follow(order_id)                         # an order that the book holds
    queue.places.on_trade(trade)                                  # every public trade of the symbol, in any order
    queue.places.settle(now_ns)                                   # about once a second, venue time
    place.ahead.lots, place.traded.lots, place.cancelled.lots     # read, after any message
    queue.places.leave(place)                                     # when done; a place costs memory until then

Level3 says that an order left, not why. Only the front of a queue trades, so what leaves from further back was
cancelled or amended for certain; what leaves from the front is `pending` until a public trade of that price explains
it, or until nothing has for SETTLE_NS (`market.front`).
Cost: a message that touches no followed price pays one look-up a change; one that does, a step for each place there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Protocol

from krakenbot.domain.market.freshness import utc_ns
from krakenbot.domain.market.front import Departure, Front
from krakenbot.domain.market.place import Amount, Place
from krakenbot.domain.market.trade import PublicTrade
from krakenbot.domain.values import Side

NS_PER_US = 1_000


class QueueLevels(Protocol):
    """One side of the L3 book as this module reads it; keys are signed prices, best first, bids negative."""

    @property
    def sign(self) -> int:
        """Return -1 for bids, 1 for asks."""

    @property
    def keys(self) -> list[int]:
        """Return the keys of the levels."""

    @property
    def levels(self) -> Mapping[int, Mapping[str, str]]:
        """Return the queue at each key: order id to lots, first in line first."""

    @property
    def key_of(self) -> Mapping[str, int]:
        """Return the key of each order."""

    @property
    def at(self) -> Mapping[str, str]:
        """Return the venue's time at which each order joined."""

    @property
    def watched(self) -> dict[int, Watch]:
        """Return the followed levels; the side tells them of its changes."""

    def shows(self, key: int, depth: int) -> bool:
        """Tell whether an order at a price would be seen."""


class QueueBook(Protocol):
    """The book of the places, as this module reads it."""

    @property
    def depth(self) -> int:
        """Return the number of price levels that the book shows at most."""

    @property
    def is_valid(self) -> bool:
        """Tell whether the book is verified."""

    @property
    def updated_at_ns(self) -> int:
        """Return the venue's time of the last message."""


class Watch:
    """One followed level. An order stands ahead of a place when its rank is lower."""

    __slots__ = ("front", "gone", "is_seen", "key", "next_rank", "places", "ranks", "since_ns")

    def __init__(self, key: int, order_ids: Iterable[str], since_ns: int) -> None:
        self.key = key
        self.since_ns = since_ns
        self.places: list[Place] = []
        self.ranks = {order_id: rank for rank, order_id in enumerate(order_ids)}
        self.next_rank = len(self.ranks)
        self.is_seen = True
        # of the message under way: order id, rank, lots (negative when grown), whether the whole order left
        self.gone: list[tuple[str, int, int, bool]] = []
        self.front = Front()

    def on_append(self, order_id: str) -> None:
        """Take notice of an order that joins the back."""
        if self.is_seen:
            self.ranks[order_id] = self.next_rank
            self.next_rank += 1

    def on_remove(self, order_id: str, lots: int) -> None:
        """Take notice of an order that left."""
        if self.is_seen:
            self.gone.append((order_id, self.ranks.pop(order_id), lots, True))

    def on_resize(self, order_id: str, lots: int) -> None:
        """Take notice that an order has so many lots less, or more when negative."""
        if self.is_seen:
            self.gone.append((order_id, self.ranks[order_id], lots, False))

    def lose(self) -> None:
        """Take notice that the level is out of sight; ranks are kept to find the places again."""
        self.gone.clear()
        if self.is_seen:
            self.is_seen = False
            for place in self.places:
                place.is_seen = False
                place.gaps += 1

    def end_message(self, side: QueueLevels, book: QueueBook) -> None:
        """Tell the places what a whole message changed, with the cause as far as it is certain."""
        level = side.levels.get(self.key)
        first = self.ranks[next(iter(level))] if level else inf
        for order_id, rank, lots, is_whole in self.gone:
            before = [place for place in self.places if rank < place.rank]
            for place in before:
                place.ahead.add(-is_whole, -lots)
            is_moved = is_whole and order_id in side.key_of
            if lots < 0 or is_moved or rank > first:
                cancelled = is_whole and not is_moved
                for place in before:
                    (place.cancelled if cancelled else place.amended).add(is_whole, lots)
            else:
                after = [place for place in self.places if rank >= place.rank]
                for place in before:
                    place.pending.add(is_whole, lots)
                self.front.on_departure(Departure(book.updated_at_ns, int(is_whole), lots, before, after))
            for place in self.places:
                if place.order_id == order_id:
                    place.size_lots -= lots
                    place.is_over = is_whole
        self.gone.clear()

    def find_again(self, side: QueueLevels) -> None:
        """Find every place again in a level that came back into sight."""
        level = side.levels.get(self.key, {})
        self.is_seen = True
        base = self.next_rank
        ids = list(level)
        for place in self.places:
            if place.order_id and place.order_id not in level:
                place.is_over = True
                continue
            standing = [index for index, order_id in enumerate(ids) if self._was_ahead(place, order_id, side)]
            count = ids.index(place.order_id) if place.order_id else standing[-1] + 1 if standing else 0
            lots = sum(int(level[order_id]) for order_id in ids[:count])
            place.unseen.add(place.ahead.orders - count, place.ahead.lots - lots)
            place.ahead = Amount(count, lots)
            place.is_seen = True
            if place.order_id:
                place.size_lots = int(level[place.order_id])
        # only now: the old ranks were compared with the old ranks of the places
        for place in self.places:
            place.rank = base + place.ahead.orders
        self.ranks = {order_id: base + index for index, order_id in enumerate(ids)}
        self.next_rank = base + len(ids)

    def _was_ahead(self, place: Place, order_id: str, side: QueueLevels) -> bool:
        rank = self.ranks.get(order_id)
        if rank is not None:
            return rank < place.rank
        try:
            return utc_ns(side.at[order_id]) <= place.joined_at_ns
        except ValueError:
            return False


class QueuePlaces:
    """The followed places of one L3 book."""

    def __init__(self, book: QueueBook, bids: QueueLevels, asks: QueueLevels) -> None:
        self._book = book
        self._sides: dict[Side, QueueLevels] = {Side.BUY: bids, Side.SELL: asks}
        self.quote_per_tick_lot = 1.0

    def join(self, side: Side, price_ticks: int, size_lots: int) -> Place | None:
        """Follow an imagined order that joins the back of the queue at a price now.

        None when nothing can be said of it: the book is invalid, the price is beyond the window of levels, or it would
        take. Call `leave` when done.
        """
        levels, other = self._sides[side], self._sides[side.opposite]
        key = price_ticks * levels.sign
        if (
            not self._book.is_valid
            or not levels.shows(key, self._book.depth)
            or (other.keys and key + other.keys[0] <= 0)
        ):
            return None
        watch = self._watch(levels, key)
        level = levels.levels.get(key, {})
        return self._place(side, watch, watch.next_rank, list(level.values()), size_lots)

    def follow(self, order_id: str) -> Place | None:
        """Follow an order from its present place on; None when the book does not hold it. Call `leave` when done."""
        for side, levels in self._sides.items():
            key = levels.key_of.get(order_id)
            if key is not None:
                watch = self._watch(levels, key)
                level = levels.levels[key]
                ahead = list(level.values())[: list(level).index(order_id)]
                place = self._place(side, watch, watch.ranks[order_id], ahead, int(level[order_id]))
                place.order_id = order_id
                return place
        return None

    def leave(self, place: Place) -> None:
        """Follow a place no longer; without effect when it is not followed."""
        levels = self._sides[place.side]
        key = place.price_ticks * levels.sign
        watch = levels.watched.get(key)
        if watch is not None and place in watch.places:
            watch.places.remove(place)
            if not watch.places:
                del levels.watched[key]

    def on_trade(self, trade: PublicTrade) -> None:
        """Take a public trade of the symbol."""
        levels = self._sides[trade.side.opposite]
        if not levels.watched:
            return
        traded = trade.price_ticks * levels.sign
        for key, watch in levels.watched.items():
            if key == traded:
                if trade.at_ns + NS_PER_US > watch.since_ns:
                    watch.front.on_print(trade.size_lots, trade.at_ns)
            elif key < traded:
                for place in watch.places:
                    if trade.at_ns + NS_PER_US > place.joined_at_ns:
                        place.through_lots += trade.size_lots

    def settle(self, now_ns: int) -> None:
        """Settle what no trade has explained until a venue time; to be called about once a second."""
        for levels in self._sides.values():
            for watch in levels.watched.values():
                watch.front.settle(now_ns)

    def __len__(self) -> int:
        """Return how many places are followed."""
        return sum(len(watch.places) for levels in self._sides.values() for watch in levels.watched.values())

    def end_message(self) -> None:
        """Take notice that the book has verified a message; only the book calls this."""
        for levels in self._sides.values():
            if not levels.watched:
                continue
            keys = levels.keys
            last = keys[-1] if len(keys) >= self._book.depth else inf
            for key, watch in levels.watched.items():
                if key > last:
                    watch.lose()
                elif not watch.is_seen:
                    watch.find_again(levels)
                elif watch.gone:
                    watch.end_message(levels, self._book)

    def lose(self) -> None:
        """Take notice that the book is invalid; only the book calls this."""
        for levels in self._sides.values():
            for watch in levels.watched.values():
                watch.lose()

    def end_all(self) -> None:
        """End every place, since prices mean something else from now on; only the book calls this."""
        for levels in self._sides.values():
            for watch in levels.watched.values():
                for place in watch.places:
                    place.is_over = True
                    place.is_seen = False
            levels.watched.clear()

    def _watch(self, levels: QueueLevels, key: int) -> Watch:
        watch = levels.watched.get(key)
        if watch is None:
            watch = levels.watched[key] = Watch(key, levels.levels.get(key, ()), self._book.updated_at_ns)
        return watch

    def _place(self, side: Side, watch: Watch, rank: int, ahead: list[str], size_lots: int) -> Place:
        lots = sum(map(int, ahead))
        place = Place(
            side=side,
            price_ticks=abs(watch.key),
            size_lots=size_lots,
            joined_at_ns=self._book.updated_at_ns,
            joined=Amount(len(ahead), lots),
            ahead=Amount(len(ahead), lots),
            rank=rank,
            quote_per_lot=abs(watch.key) * self.quote_per_tick_lot,
        )
        watch.places.append(place)
        return place
