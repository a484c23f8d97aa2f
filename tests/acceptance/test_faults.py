"""The suite of market faults in its smallest form, so that it stays alive: `./kb faults` runs the whole of it.

Goal: real processes are struck, and the exchange's record equals what the databases hold. Method: the command itself,
with few symbols and two faults; what is checked is its report.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KEPT = {"PATH", "TMPDIR"}
FAULTS = {
    "public drops in midstream, halfway through a trade",
    "a wrong checksum once, book",
}


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(170)
def test_two_market_faults_leave_every_book_right_and_every_trade_stored(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--symbols", "3", "--report", str(report), "--only", *sorted(FAULTS)],
        cwd=ROOT,
        env={name: os.environ[name] for name in KEPT if name in os.environ} | {"HOME": str(tmp_path)},  # noqa: TID251  # handed on
        capture_output=True,
        text=True,
        check=False,
        timeout=160,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["passed"]
    *struck, last = found["faults"]
    assert {row["fault"] for row in struck} == FAULTS
    for row in struck:
        assert row["injected"] == 1
        assert (row["compared"]["books"], row["compared"]["queues"]) == (3, 3)
        assert row["compared"]["trades"] == row["compared"]["stored"]
        assert row["recovery_s"] is not None
    assert last["compared"]["in_gaps"] == 0
