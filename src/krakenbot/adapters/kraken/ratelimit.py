"""The REST counter of one API key, as Kraken counts it, and what each call costs.

Every private call adds its cost; the counter falls with time and must stay within its threshold (docs.kraken.com,
guides/spot-rest-ratelimits). Calls that protection may depend on (a token, balances, open orders) go first: the
others leave them `reserve` points. The ledger goes last: it lets every other call that waits go before it. Called by
rest.py before it sends and when the answer is there.
"""

from __future__ import annotations

import re
from typing import Final

from attrs import frozen

from krakenbot.domain.execution.rate import AccountTier, DecayingCount

# Kraken's page says +4 for ledgers and trade histories, older text +2: the dearer one.
_COSTS: Final = {"TradesHistory": 4.0, "QueryTrades": 4.0, "Ledgers": 4.0, "QueryLedgers": 4.0}
_FIRST: Final = frozenset({"GetWebSocketsToken", "BalanceEx", "OpenOrders"})
_LAST: Final = frozenset({"Ledgers", "QueryLedgers"})
_LOCKED_S: Final = 900.0
_THROTTLED_S: Final = 5.0
_THROTTLED_MAX_S: Final = 900.0


@frozen(kw_only=True)
class RestTier:
    """Threshold and decay per second of an account tier; the defaults are the lowest tier's."""

    threshold: float = 15.0
    decay_per_s: float = 0.33
    reserve: float = 3.0


_TIERS: Final = {
    AccountTier.STARTER: RestTier(threshold=15.0, decay_per_s=0.33),
    AccountTier.INTERMEDIATE: RestTier(threshold=20.0, decay_per_s=0.5),
    AccountTier.PRO: RestTier(threshold=20.0, decay_per_s=1.0),
}


def rest_tier(tier: AccountTier) -> RestTier:
    """Return the REST counter's figures of a tier."""
    return _TIERS[tier]


def call_cost(endpoint: str) -> float:
    """Return what a private call adds to the counter."""
    return _COSTS.get(endpoint, 1.0)


def goes_last(endpoint: str) -> bool:
    """Tell whether a call lets every other one that waits go before it: nothing depends on when its answer comes."""
    return endpoint in _LAST


class RestCounter:
    """Our own count, never below Kraken's as long as no one else uses the key.

    A call counts from the moment it is sent and starts to decay when it is answered; calls come one after the other.
    """

    def __init__(self, *, tier: RestTier, now_mono: float) -> None:
        self._tier = tier
        self._count = DecayingCount(tier.decay_per_s, 0.0, now_mono)
        self._pending = 0.0
        self._closed_until_mono = now_mono

    def points(self, now_mono: float) -> float:
        """Return the count now."""
        return self._count.now(now_mono) + self._pending

    @property
    def threshold(self) -> float:
        """Return the count beyond which the venue refuses."""
        return self._tier.threshold

    def set_tier(self, tier: RestTier) -> None:
        """Go on with the figures of another tier; what was counted stays."""
        self._tier = tier
        self._count.decay_per_s = tier.decay_per_s

    def closed_s(self, now_mono: float) -> float:
        """Return how long the venue will refuse every call: a lockout, or its word that we are throttled."""
        return max(0.0, self._closed_until_mono - now_mono)

    def wait_s(self, endpoint: str, now_mono: float) -> float:
        """Return how long a call must wait; zero when it may go now."""
        room = self._tier.threshold - (0.0 if endpoint in _FIRST else self._tier.reserve)
        excess = self.points(now_mono) + call_cost(endpoint) - room
        return max(0.0, excess / self._tier.decay_per_s, self.closed_s(now_mono))

    def sent(self, endpoint: str) -> None:
        """Count a call that is sent now; it does not decay before `ended`."""
        self._pending += call_cost(endpoint)

    def ended(self, now_mono: float) -> None:
        """Let the call that was sent last decay from now on: answered, or given up."""
        self._count.add(self._pending, now_mono)
        self._pending = 0.0

    def full(self, now_mono: float) -> None:
        """Take notice that the venue said the counter is full."""
        self._count.put(max(self._count.now(now_mono), self._tier.threshold), now_mono)

    def locked_out(self, now_mono: float) -> None:
        """Take notice of a temporary lockout: no call for a quarter of an hour, since each would prolong it."""
        self._closed_until_mono = max(self._closed_until_mono, now_mono + _LOCKED_S)

    def throttled(self, error: str, now_s: float, now_mono: float) -> None:
        """Take notice of `EService: Throttled: <unix time>`: no call before that time, at most 15 minutes."""
        found = re.search(r"Throttled:\s*(\d+(?:\.\d+)?)", error)
        wait_s = _THROTTLED_S if found is None else float(found.group(1)) - now_s
        wait_s = min(max(wait_s, 1.0), _THROTTLED_MAX_S)
        self._closed_until_mono = max(self._closed_until_mono, now_mono + wait_s)
