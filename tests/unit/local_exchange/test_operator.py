"""What the venue does to its clients on its own: modes, rules, cancels, bookings."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.matching.fees import Rates
from krakenbot.adapters.local_exchange.matching.operator import PAIR_STATUSES, Operator, OperatorError
from krakenbot.adapters.local_exchange.matching.orders import AmendRequest, ClientOrder, OrderRequest
from krakenbot.adapters.local_exchange.matching.tiers import Tier
from krakenbot.adapters.local_exchange.matching.venue import Refusal

SECOND = 1_000_000_000
UNAVAILABLE = Refusal(error="EService:Unavailable")


class PushyFlow:
    """A flow that buys 0.01 at market every second."""

    def __init__(self, market: Any) -> None:
        self.market = market
        self.next_ns = 0
        self.steps: list[int] = []

    def open(self, now_ns: int) -> None:
        self.next_ns = now_ns + SECOND

    def next_at_ns(self) -> int:
        return self.next_ns

    def step(self, now_ns: int) -> None:
        while self.next_ns <= now_ns:
            self.next_ns += SECOND
            self.steps.append(self.market.take("buy", 100))

    def last_price_ticks(self, symbol: str) -> int:
        return 1000

    def parameters(self) -> dict[str, object]:
        return {}


class Ear:
    """A listener that keeps what concerns the operator."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_book(self, *_: Any) -> None:
        pass

    on_order = on_fill = on_refusal = on_book

    def on_ledger(self, account: Any, entry: Any) -> None:
        self.heard.append(("ledger", account.name, entry.kind, entry.amount))

    def on_rules(self, market: Any) -> None:
        self.heard.append(("rules", market.rules.symbol, market.rules.status))

    def on_system(self, mode: str) -> None:
        self.heard.append(("system", mode))

    def on_operator(self, action: str, detail: dict[str, str], now_ns: int) -> None:
        self.heard.append((action, detail))


@pytest.fixture
def operator(desk):
    return Operator(desk.venue)


def amend(desk: Any, order: ClientOrder, **figures: Any) -> Any:
    return desk.venue.amend_order(desk.alice, AmendRequest(order_id=order.order_id, **figures))


def test_the_venue_cancels_with_a_reason_and_the_client_pays_no_count(desk, operator, make_frames):
    frames = make_frames()
    order = desk.order(desk.alice, "buy", "0.5", "100.0")
    desk.exchange.private.read_executions(frames, desk.alice, snap_orders=False, snap_trades=False, order_status=True)
    frames.take()
    operator.cancel_order(order.order_id, "Risk limit")

    (frame,) = frames.take()
    row = frame["data"][0]
    assert ("canceled", "Risk limit", "Risk limit") == (row["exec_type"], row["reason"], row["cancel_reason"])
    assert desk.alice.counter(desk.symbol).count(desk.venue.now_ns) == 1
    assert desk.market.best("buy") is None
    with pytest.raises(OperatorError, match="not open"):
        operator.cancel_order(order.order_id, "again")


def test_a_deposit_is_a_ledger_row_on_the_balances_channel(desk, operator, make_frames):
    frames = make_frames()
    desk.exchange.private.read_balances(frames, desk.alice, snapshot=False)
    operator.change_balance("alice", "USD", Decimal(500), "deposit")
    operator.change_balance("alice", "ABC", Decimal(3), "withdrawal")
    first, second = (frame["data"][0] for frame in frames.take())

    assert ("deposit", 500, 1500) == (first["type"], first["amount"], first["balance"])
    assert ("withdrawal", -3, 7) == (second["type"], second["amount"], second["balance"])
    assert desk.alice.balance("ABC") == 7


@pytest.mark.parametrize(
    ("amount", "kind"),
    [("951", "withdrawal"), ("-951", "adjustment"), ("0", "deposit"), ("-1", "deposit"), ("NaN", "deposit")],
)
def test_what_is_held_cannot_leave(desk, operator, amount, kind):
    desk.order(desk.alice, "buy", "0.5", "99.5")

    with pytest.raises(OperatorError):
        operator.change_balance("alice", "USD", Decimal(amount), kind)
    assert desk.alice.balance("USD") == 1000


def test_an_order_of_another_program_follows_all_rules(desk, operator):
    request = OrderRequest(
        symbol=desk.symbol, side="buy", order_type="limit", qty=Decimal("0.5"), limit_price=Decimal(100)
    )
    order = operator.place_order("alice", request)
    refused = operator.place_order("alice", OrderRequest(**{**_fields(request), "qty": Decimal(50)}))

    assert isinstance(order, ClientOrder)
    assert desk.alice.open_orders[order.order_id] is order
    assert Refusal(error="EOrder:Insufficient funds") == refused


def _fields(request: OrderRequest) -> dict[str, Any]:
    return {name: getattr(request, name) for name in ("symbol", "side", "order_type", "qty", "limit_price")}


def test_maintenance_takes_no_request_at_all(desk, operator):
    order = desk.order(desk.alice, "buy", "0.5", "100.0")
    operator.set_system("maintenance")
    outcomes = [
        desk.order(desk.alice, "buy", "0.1", "90.0", post_only=True),
        amend(desk, order, qty=Decimal("0.4")),
        desk.venue.cancel_order(desk.alice, order.order_id, None),
        desk.venue.cancel_all(desk.alice),
        desk.venue.cancel_all_after(desk.alice, 60),
    ]

    assert [UNAVAILABLE] * 5 == outcomes
    assert order.status == "new"


def test_cancel_only_takes_cancels(desk, operator):
    order = desk.order(desk.alice, "buy", "0.5", "100.0")
    operator.set_system("cancel_only")
    added = desk.order(desk.alice, "buy", "0.1", "90.0", post_only=True)
    amended = amend(desk, order, qty=Decimal("0.4"))
    desk.venue.cancel_order(desk.alice, order.order_id, None)

    assert added == amended == Refusal(error="EService:Market in cancel_only mode")
    assert order.status == "canceled"


def test_post_only_rests_and_never_matches(make_desk):
    desk = make_desk(post_only_reject="cancel")
    operator = Operator(desk.venue)
    desk.market.place("sell", 1000, 5000)
    operator.set_system("post_only")
    plain = desk.order(desk.alice, "buy", "0.1", "90.0")
    crossing = desk.order(desk.alice, "buy", "0.1", "100.0", post_only=True)
    resting = desk.order(desk.alice, "buy", "0.1", "90.0", post_only=True)
    lifted = amend(desk, resting, limit_price=Decimal(100))
    moved = amend(desk, resting, limit_price=Decimal(95))

    assert Refusal(error="EService:Market in post_only mode") == plain == lifted
    assert Refusal(error="EOrder:Post only order") == crossing
    assert not isinstance(moved, Refusal)
    assert (resting.limit_ticks, resting.status) == (950, "new")
    assert not desk.alice.fills


@pytest.mark.parametrize("mode", ["maintenance", "cancel_only", "post_only"])
def test_the_flow_rests_while_nothing_matches_and_goes_on_where_it_stopped(desk, operator, mode):
    flow = PushyFlow(desk.market)
    desk.venue.open(flow, desk.start_ns)
    order = desk.order(desk.alice, "sell", "1", "100.0")
    desk.venue.advance(desk.start_ns + 3 * SECOND)
    operator.set_system(mode)
    desk.venue.advance(desk.start_ns + 3600 * SECOND)
    halted = order.filled_lots
    taken_by_hand = desk.market.take("buy", 100)
    operator.set_system("online")
    desk.venue.advance(desk.start_ns + 3602 * SECOND)

    assert (halted, taken_by_hand) == (300, 0)
    assert flow.steps == [100] * 5
    assert order.filled_lots == 500


def test_stops_expiries_and_the_dead_mans_switch_wait_for_the_end_of_maintenance(desk, operator):
    expiring = desk.order(
        desk.alice, "buy", "0.1", "90.0", time_in_force="gtd", expire_at_ns=desk.start_ns + 5 * SECOND
    )
    lasting = desk.order(desk.bob, "buy", "0.1", "90.0")
    desk.venue.cancel_all_after(desk.bob, 5)
    operator.set_system("maintenance")
    desk.venue.advance(desk.start_ns + 60 * SECOND)
    during = (expiring.status, lasting.status)
    operator.set_system("online")
    desk.venue.advance(desk.start_ns + 60 * SECOND)

    assert during == ("new", "new")
    assert (expiring.status, lasting.status) == ("expired", "canceled")
    assert expiring.closed_ns == desk.start_ns + 60 * SECOND
    assert desk.bob.cancel_all_at_ns is None


def test_a_stop_whose_price_was_passed_while_nothing_matched_fires_on_return(desk, operator):
    desk.market.place("sell", 1000, 100)
    desk.market.take("buy", 100)
    operator.set_system("post_only")
    stop = desk.order(desk.alice, "sell", "0.5", "120.0", order_type="stop-loss-limit", trigger_price="105.0")
    assert isinstance(stop, Refusal)
    operator.set_system("online")
    desk.market.place("buy", 950, 100)
    waiting = desk.order(desk.alice, "sell", "0.5", "120.0", order_type="stop-loss-limit", trigger_price="98.0")
    operator.set_system("cancel_only")
    desk.market.stats.last_ticks = 950
    desk.venue.stops.fire(desk.market)
    before = waiting.is_triggered
    operator.set_system("online")

    assert (before, waiting.is_triggered) == (False, True)


def stop_that_ends_in_a_second(desk):
    desk.market.place("sell", 1000, 100)
    desk.market.take("buy", 100)
    return desk.order(
        desk.alice,
        "sell",
        "0.5",
        order_type="stop-loss",
        trigger_price="98.0",
        time_in_force="gtd",
        expire_at_ns=desk.start_ns + SECOND,
    )


def test_a_stop_that_ended_during_maintenance_does_not_fire_on_return(desk, operator):
    stop = stop_that_ends_in_a_second(desk)
    operator.set_system("maintenance")
    desk.market.stats.last_ticks = 950
    desk.venue.advance(desk.start_ns + 2 * SECOND)
    operator.set_system("online")

    assert (stop.status, stop.is_triggered) == ("expired", False)


def test_expiries_and_the_dead_mans_switch_wait_for_the_end_of_a_pairs_maintenance(desk, operator):
    expiring = desk.order(desk.alice, "buy", "0.1", "90.0", time_in_force="gtd", expire_at_ns=desk.start_ns + SECOND)
    cancelled = desk.order(desk.bob, "buy", "0.1", "90.0")
    desk.venue.cancel_all_after(desk.bob, 1)
    operator.set_status(desk.symbol, "maintenance")
    desk.venue.advance(desk.start_ns + 2 * SECOND)
    during = [expiring.status, cancelled.status, desk.bob.cancel_all_at_ns]
    operator.set_system("maintenance")
    operator.set_status(desk.symbol, "cancel_only")
    still = [expiring.status, cancelled.status]
    operator.set_system("online")

    assert ["new", "new", None] == during
    assert ["new", "new"] == still
    assert [("expired", None), ("canceled", "User requested")] == [(o.status, o.reason) for o in (expiring, cancelled)]
    assert expiring.closed_ns == desk.start_ns + 2 * SECOND


def test_what_ends_late_after_a_pairs_maintenance_neither_fires_nor_ends_twice(desk, operator):
    stop = stop_that_ends_in_a_second(desk)
    desk.venue.cancel_all_after(desk.alice, 1)
    operator.set_status(desk.symbol, "maintenance")
    desk.market.stats.last_ticks = 950
    desk.venue.advance(desk.start_ns + 2 * SECOND)
    operator.set_status(desk.symbol, "online")
    desk.venue.advance(desk.start_ns + 3 * SECOND)

    assert (stop.status, stop.is_triggered) == ("expired", False)
    assert 1 == desk.record.counts["expired"] + desk.record.counts["cancelled"]


def test_cancel_all_leaves_the_orders_of_a_pair_in_maintenance(desk, operator):
    order = desk.order(desk.alice, "buy", "0.1", "90.0")
    operator.set_status(desk.symbol, "maintenance")
    count = desk.venue.cancel_all(desk.alice)
    left = order.status
    operator.set_status(desk.symbol, "online")

    assert (0, "new", 1) == (count, left, desk.venue.cancel_all(desk.alice))


@pytest.mark.parametrize(("rule", "status"), [("survive", "new"), ("cancelled", "canceled")])
def test_whether_stops_survive_maintenance_is_a_switch(make_desk, rule, status):
    desk = make_desk(stops_in_maintenance=rule)
    stop = desk.order(desk.alice, "sell", "0.5", order_type="stop-loss", trigger_price="90.0")
    limit = desk.order(desk.alice, "buy", "0.1", "90.0")
    Operator(desk.venue).set_system("maintenance")

    assert (status, "new") == (stop.status, limit.status)


@pytest.mark.parametrize(
    ("status", "errors"),
    [
        ("online", [None, None, None]),
        ("cancel_only", ["EService:Market in cancel_only mode"] * 3),
        ("post_only", ["EService:Market in post_only mode"] * 3),
        ("limit_only", [None, "EService:Market in limit_only mode", None]),
        ("reduce_only", [None, None, "EService:Market in reduce_only mode"]),
        ("maintenance", ["EService:Unavailable"] * 3),
        ("work_in_progress", ["EService:Unavailable"] * 3),
        ("delisted", ["EQuery:Unknown asset pair"] * 3),
    ],
)
def test_the_status_of_a_pair_is_obeyed(desk, operator, status, errors):
    operator.set_status(desk.symbol, status)
    outcomes = [
        desk.order(desk.alice, "sell", "0.1", "110.0"),
        desk.order(desk.alice, "sell", "0.1", order_type="market"),
        desk.order(desk.alice, "buy", "0.1", "90.0"),
    ]

    assert errors == [outcome.error if isinstance(outcome, Refusal) else None for outcome in outcomes]


@pytest.mark.parametrize("status", [s for s in PAIR_STATUSES if s not in ("online", "limit_only", "reduce_only")])
def test_a_halted_pair_does_not_trade(desk, operator, status):
    desk.order(desk.alice, "sell", "0.5", "100.0")
    operator.set_status(desk.symbol, status)

    assert desk.market.take("buy", 100) == 0
    assert desk.market.place("buy", 900, 100) is None
    assert not desk.alice.fills


def test_cancels_of_a_pair_in_maintenance_are_refused(desk, operator):
    order = desk.order(desk.alice, "sell", "0.5", "100.0")
    operator.set_status(desk.symbol, "maintenance")

    assert desk.venue.cancel_order(desk.alice, order.order_id, None) == UNAVAILABLE


def test_a_delisted_pair_loses_every_order(desk, operator):
    resting = desk.order(desk.alice, "sell", "0.5", "100.0")
    stop = desk.order(desk.alice, "sell", "0.5", order_type="stop-loss", trigger_price="90.0")
    desk.market.place("buy", 900, 100)
    operator.set_status(desk.symbol, "delisted")

    assert [("canceled", "Delisted")] * 2 == [(order.status, order.reason) for order in (resting, stop)]
    assert (desk.market.best("buy"), desk.market.best("sell")) == (None, None)
    assert desk.alice.holds() == {}


def test_a_new_tick_size_leaves_what_rests_and_binds_what_comes(desk, operator, naive_book):
    book = naive_book(10)

    class Reader:
        def push(self, text: str) -> None:
            book.feed(text)

    reader = Reader()
    reader.push(desk.exchange.public.symbols[desk.symbol].read_book(reader, 10, desk.start_ns))
    old = desk.order(desk.alice, "buy", "0.5", "99.5")
    market = operator.change_rules(desk.symbol, price_increment_ticks=100, qty_min_lots=2000, cost_min="20")
    small = desk.order(desk.alice, "buy", "0.1", "90.0")
    off_grid = desk.order(desk.alice, "buy", "0.5", "99.5")
    same_price = amend(desk, old, qty=Decimal("0.4"))
    moved = amend(desk, old, limit_price=Decimal("98.5"))
    desk.market.place("sell", 1001, 100)
    desk.market.take("sell", 4000)

    assert (old.status, old.filled_lots) == ("filled", 4000)
    assert Refusal(error="EGeneral:Invalid arguments:volume minimum not met") == small
    assert Refusal(error="EOrder:Tick size check failed") == off_grid == moved
    assert not isinstance(same_price, Refusal)
    assert market.best("sell") == 1100
    assert book.checked > 3


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"status": "closed"},
        {"price_precision": 3},
        {"price_increment_ticks": 0},
        {"qty_min_lots": "5"},
        {"cost_min": "x"},
        {"cost_min": "-1"},
        {"has_index": 1},
    ],
)
def test_rules_that_make_no_sense_change_nothing(desk, operator, changes):
    before = desk.market.rules

    with pytest.raises(OperatorError):
        operator.change_rules(desk.symbol, **changes)
    assert desk.market.rules is before


def test_fees_volume_and_tier_can_be_changed(make_desk):
    desk = make_desk(fees="tiered")
    operator = Operator(desk.venue)
    first = desk.venue.rates(desk.alice, desk.market)
    operator.set_volume("alice", Decimal(60_000))
    second = desk.venue.rates(desk.alice, desk.market)
    operator.set_pair_fees(desk.symbol, Rates(-100, 900))
    third = desk.venue.rates(desk.alice, desk.market)
    operator.set_fee_rates("alice", Rates(1, 2))
    fourth = desk.venue.rates(desk.alice, desk.market)
    operator.set_tier("alice", Tier.STARTER)

    assert [Rates(2500, 4000), Rates(1400, 2400), Rates(-100, 900), Rates(1, 2)] == [first, second, third, fourth]
    assert desk.alice.limits.threshold == 60


def test_everything_is_recorded_and_listeners_hear(make_desk):
    file = io.BytesIO()
    desk = make_desk(file)
    ear = Ear()
    desk.venue.listeners.append(ear)
    operator = Operator(desk.venue)
    operator.set_system("post_only")
    operator.set_status(desk.symbol, "cancel_only")
    operator.change_balance("bob", "USD", Decimal(1), "deposit")
    desk.record.flush()
    lines = [json.loads(line) for line in file.getvalue().splitlines()]

    assert ear.heard == [
        ("set_system", {"mode": "post_only"}),
        ("system", "post_only"),
        ("change_rules", {"symbol": desk.symbol, "status": "cancel_only"}),
        ("rules", desk.symbol, "cancel_only"),
        ("change_balance", {"account": "bob", "asset": "USD", "amount": "1", "kind": "deposit"}),
        ("ledger", "bob", "deposit", Decimal(1)),
    ]
    assert [line["kind"] for line in lines] == ["operated", "operated", "operated", "paid"]
    assert lines[0]["action"] == "set_system"


def test_names_that_nobody_has_are_refused(operator):
    for call in (
        lambda: operator.set_system("asleep"),
        lambda: operator.set_tier("nobody", Tier.PRO),
        lambda: operator.set_pair_fees("NO/USD", None),
        lambda: operator.set_volume("alice", Decimal(-1)),
        lambda: operator.cancel_order("O", "x"),
    ):
        with pytest.raises(OperatorError):
            call()
