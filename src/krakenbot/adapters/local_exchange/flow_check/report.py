"""Write case reports as tables: for a terminal, and for docs/flow_check.md.

In: case reports. Out: texts without dates or machines, so that the same runs give the same page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from attrs import asdict, fields

from krakenbot.adapters.local_exchange.flow_check.cases import CaseReport
from krakenbot.adapters.local_exchange.flow_check.checks import Check
from krakenbot.adapters.local_exchange.flow_check.figures import Figures

Row = tuple[str, ...]
HEAD: Row = ("statistic", "value", "95 % interval", "by symbol", "limit", "basis", "ok")


MARK = "<!-- measured: written by krakenbot exchange check-flow --report -->"
NEW_HEAD = """# Flow check

What each statistic, column and limit means, and how the runs are made: [flow_check.md]({definitions}) of the project.

"""


def terminal_text(report: CaseReport) -> str:
    """Return one case as aligned columns."""
    return "\n".join([title(report), *_aligned(_check_rows(report)), "", *_aligned(_figure_rows(report))])


def markdown_text(report: CaseReport) -> str:
    """Return one case as tables of a page."""
    return "\n".join([f"### {title(report)}", "", *_piped(_check_rows(report)), "", *_piped(_figure_rows(report))])


def page(before: str, command: str, reports: Sequence[CaseReport], unchecked: str = "", *, definitions: str) -> str:
    """Return a page whose part behind the mark is written anew; what stands before the mark stays.

    `unchecked` says what could not be run. A new page gets a head that links to `definitions`.
    """
    head, _, _ = before.partition(MARK)
    head = head or NEW_HEAD.format(definitions=definitions)
    parts = [MARK, f"Command: `{command}`", f"{summary(reports)}.", unchecked, *map(markdown_text, reports)]
    return head + "\n\n".join(part for part in parts if part) + "\n"


def title(report: CaseReport) -> str:
    """Return what was run and how many of its checks failed."""
    failed = sum(not check.is_ok for check in report.checks)
    return f"{report.case.name}: {failed or 'none'} of {len(report.checks)} checks failed"


def figure(value: float) -> str:
    """Return a number with as many digits as it deserves."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def summary(reports: Sequence[CaseReport]) -> str:
    """Return the line that a person reads last."""
    failed = [report.case.name for report in reports if not report.is_ok]
    names = f": {'; '.join(failed)}" if failed else ""
    return f"{len(failed) or 'none'} of {len(reports)} runs failed{names}"


def _check_rows(report: CaseReport) -> list[Row]:
    return [HEAD, *(_cells(check) for check in report.checks)]


def _figure_rows(report: CaseReport) -> list[Row]:
    rows = [(symbol, *map(figure, asdict(figures).values())) for symbol, figures in report.figures.items()]
    return [("symbol", *(item.name for item in fields(Figures))), *rows]


def _aligned(rows: list[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _piped(rows: list[Row]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (rows[0], ("---",) * len(rows[0]), *rows[1:])]


def _cells(check: Check) -> Row:
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
