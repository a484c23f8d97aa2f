"""How long to wait before the next attempt.

Enters: the number of the attempt and a random number. Leaves: seconds. Called by the market feed, the private stream
and the quarantine.
"""

from __future__ import annotations

_FIRST_S = 0.25
_CAP_S = 20.0


def backoff_s(attempt: int, jitter: float) -> float:
    """Return how long to wait before attempt `attempt` (0 is the first retry) with `jitter` in [0, 1).

    Half of the doubling delay is fixed and half random, so that many clients neither storm nor all wait long.
    """
    ceiling = min(_CAP_S, _FIRST_S * 2.0 ** min(attempt, 16))
    return ceiling * (0.5 + 0.5 * jitter)
