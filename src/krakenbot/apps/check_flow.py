"""Check the flow of the local exchange: `krakenbot exchange check-flow`.

Runs profiles and seeds over simulated time without sockets, prints one table per run, and can write the page
docs/flow_check.md. The command line registers `check_flow`.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import cyclopts

from krakenbot.adapters.local_exchange.flow.parameters import Profile
from krakenbot.adapters.local_exchange.flow.recording import find_recordings
from krakenbot.adapters.local_exchange.flow_check.cases import Case, CaseReport, recorded_case, run_case
from krakenbot.adapters.local_exchange.flow_check.report import page, summary, terminal_text

PROFILES: tuple[Profile, ...] = ("null", "toxic", "edge")
SHORTEST_S = 600
LONGEST_S = 172_800
MOST_SYMBOLS = 16
MOST_PROCESSES = 64
DEFINITIONS = "docs/flow_check.md"


def check_flow(
    *,
    profile: Literal["null", "toxic", "edge", "recorded", "all"] = "all",
    seed: Annotated[list[int] | None, cyclopts.Parameter(negative=())] = None,
    duration_s: int = 10800,
    symbols: int = 3,
    processes: int = 2,
    recording: Path | None = None,
    report: Path | None = None,
) -> int:
    """Check the seeded flow against what real markets look like and what makers earn; 1 when a check fails.

    Parameters
    ----------
    profile
        Which kind of market, or the flow that goes on from the recording; all of them by default.
    seed
        Seeds of the flow, several if given several times; 1 by default.
    duration_s
        Seconds of simulated time per run, 600 to 172800.
    symbols
        How many symbols trade, 1 to 16.
    processes
        How many runs go on side by side.
    recording
        Folder of the recording; without it KRAKENBOT_RECORDINGS, else ../shared/kraken.
    report
        Page to write, such as docs/flow_check.md.

    """
    seeds = list(dict.fromkeys(seed or [1]))
    error = _fault(duration_s, symbols, processes, report)
    if error is not None:
        return _refuse(error)
    profiles = PROFILES if profile == "all" else tuple(name for name in PROFILES if name == profile)
    cases = [
        Case(profile=name, seed=number, symbol_count=symbols, duration_s=duration_s)
        for name in profiles
        for number in seeds
    ]
    unchecked = ""
    if profile in ("recorded", "all"):
        try:
            folder = find_recordings(recording)
        except FileNotFoundError as missing:
            if profile == "recorded":
                return _refuse(str(missing))
            unchecked = "The recorded flow was not checked: no recording was found."
            print(f"The recorded flow was not checked: {missing}", end="\n\n")
        else:
            cases += [recorded_case(folder, seed=number, duration_s=duration_s) for number in seeds]
    reports: list[CaseReport] = []
    with _ending_at_sigterm():
        for found in _run(cases, processes):
            print(terminal_text(found), end="\n\n", flush=True)
            reports.append(found)
    print(summary(reports))
    if report is not None:
        given = " ".join(f"--seed {number}" for number in seeds)
        length = f"--duration-s {duration_s} --symbols {symbols}"
        command = f"krakenbot exchange check-flow --profile {profile} {given} {length}"
        before = report.read_text(encoding="utf-8") if report.exists() else ""
        report.write_text(page(before, command, reports, unchecked, definitions=_definitions(report)), encoding="utf-8")
    return 0 if all(found.is_ok for found in reports) else 1


def _definitions(report: Path) -> str:
    """Return where a report finds the page of the definitions: as a link where that page is at hand."""
    here = Path(__file__).resolve().parents[3] / DEFINITIONS
    return os.path.relpath(here, report.absolute().parent) if here.is_file() else DEFINITIONS


def _fault(duration_s: int, symbols: int, processes: int, report: Path | None) -> str | None:
    """Return what is wrong with the options; None when nothing is."""
    if not SHORTEST_S <= duration_s <= LONGEST_S:
        return f"--duration-s {duration_s}: allowed are {SHORTEST_S} to {LONGEST_S}"
    if not 1 <= symbols <= MOST_SYMBOLS:
        return f"--symbols {symbols}: allowed are 1 to {MOST_SYMBOLS}"
    if not 1 <= processes <= MOST_PROCESSES:
        return f"--processes {processes}: allowed are 1 to {MOST_PROCESSES}"
    if report is not None and not report.absolute().parent.is_dir():
        return f"--report {report}: its folder must exist"
    return None


def _run(cases: list[Case], processes: int) -> Iterator[CaseReport]:
    """Yield the reports in the order of the cases, as soon as they are there."""
    if len(cases) == 1 or processes == 1:
        yield from map(run_case, cases)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, initializer=_leave_ctrl_c_to_the_parent) as pool:
        try:
            yield from pool.map(run_case, cases)
        except BaseException:
            # Nobody wants the other runs any more, and each may take minutes.
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _ending_at_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as an exception does, so that its workers end with it."""

    def end(_number: int, _frame: object) -> None:
        print("check-flow: SIGTERM came, not all runs are done", file=sys.stderr)
        sys.exit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _refuse(message: str) -> int:
    print(f"check-flow: {message}", file=sys.stderr)
    return 2
