from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.adapters.local_exchange.matching import claims
from krakenbot.adapters.local_exchange.matching.accounts import StopHolds
from krakenbot.adapters.local_exchange.matching.claims import needs
from krakenbot.adapters.local_exchange.matching.fees import Rates
from krakenbot.adapters.local_exchange.matching.operator import Operator
from krakenbot.adapters.local_exchange.matching.orders import AmendRequest, ClientOrder
from krakenbot.adapters.local_exchange.matching.venue import Refusal, Validated

SECOND = 1_000_000_000


def test_orders_at_one_price_trade_in_the_order_of_arrival(desk):
    first = desk.order(desk.alice, "buy", "0.5", "100.0")
    ahead = desk.market.place("buy", 1000, 3000)
    second = desk.order(desk.alice, "buy", "0.5", "100.0")
    desk.market.take("sell", 9000)

    assert (first.status, second.status) == ("filled", "partially_filled")
    assert second.filled_lots == 1000
    assert desk.market.remaining(ahead) == 0


def test_a_better_price_trades_first(desk):
    worse = desk.order(desk.alice, "sell", "0.5", "101.0")
    better = desk.order(desk.alice, "sell", "0.5", "100.5")
    desk.market.take("buy", 5000)

    assert (worse.status, better.status) == ("new", "filled")


def test_a_taker_pays_the_makers_price_and_the_taker_fee(desk):
    desk.market.place("sell", 1000, 5000)
    order = desk.order(desk.alice, "buy", "0.5", "110.0")

    assert order.status == "filled"
    (fill,) = desk.alice.fills
    assert (Decimal("100.0"), Decimal("50.00000"), Decimal("0.20000")) == (fill.price, fill.cost, fill.fee)
    assert desk.alice.balance("USD") == Decimal("949.80000")
    assert desk.alice.balance("ABC") == Decimal("10.5")
    assert not fill.is_maker


def test_a_maker_pays_the_maker_fee_on_every_partial_fill(desk):
    order = desk.order(desk.alice, "sell", "1", "100.0")
    desk.market.take("buy", 2500)
    desk.market.take("buy", 7500)

    assert [Decimal("0.06250"), Decimal("0.18750")] == [fill.fee for fill in desk.alice.fills]
    assert order.status == "filled"
    assert all(fill.is_maker for fill in desk.alice.fills)


def test_a_fee_in_base_is_taken_from_what_is_bought(desk):
    desk.market.place("sell", 1000, 5000)
    desk.order(desk.alice, "buy", "0.5", "110.0", fee_preference="base")

    assert desk.alice.balance("ABC") == Decimal("10.4980")
    assert desk.alice.balance("USD") == Decimal("950.00000")


def test_post_only_that_would_take_is_refused_and_nothing_remains(desk):
    desk.market.place("sell", 1000, 5000)
    outcome = desk.order(desk.alice, "buy", "0.5", "100.0", post_only=True)

    assert Refusal(error="EOrder:Post only order") == outcome
    assert not desk.alice.orders


def test_post_only_can_be_accepted_and_then_cancelled(make_desk):
    desk = make_desk(post_only_reject="cancel")
    desk.market.place("sell", 1000, 5000)
    order = desk.order(desk.alice, "buy", "0.5", "100.0", post_only=True)

    assert (order.status, order.reason) == ("canceled", "Post only order")
    assert desk.market.size_at("sell", 1000) == 5000


def test_ioc_trades_what_it_can_and_never_rests(desk):
    desk.market.place("sell", 1000, 2000)
    order = desk.order(desk.alice, "buy", "0.5", "100.0", time_in_force="ioc")

    assert (order.status, order.filled_lots) == ("canceled", 2000)
    assert desk.market.best("buy") is None
    assert desk.alice.holds() == {}


def test_gtd_expires_at_its_time_and_releases_its_hold(desk):
    order = desk.order(desk.alice, "buy", "0.5", "100.0", time_in_force="gtd", expire_at_ns=desk.start_ns + 2 * SECOND)
    desk.venue.advance(desk.start_ns + 2 * SECOND - 1)
    before = order.status
    desk.venue.advance(desk.start_ns + 2 * SECOND)

    assert (before, order.status) == ("new", "expired")
    assert desk.market.best("buy") is None
    assert desk.alice.available("USD") == Decimal(1000)


def test_a_deadline_that_passed_on_the_way_is_refused(desk):
    outcome = desk.order(desk.alice, "buy", "0.5", "100.0", deadline_at_ns=desk.start_ns - 1)

    assert Refusal(error="EService:Deadline elapsed") == outcome


@pytest.mark.parametrize(
    ("policy", "maker_status", "taker_status"),
    [
        ("cancel_newest", "new", "canceled"),
        ("cancel_oldest", "canceled", "new"),
        ("cancel_both", "canceled", "canceled"),
    ],
)
def test_self_trade_prevention_never_trades_with_itself(desk, policy, maker_status, taker_status):
    maker = desk.order(desk.alice, "sell", "0.5", "100.0")
    taker = desk.order(desk.alice, "buy", "0.5", "100.0", stp_type=policy)

    assert (maker_status, taker_status) == (maker.status, taker.status)
    assert not desk.alice.fills
    assert (desk.market.best("buy") is not None) == (taker_status == "new")


def test_two_accounts_trade_with_each_other(desk):
    desk.order(desk.alice, "sell", "0.5", "100.0")
    desk.order(desk.bob, "buy", "0.5", "100.0")

    assert desk.alice.balance("USD") == Decimal("1049.87500")
    assert desk.bob.balance("USD") == Decimal("949.80000")
    assert desk.bob.balance("ABC") == Decimal("10.5")


def test_an_amendment_to_less_keeps_the_place_and_any_other_goes_to_the_back(desk):
    mine = desk.order(desk.alice, "buy", "0.5", "100.0")
    desk.market.place("buy", 1000, 1000)
    desk.venue.amend_order(desk.alice, AmendRequest(order_id=mine.order_id, qty=Decimal("0.4")))
    desk.market.take("sell", 1000)
    kept = mine.filled_lots
    desk.venue.amend_order(desk.alice, AmendRequest(order_id=mine.order_id, qty=Decimal("0.6")))
    desk.market.take("sell", 1000)

    assert (kept, mine.filled_lots) == (1000, 1000)


def test_an_amended_price_may_take_unless_it_says_post_only(desk):
    mine = desk.order(desk.alice, "buy", "0.5", "99.0", post_only=True)
    desk.market.place("sell", 1000, 5000)
    refused = desk.venue.amend_order(
        desk.alice, AmendRequest(order_id=mine.order_id, limit_price=Decimal(100), post_only=True)
    )
    still = (mine.limit_ticks, mine.status)
    desk.venue.amend_order(desk.alice, AmendRequest(order_id=mine.order_id, limit_price=Decimal(100)))

    assert Refusal(error="EOrder:Post only order") == refused
    assert still == (990, "new")
    assert mine.status == "filled"


def test_an_amendment_below_what_is_filled_cancels_the_rest(desk):
    mine = desk.order(desk.alice, "buy", "0.5", "100.0")
    desk.market.take("sell", 2000)
    desk.venue.amend_order(desk.alice, AmendRequest(order_id=mine.order_id, qty=Decimal("0.1")))

    assert (mine.status, mine.filled_lots, mine.qty_lots) == ("canceled", 2000, 2000)
    assert desk.market.best("buy") is None


def test_an_amendment_beyond_the_funds_changes_nothing(desk):
    mine = desk.order(desk.alice, "buy", "0.5", "100.0")
    outcome = desk.venue.amend_order(desk.alice, AmendRequest(order_id=mine.order_id, qty=Decimal(100)))

    assert Refusal(error="EOrder:Insufficient funds") == outcome
    assert mine.qty_lots == 5000
    assert desk.market.size_at("buy", 1000) == 5000


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"qty": "0.0099", "price": "100.0"}, "EGeneral:Invalid arguments:volume minimum not met"),
        ({"qty": "0.01", "price": "10.0"}, "EOrder:Cost minimum not met"),
        ({"qty": "1", "price": "100.3"}, "EOrder:Tick size check failed"),
        ({"qty": "1", "price": "100.05"}, "EOrder:Invalid price"),
        ({"qty": "1", "price": "-1"}, "EOrder:Invalid price"),
        ({"qty": "1.00001", "price": "100.0"}, "EGeneral:Invalid arguments:volume"),
        ({"qty": "1e999999", "price": "100.0"}, "EGeneral:Invalid arguments:volume"),
        ({"qty": "1", "price": "1e999999"}, "EOrder:Invalid price"),
        ({"qty": "99999999999999", "price": "99999999999999"}, "EOrder:Insufficient funds"),
        ({"qty": "9.97", "price": "100.0"}, "EOrder:Insufficient funds"),
        ({"qty": "1", "price": "100.0", "cl_ord_id": "nineteen-characters"}, "EGeneral:Invalid arguments:cl_ord_id"),
        ({"qty": "1", "price": "100.0", "time_in_force": "gtd"}, "EGeneral:Invalid arguments:expiretm"),
        ({"qty": "1", "price": "100.0", "trigger_price": "1"}, "EGeneral:Invalid arguments:triggers"),
        ({"qty": "1", "price": "100.0", "order_type": "market"}, "EGeneral:Invalid arguments:limit_price"),
        ({"qty": "1", "order_type": "trailing-stop"}, "EGeneral:Invalid arguments:triggers"),
        ({"qty": "1", "order_type": "settle-position"}, "EGeneral:Invalid arguments:ordertype"),
    ],
)
def test_bad_orders_are_refused_in_the_venues_words(desk, fields, error):
    outcome = desk.order(desk.alice, "buy", **fields)

    assert Refusal(error=error) == outcome
    assert not desk.alice.orders
    assert desk.record.counts["rejected"] == 1


def test_the_largest_order_that_the_balance_pays_for_is_accepted(desk):
    order = desk.order(desk.alice, "buy", "9.96", "100.0")

    assert isinstance(order, ClientOrder)
    assert desk.alice.held("USD") == Decimal("999.98400")


def test_a_client_order_id_is_unique_among_open_orders_only(desk):
    first = desk.order(desk.alice, "buy", "0.1", "100.0", cl_ord_id="mine")
    again = desk.order(desk.alice, "buy", "0.1", "100.0", cl_ord_id="mine")
    others = desk.order(desk.bob, "buy", "0.1", "100.0", cl_ord_id="mine")
    desk.venue.cancel_order(desk.alice, first.order_id, None)
    reused = desk.order(desk.alice, "buy", "0.1", "100.0", cl_ord_id="mine")

    assert isinstance(again, Refusal)
    assert isinstance(others, ClientOrder)
    assert isinstance(reused, ClientOrder)


def test_validate_checks_and_leaves_nothing(desk):
    good = desk.order(desk.alice, "buy", "0.1", "100.0", validate=True)
    bad = desk.order(desk.alice, "buy", "100", "100.0", validate=True)

    assert isinstance(good, Validated)
    assert Refusal(error="EOrder:Insufficient funds") == bad
    assert desk.market.best("buy") is None


@pytest.mark.parametrize(
    ("mode", "post_only", "error"),
    [
        ("maintenance", True, "EService:Unavailable"),
        ("cancel_only", True, "EService:Market in cancel_only mode"),
        ("post_only", False, "EService:Market in post_only mode"),
        ("post_only", True, None),
    ],
)
def test_the_mode_of_the_engine_is_obeyed(desk, mode, post_only, error):
    desk.venue.system = mode
    outcome = desk.order(desk.alice, "buy", "0.1", "100.0", post_only=post_only)

    assert error == (outcome.error if isinstance(outcome, Refusal) else None)


def test_a_stop_loss_fires_on_the_last_price_and_sells_at_market(desk):
    stop = desk.order(desk.alice, "sell", "1", order_type="stop-loss", trigger_price="99.0")
    desk.market.place("buy", 990, 1000)
    desk.market.place("buy", 985, 20_000)
    waiting = stop.status, stop.is_triggered
    desk.market.take("sell", 500)

    assert waiting == ("new", False)
    assert (stop.status, stop.is_triggered) == ("filled", True)
    assert sorted({fill.price_ticks for fill in desk.alice.fills}) == [985, 990]


@pytest.mark.parametrize(
    ("side", "kind", "fires_at", "quiet_at"),
    [
        ("sell", "stop-loss-limit", 990, 995),
        ("buy", "stop-loss-limit", 1010, 1005),
        ("sell", "take-profit-limit", 1010, 1005),
        ("buy", "take-profit-limit", 990, 995),
    ],
)
def test_triggers_fire_in_their_direction(desk, side, kind, fires_at, quiet_at):
    trigger = Decimal(fires_at) / 10
    limit = "120.0" if side == "sell" else "80.0"
    desk.market.place("sell", 1000, 100)
    desk.market.take("buy", 100)
    order = desk.order(desk.alice, side, "1", limit, order_type=kind, trigger_price=trigger)
    desk.market.place("sell", quiet_at, 100)
    desk.market.take("buy", 100)
    before = order.is_triggered
    desk.market.place("sell", fires_at, 100)
    desk.market.take("buy", 100)

    assert (before, order.is_triggered) == (False, True)
    assert order.resting is not None


def test_an_index_stop_ignores_prints_and_follows_the_mid(desk, still_flow):
    desk.venue.open(still_flow, desk.start_ns)
    desk.market.place("buy", 995, 10_000)
    ask = desk.market.place("sell", 1005, 10_000)
    desk.venue.advance(desk.start_ns + SECOND)
    stop = desk.order(
        desk.alice, "sell", "0.5", order_type="stop-loss", trigger_price="98.0", trigger_reference="index"
    )
    desk.market.place("buy", 970, 20_000)
    desk.market.take("sell", 10_100)
    after_print = stop.is_triggered
    desk.market.cancel(ask)
    desk.market.place("sell", 975, 10_000)
    desk.venue.advance(desk.start_ns + 60 * SECOND)

    assert (after_print, stop.status) == (False, "filled")


def test_an_index_stop_without_an_index_is_refused(make_desk):
    desk = make_desk(has_index=False)
    outcome = desk.order(
        desk.alice, "sell", "1", order_type="stop-loss", trigger_price="98.0", trigger_reference="index"
    )

    assert Refusal(error="EGeneral:Invalid arguments:Index unavailable") == outcome


def test_a_reserving_stop_holds_its_coins(make_desk):
    desk = make_desk(stop_holds=StopHolds.RESERVE)
    desk.order(desk.alice, "sell", "6", order_type="stop-loss", trigger_price="90.0")
    outcome = desk.order(desk.alice, "sell", "6", "110.0")

    assert Refusal(error="EOrder:Insufficient funds") == outcome
    assert desk.alice.held("ABC") == Decimal(6)


def test_a_stop_without_a_hold_is_cancelled_at_its_trigger_when_the_coins_are_gone(make_desk):
    desk = make_desk(stop_holds=StopHolds.NONE_REJECT_AT_TRIGGER)
    stop = desk.order(desk.alice, "sell", "6", order_type="stop-loss", trigger_price="99.0")
    limit = desk.order(desk.alice, "sell", "6", "110.0")
    desk.market.place("buy", 990, 90_000)
    desk.market.take("sell", 100)

    assert isinstance(limit, ClientOrder)
    assert (stop.status, stop.reason) == ("canceled", "Insufficient funds")


def test_a_shared_hold_carries_stop_and_limit_and_the_stop_wins(make_desk):
    desk = make_desk(stop_holds=StopHolds.SHARED)
    stop = desk.order(desk.alice, "sell", "6", order_type="stop-loss", trigger_price="99.0")
    limit = desk.order(desk.alice, "sell", "6", "110.0")
    held = desk.alice.held("ABC")
    desk.market.place("buy", 990, 90_000)
    desk.market.take("sell", 100)

    assert held == Decimal(6)
    assert (stop.status, limit.status) == ("filled", "canceled")
    assert desk.alice.balance("ABC") == Decimal(4)


def test_a_stop_that_lacks_funds_even_without_its_rivals_leaves_them(make_desk):
    desk = make_desk(stop_holds=StopHolds.SHARED)
    stop = desk.order(desk.alice, "sell", "6", order_type="stop-loss", trigger_price="99.0")
    sold = desk.order(desk.alice, "sell", "6", "101.0")
    rival = desk.order(desk.alice, "sell", "4", "110.0")
    desk.market.take("buy", 60_000)
    desk.market.place("buy", 990, 90_000)
    desk.market.take("sell", 100)

    assert ("filled", "new") == (sold.status, rival.status)
    assert ("canceled", "Insufficient funds") == (stop.status, stop.reason)
    assert desk.alice.claimed("ABC") == Decimal(4)


def test_a_stop_takes_no_more_rivals_away_than_it_needs(make_desk):
    desk = make_desk(stop_holds=StopHolds.SHARED)
    stop = desk.order(desk.alice, "sell", "6", order_type="stop-loss", trigger_price="99.0")
    rivals = [desk.order(desk.alice, "sell", "3", price) for price in ("110.0", "111.0", "112.0")]
    desk.market.place("buy", 990, 90_000)
    desk.market.take("sell", 100)

    assert ["canceled", "canceled", "new"] == [rival.status for rival in rivals]
    assert "filled" == stop.status
    assert desk.alice.claimed("ABC") == Decimal(3)


def test_the_dead_mans_switch_cancels_everything_once(desk):
    order = desk.order(desk.alice, "buy", "0.1", "100.0")
    desk.venue.cancel_all_after(desk.alice, 5)
    desk.venue.advance(desk.start_ns + 4 * SECOND)
    desk.venue.cancel_all_after(desk.alice, 5)
    desk.venue.advance(desk.start_ns + 8 * SECOND)
    before = order.status
    desk.venue.advance(desk.start_ns + 9 * SECOND)
    later = desk.order(desk.alice, "buy", "0.1", "100.0")
    desk.venue.advance(desk.start_ns + 60 * SECOND)

    assert (before, order.status, later.status) == ("new", "canceled", "new")


def test_a_market_order_into_an_empty_book_ends_unfilled(desk):
    order = desk.order(desk.alice, "sell", "1", order_type="market")

    assert (order.status, order.filled_lots) == ("canceled", 0)


def test_the_flow_cannot_touch_client_orders(desk):
    order = desk.order(desk.alice, "buy", "0.5", "100.0")

    assert not desk.market.cancel(order.number)
    assert not desk.market.reduce(order.number, 1)
    assert desk.market.remaining(order.number) == 0
    assert desk.market.client_size_at("buy", 1000) == 5000


def test_the_flow_knows_what_stands_ahead_of_it(desk):
    desk.order(desk.alice, "buy", "0.5", "100.0")
    number = desk.market.place("buy", 1000, 300)

    assert desk.market.ahead(number) == 5000
    assert desk.market.size_at("buy", 1000) == 5300
    assert desk.market.place("sell", 1000, 10) is None


actions = st.lists(
    st.tuples(
        st.sampled_from(["order", "market", "ioc", "stop", "cancel", "amend", "flow", "take"]),
        st.booleans(),
        st.booleans(),
        st.integers(0, 12),
        st.integers(100, 60_000),
    ),
    max_size=60,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions=actions, stop_holds=st.sampled_from(list(StopHolds)))
def test_money_is_conserved_and_no_balance_or_queue_breaks(actions, stop_holds, make_desk):
    desk = make_desk(stop_holds=stop_holds)
    accounts = (desk.alice, desk.bob)
    for kind, is_buy, is_alice, step, lots in actions:
        account, side = accounts[is_alice], "buy" if is_buy else "sell"
        price, qty = str(Decimal(975 + 5 * step) / 10), str(Decimal(lots) / 10_000)
        open_orders = list(account.open_orders.values())
        match kind:
            case "order":
                desk.order(account, side, qty, price)
            case "market":
                desk.order(account, side, qty, order_type="market")
            case "ioc":
                desk.order(account, side, qty, price, time_in_force="ioc", stp_type="cancel_both")
            case "stop":
                desk.order(account, side, qty, order_type="stop-loss", trigger_price=price)
            case "cancel" if open_orders:
                desk.venue.cancel_order(account, open_orders[step % len(open_orders)].order_id, None)
            case "amend" if open_orders:
                order = open_orders[step % len(open_orders)]
                limit = None if order.limit_ticks is None else Decimal(price)
                desk.venue.amend_order(
                    account, AmendRequest(order_id=order.order_id, qty=Decimal(qty), limit_price=limit)
                )
            case "flow":
                desk.market.place(side, 975 + 5 * step, lots)
            case "take":
                desk.market.take(side, lots)
            case _:
                continue

    for account in accounts:
        expected = {"USD": Decimal(1000), "ABC": Decimal(10)}
        for fill in account.fills:
            sign = 1 if fill.side == "buy" else -1
            expected["ABC"] += sign * fill.qty
            expected["USD"] -= sign * fill.cost + fill.fee
        assert expected == account.balances
        assert all(amount >= 0 for amount in account.balances.values())
        for order in account.orders.values():
            fills = [fill for fill in account.fills if fill.order_id == order.order_id]
            assert sum(fill.size_lots for fill in fills) == order.filled_lots <= order.qty_lots
            assert sum((fill.cost for fill in fills), Decimal(0)) == order.cum_cost
            assert (order.status == "filled") == (order.filled_lots == order.qty_lots and order.reason is None)
            assert (order.resting is not None) == (order.is_open and not order.waits_for_trigger)
            if order.resting is not None:
                assert order.resting.remaining_lots == order.remaining_lots
    both_sides = [fill for account in accounts for fill in account.fills]
    by_trade: dict[int, list[Any]] = {}
    for fill in both_sides:
        by_trade.setdefault(fill.trade_id, []).append(fill)
    for fills in by_trade.values():
        assert len({fill.size_lots for fill in fills}) == 1
        assert len(fills) == 1 or {"buy", "sell"} == {fill.side for fill in fills}
    bid, ask = desk.market.best("buy"), desk.market.best("sell")
    assert bid is None or ask is None or bid < ask


def test_the_same_calls_write_the_same_record(make_desk):
    def run() -> bytes:
        file = io.BytesIO()
        desk = make_desk(file)
        desk.record.deposits()
        mine = desk.order(desk.alice, "buy", "0.5", "100.0", cl_ord_id="a")
        desk.market.take("sell", 2000)
        desk.venue.amend_order(desk.alice, AmendRequest(cl_ord_id="a", qty=Decimal("0.4")))
        desk.order(desk.alice, "buy", "50", "100.0")
        desk.venue.cancel_order(desk.alice, mine.order_id, None)
        desk.record.flush()
        return file.getvalue()

    first = run()

    assert run() == first
    kinds = [line.split(b'"kind":"')[1].split(b'"')[0].decode() for line in first.splitlines()]
    assert kinds == [
        *["deposited"] * 4,
        "accepted",
        "opened",
        "traded",
        "paid",
        "paid",
        "amended",
        "rejected",
        "cancelled",
    ]


def test_orders_expire_by_their_times_and_those_that_ended_before_do_not(desk):
    second = 1_000_000_000
    orders = [
        desk.order(desk.alice, "buy", "0.1", "90.0", time_in_force="gtd", expire_at_ns=desk.start_ns + seconds * second)
        for seconds in (3, 1, 2, 1)
    ]
    desk.venue.cancel_order(desk.alice, orders[3].order_id, None)
    desk.venue.advance(desk.start_ns + 5 * second)

    assert ["expired", "expired", "expired", "canceled"] == [order.status for order in orders]
    assert [3, 1, 2] == [((order.closed_ns or 0) - desk.start_ns) // second for order in orders[:3]]


def test_orders_that_ended_do_not_add_up_among_those_that_expire(desk):
    for _ in range(50):
        order = desk.order(
            desk.alice, "buy", "0.1", "90.0", time_in_force="gtd", expire_at_ns=desk.venue.now_ns + 1_000_000_000
        )
        desk.venue.cancel_order(desk.alice, order.order_id, None)
        desk.venue.advance(desk.venue.now_ns + 5_000_000_000)

    assert not desk.venue.endings._due


@pytest.mark.parametrize("preference", ["quote", "base"])
def test_what_is_claimed_follows_every_change_of_an_order(desk, preference):
    order = desk.order(desk.alice, "buy", "0.5", "100.0", fee_preference=preference)
    seen = []

    def claim() -> None:
        seen.append(desk.alice.claimed("USD"))

        assert seen[-1] == needs(order)[1]

    claim()
    desk.market.take("sell", 1000)
    claim()
    for qty, price in (("0.7", "100.0"), ("0.7", "99.0")):
        request = AmendRequest(order_id=order.order_id, qty=Decimal(qty), limit_price=Decimal(price))
        desk.venue.amend_order(desk.alice, request)
        claim()
    Operator(desk.venue).set_fee_rates(desk.alice.name, Rates(9000, 9000))
    desk.venue.amend_order(desk.alice, AmendRequest(order_id=order.order_id, qty=Decimal("0.7")))
    claim()

    assert len(seen) - (preference == "base") == len(set(seen))


def test_long_texts_of_a_client_neither_stay_nor_fill_the_record(make_desk):
    file = io.BytesIO()
    desk = make_desk(file)
    outcome = desk.order(desk.alice, "buy", "0.5", "90.0", sender_sub_id="x" * 1_000_000)
    desk.venue.cancel_order(desk.alice, "x" * 1_000_000, None)

    assert Refusal(error="EGeneral:Invalid arguments:sender_sub_id") == outcome
    assert len(file.getvalue()) < 2000


def test_a_new_order_costs_the_same_work_beside_many_open_ones(desk, monkeypatch):
    asked = []

    def counted(order):
        asked.append(order)
        return needs(order)

    monkeypatch.setattr(claims, "needs", counted)

    def work_of_one_more() -> int:
        asked.clear()
        order = desk.order(desk.alice, "buy", "0.01", "90.0")
        desk.venue.advance(desk.venue.now_ns + 1_000_000_000)

        assert order.is_open
        return len(asked)

    work = [work_of_one_more() for _ in range(150)]

    assert max(work[:5]) == max(work)
    assert desk.alice.claimed("USD") == 150 * Decimal("0.90360")
