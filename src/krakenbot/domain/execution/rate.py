"""Our model of Kraken's trading rate counter, one per symbol, so that cancels and exits always have points left.

Enters: what the desk sends, and the age of the order it concerns. Leaves: whether an entry may spend points. Figures:
Kraken's spot rate limit guide (FACTS 14), lowest tier by default, so the model is never below the real counter.
"""

from __future__ import annotations

from attrs import frozen

from krakenbot.domain.errors import invariant
from krakenbot.domain.values import Symbol

_AMEND_PENALTIES = ((5.0, 3.0), (10.0, 2.0), (15.0, 1.0))
_CANCEL_PENALTIES = ((5.0, 8.0), (10.0, 6.0), (15.0, 5.0), (45.0, 4.0), (90.0, 2.0), (300.0, 1.0))


@frozen(kw_only=True)
class RateLimits:
    """Limits of one account tier; `decay_per_s` in points, `reserve` is kept for cancels and exits."""

    threshold: float = 60.0
    decay_per_s: float = 1.0
    reserve: float = 25.0


class RateBudget:
    """Counters by symbol, decaying with monotonic time."""

    def __init__(self, limits: RateLimits) -> None:
        invariant(limits.reserve < limits.threshold, "I12", "the reserve takes the whole counter")
        self._limits = limits
        self._points: dict[Symbol, tuple[float, float]] = {}

    def points(self, symbol: Symbol, mono: float) -> float:
        """Return the counter of a symbol now."""
        points, at_mono = self._points.get(symbol, (0.0, mono))
        return max(0.0, points - (mono - at_mono) * self._limits.decay_per_s)

    def allows_entry(self, mono: float) -> bool:
        """Tell whether every symbol's counter leaves the reserve untouched."""
        bound = self._limits.threshold - self._limits.reserve
        return all(self.points(symbol, mono) < bound for symbol in self._points)

    def highest(self, mono: float) -> float:
        """Return the highest counter of all symbols."""
        return max((self.points(symbol, mono) for symbol in self._points), default=0.0)

    def count_add(self, symbol: Symbol, mono: float) -> None:
        """Count an add_order; it costs a point even when it is refused."""
        self._spend(symbol, mono, 1.0)

    def count_amend(self, symbol: Symbol, mono: float, age_s: float) -> None:
        """Count an amend of an order of this age."""
        self._spend(symbol, mono, 1.0 + _penalty(_AMEND_PENALTIES, age_s))

    def count_cancel(self, symbol: Symbol, mono: float, age_s: float) -> None:
        """Count a cancel of an order of this age."""
        self._spend(symbol, mono, _penalty(_CANCEL_PENALTIES, age_s))

    def _spend(self, symbol: Symbol, mono: float, points: float) -> None:
        invariant(points >= 0, "I12", f"{symbol}: {points} points spent")
        self._points[symbol] = (self.points(symbol, mono) + points, mono)
        if len(self._points) > 1_000:
            self._points = {s: p for s, p in self._points.items() if self.points(s, mono) > 0}


def _penalty(table: tuple[tuple[float, float], ...], age_s: float) -> float:
    return next((points for bound_s, points in table if age_s < bound_s), 0.0)
