"""Clients' orders in a played-back market: places in queues, displayed volume, stops, amendments, the same twice."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.matching.orders import AmendRequest
from krakenbot.adapters.local_exchange.matching.venue import Refusal

UNIT = 10**6
BIDS = {1000: 10 * UNIT, 999: 10 * UNIT, 998: 5 * UNIT}
ASKS = {1002: 4 * UNIT, 1003: 6 * UNIT, 1004: 5 * UNIT}


def fills(order: Any) -> int:
    return int(order.filled_lots) // UNIT


@pytest.fixture
def begun(script: Any) -> Any:
    """A script whose book stands, with trades recorded."""
    script.ack(0, "trade")
    script.ack(0, "book", depth=10)
    script.book(1, BIDS, ASKS)
    return script


def test_an_order_fills_only_after_the_volume_ahead_has_traded(begun: Any, play: Any) -> None:
    for number, lots in enumerate((6, 3, 2, 4)):
        begun.trade(100 + 100 * number, (number + 1, "sell", 1000, lots * UNIT))
    played = play(begun.close())
    played.to(50)
    order = played.order("buy", 4 * UNIT, 1000)
    seen = []
    for at_ms in (150, 250, 350, 450):
        played.to(at_ms)
        seen.append(fills(order))

    assert [0, 0, 1, 4] == seen
    assert "filled" == order.status
    assert [3, 4] == [fill.trade_id for fill in played.alice.fills]
    assert {Decimal("100.0")} == {fill.price for fill in played.alice.fills}
    assert all(fill.is_maker for fill in played.alice.fills)


def test_a_price_that_trades_through_fills_up_to_the_traded_volume(begun: Any, play: Any) -> None:
    begun.trade(100, (1, "sell", 999, 3 * UNIT))
    begun.trade(200, (2, "sell", 998, 9 * UNIT))
    played = play(begun.close())
    played.to(50)
    first, second = played.order("buy", 4 * UNIT, 1000), played.order("buy", 4 * UNIT, 999)
    played.to(150)
    after_one = fills(first), fills(second)
    played.to(250)

    assert (3, 0) == after_one
    assert (4, 4) == (fills(first), fills(second))
    assert Decimal("100.0") == played.alice.fills[0].price


def test_trades_of_takers_on_our_side_do_not_move_the_queue(begun: Any, play: Any) -> None:
    begun.trade(100, (1, "buy", 1000, 50 * UNIT))
    played = play(begun.close())
    played.to(50)
    order = played.order("buy", 4 * UNIT, 1000)
    played.to(150)

    assert 0 == fills(order)


def test_a_smaller_displayed_size_proves_that_less_is_ahead(begun: Any, play: Any) -> None:
    begun.book(100, BIDS | {1000: 2 * UNIT}, ASKS)
    begun.book(150, BIDS | {1000: 30 * UNIT}, ASKS)
    begun.trade(200, (1, "sell", 1000, 3 * UNIT))
    played = play(begun.close())
    played.to(50)
    order = played.order("buy", 4 * UNIT, 1000)
    played.to(250)

    assert 1 == fills(order)


def test_with_level3_a_cancel_ahead_counts_and_one_behind_does_not(script: Any, play: Any) -> None:
    asks = {1002: [("O90", 4 * UNIT)]}
    script.ack(0, "trade")
    script.ack(0, "level3", c="level3-1", depth=10)
    script.level3(1, {1000: [("O1", 5 * UNIT), ("O2", 5 * UNIT)]}, asks)
    script.level3(100, {1000: [("O1", 5 * UNIT), ("O2", 5 * UNIT), ("O3", 9 * UNIT)]}, asks)
    script.level3(150, {1000: [("O2", 5 * UNIT), ("O3", 9 * UNIT)]}, asks)
    script.level3(160, {1000: [("O2", 5 * UNIT), ("O3", 1 * UNIT)]}, asks)
    script.trade(200, (1, "sell", 1000, 6 * UNIT))
    played = play(script.close())
    played.to(50)
    order = played.order("buy", 4 * UNIT, 1000)
    played.to(250)

    assert 1 == fills(order)


def test_an_order_below_the_recorded_depth_waits_until_its_level_is_seen(script: Any, play: Any) -> None:
    deep = {1000 - n: 10 * UNIT for n in range(10)}
    script.ack(0, "trade")
    script.ack(0, "book", depth=10)
    script.book(1, deep, ASKS)
    script.book(100, {price: lots for price, lots in deep.items() if price != 1000} | {990: 7 * UNIT}, ASKS)
    script.trade(200, (1, "sell", 990, 8 * UNIT))
    played = play(script.close())
    played.to(50)
    order = played.order("buy", 4 * UNIT, 990)
    played.to(150)
    assert 0 == fills(order)
    played.to(250)

    assert 1 == fills(order)


def test_a_crossing_order_takes_displayed_volume_once_and_alters_nothing(begun: Any, play: Any) -> None:
    begun.book(500, BIDS, ASKS | {1002: 6 * UNIT})
    played = play(begun.close())
    played.to(50)
    reader = played.subscribe("book", depth=10)
    first = played.order("buy", 7 * UNIT, 1003)
    again = played.order("buy", 5 * UNIT, 1003, time_in_force="ioc")
    other = played.order("buy", 4 * UNIT, 1002, account=played.bob)
    played.to(600)
    more = played.order("buy", 5 * UNIT, 1002, time_in_force="ioc")

    assert (7, 3, 4, 2) == (fills(first), fills(again), fills(other), fills(more))
    assert ("canceled", "canceled") == (again.status, more.status)
    assert [(1002, 6 * UNIT), (1003, 6 * UNIT)] == played.market.levels("sell", 2)
    assert 2 == len(reader.data("book"))
    prices = [(fill.price, fill.size_lots // UNIT) for fill in list(played.alice.fills)[:2]]
    assert [(Decimal("100.2"), 4), (Decimal("100.3"), 3)] == prices
    assert not any(fill.is_maker for fill in played.alice.fills)
    assert 0 == played.market.stats.count


def test_volume_that_left_a_level_is_taken_to_be_what_the_account_took(begun: Any, play: Any) -> None:
    begun.book(100, BIDS, ASKS | {1002: UNIT})
    begun.book(200, BIDS, ASKS | {1002: 5 * UNIT})
    played = play(begun.close())
    played.to(50)
    first = played.order("buy", 4 * UNIT, 1002)
    played.to(150)
    nothing = played.order("buy", UNIT, 1002, time_in_force="ioc")
    played.to(250)
    later = played.order("buy", 9 * UNIT, 1002, time_in_force="ioc")

    assert (4, 0, 4) == (fills(first), fills(nothing), fills(later))


def test_a_market_order_beyond_the_displayed_book_is_cut(begun: Any, play: Any) -> None:
    played = play(begun.close())
    played.to(50)
    order = played.order("sell", 100 * UNIT, None, order_type="market")

    assert (25, "canceled", "No liquidity") == (fills(order), order.status, order.reason)


def test_fill_or_kill_sees_what_the_account_took_before(begun: Any, play: Any) -> None:
    played = play(begun.close())
    played.to(50)
    played.order("buy", 3 * UNIT, 1002)
    order = played.order("buy", 2 * UNIT, 1002, time_in_force="fok")

    assert (0, "canceled") == (fills(order), order.status)


def test_post_only_is_judged_by_the_recorded_book_and_by_clients(begun: Any, play: Any) -> None:
    played = play(begun.close())
    played.to(50)
    with pytest.raises(AssertionError, match="EOrder:Post only order"):
        played.order("buy", UNIT, 1002, post_only=True)
    inside = played.order("buy", UNIT, 1001, post_only=True)
    with pytest.raises(AssertionError, match="EOrder:Post only order"):
        played.order("sell", UNIT, 1001, post_only=True, account=played.bob)

    assert "new" == inside.status


def test_clients_trade_with_each_other_after_what_is_displayed(begun: Any, play: Any) -> None:
    played = play(begun.close())
    played.to(50)
    maker = played.order("sell", 2 * UNIT, 1002)
    own = played.order("buy", 8 * UNIT, 1002, stp_type="cancel_newest")
    taker = played.order("buy", 5 * UNIT, 1002, account=played.bob)

    # Alice takes the 4 displayed and then meets herself; Bob takes the same 4 and one of hers.
    assert (4, "canceled") == (fills(own), own.status)
    assert (5, 1) == (fills(taker), fills(maker))
    assert [True] == [fill.is_maker for fill in played.alice.fills if fill.order_id == maker.order_id]


def test_an_amended_price_goes_behind_what_is_displayed_and_a_lower_size_keeps_its_place(begun: Any, play: Any) -> None:
    begun.trade(100, (1, "sell", 1000, 8 * UNIT))
    begun.trade(300, (2, "sell", 1000, 4 * UNIT))
    played = play(begun.close())
    played.to(50)
    kept, moved, gone = (played.order("buy", 4 * UNIT, ticks, account=a) for ticks, a in by_account(played))
    played.to(150)
    for order, change in (
        (kept, AmendRequest(order_id=kept.order_id, qty=Decimal(2 * UNIT).scaleb(-8))),
        (moved, AmendRequest(order_id=moved.order_id, limit_price=Decimal("100.0"))),
    ):
        account = played.alice if order is kept else played.bob
        assert not isinstance(played.venue.amend_order(account, change), Refusal)
    played.venue.cancel_order(played.alice, gone.order_id, None)
    played.to(350)

    assert (2, 0, 0) == (fills(kept), fills(moved), fills(gone))
    assert ("filled", "new", "canceled") == (kept.status, moved.status, gone.status)


def by_account(played: Any) -> list[tuple[int, Any]]:
    return [(1000, played.alice), (999, played.bob), (1000, played.alice)]


def test_a_stop_fires_on_a_recorded_trade_and_takes_from_the_recorded_book(begun: Any, play: Any) -> None:
    begun.trade(100, (1, "sell", 999, UNIT))
    begun.trade(200, (2, "sell", 998, UNIT))
    played = play(begun.close())
    played.to(50)
    stop = played.order("sell", 2 * UNIT, None, order_type="stop-loss", trigger_price=Decimal("99.8"))
    played.to(150)
    before = stop.is_triggered
    played.to(250)

    assert (False, True, 2) == (before, stop.is_triggered, fills(stop))
    assert Decimal("100.0") == played.alice.fills[0].price


def test_a_good_till_date_order_expires_on_venue_time(begun: Any, play: Any) -> None:
    begun.trade(5000, (1, "sell", 1000, 50 * UNIT))
    played = play(begun.close())
    played.to(50)
    order = played.order("buy", UNIT, 1000, time_in_force="gtd", expire_at_ns=played.venue.now_ns + 2_000_000_000)
    played.to(6000)

    assert ("expired", 0) == (order.status, fills(order))


def test_history_and_trades_before_the_arrival_fill_nobody(begun: Any, play: Any) -> None:
    begun.trade(2, (1, "sell", 900, 50 * UNIT), kind="snapshot")
    begun.book(300, BIDS | {1000: UNIT}, ASKS)
    # Sent late: it happened before the book of 300 ms was made.
    stamp = begun.trade(290, (2, "sell", 1000, 9 * UNIT))
    played = play(begun.close())
    early = played.order("buy", UNIT, 995)
    played.to(300)
    late = played.order("buy", UNIT, 1000)
    played.to(400)

    assert '"trade_id":2' in stamp
    assert (0, 0) == (fills(early), fills(late))


def test_trades_that_come_twice_count_once(begun: Any, play: Any) -> None:
    for at_ms, c in ((100, "public-1"), (110, "public-2")):
        begun.trade(at_ms, (1, "sell", 1000, 8 * UNIT), c=c)
    played = play(begun.close())
    played.to(50)
    order = played.order("buy", 4 * UNIT, 1000)
    reader = played.subscribe("trade")
    played.to(150)

    assert 0 == fills(order)
    assert 1 == len(reader.data("trade"))
    assert 1 == played.counts["trades_repeated"]


def test_own_orders_are_never_in_public_frames_while_the_recording_plays(begun: Any, play: Any) -> None:
    begun.book(200, BIDS | {1000: 11 * UNIT}, ASKS)
    played = play(begun.close())
    played.to(50)
    played.order("buy", UNIT, 1001)
    late = played.subscribe("book", depth=10)
    played.to(250)

    best = [json.loads(text)["data"][0]["bids"][0]["price"] for text in late.data("book")]
    assert [100.0, 100.0] == best


def test_the_same_recording_and_orders_give_the_same_record_of_truth(begun: Any, play: Any) -> None:
    for number in range(20):
        begun.trade(100 + 40 * number, (number + 1, "sell", 1000 - number % 3, 3 * UNIT))
    folder, records = begun.close(), []
    for _ in range(2):
        played = play(folder, at_end="seeded")
        played.to(50)
        played.order("buy", 4 * UNIT, 1000)
        played.order("sell", 4 * UNIT, 1000, account=played.bob)
        played.to(500)
        played.order("buy", 30 * UNIT, 999)
        played.to(4000)
        records.append(played.file.getvalue())

    assert records[0] == records[1]
    assert records[0].count(b'"traded"') > 4
