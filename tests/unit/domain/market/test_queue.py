from __future__ import annotations

import zlib
from decimal import Decimal

import pytest
from attrs import frozen

from krakenbot.domain.market.book import Verdict
from krakenbot.domain.market.freshness import utc_ns
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.values import Side

T = "2026-11-22T10:00:{:02d}.000000000Z"


@frozen
class Order:
    order_id: str
    limit_price: float
    order_qty: float | Decimal
    timestamp: str = T.format(0)
    event: str = ""


def crc(*digits: str) -> int:
    return zlib.crc32("".join(digits).encode())


def make_queue() -> L3Book:
    """Bids at 999: A 1.0, B 2.0, C 3.0; asks at 1001: Z 5.0 (quantities in tenths at precision 1)."""
    queue = L3Book(price_precision=1, qty_precision=1, depth=10)
    bids = [Order("A", 99.9, 1.0, T.format(1)), Order("B", 99.9, 2.0, T.format(2)), Order("C", 99.9, 3.0, T.format(3))]
    verdict = queue.load(bids, [Order("Z", 100.1, 5.0)], crc("100150", "99910", "99920", "99930"), T.format(10), 1.0)
    assert Verdict.GOOD is verdict
    return queue


def change(queue: L3Book, order: Order, *digits: str) -> None:
    assert Verdict.GOOD is queue.apply([order], [], crc("100150", *digits), T.format(11), 2.0)


def test_position_counts_lots_orders_and_notional_ahead():
    position = make_queue().position_of("C")

    assert position is not None
    assert (30, 2, 60) == (position.ahead_lots, position.ahead_orders, position.level_lots)
    assert position.ahead_notional_quote == pytest.approx(99.9 * 3.0)


def test_order_not_held_has_no_position():
    assert make_queue().position_of("nobody") is None


def test_new_order_would_stand_behind_the_whole_level():
    queue = make_queue()
    joined, lower = queue.position_at(Side.BUY, 999, 5), queue.position_at(Side.BUY, 998)

    assert joined is not None
    assert lower is not None
    assert (60, 3, 0, 5) == (joined.ahead_lots, joined.ahead_orders, joined.better_lots, joined.size_lots)
    assert (0, 0, 60, 3) == (lower.ahead_lots, lower.ahead_orders, lower.better_lots, lower.better_orders)


def test_position_in_a_book_that_is_not_valid_is_unknown_and_not_the_front():
    queue = make_queue()
    queue.invalidate("checksum mismatch")

    assert queue.position_at(Side.BUY, 999, 5) is None
    assert queue.position_of("C") is None
    assert L3Book(price_precision=1, qty_precision=1, depth=10).position_at(Side.SELL, 1001) is None


def test_modify_keeps_the_place():
    queue = make_queue()
    change(queue, Order("B", 99.9, 1.5, T.format(9), "modify"), "99910", "99915", "99930")

    assert [("A", 10), ("B", 15), ("C", 30)] == queue.orders(Side.BUY, 999)


def test_modify_with_a_new_price_goes_to_the_back():
    queue = make_queue()
    change(queue, Order("D", 99.8, 4.0, T.format(4), "add"), "99910", "99920", "99930", "99840")
    change(queue, Order("A", 99.8, 1.0, T.format(9), "modify"), "99920", "99930", "99840", "99810")

    assert [("D", 40), ("A", 10)] == queue.orders(Side.BUY, 998)


def test_order_added_again_loses_its_stale_copy_and_goes_to_the_back():
    queue = make_queue()
    change(queue, Order("A", 99.9, 1.0, T.format(9), "add"), "99920", "99930", "99910")

    assert ["B", "C", "A"] == [order_id for order_id, _ in queue.orders(Side.BUY, 999)]


def test_delete_of_an_unknown_order_is_ignored():
    queue = make_queue()
    change(queue, Order("nobody", 99.9, 1.0, T.format(9), "delete"), "99910", "99920", "99930")

    assert 3 == len(queue.orders(Side.BUY, 999))


def test_adds_of_one_message_enter_in_the_order_of_their_own_times():
    queue = make_queue()
    adds = [Order("late", 99.9, 1.0, T.format(8), "add"), Order("early", 99.9, 2.0, T.format(7), "add")]
    verdict = queue.apply(adds, [], crc("100150", "99910", "99920", "99930", "99920", "99910"), T.format(11), 2.0)

    assert Verdict.GOOD is verdict
    assert ["A", "B", "C", "early", "late"] == [order_id for order_id, _ in queue.orders(Side.BUY, 999)]


def test_level_states_size_age_and_concentration():
    level = make_queue().level(Side.BUY, 999, utc_ns(T.format(12)))

    assert level is not None
    assert (60, 3) == (level.size_lots, level.orders)
    assert level.mean_age_s == pytest.approx(10.0)
    assert level.largest_share == pytest.approx(0.5)
    assert make_queue().level(Side.BUY, 1, 0) is None


def test_touch_counters_count_arrivals_and_departures_at_the_touch_and_reset():
    queue = make_queue()
    assert (0, 0, 0, 0) == queue.take_touch_counters()
    change(queue, Order("D", 99.9, 4.0, T.format(4), "add"), "99910", "99920", "99930", "99940")
    change(queue, Order("A", 99.9, 1.0, T.format(4), "delete"), "99920", "99930", "99940")
    change(queue, Order("B", 99.9, 1.5, T.format(4), "modify"), "99915", "99930", "99940")
    change(queue, Order("E", 99.0, 9.0, T.format(5), "add"), "99915", "99930", "99940", "99090")

    assert (40, 15, 0, 0) == queue.take_touch_counters()
    assert (0, 0, 0, 0) == queue.take_touch_counters()


def test_levels_beyond_the_depth_are_forgotten_with_their_orders():
    queue = L3Book(price_precision=0, qty_precision=0, depth=10)
    bids = [Order(f"O{price}", float(price), 1.0) for price in range(100, 89, -1)]
    assert Verdict.GOOD is queue.load(bids, [], crc(*[f"{price}1" for price in range(100, 90, -1)]), "", 1.0)

    assert queue.position_of("O90") is None
    assert queue.position_of("O91") is not None


def test_wrong_checksum_crossing_and_time_running_back_empty_the_queues():
    wrong, crossed, back = make_queue(), make_queue(), make_queue()
    wrong.apply([Order("A", 99.9, 1.0, T.format(9), "delete")], [], 7, T.format(11), 2.0)
    through = Order("X", 100.1, 1.0, T.format(9), "add")
    crossed.apply([through], [], crc("100150", "100110", "99910", "99920", "99930"), T.format(11), 2.0)
    back.apply([], [], crc("100150", "99910", "99920", "99930"), T.format(1), 2.0)

    assert ["checksum mismatch", "crossed", "time ran back"] == [each.invalid_reason for each in (wrong, crossed, back)]
    assert [None] * 3 == [each.best(Side.BUY) for each in (wrong, crossed, back)]


def test_large_quantity_is_taken_exactly_and_counted_once():
    lots = 2**50 + 1
    exact = Decimal(lots).scaleb(-1)
    queue = make_queue()
    adds = [Order("D", 99.9, 4.0, T.format(4), "add"), Order("E", 99.9, float(exact), T.format(5), "add")]
    checksum = crc("100150", "99910", "99920", "99930", "99940", f"999{lots}")

    assert Verdict.INEXACT is queue.apply(adds, [], checksum, T.format(11), 2.0)
    with queue.exactly():
        exactly = [Order("D", 99.9, Decimal(4), T.format(4), "add"), Order("E", 99.9, exact, T.format(5), "add")]
        assert Verdict.GOOD is queue.apply(exactly, [], checksum, T.format(11), 2.0)
    assert (40 + lots, 0, 0, 0) == queue.take_touch_counters()


def test_increment_of_five_cents_is_counted_in_cents():
    queue = L3Book(price_precision=2, qty_precision=1, depth=10)
    bids = [Order("A", 0.95, 1.0), Order("B", 0.95, 2.0), Order("C", 0.9, 3.0)]
    digits = ("10510", "9510", "9520", "9030")
    assert Verdict.GOOD is queue.load(bids, [Order("Z", 1.05, 1.0)], crc(*digits), T.format(10), 1.0)
    lower = queue.position_at(Side.BUY, 90, 1)

    assert ([95, 90], [105]) == (queue.prices(Side.BUY, 10), queue.prices(Side.SELL, 10))
    assert lower is not None
    assert (30, 30, 2) == (lower.ahead_lots, lower.better_lots, lower.better_orders)
    assert lower.ahead_notional_quote == pytest.approx(0.9 * 3.0)


def test_modify_of_an_order_beyond_the_window_is_ignored():
    queue = make_queue()
    change(queue, Order("nobody", 99.9, 1.0, T.format(9), "modify"), "99910", "99920", "99930")

    assert ["A", "B", "C"] == [order_id for order_id, _ in queue.orders(Side.BUY, 999)]


def test_large_ask_is_taken_exactly():
    lots = 2**50 + 1
    exact = Decimal(lots).scaleb(-1)
    queue = make_queue()
    checksum = crc("100150", f"1001{lots}", "99910", "99920", "99930")

    inexact = queue.apply([], [Order("Y", 100.1, float(exact), T.format(5), "add")], checksum, T.format(11), 2.0)
    assert Verdict.INEXACT is inexact
    with queue.exactly():
        exactly = queue.apply([], [Order("Y", 100.1, exact, T.format(5), "add")], checksum, T.format(11), 2.0)
    assert Verdict.GOOD is exactly
    assert [("Z", 50), ("Y", lots)] == queue.orders(Side.SELL, 1001)


def test_adds_of_one_message_with_times_of_different_lengths_enter_in_their_order():
    queue = make_queue()
    adds = [
        Order("late", 99.9, 1.0, "2026-11-22T10:00:08.5Z", "add"),
        Order("later", 99.9, 2.0, "2026-11-22T10:00:08.51Z", "add"),
        Order("early", 99.9, 3.0, "2026-11-22T10:00:08Z", "add"),
    ]
    digits = ("99910", "99920", "99930", "99930", "99910", "99920")

    assert Verdict.GOOD is queue.apply(adds, [], crc("100150", *digits), T.format(11), 2.0)
    assert ["early", "late", "later"] == [order_id for order_id, _ in queue.orders(Side.BUY, 999)][3:]


def test_prices_that_stand_outlive_all_that_come_and_go():
    queue = make_queue()
    standing = ("99910", "99920", "99930")
    for step in range(5000):
        ticks = 1002 + step
        asks = crc("100150", f"{ticks}10", *standing)
        add, delete = (Order("Y", ticks / 10, 1.0, T.format(11), event) for event in ("add", "delete"))
        assert Verdict.GOOD is queue.apply([], [add], asks, T.format(11), 2.0)
        assert Verdict.GOOD is queue.apply([], [delete], crc("100150", *standing), T.format(11), 2.0)
    change(queue, Order("A", 99.9, 1.0, T.format(9), "delete"), "99920", "99930")
    queue.apply(
        [], [Order("X", 100.1, 1.0, T.format(9), "add")], crc("100150", "100110", *standing[1:]), T.format(11), 2
    )

    assert ["Z", "X"] == [order_id for order_id, _ in queue.orders(Side.SELL, 1001)]


def test_two_adds_of_one_message_whose_texts_ascend_while_their_times_do_not_are_turned():
    queue = make_queue()
    stamps = {"late": "2026-11-22T10:00:08.51Z", "early": "2026-11-22T10:00:08.5Z"}
    adds = [Order(name, 99.9, 1.0, at, "add") for name, at in stamps.items()]
    queue.apply(adds, [], crc("100150", "99910", "99920", "99930", "99910", "99910"), T.format(11), 2.0)

    assert ["early", "late"] == [order_id for order_id, _ in queue.orders(Side.BUY, 999)][3:]


def test_order_leaves_a_level_whose_price_was_met_long_ago():
    queue = make_queue()
    for ticks in range(2000, 7000):
        queue._bids._key(ticks / 10)
    change(queue, Order("A", 99.9, 1.0, T.format(9), "delete"), "99920", "99930")

    assert ["B", "C"] == [order_id for order_id, _ in queue.orders(Side.BUY, 999)]
    assert 520 > max(len(queue._bids.prices), len(queue._bids.key_at))


def test_order_that_grows_at_the_touch_or_moves_to_it_or_from_it_counts_there():
    queue = make_queue()
    change(queue, Order("D", 99.8, 4.0, T.format(4), "add"), "99910", "99920", "99930", "99840")
    queue.take_touch_counters()
    change(queue, Order("B", 99.9, 2.5, T.format(9), "modify"), "99910", "99925", "99930", "99840")
    grown = queue.take_touch_counters()
    change(queue, Order("A", 99.8, 1.0, T.format(9), "modify"), "99925", "99930", "99840", "99810")
    left = queue.take_touch_counters()
    change(queue, Order("D", 99.9, 4.0, T.format(9), "modify"), "99925", "99930", "99940", "99810")

    assert ((5, 0, 0, 0), (0, 10, 0, 0), (40, 0, 0, 0)) == (grown, left, queue.take_touch_counters())
