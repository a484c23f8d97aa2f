"""Encode books that were made from recorded ones: snapshots for late readers, other depths, the seam.

In: a `Book` and what a reader holds of it. Out: the text of a frame with its checksum, and what the reader holds
then. Recorded frames never come through here: they are handed on as they were received.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

from attrs import define, field

from krakenbot.adapters.local_exchange.checksum import book_checksum, level3_checksum
from krakenbot.adapters.local_exchange.digits import fixed_text, rfc3339_ns
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules, Side
from krakenbot.adapters.local_exchange.matching.book import Book, BookSide, RestingOrder

Kind = Literal["snapshot", "update"]
IdOf = Callable[[RestingOrder], str]
SIDES: Final[tuple[Side, Side]] = ("buy", "sell")


@define(eq=False)
class Level2Rows:
    """What readers of one depth hold of an aggregated book, as {price: lots} by side."""

    rules: InstrumentRules
    depth: int
    held: dict[Side, dict[int, int]] = field(factory=lambda: {"buy": {}, "sell": {}})

    def hold(self, book: Book) -> None:
        """Take it that readers hold the best levels of a book."""
        self.held = {side: self._best(book.side(side)) for side in SIDES}

    def snapshot(self, book: Book, stamp: str) -> str:
        """Return the snapshot of a book; its readers then hold that."""
        self.hold(book)
        bids, asks = (",".join(self._row(*row) for row in self.held[side].items()) for side in SIDES)
        return self._frame("snapshot", bids, asks, book, stamp)

    def update(self, book: Book, stamp: str) -> str | None:
        """Return the frame that leads from what readers hold to a book; None when they hold it already."""
        texts = []
        for side in SIDES:
            book_side, held = book.side(side), self.held[side]
            best = self._best(book_side)
            # No removal for a level that is pushed out.
            gone = [price for price in held if price not in best and price * book_side.sign not in book_side.levels]
            changed = [(price, lots) for price, lots in best.items() if held.get(price) != lots]
            texts.append(",".join(self._row(*row) for row in (*((price, 0) for price in gone), *changed)))
            self.held[side] = best
        if not any(texts):
            return None
        return self._frame("update", texts[0], texts[1], book, stamp)

    def _best(self, book_side: BookSide) -> dict[int, int]:
        return {abs(key): book_side.levels[key].size_lots for key in book_side.keys[: -self.depth - 1 : -1]}

    def _row(self, price_ticks: int, lots: int) -> str:
        rules = self.rules
        return (
            f'{{"price":{fixed_text(price_ticks, rules.price_precision)},'
            f'"qty":{fixed_text(lots, rules.qty_precision)}}}'
        )

    def _frame(self, kind: Kind, bids: str, asks: str, book: Book, stamp: str) -> str:
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{self.rules.symbol}","bids":[{bids}],'
            f'"asks":[{asks}],"checksum":{book_checksum(book)},"timestamp":"{stamp}"}}]}}'
        )


@define(eq=False)
class Level3Rows:
    """What readers of one depth hold of level3, as {price: {order id: (lots, since_ns)}} in queue order by side."""

    rules: InstrumentRules
    depth: int
    id_of: IdOf
    held: dict[Side, dict[int, dict[str, tuple[int, int]]]] = field(factory=lambda: {"buy": {}, "sell": {}})

    def hold(self, book: Book) -> None:
        """Take it that readers hold the best levels of a book."""
        self.held = {side: self._best(book.side(side)) for side in SIDES}

    def snapshot(self, book: Book, stamp: str) -> str:
        """Return the snapshot of a book; its readers then hold that."""
        self.hold(book)
        sides = []
        for side in SIDES:
            orders = (
                f"{{{self._figures(order_id, price, lots, rfc3339_ns(since_ns))}}}"
                for price, level in self.held[side].items()
                for order_id, (lots, since_ns) in level.items()
            )
            sides.append(",".join(orders))
        return self._frame("snapshot", sides[0], sides[1], book, stamp)

    def update(self, book: Book, stamp: str) -> str | None:
        """Return the frame that leads from what readers hold to a book; None when they hold it already."""
        texts = []
        for side in SIDES:
            book_side, held = book.side(side), self.held[side]
            best = self._best(book_side)
            rows: list[str] = []
            for price, level in held.items():
                if price not in best and price * book_side.sign not in book_side.levels:
                    rows.extend(
                        self._event("delete", order_id, price, lots, stamp) for order_id, (lots, _) in level.items()
                    )
            for price, level in best.items():
                rows.extend(self._level_events(price, held.get(price, {}), level, stamp))
            texts.append(",".join(rows))
            self.held[side] = best
        if not any(texts):
            return None
        return self._frame("update", texts[0], texts[1], book, stamp)

    def _level_events(
        self, price: int, old: dict[str, tuple[int, int]], new: dict[str, tuple[int, int]], stamp: str
    ) -> list[str]:
        """Return the events of one level: single ones where the queue only moved up, else the whole queue anew."""
        kept = [order_id for order_id in old if order_id in new and new[order_id][1] == old[order_id][1]]
        if kept != list(new)[: len(kept)]:
            kept = []
        added = list(new)[len(kept) :]
        rows = [self._event("delete", gone, price, old[gone][0], stamp) for gone in old if gone not in kept]
        rows.extend(
            self._event("modify", order_id, price, new[order_id][0], stamp)
            for order_id in kept
            if new[order_id][0] != old[order_id][0]
        )
        rows.extend(
            self._event("add", order_id, price, new[order_id][0], rfc3339_ns(new[order_id][1])) for order_id in added
        )
        return rows

    def _best(self, book_side: BookSide) -> dict[int, dict[str, tuple[int, int]]]:
        return {
            abs(key): {
                self.id_of(order): (order.remaining_lots, order.since_ns)
                for order in book_side.levels[key].orders.values()
            }
            for key in book_side.keys[: -self.depth - 1 : -1]
        }

    def _event(self, event: str, order_id: str, price: int, lots: int, stamp: str) -> str:
        return f'{{"event":"{event}",{self._figures(order_id, price, lots, stamp)}}}'

    def _figures(self, order_id: str, price: int, lots: int, stamp: str) -> str:
        rules = self.rules
        return (
            f'"order_id":"{order_id}","limit_price":{fixed_text(price, rules.price_precision)},'
            f'"order_qty":{fixed_text(lots, rules.qty_precision)},"timestamp":"{stamp}"'
        )

    def _frame(self, kind: Kind, bids: str, asks: str, book: Book, stamp: str) -> str:
        return (
            f'{{"channel":"level3","type":"{kind}","data":[{{"symbol":"{self.rules.symbol}",'
            f'"checksum":{level3_checksum(book)},"bids":[{bids}],"asks":[{asks}],"timestamp":"{stamp}"}}]}}'
        )


Rows = Level2Rows | Level3Rows
