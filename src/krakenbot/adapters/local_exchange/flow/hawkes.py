"""When takers arrive: a Hawkes process, in which each arrival makes further ones more likely for a while.

In: a mean rate, the share of arrivals that others cause, two decay rates. Out: candidate times and whether a
candidate is an arrival. Called by the noise takers, kicked by cascades.
"""

from __future__ import annotations

import math
from random import Random


class Excitation:
    """A Hawkes intensity (Hawkes 1971) whose kernel is a sum of two exponentials, sampled by thinning (Ogata 1981).

    `mean_rate` is the long-run rate per second; a share `branching` of the arrivals are children of earlier
    ones, and of these a share `slow_share` come with the slow decay. The slow part is what makes minutes busy or
    quiet: kernels fitted to trades have a long tail (Bacry, Mastromatteo, Muzy 2015). What never falls is the base
    rate, `mean_rate * (1 - branching)`.
    """

    def __init__(
        self,
        *,
        mean_rate: float,
        branching: float,
        slow_share: float,
        fast_decay_per_s: float,
        slow_decay_per_s: float,
        rng: Random,
    ) -> None:
        self._base = mean_rate * (1 - branching)
        self._rng = rng
        self._fast_decay, self._slow_decay = fast_decay_per_s, slow_decay_per_s
        fast, slow = branching * (1 - slow_share), branching * slow_share
        self._fast_kick, self._slow_kick = fast * fast_decay_per_s, slow * slow_decay_per_s
        self._fast, self._slow = mean_rate * fast, mean_rate * slow
        self._at_s = 0.0
        self._bound = mean_rate

    def next_after_s(self, now_s: float) -> float:
        """Return the time of the next candidate; ask `accepts` at that time whether it is an arrival."""
        self._decay_to(now_s)
        self._bound = self._base + self._fast + self._slow
        return now_s + self._rng.expovariate(self._bound)

    def accepts(self, now_s: float) -> bool:
        """Return whether the candidate at `now_s` is an arrival; if so, the intensity is raised."""
        self._decay_to(now_s)
        if self._rng.random() * self._bound > self._base + self._fast + self._slow:
            return False
        self._fast += self._fast_kick
        self._slow += self._slow_kick
        return True

    def excite(self, now_s: float, arrivals: float) -> None:
        """Add so many arrivals, in the mean, over the time of the fast decay; their children come on top.

        The next candidate was drawn before: it comes late by at most one gap.
        """
        self._decay_to(now_s)
        self._fast += arrivals * self._fast_decay

    def _decay_to(self, now_s: float) -> None:
        elapsed = now_s - self._at_s
        self._fast *= math.exp(-self._fast_decay * elapsed)
        self._slow *= math.exp(-self._slow_decay * elapsed)
        self._at_s = now_s
