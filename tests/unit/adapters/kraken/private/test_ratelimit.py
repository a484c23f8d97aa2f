"""The REST counter beside the counter of the local exchange itself."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.adapters.kraken.ratelimit import RestCounter, RestTier, call_cost, rest_tier
from krakenbot.adapters.kraken.rest import RestSettings
from krakenbot.adapters.local_exchange.limits.limiter import Limiter
from krakenbot.adapters.local_exchange.limits.settings import REST_COUNTERS, LimitSettings
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.execution.rate import AccountTier

TIER = RestTier(threshold=15.0, decay_per_s=0.33)


def call(counter: RestCounter, endpoint: str, mono: float) -> None:
    counter.sent(endpoint)
    counter.ended(mono)


def test_call_that_may_go_first_uses_the_whole_counter_and_another_leaves_the_reserve() -> None:
    counter = RestCounter(tier=TIER, now_mono=0.0)
    for _ in range(12):
        call(counter, "TradeVolume", 0.0)

    assert counter.wait_s("TradeVolume", 0.0) > 2.9
    assert 0.0 == counter.wait_s("GetWebSocketsToken", 0.0)


def test_call_without_an_answer_does_not_decay() -> None:
    counter = RestCounter(tier=TIER, now_mono=0.0)
    counter.sent("Ledgers")

    assert 4.0 == counter.points(100.0)
    counter.ended(100.0)
    assert 0.7 == pytest.approx(counter.points(110.0))


def test_venues_word_that_the_counter_is_full_is_believed() -> None:
    counter = RestCounter(tier=TIER, now_mono=0.0)
    counter.full(0.0)

    assert 15.0 == counter.points(0.0)
    assert counter.wait_s("BalanceEx", 0.0) > 3.0


def test_tighter_tier_holds_at_once_and_keeps_what_was_counted() -> None:
    counter = RestCounter(tier=rest_tier(AccountTier.PRO), now_mono=0.0)
    for _ in range(4):
        call(counter, "Ledgers", 0.0)
    counter.set_tier(TIER)

    assert (16.0, 15.0) == (counter.points(0.0), counter.threshold)
    assert 12.7 == pytest.approx(counter.points(10.0))
    assert (16.0 + 4.0 - 12.0) / 0.33 == pytest.approx(counter.wait_s("Ledgers", 0.0))


def test_lockout_closes_every_call_for_a_quarter_of_an_hour() -> None:
    counter = RestCounter(tier=TIER, now_mono=10.0)
    counter.locked_out(10.0)

    assert 900.0 == counter.wait_s("GetWebSocketsToken", 10.0)
    assert 0.0 == counter.wait_s("GetWebSocketsToken", 910.0)


@pytest.mark.parametrize(
    ("error", "wait_s"),
    [
        ("EService: Throttled: 1007", 7.0),
        ("EService:Throttled: 900", 1.0),
        ("EService: Throttled", 5.0),
        ("EService: Throttled: 99999999999", 900.0),
    ],
)
def test_throttled_call_waits_until_the_time_that_the_venue_names(error: str, wait_s: float):
    counter = RestCounter(tier=TIER, now_mono=0.0)
    counter.throttled(error, 1000.0, 0.0)

    assert wait_s == counter.wait_s("BalanceEx", 0.0)


@pytest.mark.parametrize("tier", AccountTier)
def test_figures_are_those_of_the_exchange(tier: AccountTier):
    ours = rest_tier(tier)

    assert REST_COUNTERS[tier.value] == (ours.threshold, round(ours.decay_per_s * 100))
    assert list(AccountTier) == list(REST_COUNTERS)
    assert all(
        (a.threshold, a.decay_per_s) <= (b.threshold, b.decay_per_s) for a, b in pairwise(map(rest_tier, AccountTier))
    )


ENDPOINTS = ["GetWebSocketsToken", "BalanceEx", "OpenOrders", "ClosedOrders", "TradesHistory", "Ledgers", "TradeVolume"]


@given(
    calls=st.lists(
        st.tuples(st.integers(0, 30_000), st.sampled_from(ENDPOINTS), st.integers(0, 400), st.integers(0, 400)),
        min_size=1,
        max_size=60,
    ),
    tier=st.sampled_from(list(AccountTier)),
)
def test_calls_that_wait_as_told_are_never_refused_by_the_exchange(
    calls: list[tuple[int, str, int, int]], tier: AccountTier
):
    counter, limiter = RestCounter(tier=rest_tier(tier), now_mono=0.0), Limiter(LimitSettings())
    now_s = 0.0
    refusals = []
    for pause_ms, endpoint, out_ms, back_ms in calls:
        now_s += pause_ms / 1000
        now_s += counter.wait_s(endpoint, now_s) + 1e-6
        counter.sent(endpoint)
        now_s += out_ms / 1000
        refusals.append(limiter.private_call("key", tier.value, endpoint, int(now_s * 1e9)))
        now_s += back_ms / 1000
        counter.ended(now_s)

    assert {None} == set(refusals)


def test_histories_cost_the_dearer_of_the_two_documented_figures():
    assert [4.0, 4.0, 1.0] == [call_cost(name) for name in ("Ledgers", "TradesHistory", "ClosedOrders")]


# What a page of the ledger waits at most, by tier.
LEDGER_BOUNDS_S = {AccountTier.STARTER: 60.0, AccountTier.INTERMEDIATE: 35.0, AccountTier.PRO: 20.0}


@pytest.mark.parametrize("tier", AccountTier)
@pytest.mark.parametrize("ladder_at_s", [0.0, 10.0, 25.0, 40.0, 59.0])
def test_ledger_comes_to_its_turn_beside_all_that_the_engine_asks_in_turn(tier: AccountTier, ladder_at_s: float):
    """From a full counter, with a ladder and the account in their intervals, all of which go before the ledger."""
    settings = ExecutionSettings(capital_limit_quote=Decimal(1000))
    counter = RestCounter(tier=rest_tier(tier), now_mono=0.0)
    counter.full(0.0)
    ladder = ["OpenOrders", "ClosedOrders", "TradesHistory", "BalanceEx"]
    due = [(ladder_at_s, ladder), (0.0, ["BalanceEx"])]
    every_s = [settings.reconcile_interval_s, settings.account_interval_s]
    waiting: list[str] = []
    turns_s: list[float] = []
    asked_s = now_s = 0.0
    while now_s < 3_600.0:
        for number, (at_s, calls) in enumerate(due):
            if now_s >= at_s:
                waiting += calls
                due[number] = (at_s + every_s[number], calls)
        while waiting and counter.wait_s(waiting[0], now_s) <= 0:
            call(counter, waiting.pop(0), now_s)
        if not waiting and counter.wait_s("Ledgers", now_s) <= 0:
            call(counter, "Ledgers", now_s)
            turns_s.append(now_s - asked_s)
            asked_s = now_s
        now_s += 0.25

    assert max(turns_s) <= LEDGER_BOUNDS_S[tier] < RestSettings().last_wait_s
    assert len(turns_s) >= 3_600.0 / LEDGER_BOUNDS_S[tier]
