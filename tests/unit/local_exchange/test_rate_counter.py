from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.adapters.local_exchange.matching.accounts import Account
from krakenbot.adapters.local_exchange.matching.orders import AmendRequest, ClientOrder
from krakenbot.adapters.local_exchange.matching.rate_counter import RateCounter
from krakenbot.adapters.local_exchange.matching.tiers import LIMITS, Tier
from krakenbot.adapters.local_exchange.matching.venue import Refusal

SECOND = 1_000_000_000
RATE_LIMIT = Refusal(error="EOrder:Rate limit exceeded")


def count(desk, account: Account | None = None) -> int:
    return (account or desk.alice).counter(desk.symbol).count(desk.venue.now_ns)


def without_decay(desk) -> None:
    desk.alice.counter(desk.symbol).limits = LIMITS[Tier.STARTER].__class__(
        threshold=180, decay_hundredths_per_s=0, open_orders=225
    )


def test_the_vendors_example_adds_up_to_eight(desk):
    without_decay(desk)
    order = desk.order(desk.alice, "buy", "0.5", "100.0")
    desk.venue.advance(desk.start_ns + 7 * SECOND)
    desk.venue.amend_order(desk.alice, AmendRequest(order_id=order.order_id, qty=Decimal("0.4")))
    after_amend = count(desk)
    desk.venue.advance(desk.start_ns + 43 * SECOND)
    desk.venue.cancel_order(desk.alice, order.order_id, None)

    assert (after_amend, count(desk)) == (1 + 1 + 2, 8)


def test_the_age_counts_from_the_last_amendment(desk):
    without_decay(desk)
    order = desk.order(desk.alice, "buy", "0.5", "100.0")
    counts = []
    for age_s, qty in ((100, "0.4"), (104, "0.3"), (108, None)):
        desk.venue.advance(desk.start_ns + age_s * SECOND)
        if qty is None:
            desk.venue.cancel_order(desk.alice, order.order_id, None)
        else:
            desk.venue.amend_order(desk.alice, AmendRequest(order_id=order.order_id, qty=Decimal(qty)))
        counts.append(count(desk))

    assert [1 + 1, 1 + 1 + (1 + 3), 1 + 1 + (1 + 3) + 8] == counts


@pytest.mark.parametrize(
    ("age_s", "points"),
    [(0, 8), (4.999999999, 8), (5, 6), (10, 5), (15, 4), (44, 4), (45, 2), (90, 1), (299, 1), (300, 0)],
)
def test_a_cancel_costs_by_the_age_of_the_order(desk, age_s, points):
    without_decay(desk)
    order = desk.order(desk.alice, "buy", "0.5", "100.0")
    desk.venue.advance(desk.start_ns + round(age_s * SECOND))
    desk.venue.cancel_order(desk.alice, order.order_id, None)

    assert 1 + points == count(desk)


@pytest.mark.parametrize(("age_s", "points"), [(0, 3), (4, 3), (5, 2), (10, 1), (15, 0), (100, 0)])
def test_an_amendment_costs_one_and_more_for_a_young_order(desk, age_s, points):
    without_decay(desk)
    order = desk.order(desk.alice, "buy", "0.5", "100.0")
    desk.venue.advance(desk.start_ns + age_s * SECOND)
    desk.venue.amend_order(desk.alice, AmendRequest(order_id=order.order_id, qty=Decimal("0.4")))

    assert 1 + 1 + points == count(desk)


def test_the_fixed_part_is_charged_when_validation_fails(desk):
    without_decay(desk)
    order = desk.order(desk.alice, "buy", "0.5", "100.0")
    desk.order(desk.alice, "buy", "0.5", "100.3")
    desk.venue.amend_order(desk.alice, AmendRequest(order_id=order.order_id, qty=Decimal("0.00001")))

    assert count(desk) == 3


def test_an_amendment_below_what_is_filled_costs_a_cancel_too(desk):
    without_decay(desk)
    order = desk.order(desk.alice, "buy", "0.5", "100.0")
    desk.market.take("sell", 2000)
    desk.venue.amend_order(desk.alice, AmendRequest(order_id=order.order_id, qty=Decimal("0.1")))

    assert 1 + 1 + 3 + 8 == count(desk)


def test_beyond_the_threshold_nothing_is_accepted_and_nothing_more_is_counted(desk):
    desk.alice.set_tier(Tier.STARTER, desk.start_ns)
    counter = desk.alice.counter(desk.symbol)
    order = desk.order(desk.alice, "buy", "0.5", "100.0")
    counter.charge(59, desk.start_ns)
    outcomes = [
        desk.order(desk.alice, "buy", "0.5", "100.0"),
        desk.venue.amend_order(desk.alice, AmendRequest(order_id=order.order_id, qty=Decimal("0.4"))),
        desk.venue.cancel_order(desk.alice, order.order_id, None),
    ]
    others = desk.order(desk.bob, "buy", "0.5", "100.0")

    assert [RATE_LIMIT] * 3 == outcomes
    assert count(desk) == 60
    assert isinstance(others, ClientOrder)


def test_cancel_all_is_carried_out_beyond_the_threshold(desk):
    for _ in range(3):
        desk.order(desk.alice, "buy", "0.1", "100.0")
    desk.alice.counter(desk.symbol).charge(177, desk.start_ns)
    cancelled = desk.venue.cancel_all(desk.alice)

    assert cancelled == 3
    assert 180 + 24 == count(desk)


def test_a_count_decays_by_the_tier_to_the_nanosecond():
    counter = RateCounter(limits=LIMITS[Tier.INTERMEDIATE])
    counter.charge(125, 0)
    # 2.34 counts a second: one count takes 427,350,427.35 ns.
    early, late = counter.has_room(1, 427_350_427), counter.has_room(1, 427_350_428)

    assert (early, late) == (False, True)


@given(
    tier=st.sampled_from(list(Tier)),
    steps=st.lists(st.tuples(st.integers(0, 40 * SECOND), st.integers(0, 12)), max_size=80),
)
def test_a_counter_agrees_with_exact_fractions(tier, steps):
    counter = RateCounter(limits=LIMITS[tier])
    rate = Fraction(LIMITS[tier].decay_hundredths_per_s, 100)
    expected, now_ns = Fraction(0), 0
    for wait_ns, points in steps:
        now_ns += wait_ns
        expected = max(Fraction(0), expected - rate * wait_ns / SECOND)
        has_room = expected + points <= LIMITS[tier].threshold

        assert has_room == counter.has_room(points, now_ns)
        if has_room:
            expected += points
            counter.charge(points, now_ns)
        assert -(-expected.numerator // expected.denominator) == counter.count(now_ns)


@pytest.mark.parametrize(("tier", "most"), [(Tier.STARTER, 60), (Tier.INTERMEDIATE, 80), (Tier.PRO, 225)])
def test_a_tier_limits_open_orders_of_a_pair(desk, tier, most):
    desk.alice.set_tier(tier, desk.start_ns)
    for step in range(most):
        desk.venue.advance(desk.start_ns + step * SECOND)
        desk.order(desk.alice, "buy", "0.01", "100.0")
    refused = desk.order(desk.alice, "buy", "0.01", "100.0")
    desk.venue.withdraw(next(iter(desk.alice.open_orders.values())), "User requested")
    accepted = desk.order(desk.alice, "buy", "0.01", "100.0")

    assert Refusal(error="EOrder:Orders limit exceeded") == refused
    assert isinstance(accepted, ClientOrder)


def test_what_the_venue_ends_costs_nothing(desk):
    without_decay(desk)
    desk.order(desk.alice, "buy", "0.1", "100.0", time_in_force="gtd", expire_at_ns=desk.start_ns + SECOND)
    desk.venue.advance(desk.start_ns + SECOND)
    desk.order(desk.alice, "buy", "0.1", "100.0")
    desk.market.take("sell", 1000)
    desk.order(desk.alice, "buy", "0.1", "100.0")
    desk.venue.cancel_all_after(desk.alice, 1)
    desk.venue.advance(desk.start_ns + 5 * SECOND)

    assert not desk.alice.open_orders
    assert {desk.symbol: 3} == desk.alice.rate_counts(desk.venue.now_ns)


def test_a_higher_tier_goes_on_from_the_count(desk):
    desk.alice.set_tier(Tier.STARTER, desk.start_ns)
    desk.alice.counter(desk.symbol).charge(60, desk.start_ns)
    desk.venue.advance(desk.start_ns + 10 * SECOND)
    desk.alice.set_tier(Tier.PRO, desk.venue.now_ns)
    at_change = count(desk)
    desk.venue.advance(desk.start_ns + 12 * SECOND)

    assert (at_change, count(desk)) == (50, 43)
