"""The main job end to end, as a user starts it.

Goal: market data in, a decision, an order, its fill, its protection, and a ledger that equals the exchange's record.
Method: real processes on loopback with the seeded flow; what is checked is the report, which takes ledger and
exchange from two sides.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

REPORT_NAMES = {
    "duration_s",
    "symbols",
    "seed",
    "profile",
    "settings_overrides",
    "frames",
    "checksums",
    "rows",
    "generations",
    "epochs",
    "cycles",
    "blockers",
    "orders",
    "fills",
    "seconds",
    "protected_within_s",
    "ledger",
    "exchange",
    "ledger_equals_exchange",
    "orphan_orders",
    "exit_reason",
}
OVERRIDABLE = ("windows.", "decision.edge.min_labels", "decision.edge.allow_prior")
Rehearse = Callable[..., Any]


def protected_entries(report: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the entries that were post-only, filled at least in part, and had a stop live at the exchange."""
    live = {"open", "canceled", "filled", "partially_filled", "pending_amend", "pending_cancel", "acked"}
    return [
        entry
        for entry in report["entries"]
        if entry["post_only"]
        and Decimal(entry["filled_qty"]) > 0
        and any(child["role"] == "protective_stop" and child["state"] in live for child in entry["children"])
    ]


@pytest.mark.slow
@pytest.mark.timeout(170)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_edge_places_fills_and_protects_an_entry(rehearse: Rehearse, seed: int) -> None:
    done = rehearse("--duration", "45", "--symbols", "7", "--seed", str(seed))

    assert done.code == 0, done.output[-6000:]
    report = done.report
    assert report.keys() >= REPORT_NAMES
    assert report["exit_reason"] == "duration"
    assert all(key.startswith(OVERRIDABLE) for key in report["settings_overrides"])
    assert protected_entries(report), done.output[-6000:]
    assert report["protected_within_s"]["p50"] is not None
    assert report["protected_within_s"]["p50"] < 5.0
    assert report["ledger_equals_exchange"] is True
    assert report["ledger"] == report["exchange"]
    assert report["orphan_orders"] == 0
    assert report["tie_out"]["unexplained"] == {}
    assert report["tie_out"]["tied_at"] is not None, "the first look ties out, as soon as the counter of reads lets it"
    assert report["checksums"]["book_ok"] > 500
    assert report["checksums"]["level3_ok"] > 500
    assert (report["checksums"]["book_bad"], report["checksums"]["level3_bad"]) == (0, 0)
    assert all(count > 0 for count in report["rows"].values())
    assert report["epochs"].get("valid", 0) >= 3
    assert report["cycles"] >= 10
    assert "no evidence of profit" in done.output or "evidence of profit" in report["note"]


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_null_places_nothing_and_says_why(rehearse: Rehearse) -> None:
    done = rehearse("--duration", "60", "--profile", "null", "--seed", "4")

    assert done.code == 0, done.output[-6000:]
    assert done.report["orders"] == {}
    assert done.report["ledger_equals_exchange"] is None
    assert done.report["blockers"].get("HURDLE", 0) > 0


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_a_recorded_start_goes_on_seeded(rehearse: Rehearse, recordings: Path) -> None:
    done = rehearse("--duration", "25", "--flow", "recorded", "--symbols", "7")

    assert done.code == 0, done.output[-6000:]
    assert (done.report["checksums"]["book_bad"], done.report["checksums"]["level3_bad"]) == (0, 0)
    assert done.report["flow"] == "recorded"


@pytest.mark.slow
@pytest.mark.timeout(170)
def test_an_interrupt_ends_it_with_the_report(rehearse: Rehearse) -> None:
    done = rehearse("--duration", "600", "--symbols", "7", "--seed", "5", signal_after=22.0)

    assert done.code == 0, done.output[-6000:]
    assert done.report["exit_reason"] == "interrupted"
    assert done.report["duration_s"] < 30
    assert done.report["ledger_equals_exchange"] is not False


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--duration", "1"), "--duration 1: allowed are 5 to 86400"),
        (("--symbols", "0"), "--symbols 0: allowed are 1 to 600"),
        (("--report", "no-such-folder/report.json"), "its folder must exist"),
    ],
)
def test_bad_arguments_are_refused_before_anything_starts(
    rehearse: Rehearse, arguments: tuple[str, ...], words: str
) -> None:
    done = rehearse(*arguments)

    assert done.code == 2
    assert words in done.output
