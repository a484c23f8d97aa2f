"""Keep a book as recorded frames state it, the way a subscriber keeps it.

In: decoded rows in ticks and lots. Out: a `Book` that the checksum, the snapshots and the market read. Rules:
rows in array order, the last of a price wins, removals of what is not held are ignored, adds of one level3 frame
in order of their own time, truncation to the depth after every frame (FACTS 7 and 8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from krakenbot.adapters.local_exchange.flow.market import InstrumentRules, Side
from krakenbot.adapters.local_exchange.matching.book import Book, RestingOrder
from krakenbot.adapters.local_exchange.playback.frames import BookLevel, OrderRow, scaled, time_ns

SIDES: tuple[Side, Side] = ("buy", "sell")


class Level2Mirror:
    """One L2 book at its subscribed depth: one resting order stands for a level."""

    def __init__(self, book: Book, rules: InstrumentRules, depth: int, next_number: Callable[[], int]) -> None:
        self.book = book
        self.depth = depth
        self._rules = rules
        self._next_number = next_number
        self._levels: dict[Side, dict[int, RestingOrder]] = {"buy": {}, "sell": {}}

    def reset(self) -> None:
        """Forget everything, before a snapshot."""
        for side in SIDES:
            for price in list(self._levels[side]):
                self._set(side, price, 0, 0)

    def apply(self, side: Side, rows: Iterable[BookLevel], at_ns: int) -> None:
        """Set levels in the order of the rows."""
        rules = self._rules
        for row in rows:
            self._set(side, scaled(row.price, rules.price_precision), scaled(row.qty, rules.qty_precision), at_ns)

    def truncate(self) -> None:
        """Drop the levels beyond the depth."""
        for side in SIDES:
            keys = self.book.side(side).keys
            while len(keys) > self.depth:
                self._set(side, abs(keys[0]), 0, 0)

    def _set(self, side: Side, price_ticks: int, lots: int, at_ns: int) -> None:
        levels = self._levels[side]
        known = levels.get(price_ticks)
        if known is None:
            if lots:
                order = RestingOrder(
                    number=self._next_number(),
                    side=side,
                    price_ticks=price_ticks,
                    remaining_lots=lots,
                    since_ns=at_ns,
                )
                levels[price_ticks] = order
                self.book.add(order)
        elif lots:
            self.book.shrink(known, lots)
        else:
            del levels[price_ticks]
            self.book.remove(known)


class Level3Mirror:
    """One level3 book at its subscribed depth, every order under its recorded id."""

    def __init__(self, book: Book, rules: InstrumentRules, depth: int, next_number: Callable[[], int]) -> None:
        self.book = book
        self.depth = depth
        self._rules = rules
        self._next_number = next_number
        self._orders: dict[str, RestingOrder] = {}

    def reset(self) -> None:
        """Forget everything, before a snapshot."""
        for order_id in list(self._orders):
            self._drop(order_id)

    def apply(self, side: Side, rows: list[OrderRow]) -> None:
        """Carry out the rows: modify and delete where they stand, adds sorted by their own time."""
        adds = iter(sorted((row for row in rows if row.event == "add"), key=lambda row: row.timestamp))
        for place in rows:
            row = next(adds) if place.event == "add" else place
            known = self._orders.get(row.order_id)
            price = scaled(row.limit_price, self._rules.price_precision)
            lots = scaled(row.order_qty, self._rules.qty_precision)
            if row.event == "modify" and known is not None and known.price_ticks == price and lots:
                self.book.shrink(known, lots)
                continue
            # A returning order comes with the same id, and a modify with a new price goes to the back.
            self._drop(row.order_id)
            if row.event == "delete" or not lots or (row.event == "modify" and known is None):
                continue
            order = RestingOrder(
                number=self._next_number(),
                side=side,
                price_ticks=price,
                remaining_lots=lots,
                since_ns=time_ns(row.timestamp),
                shown_id=row.order_id,
            )
            self._orders[row.order_id] = order
            self.book.add(order)

    def truncate(self) -> None:
        """Drop the orders of levels beyond the depth."""
        for side in SIDES:
            book_side = self.book.side(side)
            while len(book_side.keys) > self.depth:
                for order in list(book_side.levels[book_side.keys[0]].orders.values()):
                    self._drop(order.shown_id or "")

    def _drop(self, order_id: str) -> None:
        order = self._orders.pop(order_id, None)
        if order is not None:
            self.book.remove(order)


Mirror = Level2Mirror | Level3Mirror
