"""How long to wait before the next attempt.

Enters: the number of the attempt and a random number. Leaves: seconds. Called by the market feed, the private stream,
the quarantine and the connection budget.
"""

from __future__ import annotations

_FIRST_S = 0.25
_CAP_S = 20.0
# keeps the power from overflowing; every cap is reached long before
_MOST_DOUBLINGS = 16


def backoff_s(attempt: int, jitter: float) -> float:
    """Return how long to wait before attempt `attempt` (0 is the first retry) with `jitter` in [0, 1).

    Half of the doubling delay is fixed and half random, so that many clients neither storm nor all wait long.
    """
    return doubled_s(_FIRST_S, attempt, _CAP_S) * (0.5 + 0.5 * jitter)


def doubled_s(first_s: float, times: int, cap_s: float) -> float:
    """Return `first_s` doubled so many times, at most `cap_s`."""
    return min(cap_s, first_s * 2.0 ** min(times, _MOST_DOUBLINGS))
