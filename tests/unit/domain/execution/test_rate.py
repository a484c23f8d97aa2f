"""Our model of the venue's trading counter, beside the counter of the local exchange itself."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from attrs import define
from hypothesis import example, given, settings
from hypothesis import strategies as st

from krakenbot.adapters.local_exchange.matching.rate_counter import (
    ADD_POINTS,
    AMEND_AGES,
    AMEND_POINTS,
    CANCEL_AGES,
    UNITS_PER_COUNT,
    RateCounter,
    age_points,
)
from krakenbot.adapters.local_exchange.matching.tiers import LIMITS, Tier
from krakenbot.domain.errors import InvariantViolated
from krakenbot.domain.execution.rate import (
    AccountTier,
    RateBudget,
    RateLimits,
    tier_of_threshold,
    trading_limits,
)
from krakenbot.domain.execution.reports import ExecType

A, B = "A/USD", "B/USD"


def budget_of(**limits):
    return RateBudget(RateLimits(**limits))


def do(budget, send, mono, *, symbol=A, order="1"):
    """Send a request and answer it in the same instant."""
    budget.answered(getattr(budget, f"{send}_sent")(symbol, order, mono), mono)


def test_counter_follows_the_example_of_the_vendor():
    """Kraken's guide: add, amend at 7 s, cancel 36 s later costs 1 + 1 + 2 + 4."""
    budget = budget_of(decay_per_s=0.0)
    do(budget, "add", 0.0)
    do(budget, "amend", 7.0)
    do(budget, "cancel", 43.0)

    assert 8.0 == budget.points(A, 43.0)


def test_entries_leave_the_reserve_of_their_symbol_and_no_other():
    budget = budget_of()
    for number in range(27):
        do(budget, "add", 0.0, order=str(number))

    assert not budget.allows_entry(A, 0.0)
    assert budget.allows_entry(A, 1.0)
    assert budget.allows_entry(B, 0.0)


def test_reprice_counts_its_penalty_and_the_cancel_that_may_follow():
    budget = budget_of()
    do(budget, "add", 0.0)
    for number in range(23):
        do(budget, "add", 0.0, order=f"other{number}")

    assert not budget.allows_reprice("1", A, 0.0)
    assert budget.allows_reprice("1", A, 1.0)


def test_trail_leaves_room_for_a_cancel_and_a_sale():
    budget = budget_of()
    budget.assume_full(A, 0.0)

    assert [False, True] == [budget.allows_trail(A, mono) for mono in (12.9, 13.0)]


def test_request_without_an_answer_keeps_its_points_until_it_cannot_arrive():
    """Kraken takes deadlines up to 60 s (FACTS 12.1)."""
    budget = budget_of()
    budget.add_sent(A, "1", 0.0)

    assert 1.0 == budget.points(A, 59.9)
    assert 1.0 == budget.points(A, 60.0)
    assert 0.0 == budget.points(A, 61.0)


def test_request_that_never_left_costs_nothing():
    budget = budget_of()
    budget.not_sent(budget.add_sent(A, "1", 0.0))

    assert 0.0 == budget.points(A, 0.0)


def test_cancel_of_an_order_whose_amend_is_not_answered_costs_most():
    budget = budget_of()
    do(budget, "add", 0.0)
    amend = budget.amend_sent(A, "1", 400.0)
    cancel = budget.cancel_sent(A, "1", 400.0)

    assert (1.0, 8.0) == (amend.points, cancel.points)


def test_age_counts_from_the_last_amend():
    budget = budget_of()
    do(budget, "add", 0.0)
    do(budget, "amend", 100.0)

    assert 5.0 == budget.cancel_sent(A, "1", 110.0).points


@pytest.mark.parametrize(
    ("age_s", "cancel", "amend"),
    [
        (4.9, 8.0, 4.0),
        (5.0, 6.0, 3.0),
        (9.9, 6.0, 3.0),
        (10.0, 5.0, 2.0),
        (14.9, 5.0, 2.0),
        (15.0, 4.0, 1.0),
        (44.9, 4.0, 1.0),
        (45.0, 2.0, 1.0),
        (89.9, 2.0, 1.0),
        (90.0, 1.0, 1.0),
        (299.9, 1.0, 1.0),
        (300.0, 0.0, 1.0),
    ],
)
def test_points_of_a_cancel_and_of_an_amend_by_age(age_s, cancel, amend):
    """Kraken's table, at both edges of each of its steps."""
    budget = budget_of()
    do(budget, "add", 0.0)

    assert (cancel, amend) == (
        budget.cancel_sent(A, "1", age_s).points,
        budget.amend_sent(A, "1", age_s).points,
    )


def test_order_of_an_earlier_process_counts_as_young():
    assert 8.0 == budget_of().cancel_sent(A, "old", 1_000.0).points


def test_venue_lifts_the_model_at_once():
    budget = budget_of()
    do(budget, "add", 0.0)
    budget.reported(A, "1", ExecType.NEW, Decimal(30), 0.0)

    assert 30.0 == budget.points(A, 0.0)
    assert not budget.allows_entry(A, 0.0)
    assert (1, 0) == (budget.raised, budget.lowered)


def test_foreign_order_lifts_the_model():
    budget = budget_of()
    budget.reported(A, None, ExecType.NEW, Decimal(12), 0.0)

    assert 12.0 == budget.points(A, 0.0)


def test_venue_lowers_the_model_to_its_word_and_what_was_sent_since():
    budget = budget_of(decay_per_s=0.0)
    budget.assume_full(A, 0.0)
    do(budget, "add", 1.0)
    do(budget, "add", 2.0, order="2")
    waiting = budget.add_sent(A, "3", 3.0)
    budget.reported(A, "1", ExecType.NEW, Decimal(1), 4.0)

    assert 3.0 == budget.points(A, 4.0)
    assert 1 == budget.lowered
    budget.answered(waiting, 5.0)
    assert 3.0 == budget.points(A, 5.0)


def test_report_of_an_order_of_an_earlier_process_lowers_nothing():
    budget = budget_of()
    budget.assume_full(A, 0.0)
    budget.reported(A, "old", ExecType.NEW, Decimal(1), 0.0)

    assert 60.0 == budget.points(A, 0.0)


def test_report_before_the_answer_does_not_count_the_add_twice():
    budget = budget_of()
    spend = budget.add_sent(A, "1", 0.0)
    budget.reported(A, "1", ExecType.PENDING_NEW, Decimal(1), 0.1)
    budget.answered(spend, 0.2)

    assert 1.0 == pytest.approx(budget.points(A, 0.2), abs=0.11)


def test_refusal_for_the_rate_fills_the_counter():
    budget = budget_of()
    budget.hit(A, 0.0)

    assert (60.0, 1) == (budget.points(A, 0.0), budget.over_limit)


def test_refusal_for_the_rate_takes_no_points_from_a_counter_above_the_threshold():
    budget = budget_of()
    budget.assume_full(A, 0.0)
    do(budget, "add", 0.0)
    budget.hit(A, 0.0)

    assert 61.0 == budget.points(A, 0.0)


def test_report_of_an_amend_may_be_of_an_earlier_one_so_the_points_of_the_newest_stay():
    budget = budget_of()
    do(budget, "add", 0.0)
    do(budget, "amend", 400.0)
    amend = budget.amend_sent(A, "1", 460.0)
    budget.reported(A, "1", ExecType.AMENDED, None, 460.0)

    assert (1.0, 1.0) == (amend.points, budget.points(A, 460.5))


def test_report_of_a_cancel_lets_its_points_decay_before_the_answer():
    budget = budget_of()
    do(budget, "add", 0.0)
    cancel = budget.cancel_sent(A, "1", 100.0)
    budget.reported(A, "1", ExecType.CANCELED, None, 100.0)

    assert (1.0, 0.5) == (cancel.points, budget.points(A, 100.5))


def test_venues_word_holds_all_that_was_answered_before_its_order_was_sent():
    budget = budget_of(decay_per_s=0.0)
    do(budget, "add", 0.0)
    do(budget, "cancel", 1.0)
    do(budget, "add", 10.0, order="2")
    budget.reported(A, "2", ExecType.NEW, Decimal(3), 10.0)

    assert 3.0 == budget.points(A, 10.0)


def test_cancel_does_not_make_an_order_young():
    budget = budget_of()
    do(budget, "add", 0.0)
    do(budget, "cancel", 100.0)

    assert 1.0 == budget.cancel_sent(A, "1", 100.0).points


@pytest.mark.parametrize(
    ("stated", "tier"),
    [(60, "starter"), (125, "intermediate"), (180, "pro"), (179, "intermediate"), (500, "pro"), (10, "starter")],
)
def test_threshold_of_the_venue_names_the_tier(stated, tier):
    assert tier == tier_of_threshold(stated)


@pytest.mark.parametrize("tier", AccountTier)
def test_limits_are_those_of_the_exchange(tier):
    ours, theirs = trading_limits(tier), LIMITS[Tier(tier.value)]

    assert (theirs.threshold, theirs.decay_hundredths_per_s) == (ours.threshold, round(ours.decay_per_s * 100))


def test_tighter_tier_slows_down_counters_that_exist_already():
    budget = RateBudget(trading_limits(AccountTier.PRO))
    budget.assume_full(A, 0.0)
    budget.set_limits(trading_limits(AccountTier.STARTER))

    assert 170.0 == pytest.approx(budget.points(A, 10.0))
    assert budget.is_in_reserve(A, 144.9)
    assert not budget.is_in_reserve(A, 145.0)


def test_reserve_that_takes_the_whole_counter_is_an_error_of_ours():
    with pytest.raises(InvariantViolated, match="I12"):
        budget_of(reserve=60.0)


REQUEST = st.tuples(
    st.sampled_from(["add", "amend", "cancel"]),
    st.integers(0, 3),  # which of the newest orders
    st.sampled_from([0, 1, 20, 900, 5_000, 11_000, 40_000]),  # pause before, ms
    st.integers(1, 400),  # on its way, ms
    st.integers(1, 2_000),  # the answer's way, ms
    st.integers(1, 3_000),  # the report's way, ms
    st.sampled_from([True, True, True, False]),  # whether the answer comes
)


@given(requests=st.lists(REQUEST, min_size=1, max_size=40), tier=st.sampled_from(list(AccountTier)))
@example(
    requests=[
        ("add", 0, 0, 1, 1, 1, True),
        ("amend", 0, 11_000, 1, 1, 899, True),
        ("amend", 0, 900, 400, 1, 1, True),
    ],
    tier=AccountTier.PRO,
)
@settings(max_examples=150)
def test_model_is_never_below_the_counter_of_the_exchange(requests, tier):
    """I12: answers and reports with their `ratecount` overtake each other, answers get lost; the model stays above.

    Requests arrive in the order in which they were sent: they share one connection.
    """
    venue = RateCounter(limits=LIMITS[Tier(tier.value)])
    budget = RateBudget(trading_limits(tier))
    changed_ns: dict[str, int] = {}
    timeline = Timeline()
    orders: list[str] = []
    sent_ms = arrived_ms = 0
    for send, which, pause_ms, out_ms, back_ms, report_ms, is_answered in requests:
        sent_ms += pause_ms
        arrived_ms = max(arrived_ms, sent_ms + out_ms)
        is_add = send == "add" or not orders
        if is_add:
            orders.append(f"o{len(orders)}")
        order = orders[-1] if is_add else orders[-1 - which % len(orders)]
        request = Request("add" if is_add else send, order, back_ms, report_ms, is_answered)
        timeline.put(sent_ms, "send", request)
        timeline.put(arrived_ms, "arrive", request)
    for at_ms, what, request in timeline:
        mono, at_ns = at_ms / 1000, at_ms * 1_000_000
        if what == "send":
            request.spend = getattr(budget, f"{request.send}_sent")(A, request.order, mono)
        elif what == "arrive":
            request.count = _charge(venue, request.send, request.order, changed_ns, at_ns)
            if request.is_answered:
                timeline.put(at_ms + request.back_ms, "answer", request)
            if request.count is not None:
                timeline.put(at_ms + request.report_ms, "report", request)
        elif what == "answer":
            budget.answered(request.spend, mono)
        else:
            budget.reported(A, request.order, REPORTS[request.send], Decimal(request.count), mono)
        real = venue.settle(at_ns) / UNITS_PER_COUNT

        assert budget.points(A, mono) >= real - 1e-6, (what, request, at_ms)


REPORTS = {"add": ExecType.NEW, "amend": ExecType.AMENDED, "cancel": ExecType.CANCELED}


@define(eq=False)
class Request:
    send: str
    order: str
    back_ms: int
    report_ms: int
    is_answered: bool
    spend: Any = None
    count: Any = None


class Timeline:
    """What happens when, in order; more may be put in while it runs."""

    def __init__(self) -> None:
        self._events: list[tuple[int, int, str, Request]] = []
        self._numbers = itertools.count()

    def put(self, at_ms: int, what: str, request: Request) -> None:
        heapq.heappush(self._events, (at_ms, next(self._numbers), what, request))

    def __iter__(self) -> Iterator[tuple[int, str, Request]]:
        while self._events:
            at_ms, _number, what, request = heapq.heappop(self._events)
            yield at_ms, what, request


def _charge(venue, send, order, changed_ns, at_ns):
    """Count a request as the exchange does and return the count that its report shows; None without a report."""
    age_ns = at_ns - changed_ns.get(order, at_ns)
    if send == "add":
        venue.charge(ADD_POINTS, at_ns)
        changed_ns[order] = at_ns
    elif order not in changed_ns:
        return None
    elif send == "amend":
        venue.charge(AMEND_POINTS + age_points(AMEND_AGES, age_ns), at_ns)
        changed_ns[order] = at_ns
    else:
        venue.charge(age_points(CANCEL_AGES, age_ns), at_ns)
        del changed_ns[order]
    return venue.count(at_ns)
