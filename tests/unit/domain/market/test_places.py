from __future__ import annotations

import zlib

import pytest
from tests.level3 import Order

from krakenbot.domain.market.book import Verdict
from krakenbot.domain.market.freshness import utc_ns
from krakenbot.domain.market.front import MANY, MATCH_NS, SETTLE_NS
from krakenbot.domain.market.place import Amount
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.market.trade import PublicTrade
from krakenbot.domain.values import NS_PER_S, Side, Symbol

T = "2026-11-22T10:00:{:02d}.000000000Z"
START_NS = utc_ns(T.format(0))
PRICE = 999


class Desk:
    """A book at precision 0 whose checksums are computed from the book itself, as a venue would publish them."""

    def __init__(self, *names: str, depth: int = 10) -> None:
        self.book = L3Book(price_precision=0, qty_precision=0, depth=depth)
        self.second = 10
        self.snapshot(*[(name, PRICE, 10) for name in names])

    def snapshot(self, *bids: tuple[str, int, int]) -> None:
        rows = [
            Order(name, float(price), float(lots), T.format(index)) for index, (name, price, lots) in enumerate(bids)
        ]
        asks = [Order("Z", 1001.0, 50.0)]
        digits = "100150" + "".join(f"{price}{lots}" for _, price, lots in bids)
        assert Verdict.GOOD is self.book.load(rows, asks, zlib.crc32(digits.encode()), T.format(self.second), 1.0)

    def tell(self, *changes: tuple[str, str, int, int], second: int | None = None, ms: int = 0) -> None:
        """Apply (event, id, price, lots) of bids in one message; the time moves on by a second."""
        self.second = second if second is not None else self.second + 1
        stamp = T.format(self.second).replace(".000", f".{ms:03d}")
        orders = [Order(name, float(price), float(lots), stamp, event) for event, name, price, lots in changes]
        after = {p: dict(self.book.orders(Side.BUY, p)) for p in self.book.prices(Side.BUY, 100)}
        for event, name, price, lots in changes:
            for at, level in after.items():
                if event != "modify" or at != price:
                    level.pop(name, None)
            if event != "delete":
                after.setdefault(price, {})[name] = lots
        best = sorted((p for p, level in after.items() if level), reverse=True)[: min(10, self.book.depth)]
        digits = "100150" + "".join(f"{p}{lots}" for p in best for lots in after[p].values())
        assert Verdict.GOOD is self.book.apply(orders, [], zlib.crc32(digits.encode()), stamp, 1.0)

    def trade(self, lots: int, *, price: int = PRICE, second: int | None = None, ago_ms: int = 0) -> None:
        at_ns = START_NS + (self.second if second is None else second) * NS_PER_S - ago_ms * 1_000_000
        self.book.places.on_trade(
            PublicTrade(
                symbol=Symbol("A/B"), trade_id=1, side=Side.SELL, price_ticks=price, size_lots=lots, at_ns=at_ns
            )
        )

    def settle(self) -> None:
        self.book.places.settle(START_NS + self.second * NS_PER_S + SETTLE_NS + NS_PER_S)


def make_place(desk: Desk, size_lots: int = 5):
    place = desk.book.places.join(Side.BUY, PRICE, size_lots)
    assert place is not None
    return place


def test_imagined_order_joins_behind_everybody_and_later_orders_stand_behind_it():
    desk = Desk("A", "B")
    place = make_place(desk)
    desk.tell(("add", "C", PRICE, 7))

    assert Amount(2, 20) == place.joined == place.ahead
    assert place.ahead_notional_quote == pytest.approx(20 * PRICE)
    assert 25 == place.lots_to_fill


def test_departure_from_the_front_waits_for_its_trade_and_is_then_traded():
    desk = Desk("A", "B")
    place = make_place(desk)
    desk.tell(("delete", "A", PRICE, 10))
    assert (Amount(1, 10), Amount(1, 10)) == (place.ahead, place.pending)
    desk.trade(10)

    assert (Amount(1, 10), Amount(0, 0)) == (place.traded, place.pending)


def test_trade_that_comes_before_its_departure_explains_it():
    desk = Desk("A", "B")
    place = make_place(desk)
    desk.trade(4, second=11)
    desk.tell(("modify", "A", PRICE, 6))

    assert (Amount(2, 16), Amount(0, 4)) == (place.ahead, place.traded)


def test_departure_from_further_back_was_cancelled_for_certain():
    desk = Desk("A", "B")
    place = make_place(desk)
    desk.tell(("delete", "B", PRICE, 10))

    assert (Amount(1, 10), Amount()) == (place.cancelled, place.pending)


def test_departure_from_the_front_without_a_trade_was_cancelled_after_a_while():
    desk = Desk("A", "B")
    place = make_place(desk)
    desk.tell(("delete", "A", PRICE, 10))
    desk.settle()

    assert (Amount(1, 10), Amount()) == (place.cancelled, place.pending)


def test_departure_is_not_given_up_while_its_trade_may_still_come():
    desk = Desk("A", "B")
    place = make_place(desk)
    desk.tell(("delete", "A", PRICE, 10))
    desk.book.places.settle(START_NS + desk.second * NS_PER_S + SETTLE_NS - 1)
    desk.trade(10)

    assert (Amount(1, 10), Amount()) == (place.traded, place.cancelled)


def test_departures_that_nobody_settles_are_settled_by_age():
    desk = Desk("A")
    place = make_place(desk)
    for _ in range(MANY + 1):
        desk.tell(("modify", "A", PRICE, 9), second=10)
        desk.tell(("modify", "A", PRICE, 10), second=10)
    desk.tell(("modify", "A", PRICE, 9), second=10 + SETTLE_NS // NS_PER_S)

    assert (-(MANY + 1) + (MANY + 1), 1) == (place.amended.lots, place.pending.lots)


@pytest.mark.parametrize("is_print_first", [True, False])
def test_cancel_just_before_a_trade_is_not_taken_for_what_traded(is_print_first):
    desk = Desk("A", "B", "C")
    place = make_place(desk)
    desk.tell(("delete", "A", PRICE, 10), second=20)
    if is_print_first:
        desk.trade(8, ago_ms=-400, second=20)
    desk.tell(("modify", "B", PRICE, 2), second=20, ms=400)
    if not is_print_first:
        desk.trade(8, ago_ms=-400, second=20)

    assert (Amount(0, 8), Amount(1, 10)) == (place.traded, place.pending)
    desk.settle()
    assert (Amount(0, 8), Amount(1, 10), Amount()) == (place.traded, place.cancelled, place.pending)


def test_cancel_of_the_same_size_just_before_a_trade_hides_no_fill():
    desk = Desk("A")
    place = make_place(desk)
    desk.tell(("add", "B", PRICE, 10))
    desk.tell(("delete", "A", PRICE, 10), second=20)
    desk.trade(10, ago_ms=-400, second=20)
    desk.tell(("delete", "B", PRICE, 10), second=20, ms=400)
    desk.settle()

    assert (Amount(1, 10), Amount(1, 10), Amount()) == (place.reached, place.cancelled, place.traded)
    assert START_NS + 20 * NS_PER_S + 400_000_000 == place.reached_at_ns


def test_two_trades_told_in_one_change_explain_it_before_a_nearby_cancel():
    desk = Desk("A", "B")
    place = make_place(desk)
    desk.tell(("delete", "A", PRICE, 10), second=20)
    desk.trade(2, ago_ms=-400, second=20)
    desk.trade(4, ago_ms=-400, second=20)
    desk.tell(("modify", "B", PRICE, 4), second=20, ms=400)
    desk.settle()

    assert (Amount(0, 6), Amount(1, 10)) == (place.traded, place.cancelled)


def test_trade_and_departure_apart_in_time_wait_for_better_partners():
    desk = Desk("A", "B")
    place = make_place(desk)
    desk.tell(("delete", "A", PRICE, 10), second=20)
    desk.trade(10, ago_ms=-900, second=20)
    at_ns = START_NS + 20 * NS_PER_S + 900_000_000 + MATCH_NS
    desk.book.places.settle(at_ns - 1)
    assert (Amount(), Amount(1, 10)) == (place.traded, place.pending)
    desk.book.places.settle(at_ns)

    assert (Amount(1, 10), Amount()) == (place.traded, place.pending)


def test_trade_of_part_of_a_departure_leaves_the_rest_cancelled():
    desk = Desk("A", "B")
    place = make_place(desk)
    desk.tell(("delete", "A", PRICE, 10))
    desk.trade(4)
    desk.settle()

    assert (Amount(0, 4), Amount(1, 6)) == (place.traded, place.cancelled)


def test_trade_long_before_or_after_explains_nothing():
    desk = Desk("A", "B")
    place = make_place(desk)
    desk.tell(("delete", "A", PRICE, 10), second=20)
    desk.trade(10, second=15)
    desk.trade(10, second=25)
    desk.settle()

    assert (Amount(), Amount(1, 10)) == (place.traded, place.cancelled)


def test_smaller_larger_and_moved_orders_ahead_are_amended():
    desk = Desk("A", "B", "C", "D")
    place = make_place(desk)
    desk.tell(("modify", "B", PRICE, 7), ("modify", "C", PRICE, 15), ("modify", "D", PRICE - 1, 10))

    assert Amount(1, 3 - 5 + 10) == place.amended
    assert Amount(3, 32) == place.ahead


def test_front_order_that_grew_is_amended_at_once_and_takes_no_trade():
    desk = Desk("A", "B")
    place = make_place(desk)
    desk.tell(("modify", "A", PRICE, 14))

    assert (Amount(0, -4), Amount(), Amount(2, 24)) == (place.amended, place.pending, place.ahead)


def test_front_order_that_moves_to_another_price_is_amended_at_once_and_takes_no_trade():
    desk = Desk("A", "B")
    place = make_place(desk)
    desk.tell(("modify", "A", PRICE - 1, 10))
    at_once = place.amended, place.pending
    desk.trade(10)

    assert (Amount(1, 10), Amount()) == at_once
    assert (Amount(), Amount(), Amount(1, 10)) == (place.traded, place.cancelled, place.ahead)


def test_what_trades_behind_the_place_has_reached_it():
    desk = Desk("A")
    place = make_place(desk)
    desk.tell(("add", "B", PRICE, 8))
    desk.tell(("delete", "A", PRICE, 10), ("modify", "B", PRICE, 5))
    desk.trade(10)
    desk.trade(3)

    assert (Amount(), Amount(0, 3), 2) == (place.ahead, place.reached, place.lots_to_fill)


def test_trades_at_worse_prices_went_through_the_place():
    desk = Desk("A")
    place = make_place(desk)
    desk.trade(4, price=PRICE - 3)
    desk.trade(4, price=PRICE + 1)

    assert 4 == place.through_lots


def test_held_order_is_followed_to_its_end():
    desk = Desk("A", "B", "C")
    place = desk.book.places.follow("B")
    assert place is not None
    assert (Amount(1, 10), 10) == (place.ahead, place.size_lots)
    desk.tell(("delete", "A", PRICE, 10), ("modify", "B", PRICE, 6))
    desk.trade(10)
    desk.trade(4)
    assert (Amount(), Amount(0, 4), 6, False) == (place.ahead, place.reached, place.size_lots, place.is_over)
    desk.tell(("delete", "B", PRICE, 6))

    assert place.is_over
    assert desk.book.places.follow("nobody") is None


def test_place_is_found_again_after_the_book_was_lost():
    desk = Desk("A", "B", "C")
    place = make_place(desk)
    desk.tell(("add", "D", PRICE, 1))
    desk.book.invalidate("connection lost")
    assert (False, 1) == (place.is_seen, place.gaps)
    desk.snapshot(("B", PRICE, 10), ("D", PRICE, 1))

    assert (True, Amount(1, 10), Amount(2, 20)) == (place.is_seen, place.ahead, place.unseen)
    desk.tell(("delete", "B", PRICE, 10))
    desk.trade(10)
    assert (Amount(), Amount(1, 10)) == (place.ahead, place.traded)


def test_changes_of_a_message_that_was_wrong_are_not_counted_later():
    desk = Desk("A", "B")
    place = make_place(desk)
    wrong = Order("B", float(PRICE), 10.0, T.format(11), "delete")
    assert Verdict.BAD is desk.book.apply([wrong], [], 7, T.format(11), 1.0)
    desk.snapshot(("A", PRICE, 10), ("B", PRICE, 10))
    desk.tell(("modify", "A", PRICE, 9))

    assert (Amount(2, 19), Amount(), Amount()) == (place.ahead, place.cancelled, place.unseen)


def test_trades_before_the_place_joined_explain_nothing_and_went_through_nothing():
    desk = Desk("A")
    place = make_place(desk)
    desk.trade(10, ago_ms=400)
    desk.trade(4, price=PRICE - 3, ago_ms=400)
    desk.tell(("delete", "A", PRICE, 10), second=10, ms=400)
    desk.settle()

    assert (Amount(), Amount(1, 10), 0) == (place.traded, place.cancelled, place.through_lots)


def test_place_whose_level_left_the_window_is_out_of_sight_until_it_returns():
    desk = Desk(depth=2)
    desk.snapshot(("A", 999, 10), ("B", 998, 10))
    place = desk.book.places.join(Side.BUY, 998, 5)
    assert place is not None
    desk.tell(("add", "C", 1000, 3))
    assert (False, 1, Amount(1, 10)) == (place.is_seen, place.gaps, place.ahead)
    desk.tell(("delete", "C", 1000, 3), ("add", "B", 998, 4))

    assert (True, Amount(1, 4), Amount(0, 6)) == (place.is_seen, place.ahead, place.unseen)


def test_nobody_can_join_beyond_the_window_across_the_spread_or_in_an_invalid_book():
    desk = Desk(depth=2)
    desk.snapshot(("A", 999, 10), ("B", 998, 10))
    places = desk.book.places

    assert [None, None] == [places.join(Side.BUY, price, 1) for price in (997, 1001)]
    assert [None, None] == [desk.book.position_at(Side.BUY, price) for price in (997, 1001)]
    assert places.join(Side.BUY, 1000, 1) is not None
    desk.book.invalidate("lost")
    assert places.join(Side.BUY, 999, 1) is None


def test_left_place_costs_nothing_more_and_reshaping_ends_all():
    desk = Desk("A")
    place, other = make_place(desk), make_place(desk)
    assert 2 == len(desk.book.places)
    desk.book.places.leave(place)
    desk.book.places.leave(place)
    assert 1 == len(desk.book.places)
    desk.book.reshape(price_precision=0, qty_precision=0)
    assert not other.is_over
    desk.book.reshape(price_precision=1, qty_precision=0)

    assert (0, True) == (len(desk.book.places), other.is_over)
