"""Count what an account does in one pair, and let the count decay: the engine's transaction limit.

The venue charges every add, amend and cancel, whether it came over REST or a socket. All figures are integers:
a count is 10^11 units, so that a decay of 2.34 counts per second is exactly 234 units per nanosecond.
"""

from __future__ import annotations

from typing import Final

from attrs import define

from krakenbot.adapters.local_exchange.matching.tiers import TierLimits

UNITS_PER_COUNT: Final = 100 * 1_000_000_000
SECOND_NS: Final = 1_000_000_000
ADD_POINTS: Final = 1
AMEND_POINTS: Final = 1
"""The fixed part of an amendment, charged even when it fails validation."""
AMEND_AGES: Final = ((5, 3), (10, 2), (15, 1))
CANCEL_AGES: Final = ((5, 8), (10, 6), (15, 5), (45, 4), (90, 2), (300, 1))


def age_points(ages: tuple[tuple[int, int], ...], age_ns: int) -> int:
    """Return the extra counts for an order of this age, counted from its creation or last amendment."""
    return next((points for below_s, points in ages if age_ns < below_s * SECOND_NS), 0)


@define(eq=False, kw_only=True)
class RateCounter:
    """The count of one account in one pair."""

    limits: TierLimits
    units: int = 0
    at_ns: int = 0

    def settle(self, now_ns: int) -> int:
        """Let the count decay up to now and return it in units; time never runs back."""
        elapsed_ns = max(0, now_ns - self.at_ns)
        self.units = max(0, self.units - elapsed_ns * self.limits.decay_hundredths_per_s)
        self.at_ns = max(self.at_ns, now_ns)
        return self.units

    def has_room(self, points: int, now_ns: int) -> bool:
        """Tell whether this many counts more stay within the threshold."""
        return self.settle(now_ns) + points * UNITS_PER_COUNT <= self.limits.threshold * UNITS_PER_COUNT

    def charge(self, points: int, now_ns: int) -> None:
        """Add counts, beyond the threshold too."""
        self.units = self.settle(now_ns) + points * UNITS_PER_COUNT

    def count(self, now_ns: int) -> int:
        """Return the count rounded up, as rows show it."""
        return -(-self.settle(now_ns) // UNITS_PER_COUNT)
