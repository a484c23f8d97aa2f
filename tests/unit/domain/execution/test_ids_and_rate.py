"""Own ids, and our model of the venue's rate counter."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

import pytest

from krakenbot.domain.errors import InvariantViolated
from krakenbot.domain.execution.ids import is_own, make_cl_ord_id
from krakenbot.domain.execution.order import OrderRole
from krakenbot.domain.execution.rate import RateBudget, RateLimits


@pytest.mark.parametrize("role", OrderRole)
def test_own_ids_are_short_ascii_and_known_again(role):
    made = make_cl_ord_id(role, "0123456789ab")

    assert 15 == len(made)
    assert is_own(made)


@pytest.mark.parametrize("foreign", [None, "", "kb", "kbx123", "xkbe123", "kbe" + "0" * 16, "kbe-123"])
def test_other_ids_are_foreign(foreign):
    assert not is_own(foreign)


@pytest.mark.parametrize("suffix", ["0" * 16, "ä", "a b"])
def test_suffix_that_would_not_fit_is_an_error_of_ours(suffix):
    with pytest.raises(InvariantViolated, match="I2"):
        make_cl_ord_id(OrderRole.ENTRY, suffix)


def test_counter_follows_the_example_of_the_vendor():
    """Kraken's guide: add, amend at 7 s, cancel 36 s later costs 1 + 1 + 2 + 4."""
    budget = RateBudget(RateLimits(decay_per_s=0.0))
    budget.count_add("A/USD", 0.0)
    budget.count_amend("A/USD", 7.0, 7.0)
    budget.count_cancel("A/USD", 43.0, 36.0)

    assert 8.0 == budget.points("A/USD", 43.0)


def test_entries_leave_the_reserve_and_the_counter_decays():
    budget = RateBudget(RateLimits())
    for _ in range(35):
        budget.count_add("A/USD", 0.0)

    assert not budget.allows_entry(0.0)
    assert budget.allows_entry(1.0)
    assert 34.0 == budget.highest(1.0)
