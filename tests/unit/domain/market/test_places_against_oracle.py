"""Places in a queue against a venue that knows where an imagined order would stand, and why what was ahead left.

The venue keeps FIFO queues at a few bid prices, with a mark in them for every place. It trades from the front, cancels,
amends and adds, one thing a message, and prints its trades; the print arrives before or after the level3 message.
Things happen 0.2 s apart, so that cancels stand next to trades, and every size may come again. Messages get lost: the
book is then invalid until a snapshot, and what happened meanwhile is unseen.
"""

from __future__ import annotations

import zlib
from itertools import count, cycle
from random import Random

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.level3 import Order

from krakenbot.domain.market.book import Verdict
from krakenbot.domain.market.freshness import utc_ns
from krakenbot.domain.market.front import SETTLE_NS
from krakenbot.domain.market.place import Amount, Place
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.market.trade import PublicTrade
from krakenbot.domain.values import NS_PER_S, Side, Symbol

DAY = "2026-11-22T"
START_NS = utc_ns(f"{DAY}00:00:00Z")
PRICES = (100, 99, 98)


@define
class Mark:
    """What the venue knows of one place."""

    place: Place
    traded: Amount = field(factory=Amount)
    cancelled: Amount = field(factory=Amount)
    amended: Amount = field(factory=Amount)
    reached: Amount = field(factory=Amount)


@define
class Venue:
    """Bids as lists of order ids and marks, first in line first."""

    lots: dict[str, int] = field(factory=dict)
    joined_at: dict[str, str] = field(factory=dict)
    queues: dict[int, list[str | Mark]] = field(factory=lambda: {price: [] for price in PRICES})
    ms: int = 0
    names: count[int] = field(factory=lambda: count(1))
    sizes: cycle[int] = field(factory=lambda: cycle([3, 5, 3, 8]))

    @property
    def at(self) -> str:
        second = self.ms // 1000
        return f"{DAY}00:{second // 60:02d}:{second % 60:02d}.{self.ms % 1000:03d}000000Z"

    @property
    def at_ns(self) -> int:
        return START_NS + self.ms * NS_PER_S // 1000

    def orders(self, price: int) -> list[str]:
        return [each for each in self.queues[price] if isinstance(each, str)]

    def checksum(self) -> int:
        text = "".join(f"{price}{self.lots[name]}" for price in PRICES for name in self.orders(price))
        return zlib.crc32(f"1011{text}".encode())

    def snapshot_into(self, book: L3Book) -> None:
        bids = [
            Order(name, float(price), float(self.lots[name]), self.joined_at[name])
            for price in PRICES
            for name in self.orders(price)
        ]
        asks = [Order("Z", 101.0, 1.0, self.at)]
        assert Verdict.GOOD is book.load(bids, asks, self.checksum(), self.at, 1.0)

    def row(self, event: str, name: str, price: int) -> Order:
        return Order(name, float(price), float(self.lots[name]), self.at, event)

    def add(self, price: int) -> Order:
        name = f"O{next(self.names)}"
        self.lots[name], self.joined_at[name] = next(self.sizes) * 1000, self.at
        self.queues[price].append(name)
        return self.row("add", name, price)

    def tell(self, price: int, name: str, cause: str, orders: int, lots: int) -> None:
        """Give the marks behind an order what it gave up, and those before it what traded past them."""
        index = self.queues[price].index(name)
        for each in self.queues[price][:index]:
            if isinstance(each, Mark) and cause == "traded":
                each.reached.add(orders, lots)
        for each in self.queues[price][index:]:
            if isinstance(each, Mark):
                getattr(each, cause).add(orders, lots)

    def act(self, kind: str, price: int, pick: int) -> tuple[Order, int]:
        """Do one thing; return its level3 row and the lots that traded."""
        self.ms += 200
        names = self.orders(price)
        if kind == "add" or not names:
            return self.add(price), 0
        name = names[0] if kind in {"fill", "part"} else names[pick % len(names)]
        lots = self.lots[name]
        if kind in {"fill", "cancel"}:
            self.tell(price, name, "traded" if kind == "fill" else "cancelled", 1, lots)
            row = self.row("delete", name, price)
            self.queues[price].remove(name)
            return row, lots if kind == "fill" else 0
        change = next(self.sizes)
        if kind == "grow":
            change = -change
        self.tell(price, name, "traded" if kind == "part" else "amended", 0, change)
        self.lots[name] = lots - change
        return self.row("modify", name, price), change if kind == "part" else 0

    def ahead_of(self, mark: Mark) -> Amount:
        queue = self.queues[mark.place.price_ticks]
        names = [each for each in queue[: queue.index(mark)] if isinstance(each, str)]
        return Amount(len(names), sum(self.lots[name] for name in names))


KINDS = ["add", "add", "add", "fill", "part", "cancel", "shrink", "grow", "join"]


def draw(random: Random) -> tuple[str, int, int]:
    return random.choice(KINDS), random.choice((*PRICES, 100, 100, 100)), random.choice((0, 0, 1, 2, 7))


def start() -> tuple[Venue, L3Book]:
    venue = Venue()
    for price in PRICES:
        for _ in range(4):
            venue.add(price)
    book = L3Book(price_precision=0, qty_precision=0, depth=10)
    venue.snapshot_into(book)
    return venue, book


def play(venue: Venue, book: L3Book, kind: str, price: int, pick: int, *, prints_first: bool, is_lost: bool) -> None:
    row, traded = venue.act(kind, price, pick)
    at_ns = venue.at_ns
    trade = PublicTrade(
        symbol=Symbol("A/B"), trade_id=1, side=Side.SELL, price_ticks=price, size_lots=traded, at_ns=at_ns
    )
    if traded and prints_first:
        book.places.on_trade(trade)
    if not is_lost and book.is_valid:
        assert Verdict.GOOD is book.apply([row], [], venue.checksum(), venue.at, 1.0)
    if traded and not prints_first:
        book.places.on_trade(trade)
    book.places.settle(at_ns)


def join(venue: Venue, book: L3Book, price: int) -> Mark:
    place = book.places.join(Side.BUY, price, 1)
    assert place is not None
    mark = Mark(place)
    venue.queues[price].append(mark)
    return mark


def balance(place: Place) -> Amount:
    """Return what is ahead as joined less every cause."""
    left = Amount(place.joined.orders, place.joined.lots)
    for cause in (place.traded, place.cancelled, place.amended, place.unseen, place.pending):
        left.add(-cause.orders, -cause.lots)
    return left


# long streams from a seed: lists drawn action by action stay too short
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_place_knows_what_is_ahead_and_why_it_changed(seed):
    random = Random(seed)
    venue, book = start()
    marks = [join(venue, book, price) for price in PRICES]
    for _ in range(60):
        kind, price, pick = draw(random)
        if kind == "join":
            marks.append(join(venue, book, price))
            continue
        play(venue, book, kind, price, pick, prints_first=random.random() < 0.5, is_lost=False)
        for mark in marks:
            assert venue.ahead_of(mark) == mark.place.ahead == balance(mark.place)
    book.places.settle(venue.at_ns + SETTLE_NS)

    for mark in marks:
        place = mark.place
        assert (mark.traded, mark.cancelled, mark.amended) == (place.traded, place.cancelled, place.amended)
        assert mark.reached == place.reached
        assert (Amount(), Amount(), 0) == (place.pending, place.unseen, place.gaps)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_places_are_found_again_after_messages_were_lost(seed):
    random = Random(seed)
    venue, book = start()
    marks = [join(venue, book, price) for price in PRICES]
    for _ in range(60):
        kind, price, pick = draw(random)
        fate = random.choice(["seen", "seen", "seen", "lost"])
        if kind == "join":
            if book.is_valid:
                marks.append(join(venue, book, price))
            continue
        if fate == "lost":
            book.invalidate("lost")
        elif not book.is_valid:
            venue.ms += 200
            venue.snapshot_into(book)
        play(venue, book, kind, price, pick, prints_first=False, is_lost=fate == "lost")
        for mark in marks:
            assert balance(mark.place) == mark.place.ahead
            assert book.is_valid == mark.place.is_seen
            if book.is_valid:
                assert venue.ahead_of(mark) == mark.place.ahead
