"""Own ids: short, known again, never foreign."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

import pytest

from krakenbot.domain.errors import InvariantViolated
from krakenbot.domain.execution.ids import is_own, make_cl_ord_id
from krakenbot.domain.execution.order import OrderRole


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
