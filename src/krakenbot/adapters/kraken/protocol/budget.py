"""A token bucket: how much may be asked of the venue now.

Enters: a cost and the monotonic time. Leaves: yes or no, and when to ask again. Called by the subscriptions; one
bucket may be shared by several connections, since the venue counts per account.
"""

from __future__ import annotations


class Budget:
    """A bucket that fills at `rate_per_s` up to `burst`; starts full."""

    def __init__(self, *, rate_per_s: float, burst: float) -> None:
        self._rate_per_s = rate_per_s
        self._burst = burst
        self._tokens = burst
        self._at_mono: float | None = None

    def available(self, now_mono: float) -> float:
        """Return how many tokens the bucket holds now."""
        if self._at_mono is not None:
            gained = max(now_mono - self._at_mono, 0.0) * self._rate_per_s
            self._tokens = min(self._burst, self._tokens + gained)
        self._at_mono = now_mono
        return self._tokens

    def take(self, cost: float, now_mono: float) -> bool:
        """Take `cost` tokens, or none and return False."""
        if self.available(now_mono) < cost:
            return False
        self._tokens -= cost
        return True

    def empty(self, now_mono: float) -> None:
        """Forget what was saved: the venue said that it was too much."""
        self.available(now_mono)
        self._tokens = 0.0

    def wait_s(self, cost: float, now_mono: float) -> float:
        """Return the seconds until `cost` tokens are there."""
        return max(min(cost, self._burst) - self.available(now_mono), 0.0) / self._rate_per_s
