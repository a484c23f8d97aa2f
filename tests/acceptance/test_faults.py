"""The suites of faults in their smallest form, so that they stay alive: `./kb faults` runs the whole of them.

Goal: real processes are struck, and the exchange's record equals what the databases hold. Method: the command itself,
with few symbols. Market: one fault, which costs every public book and breaks off a trade. Orders: an answer that is
lost, and a kill -9 between an entry and its answer. What is checked is the report.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
KEPT = {"PATH", "TMPDIR"}
FAULT = "public drops in midstream, halfway through a trade"


def struck_by(folder: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run the command, which must find that all held; return the report's rows."""
    report = folder / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--report", str(report), *arguments],
        cwd=ROOT,
        env={name: os.environ[name] for name in KEPT if name in os.environ} | {"HOME": str(folder)},  # noqa: TID251  # handed on
        capture_output=True,
        text=True,
        check=False,
        timeout=160,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["passed"]
    rows: list[dict[str, Any]] = found["faults"]
    return rows


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(170)
def test_a_market_fault_leaves_every_book_right_and_every_trade_stored(tmp_path: Path) -> None:
    struck, last = struck_by(tmp_path, "--symbols", "2", "--only", FAULT)

    assert struck["fault"] == FAULT
    assert struck["injected"] == 1
    assert (struck["compared"]["books"], struck["compared"]["queues"]) == (2, 2)
    assert 0 < struck["compared"]["trades"] == struck["compared"]["stored"] + struck["compared"]["in_gaps"]
    assert struck["recovery_s"] is not None
    assert last["compared"]["in_gaps"] == 0


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(170)
def test_a_lost_answer_and_a_kill_leave_no_order_unknown_and_no_fill_unbooked(tmp_path: Path) -> None:
    wanted = ["entry: its answer is lost, it is filled in part", "kill -9 at gateway.submit:after of entry"]
    lost, killed = struck_by(tmp_path, "--suite", "orders", "--worlds", "1", "--symbols", "5", "--only", *wanted)

    assert lost["points"] == [
        "once at add_order.ack: lose",
        "once at private.executions.new: fill 40 % of order of case0",
    ]
    assert killed["points"] == ["gateway.submit:after of entry"]
    assert (lost["starts"], killed["starts"]) == (1, 2)
    assert all(case["orders"] and case["recovery_s"] is not None for case in (lost, killed))
    assert lost["fills"] > 0
