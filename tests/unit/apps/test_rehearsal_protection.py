"""Arithmetic of protection: every second of a position is in exactly one sum."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.apps.rehearsal.protection import (
    ProtectionChange,
    quantiles,
    seconds_by_protection,
    seconds_to_protection,
)

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOTHING = {"protected": 0.0, "guarded": 0.0, "bare": 0.0, "unprotectable": 0.0}


def change(after_s: float, protection: str, symbol: str = "BTC/USD") -> ProtectionChange:
    at = START + timedelta(seconds=after_s)
    return ProtectionChange(symbol=symbol, at=at, protection=protection, position_qty=Decimal(1))


def until(after_s: float) -> datetime:
    return START + timedelta(seconds=after_s)


def test_seconds_run_from_each_change_to_the_next_and_to_the_end() -> None:
    changes = [change(1, "bare"), change(1.25, "protected"), change(6, "guarded"), change(10, "protected")]

    assert {**NOTHING, "bare": 0.25, "protected": 6.75, "guarded": 4.0} == seconds_by_protection(changes, until(12))


def test_flat_seconds_count_nowhere_and_dust_counts_by_itself() -> None:
    changes = [change(0, "bare"), change(2, "flat"), change(5, "unprotectable"), change(8, "flat")]

    assert {**NOTHING, "bare": 2.0, "unprotectable": 3.0} == seconds_by_protection(changes, until(100))


def test_symbols_add_up_whatever_the_order_of_their_rows() -> None:
    changes = [change(3, "protected", "ETH/USD"), change(0, "bare"), change(1, "bare", "ETH/USD"), change(2, "flat")]

    assert {**NOTHING, "bare": 4.0, "protected": 7.0} == seconds_by_protection(changes, until(10))


def test_a_change_after_the_end_takes_nothing_away() -> None:
    assert {**NOTHING, "bare": 4.0} == seconds_by_protection([change(0, "bare"), change(4, "protected")], until(2))
    assert seconds_by_protection([], until(2)) == NOTHING


def test_time_to_protection_runs_from_the_first_bare_to_cover_of_either_kind() -> None:
    changes = [
        change(0, "bare"),
        change(0.5, "bare"),
        change(2, "protected"),
        change(3, "guarded"),
        change(5, "bare"),
        change(5.1, "guarded"),
        change(1, "bare", "ETH/USD"),
        change(4, "flat", "ETH/USD"),
        change(6, "bare", "SOL/USD"),
    ]

    assert seconds_to_protection(changes) == pytest.approx([0.1, 2.0])


def test_quantiles_are_values_that_happened() -> None:
    assert quantiles([]) == {"p50": None, "p99": None, "max": None}
    assert quantiles([3.0]) == {"p50": 3.0, "p99": 3.0, "max": 3.0}
    assert quantiles([4.0, 1.0, 3.0, 2.0]) == {"p50": 2.0, "p99": 4.0, "max": 4.0}
    assert quantiles([float(n) for n in range(1, 201)]) == {"p50": 100.0, "p99": 198.0, "max": 200.0}


@given(
    st.lists(
        st.tuples(
            st.integers(0, 100),
            st.sampled_from(["bare", "protected", "guarded", "unprotectable", "flat"]),
            st.sampled_from(["BTC/USD", "ETH/USD"]),
        ),
        max_size=20,
    )
)
def test_all_sums_together_are_the_time_with_a_position(rows: list[tuple[int, str, str]]) -> None:
    changes = [change(after_s, protection, symbol) for after_s, protection, symbol in rows]
    expected = 0
    for symbol in ("BTC/USD", "ETH/USD"):
        own = sorted((item for item in rows if item[2] == symbol), key=lambda item: item[0])
        ends = [item[0] for item in own[1:]] + [100]
        expected += sum(end - item[0] for item, end in zip(own, ends, strict=False) if item[1] != "flat")

    assert sum(seconds_by_protection(changes, until(100)).values()) == pytest.approx(expected)
