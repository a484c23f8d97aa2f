"""Count in integers: a counter that decays with time, and events inside a rolling window.

Every time is handed in, in nanoseconds of the venue's clock. Same calls, same answers.
"""

from __future__ import annotations

from collections import deque
from typing import Final

S: Final = 1_000_000_000
UNITS: Final = 100 * S
"""Units of one count: a decay of 0.01 per second is exactly one unit per nanosecond."""


class DecayingCounter:
    """A count that falls by a fixed rate to zero and may not pass its limit."""

    def __init__(self, limit: int, centi_per_s: int) -> None:
        self._limit = limit * UNITS
        self._rate = centi_per_s
        self._level = 0
        self._at_ns = 0

    def take(self, cost: int, now_ns: int) -> bool:
        """Count an action of this cost; False, and nothing counted, when it would pass the limit."""
        self._decay(now_ns)
        if self._level + cost * UNITS > self._limit:
            return False
        self._level += cost * UNITS
        return True

    def change(self, limit: int, centi_per_s: int, now_ns: int) -> None:
        """Go on with another limit and rate; what was counted stays."""
        self._decay(now_ns)
        self._limit, self._rate = limit * UNITS, centi_per_s

    def centi(self, now_ns: int) -> int:
        """Return the count in hundredths, rounded up."""
        self._decay(now_ns)
        return -(-self._level * 100 // UNITS)

    def _decay(self, now_ns: int) -> None:
        self._level = max(0, self._level - max(0, now_ns - self._at_ns) * self._rate)
        self._at_ns = max(self._at_ns, now_ns)


class RollingWindow:
    """How many events happened within the last `window_ns`."""

    def __init__(self, limit: int, window_ns: int) -> None:
        self._limit = limit
        self._window_ns = window_ns
        self._times: deque[int] = deque()

    def take(self, now_ns: int) -> bool:
        """Count an event; False, and nothing counted, when the window is full."""
        if self.count(now_ns) >= self._limit:
            return False
        self._times.append(now_ns)
        return True

    def count(self, now_ns: int) -> int:
        """Return how many events the window holds."""
        while self._times and self._times[0] <= now_ns - self._window_ns:
            self._times.popleft()
        return len(self._times)
