"""Backoff, budgets and names: pure functions of the market data adapter."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.adapters.kraken.backoff import backoff_s
from krakenbot.adapters.kraken.protocol.budget import Budget
from krakenbot.adapters.kraken.symbols import v2_asset, v2_symbol


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_is_jittered_and_capped(attempt, jitter):
    assert 0.125 <= backoff_s(attempt, jitter) <= 20.0


def test_backoff_keeps_attempts_under_the_connection_limit():
    attempts, waited_s = 0, 0.0
    while waited_s < 600:
        waited_s += backoff_s(attempts, 0.0)
        attempts += 1

    # 150 in ten minutes are allowed per address, and a level3 shard or two share it
    assert attempts <= 75


def test_budget_gives_what_it_holds_and_fills_again():
    budget = Budget(rate_per_s=2.0, burst=3.0)

    assert [True, True, True, False] == [budget.take(1.0, 10.0) for _ in range(4)]
    assert budget.wait_s(1.0, 10.0) == pytest.approx(0.5)
    assert budget.take(1.0, 10.5)
    assert budget.available(100.0) == pytest.approx(3.0)


def test_time_running_back_gives_no_budget():
    budget = Budget(rate_per_s=1.0, burst=1.0)
    budget.take(1.0, 10.0)

    assert budget.available(5.0) == pytest.approx(0.0)


def test_emptied_budget_waits():
    budget = Budget(rate_per_s=4.0, burst=8.0)
    budget.empty(1.0)

    assert budget.wait_s(2.0, 1.0) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("wsname", "expected"), [("XBT/USD", "BTC/USD"), ("XDG/XBT", "DOGE/BTC"), ("ETH/EUR", "ETH/EUR")]
)
def test_old_pair_names_become_those_of_v2(wsname, expected):
    assert expected == v2_symbol(wsname)


@pytest.mark.parametrize("name", ["", "BTC", "/USD", "BTC/"])
def test_name_without_two_legs_is_refused(name):
    with pytest.raises(ValueError, match="not a pair"):
        v2_symbol(name)


def test_asset_names_that_are_new_already_stay():
    assert ["BTC", "DOGE", "ETH"] == [v2_asset(name) for name in ("XBT", "XDG", "ETH")]
