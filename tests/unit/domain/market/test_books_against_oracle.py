"""Both books against naive oracles, under loss, duplication and corruption: right or invalid, never wrong and valid.

A venue keeps plain dictionaries, changes them at random, and publishes the window of its best levels with a right
checksum, as Kraken does. Messages are lost, repeated or altered on the way. Whenever our book says that it is valid
after a message that arrived as sent, all of its ten best levels must be those of the venue.
"""

from __future__ import annotations

import zlib
from decimal import Decimal
from typing import Any

from attrs import define, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from krakenbot.domain.market.book import L2Book, Verdict
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.values import Side

PRICE_PRECISION, QTY_PRECISION = 1, 8
AT = "2026-11-22T10:00:00.{:09d}Z"


@frozen
class Level:
    price: float
    qty: float | Decimal


@frozen
class Order:
    order_id: str
    limit_price: float
    order_qty: float
    timestamp: str
    event: str


@frozen
class Message:
    is_snapshot: bool
    bids: list[Any]
    asks: list[Any]
    checksum: int
    at: str


def level(ticks: int, lots: int) -> Level:
    # as decoded from the text that the venue sends
    return Level(float(f"{Decimal(ticks).scaleb(-PRICE_PRECISION)}"), float(f"{Decimal(lots).scaleb(-QTY_PRECISION)}"))


def order(event: str, order_id: str, ticks: int, lots: int, at: int) -> Order:
    found = level(ticks, lots)
    return Order(order_id, found.price, float(found.qty), AT.format(at), event)


def crc(texts: list[str]) -> int:
    return zlib.crc32("".join(texts).encode())


@define
class L2Venue:
    depth: int
    bids: dict[int, int] = field(factory=lambda: {999 - i: 10**8 + i for i in range(14)})
    asks: dict[int, int] = field(factory=lambda: {1001 + i: 2 * 10**8 + i for i in range(14)})
    clock: int = 0

    def window(self) -> tuple[dict[int, int], dict[int, int]]:
        return (
            dict(sorted(self.bids.items(), reverse=True)[: self.depth]),
            dict(sorted(self.asks.items())[: self.depth]),
        )

    def message(self, bids: dict[int, int], asks: dict[int, int], *, is_snapshot: bool) -> Message:
        self.clock += 1
        best_bids, best_asks = self.window()
        texts = [f"{t}{q}" for side in (best_asks, best_bids) for t, q in list(side.items())[:10]]
        levels = [[level(*each) for each in side.items()] for side in (bids, asks)]
        return Message(is_snapshot, levels[0], levels[1], crc(texts), AT.format(self.clock))

    def snapshot(self) -> Message:
        return self.message(*self.window(), is_snapshot=True)

    def change(self, edits: list[tuple[bool, int, int]]) -> Message:
        before = self.window()
        for is_bid, offset, lots in edits:
            side, ticks = (self.bids, 1000 - offset) if is_bid else (self.asks, 1000 + offset)
            if lots:
                side[ticks] = lots
            elif len(side) > 1:
                side.pop(ticks, None)
        changed = [
            {ticks: 0 for ticks in old if ticks not in whole} | {t: q for t, q in new.items() if old.get(t) != q}
            for old, new, whole in zip(before, self.window(), (self.bids, self.asks), strict=True)
        ]
        return self.message(changed[0], changed[1], is_snapshot=False)


edits = st.lists(
    st.tuples(st.booleans(), st.integers(1, 16), st.one_of(st.just(0), st.integers(1, 10**12))), min_size=1, max_size=4
)
fates = st.sampled_from(["arrives"] * 6 + ["lost", "twice", "altered", "late"])


def put(book, message):
    if message.is_snapshot:
        return book.load(message.bids, message.asks, message.checksum, message.at, 1.0)
    return book.apply(message.bids, message.asks, message.checksum, message.at, 1.0) if book.is_valid else None


def altered(message: Message) -> Message:
    if message.bids:
        first = message.bids[0]
        return Message(
            message.is_snapshot,
            [Level(first.price, 3.0), *message.bids[1:]],
            message.asks,
            message.checksum,
            message.at,
        )
    return Message(message.is_snapshot, message.bids, message.asks, message.checksum ^ 1, message.at)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.tuples(edits, fates), max_size=25), depth=st.sampled_from([10, 25]))
def test_l2_book_is_right_or_invalid(steps, depth):
    venue, book = L2Venue(depth), L2Book(price_precision=1, qty_precision=8, depth=depth)
    put(book, venue.snapshot())
    late: list[Message] = []
    for change, fate in steps:
        message = venue.change(change)
        if fate == "lost":
            continue
        if fate == "late":
            late.append(message)
            continue
        if fate == "altered":
            put(book, altered(message))
        put(book, message)
        if fate == "twice":
            put(book, message)
        check_l2(book, venue)
        for stale in late:
            put(book, stale)
        late.clear()
        if not book.is_valid:
            assert [] == book.levels(Side.BUY, 10)
            assert book.best_ask() is None
            put(book, venue.snapshot())
        check_l2(book, venue)

        assert book.is_valid


def check_l2(book, venue):
    if book.is_valid:
        bids, asks = venue.window()

        assert list(bids.items())[:10] == book.levels(Side.BUY, 10)
        assert list(asks.items())[:10] == book.levels(Side.SELL, 10)


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(edits, max_size=30), depth=st.sampled_from([10, 25]))
def test_l2_book_holds_every_level_of_its_window_when_nothing_goes_wrong(steps, depth):
    venue, book = L2Venue(depth), L2Book(price_precision=1, qty_precision=8, depth=depth)
    put(book, venue.snapshot())
    for change in steps:
        assert Verdict.GOOD is put(book, venue.change(change))
        bids, asks = venue.window()
        assert list(bids.items()) == book.levels(Side.BUY, depth)
        assert list(asks.items()) == book.levels(Side.SELL, depth)


@define
class L3Venue:
    """Keeps whole queues; publishes the orders of its ten best levels a side."""

    queues: dict[tuple[str, int], list[tuple[str, int, int]]] = field(factory=dict)
    clock: int = 0
    names: int = 0

    def add(self, side: str, ticks: int, lots: int) -> None:
        self.clock += 1
        self.names += 1
        self.queues.setdefault((side, ticks), []).append((f"O{self.names}", lots, self.clock))

    def window(self, side: str) -> dict[int, list[tuple[str, int, int]]]:
        prices = sorted((t for s, t in self.queues if s == side), reverse=side == "bids")
        return {ticks: list(self.queues[side, ticks]) for ticks in prices[:10]}

    def message(self, bids: list[Any], asks: list[Any], *, is_snapshot: bool) -> Message:
        self.clock += 1
        texts = [
            f"{ticks}{lots}" for side in ("asks", "bids") for ticks, q in self.window(side).items() for _, lots, _ in q
        ]
        return Message(is_snapshot, bids, asks, crc(texts), AT.format(self.clock))

    def snapshot(self) -> Message:
        sides = [
            [order("", name, ticks, lots, at) for ticks, q in self.window(side).items() for name, lots, at in q]
            for side in ("bids", "asks")
        ]
        return self.message(sides[0], sides[1], is_snapshot=True)

    def change(self, actions: list[tuple[str, bool, int, int]], shuffle) -> Message:
        before = {side: self.window(side) for side in ("bids", "asks")}
        for kind, is_bid, offset, lots in actions:
            self.act(kind, "bids" if is_bid else "asks", 1000 - offset if is_bid else 1000 + offset, lots)
        return self.message(
            *[self.delta(before[side], self.window(side), side, shuffle) for side in ("bids", "asks")],
            is_snapshot=False,
        )

    def act(self, kind: str, side: str, ticks: int, lots: int) -> None:
        queue = self.queues.get((side, ticks))
        if kind == "add" or not queue:
            self.add(side, ticks, lots)
            return
        index = lots % len(queue)
        if kind == "modify":
            name, _, at = queue[index]
            queue[index] = (name, lots, at)
        elif len(self.window(side)) > 1 or len(queue) > 1:
            queue.pop(index)
            if not queue:
                del self.queues[side, ticks]

    def delta(self, before, after, side, shuffle) -> list[Order]:
        """Deletes of what is gone, modifies in place, adds in no particular order, as recorded."""
        old = {name: (t, lots, at) for t, q in before.items() for name, lots, at in q}
        new = {name: (t, lots, at) for t, q in after.items() for name, lots, at in q}
        alive = {name for (s, _), q in self.queues.items() if s == side for name, _, _ in q}
        out = [order("delete", name, t, lots, self.clock) for name, (t, lots, at) in old.items() if name not in alive]
        out += [
            order("modify", name, t, lots, at)
            for name, (t, lots, at) in new.items()
            if name in old and old[name] != (t, lots, at)
        ]
        adds = [order("add", name, t, lots, at) for name, (t, lots, at) in new.items() if name not in old]
        return [*out, *shuffle(adds)]


actions = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "modify", "delete"]), st.booleans(), st.integers(1, 14), st.integers(1, 10**11)
    ),
    min_size=1,
    max_size=5,
)


def l3_of(venue) -> L3Book:
    for offset in range(1, 13):
        for _ in range(2):
            venue.add("bids", 1000 - offset, offset * 10**7)
            venue.add("asks", 1000 + offset, offset * 10**7)
    book = L3Book(price_precision=1, qty_precision=8, depth=10)
    put(book, venue.snapshot())
    return book


def check_l3(book, venue):
    if not book.is_valid:
        assert book.best(Side.BUY) is None
        return
    for side, name in ((Side.BUY, "bids"), (Side.SELL, "asks")):
        window = venue.window(name)
        assert list(window) == book.prices(side, 10)
        for ticks, queue in window.items():
            assert [(each, lots) for each, lots, _ in queue] == book.orders(side, ticks)


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(st.tuples(actions, fates), max_size=20), random=st.randoms(use_true_random=False))
def test_l3_book_is_right_or_invalid(steps, random):
    venue = L3Venue()
    book = l3_of(venue)

    def shuffle(adds):
        random.shuffle(adds)
        return adds

    check_l3(book, venue)
    for change, fate in steps:
        message = venue.change(change, shuffle)
        if fate in {"lost", "late"}:
            continue
        if fate == "altered":
            put(book, Message(False, message.bids, message.asks, message.checksum ^ 1, message.at))
        verdict = put(book, message)
        if fate == "arrives" and verdict is not None:
            check_l3(book, venue)
        if fate == "twice":
            put(book, message)
            check_l3(book, venue)
        if not book.is_valid:
            put(book, venue.snapshot())
        check_l3(book, venue)

        assert book.is_valid


@settings(max_examples=100, deadline=None)
@given(steps=st.lists(actions, max_size=25), random=st.randoms(use_true_random=False))
def test_l3_book_verifies_every_message_that_arrives(steps, random):
    venue = L3Venue()
    book = l3_of(venue)
    for change in steps:
        message = venue.change(change, lambda adds: random.sample(adds, len(adds)))

        assert Verdict.GOOD is put(book, message)
        check_l3(book, venue)
