"""Write case reports as tables: for a terminal, and for docs/flow_check.md.

In: case reports. Out: texts without dates or machines, so that the same runs give the same page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from krakenbot.adapters.local_exchange.flow_check.cases import CaseReport
from krakenbot.adapters.local_exchange.flow_check.checks import Check

HEAD = ("statistic", "value", "95 % interval", "by symbol", "limit", "basis", "ok")


MARK = "<!-- measured: written by krakenbot exchange check-flow --report -->"


def terminal_table(report: CaseReport) -> str:
    """Return one case as aligned columns."""
    rows = [HEAD, *(_cells(check) for check in report.checks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([title(report), *lines])


def markdown_table(report: CaseReport) -> str:
    """Return one case as a table of a page."""
    rows = [HEAD, ("---",) * len(HEAD), *(_cells(check) for check in report.checks)]
    return "\n".join([f"### {title(report)}", "", *("| " + " | ".join(row) + " |" for row in rows)])


def title(report: CaseReport) -> str:
    """Return what was run and how many of its checks failed."""
    failed = sum(not check.is_ok for check in report.checks)
    return f"{report.case.name}: {failed or 'none'} of {len(report.checks)} checks failed"


def figure(value: float) -> str:
    """Return a number with as many digits as it deserves."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def page(before: str, command: str, reports: Sequence[CaseReport], unchecked: str = "") -> str:
    """Return a page whose part behind the mark is written anew; what stands before the mark stays.

    `unchecked` says what could not be run.
    """
    head, _, _ = before.partition(MARK)
    parts = [MARK, f"Command: `{command}`", f"{summary(reports)}.", unchecked, *map(markdown_table, reports)]
    return head + "\n\n".join(part for part in parts if part) + "\n"


def summary(reports: Sequence[CaseReport]) -> str:
    """Return the line that a person reads last."""
    failed = [report.case.name for report in reports if not report.is_ok]
    names = f": {'; '.join(failed)}" if failed else ""
    return f"{len(failed) or 'none'} of {len(reports)} runs failed{names}"


def _cells(check: Check) -> tuple[str, ...]:
    found = check.found
    symbols = (
        ""
        if math.isnan(found.lowest_symbol) or found.lowest_symbol == found.highest_symbol
        else f"{figure(found.lowest_symbol)} to {figure(found.highest_symbol)}"
    )
    value = figure(found.value) if math.isnan(found.t) else f"{figure(found.value)} (t {found.t:.1f})"
    return (
        check.name,
        value,
        "" if math.isnan(found.low) else f"{figure(found.low)} to {figure(found.high)}",
        symbols,
        check.limit.text(),
        check.basis.value,
        "ok" if check.is_ok else "FAILED",
    )
