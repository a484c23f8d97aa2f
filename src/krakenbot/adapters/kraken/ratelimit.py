"""The REST counter of one API key, as Kraken counts it.

Every private call adds its cost; the counter falls with time and must stay within its threshold
(docs.kraken.com, guides/spot-rest-ratelimits). Called by rest.py before it sends.
"""

from __future__ import annotations

from attrs import frozen


@frozen(kw_only=True)
class RestTier:
    """Threshold and decay per second of an account tier; the defaults are the lowest tier's."""

    threshold: float = 15.0
    decay_per_s: float = 0.33


class RestCounter:
    """Our own count, never below Kraken's as long as no one else uses the key."""

    def __init__(self, *, tier: RestTier, now_mono: float) -> None:
        self._tier = tier
        self._count = 0.0
        self._at_mono = now_mono

    def wait_s(self, cost: float, now_mono: float) -> float:
        """Return how long a call of this cost must wait; zero when it may go now."""
        excess = self._decayed(now_mono) + cost - self._tier.threshold
        return max(0.0, excess / self._tier.decay_per_s)

    def charge(self, cost: float, now_mono: float) -> None:
        """Count a call that is sent now."""
        self._count = self._decayed(now_mono) + cost
        self._at_mono = now_mono

    def fill(self, now_mono: float) -> None:
        """Take notice that the venue said the counter is full."""
        self._count = self._tier.threshold
        self._at_mono = now_mono

    def _decayed(self, now_mono: float) -> float:
        return max(0.0, self._count - (now_mono - self._at_mono) * self._tier.decay_per_s)
