"""`./kb faults --suite market|orders [--symbols N] [--only TEXT ...] [--report FILE] [--docs]`: break it, and look.

`--worlds` plays that many cases of orders side by side, each in an exchange, databases and an ingest of their own.
`--only` takes parts of names of faults, `--list` prints the names. `--report` writes JSON, `--docs` the table of
docs/reliability.md; rows of faults that were left out stay. Exits with 1 when something did not hold, with 2 when the
run itself could not go on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import anyio
from tests.faults import report
from tests.faults.fault import Fault
from tests.faults.market import content, processes, replies, steps
from tests.faults.orders import suite as orders
from tests.faults.orders.fault import OrderFault
from tests.faults.runner import LAST, Outcome, Runner
from tests.faults.world import HarnessError, running

SUITES: dict[str, tuple[Fault, ...]] = {
    "market": (*steps.FAULTS, *content.FAULTS, *replies.FAULTS, *processes.FAULTS),
}
SYMBOLS = {"market": 12, orders.NAME: 7}


def main() -> int:
    parser = argparse.ArgumentParser(prog="kb faults", description="Break a running system, and look what holds.")
    parser.add_argument("--suite", choices=sorted(SYMBOLS), default="market")
    parser.add_argument("--symbols", type=int, help="how many symbols run, 1 to 600; market 12, orders 7")
    parser.add_argument("--seed", type=int, default=1, help="seed of the exchange's flow")
    parser.add_argument("--worlds", type=int, default=3, help="orders: cases played side by side, 1 to 8; default 3")
    parser.add_argument("--only", nargs="+", metavar="TEXT", help="faults whose name contains one of these")
    parser.add_argument("--list", action="store_true", help="print the names of the faults")
    parser.add_argument("--report", type=Path, help="write the results as JSON")
    parser.add_argument("--docs", action="store_true", help=f"write {report.PAGE.name}")
    arguments = parser.parse_args()
    arguments.symbols = arguments.symbols or SYMBOLS[arguments.suite]
    faults = [fault for fault in SUITES.get(arguments.suite, ()) if _is_wanted(fault, arguments.only)]
    cases = [fault for fault in orders.FAULTS if arguments.suite == orders.NAME and _is_wanted(fault, arguments.only)]
    if arguments.list:
        _print("\n".join([fault.name for fault in faults] + [case.name for case in cases]))
        return 0
    if not 1 <= arguments.symbols <= 600:
        parser.error(f"--symbols {arguments.symbols}: allowed are 1 to 600")
    if not 1 <= arguments.worlds <= 8:
        parser.error(f"--worlds {arguments.worlds}: allowed are 1 to 8")
    if not (faults or cases):
        parser.error(f"--only {' '.join(arguments.only)}: no such fault; --list names them")
    if arguments.report and not arguments.report.absolute().parent.is_dir():
        parser.error(f"--report {arguments.report}: its folder must exist")
    try:
        if cases:
            return 0 if all(outcome.ok for outcome in anyio.run(orders.strike_all, cases, arguments)) else 1
        outcomes = anyio.run(_strike_all, faults, arguments)
    except HarnessError as error:
        sys.stderr.write(f"kb faults: {error}\n")
        return 2
    return 0 if all(outcome.ok for outcome in outcomes) else 1


async def _strike_all(faults: list[Fault], arguments: argparse.Namespace) -> list[Outcome]:
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="kb-faults-") as name:
        async with running(Path(name), arguments.symbols, arguments.seed) as world:
            runner = Runner(world)
            compared = await runner.begin(decisions=any(fault.asks_decisions for fault in faults))
            _print(f"{compared.books} books and {compared.queues} queues run; {len(faults)} faults follow")
            for fault in faults:
                outcomes.append(await runner.strike(fault))
                _tell(outcomes, arguments)
            outcomes.append(await runner.end())
            _tell(outcomes, arguments)
    return outcomes


def _tell(outcomes: list[Outcome], arguments: argparse.Namespace) -> None:
    """Print the newest outcome, and write what is known so far: a run that is broken off leaves its rows."""
    _say(outcomes[-1])
    suite, symbols = arguments.suite, arguments.symbols
    if arguments.report:
        found = report.as_json(suite, symbols, outcomes)
        arguments.report.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    if arguments.docs:
        names = [*(fault.name for fault in SUITES[suite]), LAST]
        rows = {outcome.fault: report.row(symbols, outcome) for outcome in outcomes}
        page = report.PAGE.read_text(encoding="utf-8")
        report.PAGE.write_text(report.merged(page, suite, names, rows), encoding="utf-8")


def _say(outcome: Outcome) -> None:
    held = outcome.compared
    parts = [
        f"{outcome.injected} times at {outcome.point}" if outcome.injected else "",
        f"{held.trades} trades published, {held.stored} stored, {held.in_gaps} in gaps",
        f"{held.books} books, {held.queues} queues" if held.books else "",
        outcome.told,
        "" if outcome.recovery_s is None else f"recovered in {outcome.recovery_s:.1f} s",
    ]
    _print(f"{'ok  ' if outcome.ok else 'FAIL'} {outcome.fault}: {'; '.join(part for part in parts if part)}")
    for finding in outcome.findings:
        _print(f"     {finding}")


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201  # a command prints


def _is_wanted(fault: Fault | OrderFault, only: list[str] | None) -> bool:
    return only is None or any(text in fault.name for text in only)


if __name__ == "__main__":
    sys.exit(main())
