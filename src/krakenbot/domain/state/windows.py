"""Windows over sample rows: which rows a feature counts, and the 1 s grid they lie on.

Enters: rows of one symbol in any order. Leaves: sorted slices, and one book row per second. Called by `features`.

The rules, the same in SQL and here:
- Time is cut into buckets of BUCKET_S. A window of w seconds at time `at` begins with the bucket that holds `at - w`
  and ends at `at`: it is w to w + BUCKET_S long. Rates divide by that length. Rows after `at` do not exist yet.
- A row that looks back (a return, a queue row's predecessor) belongs to the window by its own time; what it looks back
  at may lie up to one bucket before the window.
- A late row counts from the first computation after it became visible, in the place of its own time.
- Second of a row: `at_ns / 1_000_000_000` in integer division. Of several book rows in one second the one with the
  greatest `at_ns` stands for it; of equal `at_ns` the one written last.
- A book row is usable if `0 < bid < ask < infinity`; others are left out of every feature but the quality sums.
- A missing second stays missing: nothing is filled forward. Returns need both of their ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar

from attrs import field, frozen
from attrs.validators import gt

from krakenbot.domain.market.samples import BookSample
from krakenbot.domain.values import NS_PER_S

BUCKET_S = 10
BUCKET_NS = BUCKET_S * NS_PER_S
MARKOUT_HORIZONS_S = (5, 30, 300, 1800)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@frozen(kw_only=True)
class Windows:
    """Lengths of the trailing windows, and how much history a complete state needs; seconds."""

    short_s: float = field(default=60.0, validator=gt(0.0))
    medium_s: float = field(default=300.0, validator=gt(0.0))
    long_s: float = field(default=1800.0, validator=gt(0.0))
    complete_after_s: float = field(default=300.0, validator=gt(0.0))

    def __attrs_post_init__(self) -> None:
        """Refuse windows out of order: queue rates of the short window use trades of the longer ones."""
        if not self.short_s <= self.medium_s <= self.long_s:
            raise ValueError("windows must hold short_s <= medium_s <= long_s")

    @property
    def reach_s(self) -> float:
        """Return the longest window: a symbol without a row in it has no state."""
        return max(self.short_s, self.medium_s, self.long_s, self.complete_after_s)

    @property
    def raw_reach_s(self) -> float:
        """Return how far back raw rows are needed: the oldest markout that comes due looks back its horizon."""
        return self.reach_s + MARKOUT_HORIZONS_S[-1] + 3 * BUCKET_S


class Timed(Protocol):
    """A row with a time in ns since 1970."""

    @property
    def at_ns(self) -> int:
        """Return the row's time."""


RowT = TypeVar("RowT", bound=Timed)
Grid = dict[int, BookSample]
"""Usable book rows by second, in order of time."""


def ns_of(at: datetime) -> int:
    """Return exact nanoseconds since 1970 of an aware time."""
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


def window_from_ns(at_ns: int, window_s: float) -> int:
    """Return where a window begins, ns since 1970: at the start of a bucket."""
    return (at_ns - round(window_s * NS_PER_S)) // BUCKET_NS * BUCKET_NS


def window_span_s(at_ns: int, window_s: float) -> float:
    """Return how long a window is, seconds."""
    return (at_ns - window_from_ns(at_ns, window_s)) / NS_PER_S


def rows_within(rows: Sequence[RowT], at_ns: int, window_s: float, *, lead_s: int = 0) -> list[RowT]:
    """Return the rows of a window and of `lead_s` before it, oldest first; rows of equal time keep their order."""
    from_ns = window_from_ns(at_ns, window_s) - lead_s * NS_PER_S
    return sorted((row for row in rows if from_ns <= row.at_ns <= at_ns), key=lambda row: row.at_ns)


def is_usable(row: BookSample) -> bool:
    """Tell whether a book row has both sides and is not crossed."""
    return 0.0 < row.bid < row.ask < math.inf


def grid_of(rows: Iterable[BookSample]) -> Grid:
    """Return the usable rows by second; `rows` in order of time, the last of a second wins."""
    return {row.at_ns // NS_PER_S: row for row in rows if is_usable(row)}
