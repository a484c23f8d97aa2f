"""Run rehearsals over flows, profiles and seeds, and write what they reported into docs/rehearsals.md.

./kb python scripts/write_rehearsals.py [--duration 60] [--seeds 1 2 3] [--at-once 2]
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "rehearsals.md"
PROFILES = ("edge", "null", "toxic")
COLUMNS = (
    "flow",
    "profile",
    "seed",
    "s",
    "exit",
    "frames",
    "checksums ok / bad",
    "valid epochs",
    "cycles",
    "blockers, most often first",
    "entries filled / made",
    "fills",
    "protected, guarded, bare s",
    "protected within p50 / max s",
    "ledger = exchange",
    "orphans",
)
HEAD = f"""# Rehearsals

Written by `./kb python scripts/write_rehearsals.py`. Each row is one run of `./kb rehearse` with the options of its
first four columns and the default 12 symbols. The order flow is made up: nothing here is evidence of profit.

| {" | ".join(COLUMNS)} |
{"|---" * len(COLUMNS)}|
"""


def main() -> int:
    """Run all combinations; return 1 when one of them did not exit with 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--duration", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--flows", nargs="+", default=["seeded", "recorded"])
    parser.add_argument("--profiles", nargs="+", default=list(PROFILES))
    parser.add_argument("--at-once", type=int, default=2, help="how many run side by side")
    arguments = parser.parse_args()
    cases = list(itertools.product(arguments.flows, arguments.profiles, arguments.seeds))
    rows, failed = [], False
    with ThreadPoolExecutor(arguments.at_once) as workers:
        done = workers.map(lambda case: run(*case, duration_s=arguments.duration), cases)
        for case, (code, report) in zip(cases, done, strict=True):
            failed = failed or code != 0
            rows.append(row(*case, code, report))
            print(rows[-1], flush=True)
    PAGE.write_text(HEAD + "\n".join(rows) + "\n", encoding="utf-8")
    return 1 if failed else 0


def run(flow: str, profile: str, seed: int, *, duration_s: float) -> tuple[int, dict[str, Any]]:
    """Run one rehearsal and return its exit status and report."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.json"
        command = [sys.executable, "-m", "krakenbot", "rehearse", "--duration", str(duration_s), "--seed", str(seed)]
        command += ["--flow", flow, "--profile", profile, "--report", str(file)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603  # our own
        if not file.exists():
            raise SystemExit(f"{' '.join(command)}: no report\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return done.returncode, json.loads(file.read_text(encoding="utf-8"))


def row(flow: str, profile: str, seed: int, code: int, report: dict[str, Any]) -> str:
    """Return a table row of one report."""
    sums = report["checksums"]
    within = report["protected_within_s"]
    blockers = Counter(report["blockers"]).most_common(4)
    filled = sum(float(entry["filled_qty"]) > 0 for entry in report["entries"])
    cells = [
        flow,
        profile,
        seed,
        f"{report['duration_s']:.0f}",
        code,
        sum(report["frames"].values()),
        f"{sums['book_ok'] + sums['level3_ok']} / {sums['book_bad'] + sums['level3_bad']}",
        report["epochs"].get("valid", 0),
        report["cycles"],
        ", ".join(f"{name} {count}" for name, count in blockers),
        f"{filled} / {len(report['entries'])}",
        report["fills"],
        ", ".join(f"{report['seconds'][name]:.1f}" for name in ("protected", "guarded", "bare")),
        f"{_seconds(within['p50'])} / {_seconds(within['max'])}",
        {True: "yes", False: "no", None: "no fills"}[report["ledger_equals_exchange"]],
        report["orphan_orders"],
    ]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


if __name__ == "__main__":
    sys.exit(main())
