"""Places in recorded queues against a naive venue that simulates every order, the client's included.

The naive venue keeps one bid level and one worse one as plain lists. It emits what a recorder would have received:
book frames (L2 or level3) and trades, each on its own connection and so with its own delay.
"""

from __future__ import annotations

import itertools
from decimal import Decimal
from typing import Any, Literal

import pytest
from attrs import define, field, frozen
from hypothesis import given, settings
from hypothesis import strategies as st

from krakenbot.adapters.local_exchange.digits import rfc3339_ns
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules
from krakenbot.adapters.local_exchange.matching.book import Book, RestingOrder
from krakenbot.adapters.local_exchange.playback.frames import BookLevel, OrderRow
from krakenbot.adapters.local_exchange.playback.mirror import Level2Mirror, Level3Mirror
from krakenbot.adapters.local_exchange.playback.places import MAX_PROOFS, Places

PRICE, WORSE = 100, 99
MS = 1_000_000
START_NS = 1_790_000_000_000_000_000
RULES = InstrumentRules(
    symbol="ABC/USD",
    base="ABC",
    quote="USD",
    status="online",
    price_precision=0,
    qty_precision=0,
    cost_precision=5,
    price_increment_ticks=1,
    qty_increment_lots=1,
    qty_min_lots=1,
    cost_min="0",
    has_index=False,
)


class Client:
    """As much of a client's order as a place needs."""

    def __init__(self, account: str) -> None:
        self.account = account


def resting(number: int, price: int, lots: int, account: str = "alice") -> RestingOrder:
    return RestingOrder(
        number=10**9 + number,
        side="buy",
        price_ticks=price,
        remaining_lots=lots,
        since_ns=0,
        client=Client(account),  # type: ignore[arg-type]
    )


@define
class NaiveVenue:
    """Bids in true queue order; the client's order sees every trade that reaches its place, and takes nothing."""

    levels: dict[int, list[list[int]]] = field(factory=lambda: {PRICE: [], WORSE: []})
    ahead: list[list[int]] = field(factory=list)
    due: int = 0
    number: int = 0
    client_left: int = 0

    def add(self, price: int, lots: int) -> None:
        self.number += 1
        self.levels[price].append([self.number, lots])

    def cancel(self, price: int, place: int) -> None:
        queue = self.levels[price]
        if queue:
            del queue[place % len(queue)]

    def arrive(self, lots: int) -> None:
        self.ahead = list(self.levels[PRICE])
        self.client_left = lots

    def trade(self, lots: int) -> list[tuple[int, int]]:
        """Sell into the bids; return the prints, and count what the client's order was due."""
        prints = []
        for price in (PRICE, WORSE):
            queue, done = self.levels[price], 0
            # Those ahead of the client at its price, before this trade.
            ahead = sum(order[1] for order in self.ahead if order in self.levels[PRICE]) if price == PRICE else 0
            while queue and lots:
                traded = min(lots, queue[0][1])
                queue[0][1] -= traded
                lots -= traded
                done += traded
                if not queue[0][1]:
                    del queue[0]
            if done:
                prints.append((price, done))
                filled = min(self.client_left, max(0, done - ahead))
                self.due += filled
                self.client_left -= filled
        return prints

    def rows(self, price: int) -> list[OrderRow]:
        return [
            OrderRow(order_id=str(number), limit_price=Decimal(price), order_qty=Decimal(lots), timestamp="")
            for number, lots in self.levels[price]
        ]


@frozen
class Happened:
    """One event of the naive venue: its time, both levels after it, its prints, and what is due to the client."""

    at_ns: int
    levels: dict[int, list[tuple[int, int]]]
    prints: list[tuple[int, int]]
    due: int


def simulate(events: list[Any], arrives_after: int, lots: int) -> list[Happened]:
    venue, happened = NaiveVenue(), []
    for index, (what, which, size) in enumerate(events):
        prints = []
        match what:
            case "add":
                venue.add(which, size)
            case "cancel":
                venue.cancel(which, size)
            case _:
                prints = venue.trade(size)
        if index == arrives_after:
            venue.arrive(lots)
        levels = {price: [(order[0], order[1]) for order in queue] for price, queue in venue.levels.items()}
        happened.append(Happened(START_NS + index * 10 * MS, levels, prints, venue.due))
    return happened


class Player:
    """Hands the naive venue's frames to a mirror and to the places beside it."""

    def __init__(self, kind: str, lots: int) -> None:
        self.book = Book()
        self.places = Places(self.book)
        self.places.depth = 10
        self.places.has_ids = kind == "level3"
        self.order = resting(1, PRICE, lots)
        self.filled = 0
        numbers = itertools.count(1)
        self._level2 = Level2Mirror(self.book, RULES, 10, lambda: next(numbers))
        self._level3 = Level3Mirror(self.book, RULES, 10, lambda: next(numbers))
        self._shown: dict[int, dict[int, int]] = {PRICE: {}, WORSE: {}}
        self._since: dict[int, str] = {}

    def show_book(self, event: Happened) -> None:
        if self.places.has_ids:
            self._level3.apply("buy", self._order_rows(event))
        else:
            rows = [
                BookLevel(price=Decimal(price), qty=Decimal(sum(lots for _, lots in queue)))
                for price, queue in event.levels.items()
            ]
            self._level2.apply("buy", rows, event.at_ns)
        self.places.on_book(event.at_ns)

    def show_trades(self, event: Happened) -> None:
        for price, lots in event.prints:
            for order, filled in self.places.on_trade("sell", price, lots, event.at_ns):
                order.remaining_lots -= filled
                self.filled += filled
                if not order.remaining_lots:
                    self.places.leave(order)

    def _order_rows(self, event: Happened) -> list[OrderRow]:
        rows = []
        for price, queue in event.levels.items():
            now = dict(queue)
            for number, lots in self._shown[price].items():
                if number not in now:
                    rows.append(self._row(number, price, lots, "delete"))
                elif now[number] != lots:
                    rows.append(self._row(number, price, now[number], "modify"))
            for number in now.keys() - self._shown[price].keys():
                self._since[number] = rfc3339_ns(event.at_ns + number)
                rows.append(self._row(number, price, now[number], "add"))
            self._shown[price] = now
        return rows

    def _row(self, number: int, price: int, lots: int, event: Literal["add", "modify", "delete"]) -> OrderRow:
        return OrderRow(
            order_id=str(number),
            limit_price=Decimal(price),
            order_qty=Decimal(lots),
            timestamp=self._since[number],
            event=event,
        )


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from((PRICE, PRICE, WORSE)), st.integers(1, 20)),
        st.tuples(st.just("cancel"), st.sampled_from((PRICE, PRICE, WORSE)), st.integers(0, 9)),
        st.tuples(st.just("trade"), st.booleans(), st.integers(1, 25)),
    ),
    min_size=1,
    max_size=40,
)


def play(kind: str, events: list[Any], arrives_after: int, lots: int) -> list[tuple[int, int]]:
    """Return (due, filled) after each event; of a trade, book and print come in either order."""
    player, seen = Player(kind, lots), []
    for index, event in enumerate(simulate(events, arrives_after, lots)):
        steps = [player.show_book, player.show_trades]
        for step in steps if events[index][1] else reversed(steps):
            step(event)
        if index == arrives_after:
            player.places.rest(player.order)
        seen.append((event.due, player.filled))
    return seen


@settings(max_examples=200, deadline=None)
@given(events=EVENTS, arrives_after=st.integers(0, 20), lots=st.integers(1, 30))
def test_with_level3_fills_are_exactly_those_of_a_true_place_in_the_queue(
    events: list[Any], arrives_after: int, lots: int
) -> None:
    seen = play("level3", events, arrives_after, lots)

    assert all(due == filled for due, filled in seen)


@settings(max_examples=200, deadline=None)
@given(events=EVENTS, arrives_after=st.integers(0, 20), lots=st.integers(1, 30))
def test_with_l2_only_an_order_never_fills_before_its_turn(events: list[Any], arrives_after: int, lots: int) -> None:
    seen = play("book", events, arrives_after, lots)

    assert all(filled <= due for due, filled in seen)


@pytest.mark.parametrize("kind", ["level3", "book"])
@settings(max_examples=200, deadline=None)
@given(
    events=EVENTS,
    arrives_after=st.integers(0, 20),
    lots=st.integers(1, 30),
    delays=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
def test_frames_that_come_late_never_fill_an_order_before_its_turn(
    kind: str, events: list[Any], arrives_after: int, lots: int, delays: tuple[int, int]
) -> None:
    """Connections lag differently; the order arrives when the book of `arrives_after` has been received."""
    player, happened = Player(kind, lots), simulate(events, arrives_after, lots)
    for received in range(len(happened) + 4):
        shown, printed = received - delays[0], received - delays[1]
        if 0 <= printed < len(happened):
            player.show_trades(happened[printed])
        if 0 <= shown < len(happened):
            player.show_book(happened[shown])
            if shown == arrives_after:
                player.places.rest(player.order)
        due = happened[min(printed, len(happened) - 1)].due if printed >= 0 else 0

        assert player.filled <= due


@settings(max_examples=200, deadline=None)
@given(
    orders=st.lists(st.tuples(st.sampled_from((PRICE, WORSE)), st.integers(1, 10)), min_size=1, max_size=5),
    displayed=st.integers(0, 10),
    volume=st.integers(1, 30),
    at_price=st.sampled_from((PRICE, WORSE, WORSE - 1)),
)
def test_one_trade_serves_the_orders_of_an_account_once(
    orders: list[tuple[int, int]], displayed: int, volume: int, at_price: int
) -> None:
    player = Player("book", 1)
    player.show_book(Happened(START_NS, {PRICE: [(1, displayed)], WORSE: [(2, displayed)]}, [], 0))
    for number, (price, lots) in enumerate(orders):
        for account in ("alice", "bob"):
            player.places.rest(resting(number * 2 + (account == "bob"), price, lots, account))

    fills = player.places.on_trade("sell", at_price, volume, START_NS + MS)

    for account in ("alice", "bob"):
        filled = [lots for order, lots in fills if order.client and order.client.account == account]
        wanted = [lots for price, lots in orders if price > at_price or (price == at_price and displayed < volume)]
        covered = volume if any(price > at_price for price, _ in orders) else max(0, volume - displayed)
        assert sum(filled) <= covered
        assert bool(filled) == bool(wanted)


def test_a_long_run_of_shrinking_books_is_kept_short_and_never_proves_too_much() -> None:
    player = Player("book", 5)
    player.show_book(Happened(START_NS, {PRICE: [(1, 1000)]}, [], 0))
    player.places.rest(player.order)
    for step in range(1, 900):
        player.show_book(Happened(START_NS + step * 10 * MS, {PRICE: [(1, 1000 - step)]}, [], 0))
    place = next(iter(player.places))
    kept = len(place.proofs)
    # A print of the middle of the run, received after it: 500 stood ahead at most, and at least that counts.
    ahead = place.ahead_at(START_NS + 5000 * MS)

    assert MAX_PROOFS == kept
    assert ahead is not None
    assert 500 <= ahead <= 1000
    assert 101 == place.ahead_at(START_NS + 10**11)
