"""The front of one level alone: which departure a trade explains, and when nothing explains it any more."""

from __future__ import annotations

import pytest
from attrs import define, field

from krakenbot.domain.market.front import INSTANT_NS, MANY, MATCH_NS, MOST, SETTLE_NS, Departure, Front
from krakenbot.domain.market.place import Amount, Place
from krakenbot.domain.values import Side

MS = 1_000_000
LATE_NS = 3_000 * MS
"""Beyond MATCH_NS of what is at 0, and before anything at 0 is given up."""


def make_place() -> Place:
    return Place(
        side=Side.BUY,
        price_ticks=1,
        size_lots=1,
        joined_at_ns=0,
        joined=Amount(),
        ahead=Amount(),
        rank=9,
        quote_per_lot=1.0,
    )


@define
class Level:
    """A front, and the place behind each departure, which shows what became of it."""

    front: Front = field(factory=Front)
    places: list[Place] = field(factory=list)

    def leave(self, lots: int, at_ns: int = 0, *, order: int = 1) -> Place:
        place = make_place()
        place.pending.add(order, lots)
        self.places.append(place)
        self.front.on_departure(Departure(at_ns, order, lots, [place], []))
        return place

    def traded(self) -> list[int]:
        return [place.traded.lots for place in self.places]

    def cancelled(self) -> list[int]:
        return [place.cancelled.lots for place in self.places]


@pytest.mark.parametrize(
    ("departures", "trade", "explained"),
    [
        pytest.param([(5, 0), (10, 300)], (5, 300), [0, 5], id="same instant before same size"),
        pytest.param([(5, 0), (9, 300)], (5, 400), [5, 0], id="same size before nearer in time"),
        pytest.param([(9, 0), (7, 300)], (5, 200), [0, 5], id="nearer in time before earlier told"),
        pytest.param([(9, 300), (7, 500)], (5, 200), [5, 0], id="nearer in time, the other way round"),
        pytest.param([(9, 0), (7, 400)], (5, 200), [5, 0], id="as near: the one told first"),
        pytest.param([(7, 400), (9, 0)], (5, 200), [5, 0], id="as near: the one told first, though later"),
        pytest.param([(5, 0), (9, 300)], (8, 300), [0, 8], id="what is left over goes to nobody"),
        pytest.param([(5, 0), (9, 300)], (11, 300), [2, 9], id="what is left over goes to the next"),
    ],
)
def test_trade_that_waited_goes_to_its_best_departure(departures, trade, explained):
    level = Level()
    for lots, at_ms in departures:
        level.leave(lots, at_ms * MS)
    level.front.on_print(trade[0], trade[1] * MS)
    level.front.settle(LATE_NS)

    assert explained == level.traded()


@pytest.mark.parametrize(("apart_ns", "explained"), [(INSTANT_NS, 10), (INSTANT_NS + 1, 0)])
@pytest.mark.parametrize("is_trade_first", [True, False])
def test_same_size_and_instant_explains_at_once(apart_ns, explained, is_trade_first):
    level = Level()
    if is_trade_first:
        level.front.on_print(10, apart_ns)
    level.leave(10)
    if not is_trade_first:
        level.front.on_print(10, apart_ns)

    assert [explained] == level.traded()


def test_trade_explains_one_departure_of_its_size():
    level = Level()
    level.front.on_print(10, 0)
    level.leave(10)
    level.leave(10)
    level.front.settle(SETTLE_NS)

    assert ([10, 0], [0, 10]) == (level.traded(), level.cancelled())


@pytest.mark.parametrize("is_trade_first", [True, False])
def test_what_was_explained_at_once_does_not_count_among_what_waits(is_trade_first):
    level = Level()
    waiting = level.leave(9)
    level.front.on_print(4, 500 * MS)
    for _ in range(MANY):
        if is_trade_first:
            level.front.on_print(2, LATE_NS)
        level.leave(2, LATE_NS)
        if not is_trade_first:
            level.front.on_print(2, LATE_NS)

    assert (0, 9) == (waiting.traded.lots, waiting.pending.lots)


@pytest.mark.parametrize(("late_prints", "traded"), [(MANY - 1, 0), (MANY, 4)])
def test_trades_that_nobody_settles_are_settled_when_they_are_many(late_prints, traded):
    level = Level()
    place = level.leave(9)
    level.front.on_print(4, 500 * MS)
    for _ in range(late_prints):
        level.front.on_print(1, LATE_NS)

    assert (traded, 9 - traded) == (place.traded.lots, place.pending.lots)


@pytest.mark.parametrize(("late_departures", "cancelled"), [(MANY - 1, 0), (MANY, 9)])
def test_departures_that_nobody_settles_are_settled_by_age_when_they_are_many(late_departures, cancelled):
    level = Level()
    place = level.leave(9)
    for _ in range(late_departures):
        level.leave(1, SETTLE_NS)

    assert (cancelled, 9 - cancelled) == (place.cancelled.lots, place.pending.lots)
    assert 0 == sum(level.cancelled()[1:])


@pytest.mark.parametrize(("departures", "pending"), [(MOST, MOST), (MOST + 1, 0)])
def test_departures_of_one_time_are_given_up_when_they_are_too_many(departures, pending):
    level = Level()
    for _ in range(departures):
        level.leave(1)

    assert pending == sum(place.pending.lots for place in level.places)
    assert departures - pending == sum(level.cancelled())


@pytest.mark.parametrize(("others", "traded"), [(MOST - 1, 7), (MOST, 0)])
def test_oldest_trade_is_forgotten_when_they_are_too_many(others, traded):
    level = Level()
    level.front.on_print(7, 0)
    for _ in range(others):
        level.front.on_print(1, 0)
    place = level.leave(7)

    assert traded == place.traded.lots


@pytest.mark.parametrize(("settled_at_ns", "cancelled"), [(SETTLE_NS - 1, 0), (SETTLE_NS, 9)])
def test_departure_is_given_up_when_its_time_has_come(settled_at_ns, cancelled):
    level = Level()
    place = level.leave(9)
    level.front.settle(settled_at_ns)
    level.front.settle(settled_at_ns)

    assert (Amount(int(cancelled > 0), cancelled), 9 - cancelled) == (place.cancelled, place.pending.lots)


def test_part_of_an_order_that_nothing_explains_was_amended():
    level = Level()
    place = level.leave(9, order=0)
    level.front.settle(SETTLE_NS)

    assert (Amount(0, 9), Amount(), Amount()) == (place.amended, place.cancelled, place.pending)


@pytest.mark.parametrize(("settled_at_ns", "traded"), [(SETTLE_NS - 1, 7), (SETTLE_NS, 0)])
def test_trade_is_forgotten_when_its_time_has_come(settled_at_ns, traded):
    level = Level()
    level.front.on_print(7, 0)
    level.front.settle(settled_at_ns)
    place = level.leave(7)

    assert traded == place.traded.lots


def test_late_trade_explains_a_departure_that_has_waited_in_vain():
    level = Level()
    level.front.on_print(5, LATE_NS)
    place = level.leave(9)
    level.front.settle(LATE_NS + MATCH_NS)
    level.front.on_print(4, 500 * MS)
    level.front.settle(LATE_NS + MATCH_NS)

    assert (4, 5) == (place.traded.lots, place.pending.lots)


def test_late_departure_is_explained_by_a_trade_that_has_waited_in_vain():
    level = Level()
    level.leave(5, LATE_NS)
    level.front.on_print(4, 500 * MS)
    level.front.settle(LATE_NS + MATCH_NS)
    place = level.leave(9)
    level.front.settle(LATE_NS + MATCH_NS)

    assert (4, 5) == (place.traded.lots, place.pending.lots)


@pytest.mark.parametrize(("apart_ns", "traded"), [(MATCH_NS, 4), (MATCH_NS + 1, 0)])
def test_trade_explains_no_departure_too_far_from_it(apart_ns, traded):
    level = Level()
    place = level.leave(9)
    level.front.on_print(4, apart_ns)
    level.front.settle(SETTLE_NS - 1)

    assert traded == place.traded.lots


def test_departure_that_is_explained_whole_takes_no_second_trade():
    level = Level()
    place = level.leave(9)
    level.front.on_print(9, 300 * MS)
    level.front.on_print(4, 400 * MS)
    level.front.settle(LATE_NS)

    assert (Amount(1, 9), Amount()) == (place.traded, place.pending)


def test_trade_that_is_found_whole_reaches_nobody_behind_another_departure():
    level = Level()
    behind = make_place()
    level.leave(9)
    level.front.on_print(9, 300 * MS)
    level.front.on_departure(Departure(900 * MS, 1, 5, [], [behind]))
    level.front.settle(LATE_NS)

    assert (Amount(), 0) == (behind.reached, behind.reached_at_ns)
