"""The orders suite: its cases, its run, its rows. Called by `python -m tests.faults --suite orders`."""

from __future__ import annotations

import json
import tempfile
from argparse import Namespace
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from attrs import asdict, define, field
from tests.faults import report
from tests.faults.orders import databases, kills, leaders, lost_acks, streams
from tests.faults.orders.case import Outcome, play
from tests.faults.orders.fault import OrderFault
from tests.faults.orders.world import OrdersWorld, orders_world
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
PLAYS = 3
"""A case may be played so often until it strikes."""
HEAD = "| fault | times | points hit | orders, fills compared | starts | recovered in s | ok |"


async def strike_all(faults: Sequence[OrderFault], arguments: Namespace) -> list[Outcome]:
    """Play the cases, in as many worlds side by side as asked; what is known so far is written after each.

    A case mostly waits, so worlds share a machine well. Outcomes come in the order of the cases.
    """
    run = _Run(waiting=deque(faults), arguments=arguments, order=[fault.name for fault in faults])
    with tempfile.TemporaryDirectory(prefix="kb-orders-") as name:
        async with anyio.create_task_group() as worlds:
            for number in range(min(arguments.worlds, len(faults))):
                folder = Path(name) / f"w{number}"
                folder.mkdir()
                worlds.start_soon(run.play_in, folder, number, worlds.cancel_scope)
    if run.failure is not None:
        raise run.failure
    return run.outcomes


@define(kw_only=True)
class _Run:
    """A run: cases that wait for a world, and what came out of the others."""

    waiting: deque[OrderFault]
    arguments: Namespace
    order: list[str]
    failure: HarnessError | None = None
    found: dict[str, Outcome] = field(factory=dict)

    @property
    def outcomes(self) -> list[Outcome]:
        return [self.found[name] for name in self.order if name in self.found]

    async def play_in(self, folder: Path, number: int, scope: anyio.CancelScope) -> None:
        """Play what waits in a world of its own; a world that can't go on ends the run."""
        # Each world can play any share of the cases, and each case as often as it may be played.
        accounts = len(self.order) * PLAYS
        try:
            async with orders_world(folder, self.arguments.symbols, self.arguments.seed + number, accounts) as world:
                while self.waiting:
                    fault = self.waiting.popleft()
                    self.found[fault.name] = await _played(world, fault)
                    _say(self.found[fault.name])
                    _write(self.outcomes, self.arguments)
        except HarnessError as error:
            self.failure = self.failure or error
            scope.cancel()


async def _played(world: OrdersWorld, fault: OrderFault) -> Outcome:
    """Play a case, again where the market never came to the point that was to be struck: that is no outcome yet."""
    for _ in range(PLAYS - 1):
        outcome = await _play(world, fault)
        if not outcome.is_missed:
            return outcome
        _say(outcome)
    return await _play(world, fault)


async def _play(world: OrdersWorld, fault: OrderFault) -> Outcome:
    if ended := [process.tail() for process in world.processes[:2] if process.exit_code() is not None]:
        raise HarnessError(f"the exchange or ingest ended: {'; '.join(ended)}")
    return await play(world, fault)


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
