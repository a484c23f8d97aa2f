"""The page keeps what a run left out, replaces what it struck, and forgets faults that are no more."""

from __future__ import annotations

import pytest
from tests.faults.checks import Compared
from tests.faults.report import merged, row
from tests.faults.runner import Outcome

PAGE = "above\n<!-- table of `./kb faults --suite market`: begin -->\n<!-- end of market -->\nbelow\n"


def outcome(name: str, *findings: str) -> Outcome:
    compared = Compared(books=3, queues=3, trades=10, stored=9, in_gaps=1)
    return Outcome(
        fault=name, injected=2, point="public.book", compared=compared, told="", recovery_s=1.25, findings=findings
    )


def test_rows_stand_in_the_order_of_the_suite_and_rows_left_out_stay():
    page = merged(PAGE, "market", ["a", "b"], {"b": row(3, outcome("b"))})
    page = merged(page, "market", ["a", "b"], {"a": row(12, outcome("a"))})

    rows = [line for line in page.splitlines() if line.startswith(("| a ", "| b "))]
    assert ["| a | 12 |", "| b | 3 |"] == [line[: line.index("|", 6) + 1] for line in rows]
    assert page.startswith("above\n")
    assert page.endswith("below\n")


def test_a_fault_that_is_no_more_leaves_the_page():
    page = merged(PAGE, "market", ["a"], {"a": row(3, outcome("a"))})

    assert "| a |" not in merged(page, "market", ["b"], {"b": row(3, outcome("b"))})


def test_a_row_says_what_did_not_hold():
    assert row(3, outcome("a")).endswith("| 1.2 | yes |")
    assert row(3, outcome("a", "trade 7 | lost")).endswith("| **no**: trade 7 / lost |")


def test_a_page_without_marks_is_refused():
    with pytest.raises(ValueError, match="marks"):
        merged("nothing", "market", [], {})
