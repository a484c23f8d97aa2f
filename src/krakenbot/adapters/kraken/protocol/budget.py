"""Token buckets: how much may be asked of the venue now, and how often it may be connected to.

Enters: a cost and the monotonic time. Leaves: yes or no, and when to ask again. Called by the subscriptions and the
market feed; one bucket is shared by several connections, since the venue counts per account and per address.
"""

from __future__ import annotations

import math

from krakenbot.adapters.kraken.backoff import doubled_s


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


class ConnectionBudget:
    """What one address may try: attempts within a share of the venue's limit, and none while it bans us.

    Kraken bans an address for ten minutes after about 150 attempts in ten minutes. At most `burst` plus
    `per_10_min` attempts fall into any ten minutes. After a ban (HTTP 429) nobody tries for `ban_first_s`, doubling
    with every further one up to `ban_max_s`, or for as long as the venue says.
    """

    def __init__(self, *, burst: int, per_10_min: int, ban_first_s: float, ban_max_s: float) -> None:
        self._budget = Budget(rate_per_s=per_10_min / 600, burst=burst)
        self._ban_first_s = ban_first_s
        self._ban_max_s = ban_max_s
        self._bans = 0
        self._banned_until_mono = -math.inf

    def take(self, now_mono: float) -> float:
        """Take one attempt and return 0, or take none and return the seconds until it is worth asking again."""
        banned_s = self._banned_until_mono - now_mono
        if banned_s > 0:
            return banned_s
        return 0.0 if self._budget.take(1.0, now_mono) else self._budget.wait_s(1.0, now_mono)

    def banned(self, now_mono: float, retry_after_s: float, jitter: float) -> None:
        """Take notice of a 429; `retry_after_s` is what the venue asks for (0: nothing), `jitter` in [0, 1).

        Connections that tried at the same moment are refused together: what comes during a ban is no further one.
        """
        self._bans += now_mono >= self._banned_until_mono
        ours_s = doubled_s(self._ban_first_s, self._bans - 1, self._ban_max_s) * (1.0 + 0.25 * jitter)
        wait_s = max(ours_s, min(retry_after_s, self._ban_max_s))
        self._banned_until_mono = max(self._banned_until_mono, now_mono + wait_s)

    def admitted(self) -> None:
        """Take notice of an upgrade that went through."""
        self._bans = 0
