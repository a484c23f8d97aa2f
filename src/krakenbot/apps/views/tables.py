"""Plain aligned tables of at most 120 columns, and values as text.

Enters: cells. Leaves: lines. Called by the views of orders, positions and trades; also a pipe gets the whole width.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal

from attrs import frozen

WIDTH = 120
_GAP = "  "
_ELLIPSIS = "…"
_LEAST = 6


@frozen
class Column:
    """A column: its head, whether numbers stand at its right, and whether it gives way when the line is too long."""

    head: str
    is_right: bool = False
    gives_way: bool = False


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return head and rows; the columns that give way are cut with an ellipsis until the line fits."""
    widths = [
        max(len(column.head), *(len(row[index]) for row in rows)) if rows else len(column.head)
        for index, column in enumerate(columns)
    ]
    excess = sum(widths) + len(_GAP) * (len(columns) - 1) - WIDTH
    for index in sorted(range(len(columns)), key=lambda at: -widths[at]):
        if excess <= 0:
            break
        if columns[index].gives_way:
            cut = min(excess, max(0, widths[index] - _LEAST))
            widths[index], excess = widths[index] - cut, excess - cut
    heads = [column.head for column in columns]
    return [_line(columns, widths, cells) for cells in (heads, *rows)]


def number(value: Decimal | None, *, places: int | None = None) -> str:
    """Return a number without exponent or idle zeros, or with `places` decimals; "-" for None."""
    if value is None:
        return "-"
    return f"{value.normalize():f}" if places is None else f"{value:.{places}f}"


def clock_time(at: datetime | None) -> str:
    """Return a UTC time to the second; "-" for None."""
    return "-" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(seconds: float) -> str:
    """Return a time span: seconds below two minutes, then minutes, hours, days."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def _line(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[str]) -> str:
    parts = []
    for column, width, cell in zip(columns, widths, cells, strict=True):
        text = cell if len(cell) <= width else cell[: width - 1] + _ELLIPSIS
        parts.append(text.rjust(width) if column.is_right else text.ljust(width))
    return _GAP.join(parts).rstrip()
