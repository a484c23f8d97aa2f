"""Queue probes: hypothetical orders at the back of a real queue, and what became of them.

Enters: what is known when a probe starts, then volumes that left its queue. Leaves: one `Probe` with its end, volumes
by cause and markouts: a label for fill probability and for M. Made and followed by `probe_follower`, stored by the
probe store. A probe is never an order: it has no id of the venue, no state of an order, no money.

Ends, as the competing risks of `decision.fill_probability`: consumed in place, swept through, price moved away,
neither until the time limit. Censored is what could not be followed to its end; it counts in no share.
"""

from __future__ import annotations

import enum
import math
from bisect import bisect_right

from attrs import define, field, frozen

from krakenbot.domain.market.place import Place
from krakenbot.domain.values import BPS, NS_PER_S, Asset, Side, Symbol, VenueId

MARKOUT_HORIZONS_S = (1.0, 5.0, 30.0, 300.0, 1800.0)
QUEUE_BUCKETS_QUOTE = (1e3, 1e4, 1e5)
SPREAD_CLASSES_BPS = (2.0, 10.0, 30.0)


class ProbeKind(enum.StrEnum):
    """JOIN stands at the back of the touch; IMPROVE is a level of its own, one increment better."""

    JOIN = "join"
    IMPROVE = "improve"


class ProbeEnd(enum.StrEnum):
    """How a probe ended; the order of the members says which of two at the same instant counts."""

    SWEPT = "swept"
    CONSUMED = "consumed"
    AWAY = "away"
    TIMEOUT = "timeout"
    CENSORED = "censored"

    @property
    def is_fill(self) -> bool:
        """Tell whether a real order would have been filled."""
        return self in {ProbeEnd.SWEPT, ProbeEnd.CONSUMED}


@frozen(kw_only=True)
class Causes:
    """Why the volume ahead changed until the end, in lots; `amended` is net, below 0 when orders ahead grew.

    `unexplained` left from the front of the queue at last, with no trade so far that tells why.
    """

    traded: int
    cancelled: int
    amended: int
    unexplained: int

    @classmethod
    def of(cls, place: Place) -> Causes:
        """Return the causes that a place has counted so far."""
        return cls(
            traded=place.traded.lots,
            cancelled=place.cancelled.lots,
            amended=place.amended.lots,
            unexplained=place.pending.lots,
        )


_RANK = {end: rank for rank, end in enumerate(ProbeEnd)}


@define(kw_only=True, eq=False)
class Probe:
    """One hypothetical order. Times are the venue's, in ns; prices ticks, volumes lots.

    `place` tells what stands ahead and why that changed; it counts on for the time in which an end may still be
    corrected. `touch_ticks` is the best price of its side at the start, `away_ticks` the best price from which on the
    market has left it behind. `passed_lots` is what a level of its own has met of trades at the old touch. `end` None:
    followed. The figures without a default come from the start; those of the end are whole once it is final.
    """

    probe_no: int
    symbol: Symbol
    symbol_group: str
    kind: ProbeKind
    touch_ticks: int
    away_ticks: int
    price: float
    spread_bps: float
    started_at_ns: int
    deadline_at_ns: int
    place: Place
    passed_lots: int = 0
    first_fill_at_ns: int | None = None
    end: ProbeEnd | None = None
    end_reason: str = ""
    ended_at_ns: int = 0
    decided_mono: float = 0.0
    causes_lots: Causes | None = None
    markouts_bps: list[float | None] = field(factory=lambda: [None] * len(MARKOUT_HORIZONS_S))

    @property
    def side(self) -> Side:
        """Return the side."""
        return self.place.side

    @property
    def size_quote(self) -> float:
        """Return the hypothetical size in quote units."""
        return self.place.size_lots * self.place.quote_per_lot

    @property
    def ahead_start_quote(self) -> float:
        """Return what stood ahead at the start, in quote units."""
        return self.place.joined.lots * self.place.quote_per_lot

    @property
    def queue_bucket(self) -> str:
        """Return the class of the volume ahead at the start."""
        return queue_bucket(self.ahead_start_quote)

    @property
    def rest_s(self) -> float:
        """Return the seconds from the start to the end."""
        return (self.ended_at_ns - self.started_at_ns) / NS_PER_S

    @property
    def filled_share(self) -> float:
        """Return how much of it would have been filled; a sweep fills the whole."""
        if self.end is not None and self.end.is_fill:
            return 1.0
        return min((self.place.reached.lots + self.passed_lots) / self.place.size_lots, 1.0)

    def meet(self, at_ns: int, now_mono: float) -> None:
        """Take notice of what traded past all that stood ahead: it would have filled this order first."""
        met_lots = self.place.reached.lots + self.passed_lots
        if met_lots and self.first_fill_at_ns is None and (self.end is None or at_ns <= self.ended_at_ns):
            self.first_fill_at_ns = max(at_ns, self.started_at_ns)
        if met_lots >= self.place.size_lots:
            self.propose(ProbeEnd.CONSUMED, at_ns, now_mono)

    def propose(self, end: ProbeEnd, at_ns: int, now_mono: float, reason: str = "") -> None:
        """Take an end; the earliest by the venue's time stands, also when it is learnt of later."""
        if self.end is None:
            self.decided_mono = now_mono
        elif (at_ns, _RANK[end]) >= (self.ended_at_ns, _RANK[self.end]):
            return
        self.end, self.ended_at_ns, self.end_reason = end, max(at_ns, self.started_at_ns), reason
        self.causes_lots = Causes.of(self.place)

    def finish(self) -> None:
        """Take the proposed end as final."""
        if self.end is not None and self.end.is_fill:
            # the book may tell of what was traded ahead after the print that ended it
            self.causes_lots = Causes.of(self.place)
            if self.first_fill_at_ns is None or self.first_fill_at_ns > self.ended_at_ns:
                self.first_fill_at_ns = self.ended_at_ns

    def markout(self, mid: float) -> float:
        """Return how far a mid lies on the good side of the probe's price, bps."""
        move = (mid - self.price) / self.price * BPS
        return move if self.side is Side.BUY else -move


@frozen(kw_only=True)
class ProbeLabels:
    """What the probes of one venue, symbol group, kind, side and queue bucket came to.

    `markouts_bps` holds per horizon the mean over fills, its standard error and how many fills it rests on; mean and
    standard error None without a fill, the latter also with one. `rest_s` is the mean over all but the censored.
    """

    venue_id: VenueId
    symbol_group: str
    kind: ProbeKind
    side: Side
    queue_bucket: str
    ends: dict[ProbeEnd, int]
    rest_s: float | None
    markouts_bps: dict[float, tuple[float | None, float | None, int]]

    @property
    def count(self) -> int:
        """Return how many labels there are; a censored probe is none."""
        return sum(self.ends.values()) - self.ends.get(ProbeEnd.CENSORED, 0)

    def share(self, end: ProbeEnd) -> float | None:
        """Return the share of an end among the labels; None without any, and for censored ones."""
        return self.ends.get(end, 0) / self.count if self.count and end is not ProbeEnd.CENSORED else None

    @property
    def p_fill(self) -> float | None:
        """Return the share that was consumed or swept; None without labels."""
        filled = self.ends.get(ProbeEnd.CONSUMED, 0) + self.ends.get(ProbeEnd.SWEPT, 0)
        return filled / self.count if self.count else None


def queue_bucket(ahead_quote: float) -> str:
    """Return the class of a volume ahead in quote units: its lower bound."""
    if ahead_quote <= 0:
        return "0"
    index = bisect_right(QUEUE_BUCKETS_QUOTE, ahead_quote)
    return f"{QUEUE_BUCKETS_QUOTE[index - 1]:.0f}+" if index else "1+"


def symbol_group(quote: Asset, spread_bps: float) -> str:
    """Return the group of a symbol: its quote asset and the class of its spread."""
    index = bisect_right(SPREAD_CLASSES_BPS, spread_bps)
    return f"{quote}/{SPREAD_CLASSES_BPS[index - 1]:.0f}+bps" if index else f"{quote}/0+bps"


def away_ticks(touch_ticks: int, spread_ticks: int, side: Side, spread_share: float) -> int:
    """Return the best price that leaves the touch behind: by a share of the spread, and at least by one tick."""
    step = max(1, math.ceil(spread_ticks * spread_share))
    return touch_ticks + step if side is Side.BUY else touch_ticks - step
