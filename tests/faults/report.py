"""Write what a run found: JSON for `--report`, a table between two marks of docs/reliability.md.

Enters: outcomes. Leaves: text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import asdict
from tests.faults.runner import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- table of `./kb faults --suite {suite}`: begin -->", "<!-- end of {suite} -->"
HEAD = "| fault | symbols | times | point hit | exchange published | we hold | said meanwhile | recovered in s | ok |"


def as_json(suite: str, symbols: int, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return a run as one JSON object."""
    rows = [asdict(outcome) | {"ok": outcome.ok} for outcome in outcomes]
    return {"suite": suite, "symbols": symbols, "passed": all(outcome.ok for outcome in outcomes), "faults": rows}


def merged(page: str, suite: str, names: Sequence[str], rows: Mapping[str, str], *, head: str = HEAD) -> str:
    """Return a page with the rows of a run put between the marks of its suite.

    Rows of faults that the run left out stay; those of faults that are not among `names` go. The order is that of
    `names`. Raises ValueError when the marks are not there.
    """
    begin, end = BEGIN.format(suite=suite), END.format(suite=suite)
    before, found_begin, rest = page.partition(begin)
    old, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"no marks of suite {suite}")
    known = {_cells(line)[0]: line for line in old.splitlines() if line.startswith("| ")} | dict(rows)
    table = [head, "|---" * (head.count("|") - 1) + "|", *(known[name] for name in names if name in known)]
    return f"{before}{begin}\n\n" + "\n".join(table) + f"\n\n{end}{after}"


def row(symbols: int, outcome: Outcome) -> str:
    """Return one row of the table in Markdown."""
    held = outcome.compared
    cells = [
        outcome.fault,
        str(symbols),
        str(outcome.injected) if outcome.injected else "–",
        outcome.point or "–",
        f"{held.trades} trades",
        f"{held.stored} stored, {held.in_gaps} in trade_gaps" + (_books(outcome) if held.books else ""),
        outcome.told or "–",
        "–" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f}",
        "yes" if outcome.ok else f"**no**: {'; '.join(outcome.findings)}",
    ]
    return "| " + " | ".join(" ".join(cell.replace("|", "/").split()) for cell in cells) + " |"


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _books(outcome: Outcome) -> str:
    held = outcome.compared
    quarantine = f", {held.quarantined} in quarantine" if held.quarantined else ""
    return f"; {held.books} books, {held.queues} queues{quarantine}"
