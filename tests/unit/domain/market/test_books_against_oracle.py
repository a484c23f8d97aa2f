"""Both books against naive oracles, under loss, duplication and corruption: right or invalid, never wrong and valid.

A venue keeps plain dictionaries, changes them at random, and publishes the window of its best levels with a right
checksum, as Kraken does. Messages are lost, repeated, delayed or altered on the way. Whenever our book says that it is
valid after a message, however damaged, its ten best levels must be those of the venue; below them, and in the ids of
orders, a checksum sees nothing. When nothing goes wrong, every level and every id must be right.
"""

from __future__ import annotations

import random
import zlib
from decimal import Decimal
from typing import Any

import pytest
from attrs import define, evolve, field, frozen
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
    """Prices are multiples of `step` ticks: an increment may be coarser than the precision."""

    depth: int
    step: int = 1
    clock: int = 0
    bids: dict[int, int] = field(init=False)
    asks: dict[int, int] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.bids = {self.ticks(-1 - i): 10**8 + i for i in range(self.depth + 4)}
        self.asks = {self.ticks(1 + i): 2 * 10**8 + i for i in range(self.depth + 4)}

    def ticks(self, offset: int) -> int:
        return (2000 + offset) * self.step

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
            side, ticks = (self.bids, self.ticks(-offset)) if is_bid else (self.asks, self.ticks(offset))
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
fates = st.sampled_from(["arrives"] * 8 + ["lost", "lost", "twice", "late", "altered", "altered"])
damages = st.tuples(st.sampled_from(["checksum", "drop", "price", "qty", "repeat", "swap"]), st.integers(0, 7))


def put(book, message):
    if message.is_snapshot:
        return book.load(message.bids, message.asks, message.checksum, message.at, 1.0)
    return book.apply(message.bids, message.asks, message.checksum, message.at, 1.0) if book.is_valid else None


def altered(message: Message, kind: str, place: int) -> Message:
    """Return the message with one thing in it spoilt."""
    sides = [list(message.bids), list(message.asks)]
    rows = sides[place % 2] or sides[1 - place % 2]
    checksum = message.checksum
    index = place % len(rows) if rows else 0
    match kind:
        case "drop" if rows:
            del rows[index]
        case "price" if rows:
            name = "limit_price" if isinstance(rows[index], Order) else "price"
            rows[index] = evolve(rows[index], **{name: round(getattr(rows[index], name) + 0.1, 1)})
        case "qty" if rows:
            name = "order_qty" if isinstance(rows[index], Order) else "qty"
            rows[index] = evolve(rows[index], **{name: 3.0})
        case "repeat" if rows:
            rows.append(rows[index])
        case "swap":
            sides.reverse()
        case _:
            checksum ^= 1 << place
    return Message(message.is_snapshot, sides[0], sides[1], checksum, message.at)


def deliver(book, message: Message, fate: str, damage: tuple[str, int], late: list[Message]) -> bool:
    """Let a message meet its fate; return whether the book, when it is valid, must be as the venue is now."""
    match fate:
        case "lost":
            return False
        case "late":
            late.append(message)
            return False
        case "altered":
            put(book, altered(message, *damage))
        case "twice":
            put(book, message)
            put(book, message)
        case _:
            put(book, message)
    for stale in late:
        put(book, stale)
    late.clear()
    return True


def survive(book, venue, steps, change, check) -> None:
    """Deliver steps of (change, fate, damage); after each, the book is right or invalid."""
    late: list[Message] = []
    for changed, fate, damage in steps:
        if deliver(book, change(changed), fate, damage, late):
            check(book, venue)
        if not book.is_valid:
            assert (None, None) == (touch(book, Side.BUY), touch(book, Side.SELL))
            put(book, venue.snapshot())
            check(book, venue)

            assert book.is_valid


def touch(book, side):
    if isinstance(book, L3Book):
        return book.best(side)
    return book.best_bid() if side is Side.BUY else book.best_ask()


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.tuples(edits, fates, damages), max_size=25),
    depth=st.sampled_from([10, 25, 100]),
    step=st.sampled_from([1, 5]),
)
def test_l2_book_is_right_or_invalid(steps, depth, step):
    venue, book = L2Venue(depth, step), L2Book(price_precision=1, qty_precision=8, depth=depth)
    put(book, venue.snapshot())
    survive(book, venue, steps, venue.change, check_l2)


def check_l2(book, venue, levels=10):
    if book.is_valid:
        bids, asks = venue.window()

        assert list(bids.items())[:levels] == book.levels(Side.BUY, levels)
        assert list(asks.items())[:levels] == book.levels(Side.SELL, levels)
        assert (next(iter(bids.items()), None), next(iter(asks.items()), None)) == (book.best_bid(), book.best_ask())


@settings(max_examples=50, deadline=None)
@given(steps=st.lists(edits, max_size=30), depth=st.sampled_from([10, 25, 100]), step=st.sampled_from([1, 5]))
def test_l2_book_holds_every_level_of_its_window_when_nothing_goes_wrong(steps, depth, step):
    venue, book = L2Venue(depth, step), L2Book(price_precision=1, qty_precision=8, depth=depth)
    put(book, venue.snapshot())
    for change in steps:
        assert Verdict.GOOD is put(book, venue.change(change))
        check_l2(book, venue, depth)


@pytest.mark.parametrize("depth", [500, 1000])
def test_deep_l2_book_holds_every_level_of_its_window(depth):
    rng = random.Random(depth)
    venue, book = L2Venue(depth), L2Book(price_precision=1, qty_precision=8, depth=depth)
    put(book, venue.snapshot())
    for _ in range(20):
        change = [(rng.random() < 0.5, rng.randrange(1, depth + 9), rng.choice((0, rng.randrange(1, 10**9))))]
        assert Verdict.GOOD is put(book, venue.change(change))
    check_l2(book, venue, depth)

    assert depth == len(book.levels(Side.BUY, depth))


@define
class L3Venue:
    """Keeps whole queues; publishes the orders of its best levels a side."""

    depth: int = 10
    middle: int = 1000
    queues: dict[tuple[str, int], list[tuple[str, int, int]]] = field(factory=dict)
    clock: int = 0
    names: int = 0

    def add(self, side: str, ticks: int, lots: int) -> None:
        self.clock += 1
        self.names += 1
        self.queues.setdefault((side, ticks), []).append((f"O{self.names}", lots, self.clock))

    def window(self, side: str) -> dict[int, list[tuple[str, int, int]]]:
        prices = sorted((t for s, t in self.queues if s == side), reverse=side == "bids")
        return {ticks: list(self.queues[side, ticks]) for ticks in prices[: self.depth]}

    def message(self, bids: list[Any], asks: list[Any], *, is_snapshot: bool) -> Message:
        self.clock += 1
        texts = [
            f"{ticks}{lots}"
            for side in ("asks", "bids")
            for ticks, queue in list(self.window(side).items())[:10]
            for _, lots, _ in queue
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
            self.act(kind, "bids" if is_bid else "asks", self.middle - offset if is_bid else self.middle + offset, lots)
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
    for offset in range(1, venue.depth + 3):
        for _ in range(2):
            venue.add("bids", venue.middle - offset, offset * 10**7)
            venue.add("asks", venue.middle + offset, offset * 10**7)
    book = L3Book(price_precision=1, qty_precision=8, depth=venue.depth)
    put(book, venue.snapshot())
    return book


def check_l3(book, venue, levels=10):
    if not book.is_valid:
        return
    for side, name in ((Side.BUY, "bids"), (Side.SELL, "asks")):
        window = dict(list(venue.window(name).items())[:levels])
        assert list(window) == book.prices(side, levels)
        assert len(book.prices(side, 2 * venue.depth)) <= venue.depth
        for ticks, queue in window.items():
            assert [(each, lots) for each, lots, _ in queue] == book.orders(side, ticks)


@settings(max_examples=50, deadline=None)
@given(
    steps=st.lists(st.tuples(actions, fates, damages), max_size=20),
    depth=st.sampled_from([10, 25]),
    rng=st.randoms(use_true_random=False),
)
def test_l3_book_is_right_or_invalid(steps, depth, rng):
    venue = L3Venue(depth)
    book = l3_of(venue)
    check_l3(book, venue)
    survive(book, venue, steps, lambda change: venue.change(change, in_any_order(rng)), check_l3)


def in_any_order(rng):
    return lambda adds: rng.sample(adds, len(adds))


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(actions, max_size=20), depth=st.sampled_from([10, 25]), rng=st.randoms(use_true_random=False))
def test_l3_book_verifies_every_message_that_arrives(steps, depth, rng):
    venue = L3Venue(depth)
    book = l3_of(venue)
    for change in steps:
        assert Verdict.GOOD is put(book, venue.change(change, in_any_order(rng)))
        check_l3(book, venue, depth)


@pytest.mark.parametrize("depth", [100, 1000])
def test_deep_l3_book_holds_every_queue_of_its_window(depth):
    rng = random.Random(depth)
    venue = L3Venue(depth, middle=5000)
    book = l3_of(venue)
    for _ in range(10):
        kind = rng.choice(("add", "modify", "delete"))
        change = (kind, rng.random() < 0.5, rng.randrange(1, depth + 9), rng.randrange(1, 10**9))
        assert Verdict.GOOD is put(book, venue.change([change], in_any_order(rng)))
    check_l3(book, venue, depth)

    assert depth == len(book.prices(Side.BUY, depth))
