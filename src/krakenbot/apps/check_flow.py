"""Check the flow of the local exchange: `krakenbot exchange check-flow`.

Runs profiles and seeds over simulated time without sockets, prints one table per run, and can write the page
docs/flow_check.md. The command line registers `check_flow`.
"""

from __future__ import annotations

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Literal

from krakenbot.adapters.local_exchange.flow.parameters import Profile
from krakenbot.adapters.local_exchange.flow_check.cases import Case, CaseReport, run_case
from krakenbot.adapters.local_exchange.flow_check.report import page, summary, terminal_table

PROFILES: tuple[Profile, ...] = ("null", "toxic", "edge")
SHORTEST_S = 600
LONGEST_S = 172_800
MOST_SYMBOLS = 16


def check_flow(
    *,
    profile: Literal["null", "toxic", "edge", "all"] = "all",
    seed: list[int] | None = None,
    duration_s: int = 7200,
    symbols: int = 3,
    processes: int = 2,
    report: Path | None = None,
) -> int:
    """Check the seeded flow against what real markets look like and what makers earn; 1 when a check fails.

    Parameters
    ----------
    profile
        Which kind of market; all of them by default.
    seed
        Seeds of the flow, several if given several times; 1 by default.
    duration_s
        Seconds of simulated time per run, 600 to 172800.
    symbols
        How many symbols trade, 1 to 16.
    processes
        How many runs go on side by side.
    report
        Page to write, such as docs/flow_check.md.

    """
    if not SHORTEST_S <= duration_s <= LONGEST_S:
        return _refuse(f"--duration-s {duration_s}: allowed are {SHORTEST_S} to {LONGEST_S}")
    if not 1 <= symbols <= MOST_SYMBOLS:
        return _refuse(f"--symbols {symbols}: allowed are 1 to {MOST_SYMBOLS}")
    if not 1 <= processes <= 64:
        return _refuse(f"--processes {processes}: allowed are 1 to 64")
    profiles = PROFILES if profile == "all" else (profile,)
    cases = [
        Case(profile=name, seed=number, symbol_count=symbols, duration_s=duration_s)
        for name in profiles
        for number in dict.fromkeys(seed or [1])
    ]
    reports: list[CaseReport] = []
    for found in _run(cases, processes):
        print(terminal_table(found), end="\n\n", flush=True)
        reports.append(found)
    print(summary(reports))
    if report is not None:
        seeds = " ".join(f"--seed {number}" for number in dict.fromkeys(seed or [1]))
        command = (
            f"krakenbot exchange check-flow --profile {profile} {seeds} --duration-s {duration_s} --symbols {symbols}"
        )
        before = report.read_text(encoding="utf-8") if report.exists() else ""
        report.write_text(page(before, command, reports), encoding="utf-8")
    return 0 if all(found.is_ok for found in reports) else 1


def _run(cases: list[Case], processes: int) -> list[CaseReport]:
    if len(cases) == 1 or processes == 1:
        return list(map(run_case, cases))
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        return list(pool.map(run_case, cases))


def _refuse(message: str) -> int:
    print(f"check-flow: {message}", file=sys.stderr)
    return 2
