"""The orders suite: its cases, its run, its rows. Called by `python -m tests.faults --suite orders`."""

from __future__ import annotations

import json
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import asdict
from tests.faults import report
from tests.faults.orders import databases, kills, leaders, lost_acks, streams
from tests.faults.orders.case import Outcome, play
from tests.faults.orders.fault import OrderFault
from tests.faults.orders.world import orders_world
from tests.faults.world import HarnessError

FAULTS: tuple[OrderFault, ...] = (
    *lost_acks.FAULTS,
    *kills.FAULTS,
    *databases.FAULTS,
    *streams.FAULTS,
    *leaders.FAULTS,
)
NAME = "orders"
SLOW_S = 5.0
HEAD = "| fault | times | points hit | orders, fills compared | starts | recovered in s | ok |"


async def strike_all(faults: Sequence[OrderFault], arguments: Namespace) -> list[Outcome]:
    """Play the cases one after another in one world; what is known so far is written after each."""
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="kb-orders-") as name:
        async with orders_world(Path(name), arguments.symbols, arguments.seed, len(faults)) as world:
            for fault in faults:
                if ended := [process.tail() for process in world.processes[:2] if process.exit_code() is not None]:
                    raise HarnessError(f"the exchange or ingest ended: {'; '.join(ended)}")
                outcomes.append(await play(world, fault))
                _say(outcomes[-1])
                _write(outcomes, arguments)
    return outcomes


def as_json(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return a run as one JSON object."""
    rows = [asdict(outcome) | {"ok": outcome.ok} for outcome in outcomes]
    return {"suite": NAME, "passed": all(outcome.ok for outcome in outcomes), "faults": rows}


def row(outcome: Outcome) -> str:
    """Return one row of the table in Markdown."""
    cells = [
        outcome.fault,
        str(outcome.injected),
        "; ".join(outcome.points),
        f"{outcome.orders}, {outcome.fills}",
        str(outcome.starts),
        "–" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f}",
        "yes" if outcome.ok else f"**no**: {'; '.join(outcome.findings)}",
    ]
    return "| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in cells) + " |"


def _write(outcomes: Sequence[Outcome], arguments: Namespace) -> None:
    if arguments.report:
        arguments.report.write_text(json.dumps(as_json(outcomes), indent=2) + "\n", encoding="utf-8")
    if arguments.docs:
        rows = {outcome.fault: row(outcome) for outcome in outcomes}
        page = report.PAGE.read_text(encoding="utf-8")
        merged = report.merged(page, NAME, [fault.name for fault in FAULTS], rows, head=HEAD)
        report.PAGE.write_text(merged, encoding="utf-8")


def _say(outcome: Outcome) -> None:
    recovered = "" if outcome.recovery_s is None else f"; recovered in {outcome.recovery_s:.1f} s"
    print(  # noqa: T201  # a command prints
        f"{'ok  ' if outcome.ok else 'FAIL'} {outcome.fault}: {outcome.injected} times at {'; '.join(outcome.points)};"
        f" {outcome.orders} orders, {outcome.fills} fills{recovered}; {outcome.seconds:.0f} s in all",
        flush=True,
    )
    if outcome.recovery_s is not None and outcome.recovery_s > SLOW_S:
        print(f"     waited for {outcome.waited_for}", flush=True)  # noqa: T201
    for finding in outcome.findings:
        print(f"     {finding}", flush=True)  # noqa: T201
