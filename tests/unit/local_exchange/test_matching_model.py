"""Random sequences against models written from the rules alone: queues, holds, money, counters."""

from __future__ import annotations

from collections import defaultdict
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.adapters.local_exchange.matching.accounts import StopHolds
from krakenbot.adapters.local_exchange.matching.operator import Operator
from krakenbot.adapters.local_exchange.matching.orders import AmendRequest, ClientOrder
from krakenbot.adapters.local_exchange.matching.tiers import LIMITS, Tier
from krakenbot.adapters.local_exchange.matching.venue import Refusal

SECOND = 1_000_000_000
TIER = Tier.INTERMEDIATE
KINDS = [
    *("limit", "limit", "market", "ioc", "fok", "gtd", "stop", "profit", "trail", "trail_limit"),
    *("cancel", "amend", "all", "halt", "flow", "flow", "take", "take"),
]
CANCEL = [(5, 8), (10, 6), (15, 5), (45, 4), (90, 2), (300, 1)]
AMEND = [(5, 3), (10, 2), (15, 1)]
UNIT = Decimal("0.00001")

actions = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.booleans(),
        st.booleans(),
        st.integers(0, 12),
        st.integers(100, 60_000),
        st.integers(0, 20),
    ),
    min_size=10,
    max_size=60,
)


class NaiveCounter:
    """FACTS' table with fractions."""

    def __init__(self) -> None:
        self.value = Fraction(0)
        self.at_ns = 0

    def settle(self, now_ns: int) -> None:
        rate = Fraction(LIMITS[TIER].decay_hundredths_per_s, 100)
        self.value = max(Fraction(0), self.value - rate * (now_ns - self.at_ns) / SECOND)
        self.at_ns = now_ns

    def take(self, points: int) -> bool:
        if self.value + points > LIMITS[TIER].threshold:
            return False
        self.value += points
        return True


def points(table: list[tuple[int, int]], age_ns: int) -> int:
    for below_s, count in table:
        if age_ns < below_s * SECOND:
            return count
    return 0


class NaiveQueues:
    """Who stands where: arrival numbers by price, from the listener's events alone."""

    def __init__(self, desk: Any) -> None:
        self.market = desk.market
        self.since: dict[int, int] = {}
        self.known: dict[int, tuple[int, int]] = {}
        self.arrivals = 0
        desk.venue.listeners.append(self)

    def on_book(self, market: Any, changes: Any, now_ns: int) -> None:
        for side in (changes.bids, changes.asks):
            for event, order, key, _lots in side.events:
                if event == "add":
                    self.arrivals += 1
                    self.since[order.number] = self.arrivals
                    self.known[order.number] = (key, self.arrivals)
                elif event == "delete":
                    self.known.pop(order.number)

    def on_order(self, *_: Any) -> None:
        pass

    on_fill = on_refusal = on_ledger = on_rules = on_system = on_operator = on_order

    def check(self) -> None:
        found = {
            number: key
            for side in (self.market.book.bids, self.market.book.asks)
            for key, level in side.levels.items()
            for number in level.orders
        }
        assert found == {number: key for number, (key, _arrival) in self.known.items()}
        for side in (self.market.book.bids, self.market.book.asks):
            for level in side.levels.values():
                arrivals = [self.known[number][1] for number in level.orders]
                assert arrivals == sorted(arrivals)
                assert level.size_lots == sum(order.remaining_lots for order in level.orders.values()) > 0


class PriceTime:
    """Check every fill of a maker: nothing better or earlier was left standing."""

    def __init__(self, desk: Any, queues: NaiveQueues) -> None:
        self.desk, self.queues = desk, queues
        desk.venue.listeners.append(self)
        self.checked = 0

    def on_fill(self, order: ClientOrder, fill: Any, entries: Any) -> None:
        if not fill.is_maker:
            return
        self.checked += 1
        sign = 1 if order.side == "buy" else -1
        side = self.desk.market.book.side(order.side)
        key = fill.price_ticks * sign
        assert all(other <= key for other in side.levels)
        arrival = self.queues.known[order.number][1]
        standing = side.levels[key].orders if key in side.levels else {}
        assert all(number == order.number or self.queues.known[number][1] > arrival for number in standing)

    def on_book(self, *_: Any) -> None:
        pass

    on_order = on_refusal = on_ledger = on_rules = on_system = on_operator = on_book


def naive_hold(order: ClientOrder) -> tuple[str, Decimal]:
    """Return what one order holds: the rest of it, and the taker fee on the rest of a purchase."""
    left = Decimal(order.remaining_lots).scaleb(-4)
    if order.side == "sell":
        return "ABC", left
    price = Decimal(order.limit_ticks or order.trigger_ticks or 0).scaleb(-1)
    paid = Decimal(order.cost_raw).scaleb(-5)
    fees = Decimal(order.fee_raw).scaleb(-11)
    cost = (paid + left * price).quantize(UNIT, ROUND_CEILING) - order.cum_cost
    fee = (fees + left * price * Decimal("0.004")).quantize(UNIT, ROUND_CEILING) - order.cum_fee
    return "USD", cost + fee


def naive_held(account: Any, asset: str, rule: StopHolds) -> Decimal:
    waiting: dict[str, Decimal] = defaultdict(Decimal)
    resting: dict[str, Decimal] = defaultdict(Decimal)
    for order in account.open_orders.values():
        name, amount = naive_hold(order)
        if name == asset:
            (waiting if order.waits_for_trigger else resting)[order.side] += amount
    match rule:
        case StopHolds.RESERVE:
            return sum(waiting.values(), Decimal(0)) + sum(resting.values(), Decimal(0))
        case StopHolds.NONE_REJECT_AT_TRIGGER:
            return sum(resting.values(), Decimal(0))
        case StopHolds.SHARED:
            shared = sum((max(waiting[side], resting[side]) for side in ("buy", "sell")), Decimal(0))
            return min(shared, Decimal(account.balance(asset)))


def place(desk: Any, account: Any, kind: str, *, side: str, qty: str, price: str, distance: str) -> Any:
    match kind:
        case "limit" | "ioc" | "fok":
            return desk.order(account, side, qty, price, time_in_force="gtc" if kind == "limit" else kind)
        case "gtd":
            expire = desk.venue.now_ns + 3 * SECOND
            return desk.order(account, side, qty, price, time_in_force=kind, expire_at_ns=expire)
        case "market":
            return desk.order(account, side, qty, order_type="market", stp_type="cancel_oldest")
        case "stop" | "profit":
            order_type = "stop-loss" if kind == "stop" else "take-profit"
            return desk.order(account, side, qty, order_type=order_type, trigger_price=price)
        case _:
            limit = "0" if kind == "trail_limit" else None
            more = {"limit_price_type": "quote"} if limit else {}
            order_type = "trailing-stop-limit" if limit else "trailing-stop"
            return desk.order(
                account,
                side,
                qty,
                limit,
                order_type=order_type,
                trigger_price=distance,
                trigger_price_type="quote",
                **more,
            )


def ask(desk: Any, counters: dict[str, NaiveCounter], step: tuple[Any, ...]) -> None:
    """Send one request to the venue and count it naively."""
    kind, is_buy, is_alice, price_step, lots, _wait = step
    account, side = (desk.bob, desk.alice)[is_alice], "buy" if is_buy else "sell"
    price, qty = str(Decimal(975 + 5 * price_step) / 10), str(Decimal(lots) / 10_000)
    counter, now_ns = counters[account.name], desk.venue.now_ns
    counter.settle(now_ns)
    mine = list(account.open_orders.values())
    match kind:
        case "flow":
            desk.market.place(side, 975 + 5 * price_step, lots)
        case "take":
            desk.market.take(side, lots)
        case "halt":
            # Two of five times the engine is, or goes, online.
            modes = ("online", "post_only", "online", "cancel_only", "maintenance")
            Operator(desk.venue).set_system(modes[price_step % len(modes)])
        case "all" | "cancel" | "amend" if desk.venue.system == "maintenance":
            pass
        case "all":
            ages = [now_ns - order.changed_ns for order in mine]
            assert desk.venue.cancel_all(account) == len(mine)
            counter.value += sum(points(CANCEL, age) for age in ages)
        case "cancel" if mine:
            order = mine[price_step % len(mine)]
            allowed = counter.take(points(CANCEL, now_ns - order.changed_ns))
            outcome = desk.venue.cancel_order(account, order.order_id, None)
            assert allowed == (not isinstance(outcome, Refusal))
        case "amend" if mine:
            amend(desk, mine[price_step % len(mine)], counter, qty=Decimal(qty), price=Decimal(price))
        case "cancel" | "amend":
            pass
        case _:
            allowed = counter.take(1)
            outcome = place(
                desk, account, kind, side=side, qty=qty, price=price, distance=str(Decimal(5 * (1 + price_step)) / 10)
            )
            limited = isinstance(outcome, Refusal) and outcome.error == "EOrder:Rate limit exceeded"
            assert allowed == (not limited)


def amend(desk: Any, order: ClientOrder, counter: NaiveCounter, *, qty: Decimal, price: Decimal) -> None:
    account = desk.venue.accounts[order.account]
    age_ns = desk.venue.now_ns - order.changed_ns
    below = qty <= Decimal(order.filled_lots).scaleb(-4)
    allowed = counter.value + 1 + points(AMEND, age_ns) <= LIMITS[TIER].threshold
    limit = None if order.limit_ticks is None or order.trails else price
    outcome = desk.venue.amend_order(account, AmendRequest(order_id=order.order_id, qty=qty, limit_price=limit))
    limited = isinstance(outcome, Refusal) and outcome.error == "EOrder:Rate limit exceeded"
    assert allowed == (not limited)
    if allowed:
        counter.value += 1
        if not isinstance(outcome, Refusal):
            counter.value += points(AMEND, age_ns) + (points(CANCEL, age_ns) if below else 0)


def check_money(desk: Any, rule: StopHolds, flow_trades: dict[str, Decimal]) -> None:
    for account in (desk.alice, desk.bob):
        expected = {"USD": Decimal(1000), "ABC": Decimal(10)}
        for fill in account.fills:
            sign = 1 if fill.side == "buy" else -1
            expected["ABC"] += sign * fill.qty
            expected["USD"] -= sign * fill.cost + fill.fee
        assert expected == account.balances
        for asset in ("USD", "ABC"):
            held = naive_held(account, asset, rule)
            assert held == account.held(asset)
            assert account.balance(asset) - held >= 0
    # What both accounts lost or won together is what trades with the flow moved, less fees.
    total = {a: sum((acc.balance(a) for acc in (desk.alice, desk.bob)), Decimal(0)) for a in ("USD", "ABC")}
    fees = sum((fill.fee for acc in (desk.alice, desk.bob) for fill in acc.fills), Decimal(0))
    assert total["ABC"] == 20 + flow_trades["ABC"]
    assert abs(total["USD"] + fees - 2000 - flow_trades["USD"]) <= UNIT * sum(
        len(acc.fills) for acc in (desk.alice, desk.bob)
    )


class FlowTrades:
    """What trades against the flow gave the clients, from prints and fills: a print with one client in it."""

    def __init__(self, desk: Any) -> None:
        self.sums = {"USD": Decimal(0), "ABC": Decimal(0)}
        self.fills: dict[int, list[Any]] = defaultdict(list)
        desk.venue.listeners.append(self)

    def on_fill(self, order: ClientOrder, fill: Any, entries: Any) -> None:
        self.fills[fill.trade_id].append(fill)

    def on_book(self, market: Any, changes: Any, now_ns: int) -> None:
        for trade in changes.trades:
            fills = self.fills.get(trade.trade_id, [])
            assert all((fill.size_lots, fill.price_ticks) == (trade.size_lots, trade.price_ticks) for fill in fills)
            assert len(fills) == len({fill.side for fill in fills})
            if len(fills) == 1:
                sign = 1 if fills[0].side == "buy" else -1
                self.sums["ABC"] += sign * Decimal(trade.size_lots).scaleb(-4)
                self.sums["USD"] -= sign * Decimal(trade.size_lots * trade.price_ticks).scaleb(-5)

    def on_order(self, *_: Any) -> None:
        pass

    on_refusal = on_ledger = on_rules = on_system = on_operator = on_order


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=actions, rule=st.sampled_from(list(StopHolds)))
def test_the_venue_agrees_with_models_written_from_the_rules(steps, rule, make_desk):
    desk = make_desk(stop_holds=rule)
    for account in (desk.alice, desk.bob):
        account.set_tier(TIER, desk.start_ns)
    counters = {name: NaiveCounter() for name in ("alice", "bob")}
    queues, flow_trades = NaiveQueues(desk), FlowTrades(desk)
    PriceTime(desk, queues)
    for step in steps:
        desk.venue.advance(desk.venue.now_ns + step[-1] * SECOND // 4)
        ask(desk, counters, step)
        check_money(desk, rule, flow_trades.sums)
        queues.check()
        for account in (desk.alice, desk.bob):
            naive = counters[account.name]
            naive.settle(desk.venue.now_ns)
            assert -(-naive.value.numerator // naive.value.denominator) == account.counter(desk.symbol).count(
                desk.venue.now_ns
            )
            for order in account.open_orders.values():
                assert (order.resting is None) == order.waits_for_trigger
                is_due = order.request.expire_at_ns is not None and order.request.expire_at_ns <= desk.venue.now_ns
                assert not is_due or desk.venue.system == "maintenance"
