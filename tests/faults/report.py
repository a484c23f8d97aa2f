"""Write what a run found: JSON for `--report`, a table between two marks of docs/reliability.md.

Enters: outcomes. Leaves: text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrs import asdict
from tests.faults.runner import Outcome

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- table of `./kb faults --suite {suite}`: begin -->", "<!-- end of {suite} -->"
HEAD = "| fault | times | point hit | exchange published | we hold | said meanwhile | recovered in s | ok |"


def as_json(suite: str, symbols: int, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return a run as one JSON object."""
    rows = [asdict(outcome) | {"ok": outcome.ok} for outcome in outcomes]
    return {"suite": suite, "symbols": symbols, "passed": all(outcome.ok for outcome in outcomes), "faults": rows}


def table(symbols: int, outcomes: Sequence[Outcome]) -> str:
    """Return a run as a table in Markdown, with what is wrong below it."""
    held = sum(outcome.ok for outcome in outcomes)
    lines = [f"{symbols} symbols; {held} of {len(outcomes)} rows hold.", "", HEAD, "|---" * 8 + "|"]
    lines += [_row(outcome) for outcome in outcomes]
    wrong = [outcome for outcome in outcomes if not outcome.ok]
    if wrong:
        lines += ["", "What did not hold:", ""]
        lines += [f"- {outcome.fault}: {'; '.join(outcome.findings)}" for outcome in wrong]
    return "\n".join(lines) + "\n"


def write_page(suite: str, text: str) -> None:
    """Put a table between the marks of its suite; raises ValueError when the marks are not there."""
    page = PAGE.read_text(encoding="utf-8")
    begin, end = BEGIN.format(suite=suite), END.format(suite=suite)
    before, found_begin, rest = page.partition(begin)
    _, found_end, after = rest.partition(end)
    if not (found_begin and found_end):
        raise ValueError(f"{PAGE.name} has no marks of suite {suite}")
    PAGE.write_text(f"{before}{begin}\n{text}{end}{after}", encoding="utf-8")


def _row(outcome: Outcome) -> str:
    held = outcome.compared
    cells = [
        outcome.fault,
        str(outcome.injected) if outcome.injected else "–",
        outcome.point or "–",
        f"{held.trades} trades",
        f"{held.stored} stored, {held.in_gaps} in trade_gaps" + (_books(outcome) if held.books else ""),
        outcome.told or "–",
        "–" if outcome.recovery_s is None else f"{outcome.recovery_s:.1f}",
        "yes" if outcome.ok else "**no**",
    ]
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _books(outcome: Outcome) -> str:
    held = outcome.compared
    quarantine = f", {held.quarantined} in quarantine" if held.quarantined else ""
    return f"; {held.books} books, {held.queues} queues{quarantine}"
