"""Give clients' orders a place in recorded queues, and say which recorded trades fill them.

In: the recorded book after every frame, recorded trades. Out: fills. Nothing here alters the recording. A resting
order waits behind what was displayed at its price when it came; trades there consume that, cancels only as far as
they are proven: by id with level3, by the displayed size otherwise. Frames of book and trades come over several
connections in any order, so what a book proves counts for a trade only if the book is older by the venue's time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import define, field

from krakenbot.adapters.local_exchange.flow.market import Side
from krakenbot.adapters.local_exchange.matching.book import Book, RestingOrder

SAME_EVENT_NS: Final = 1_000_000
"""A book not older than this before a trade may already be without the traded volume; UNCONFIRMED for Kraken."""
MAX_PROOFS: Final = 256


@define(eq=False)
class Place:
    """One resting client order.

    `ahead_lots` is None while its level was never displayed, `after_ns` 0 when it came before any recorded book.

    `proofs` are (time, lots) of books that showed less ahead than before, not yet counted; lots fall with time.
    `ids` are the orders ahead as (lots, since_ns) when level3 is recorded.
    """

    order: RestingOrder
    after_ns: int
    ahead_lots: int | None = None
    ids: dict[str, tuple[int, int]] | None = None
    proofs: list[tuple[int, int]] = field(factory=list)

    def prove(self, at_ns: int, lots: int) -> None:
        """Remember that a book of that time had at most `lots` ahead."""
        known = self.proofs[-1][1] if self.proofs else self.ahead_lots
        if known is not None and lots < known:
            self.proofs.append((at_ns, lots))
            if len(self.proofs) > MAX_PROOFS:
                # The older one of a pair can go: what is left proves less, never more.
                del self.proofs[-2]

    def ahead_at(self, at_ns: int) -> int | None:
        """Return what stood ahead just before a trade of that time."""
        while self.proofs and self.proofs[0][0] < at_ns - SAME_EVENT_NS:
            self.ahead_lots = min(self.ahead_lots or 0, self.proofs.pop(0)[1])
        return self.ahead_lots


class Places:
    """The resting client orders of one symbol beside its recorded book.

    `depth` is the number of levels that the recorded book shows, `has_ids` tells whether its orders have ids.
    """

    def __init__(self, book: Book) -> None:
        self.depth = 0
        self.has_ids = False
        self.recorded_ns = 0
        self._book = book
        self._places: dict[int, Place] = {}

    def __contains__(self, order: object) -> bool:
        """Tell whether a resting order has its place here."""
        return isinstance(order, RestingOrder) and order.number in self._places

    def __iter__(self) -> Iterator[Place]:
        """Yield the places in the order of arrival."""
        return iter(list(self._places.values()))

    def rest(self, order: RestingOrder) -> None:
        """Put an order behind everything that is displayed at its price."""
        place = Place(order=order, after_ns=self.recorded_ns)
        self._places[order.number] = place
        if self.is_visible(order.side, order.price_ticks):
            self._measure(place, until_ns=None)

    def leave(self, order: RestingOrder) -> None:
        """Take an order out."""
        del self._places[order.number]

    def begin_again(self) -> None:
        """Forget times and queues: the recording starts once more, and every order goes behind what it shows."""
        self.recorded_ns = 0
        for place in self._places.values():
            place.after_ns, place.ahead_lots, place.ids = 0, None, None
            place.proofs.clear()

    def is_visible(self, side: Side, price_ticks: int) -> bool:
        """Tell whether the recorded book would show orders at this price."""
        book_side = self._book.side(side)
        if not self.depth:
            return False
        return len(book_side.keys) < self.depth or price_ticks * book_side.sign >= book_side.keys[0]

    def on_book(self, at_ns: int) -> None:
        """Take in the recorded book after a frame of that venue time."""
        self.recorded_ns = max(self.recorded_ns, at_ns)
        for place in self._places.values():
            order = place.order
            if not self.is_visible(order.side, order.price_ticks):
                continue
            if place.ahead_lots is None:
                self._measure(place, until_ns=place.after_ns or None)
                place.after_ns = self.recorded_ns
            else:
                place.prove(self.recorded_ns, self._displayed_ahead(place))

    def on_trade(self, taker_side: Side, price_ticks: int, lots: int, at_ns: int) -> list[tuple[RestingOrder, int]]:
        """Return the fills (order, lots) that one recorded trade gives; its volume serves each account once."""
        left: dict[str, int] = {}
        fills = []
        for place in sorted(self._places.values(), key=_priority):
            order = place.order
            if at_ns <= place.after_ns or order.client is None:
                continue
            account = order.client.account
            volume = left.setdefault(account, lots)
            sign = 1 if order.side == "buy" else -1
            if price_ticks * sign < order.price_ticks * sign:
                place.ahead_lots = 0
                place.proofs.clear()
            elif price_ticks != order.price_ticks or taker_side == order.side:
                continue
            ahead = place.ahead_at(at_ns)
            if ahead is None:
                continue
            place.ahead_lots = max(0, ahead - volume)
            filled = min(order.remaining_lots, max(0, volume - ahead))
            if filled:
                left[account] = volume - filled
                fills.append((order, filled))
        return fills

    def _measure(self, place: Place, until_ns: int | None) -> None:
        """Set what stands ahead when a level is first seen; with ids, only orders that came by `until_ns`."""
        orders = self._displayed(place.order)
        if self.has_ids:
            orders = [other for other in orders if until_ns is None or other.since_ns <= until_ns]
            place.ids = {other.shown_id or "": (other.remaining_lots, other.since_ns) for other in orders}
        place.ahead_lots = sum(other.remaining_lots for other in orders)

    def _displayed_ahead(self, place: Place) -> int:
        orders = self._displayed(place.order)
        if place.ids is None:
            return sum(other.remaining_lots for other in orders)
        known, place.ids = place.ids, {}
        for other in orders:
            lots, since_ns = known.get(other.shown_id or "", (0, 0))
            # The same id with a later time lost its place.
            if other.since_ns <= since_ns:
                place.ids[other.shown_id or ""] = (min(lots, other.remaining_lots), since_ns)
        return sum(lots for lots, _ in place.ids.values())

    def _displayed(self, order: RestingOrder) -> list[RestingOrder]:
        book_side = self._book.side(order.side)
        level = book_side.levels.get(order.price_ticks * book_side.sign)
        return list(level.orders.values()) if level is not None else []


class TakenVolume:
    """What each account took of displayed levels: it is not there a second time for the same account."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._taken: dict[tuple[str, Side, int], int] = {}

    def available(self, account: str, side: Side, price_ticks: int) -> int:
        """Return what a level still offers to an account."""
        return self._displayed(side, price_ticks) - self._taken.get((account, side, price_ticks), 0)

    def take(self, account: str, side: Side, price_ticks: int, lots: int) -> None:
        """Note what an account took."""
        key = (account, side, price_ticks)
        self._taken[key] = self._taken.get(key, 0) + lots

    def on_book(self) -> None:
        """Take in the recorded book after a frame: what left a level may have been what was taken."""
        for key, taken in list(self._taken.items()):
            displayed = self._displayed(key[1], key[2])
            if displayed < taken:
                self._taken[key] = displayed
            if not displayed:
                del self._taken[key]

    def _displayed(self, side: Side, price_ticks: int) -> int:
        book_side = self._book.side(side)
        level = book_side.levels.get(price_ticks * book_side.sign)
        return level.size_lots if level is not None else 0


def _priority(place: Place) -> tuple[Side, int]:
    order = place.order
    return (order.side, -order.price_ticks if order.side == "buy" else order.price_ticks)
