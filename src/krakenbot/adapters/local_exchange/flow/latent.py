"""The latent price that makers quote around and informed takers know ahead.

In: random numbers and the common factor's returns. Out: a driftless price per symbol, stepped once per
`step_s`, with the coming steps already drawn. Returns are conditionally normal with a log-volatility that
reverts to its mean (Taylor 1986), plus a part of one common factor, so that moves run across symbols.
"""

from __future__ import annotations

import math
from collections import deque
from random import Random

from krakenbot.adapters.local_exchange.flow.parameters import SymbolParameters


class CommonFactor:
    """Returns shared by all symbols, in units of a symbol's own sigma; drawn ahead by whole seconds."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._log_vol = 0.0
        self._draws: list[float] = []

    def between(self, from_s: int, until_s: int) -> float:
        """Return the factor's move over a span of whole seconds since the opening, in sigmas per sqrt-s."""
        while len(self._draws) < until_s:
            self._log_vol = 0.995 * self._log_vol + self._rng.gauss(0, 0.03)
            self._draws.append(self._rng.gauss(0, 1) * math.exp(self._log_vol))
        return sum(self._draws[from_s:until_s])


class LatentPrice:
    """A driftless price in ticks whose next steps are already drawn: `now`, and `ahead` as informed takers see it."""

    def __init__(self, *, price_ticks: float, parameters: SymbolParameters, factor: CommonFactor, rng: Random) -> None:
        self.now = price_ticks
        self.step_s = 1 if parameters.activity >= 1 else min(5, math.ceil(0.5 / parameters.activity))
        self._parameters = parameters
        self._factor = factor
        self._rng = rng
        self._log_vol = 0.0
        self._second = 0
        self._coming: deque[float] = deque()
        for _ in range(max(1, parameters.informed_horizon_s // self.step_s)):
            self._coming.append(self._draw())

    def step(self) -> float:
        """Take the next step and draw one more; return the new price in ticks."""
        self._coming.append(self._draw())
        self.now *= 1 + self._coming.popleft()
        return self.now

    def jump(self, size_bps: float) -> float:
        """Move the price at once by `size_bps`; return the new price in ticks."""
        self.now *= 1 + size_bps / 10_000
        return self.now

    def ahead_bps(self) -> float:
        """Return the move to come over the drawn steps, in bps: what an informed taker knows."""
        return sum(self._coming) * 10_000

    def _draw(self) -> float:
        numbers = self._parameters
        keep = math.exp(-self.step_s / numbers.vol_reversion_s)
        self._log_vol = keep * self._log_vol + self._rng.gauss(0, numbers.vol_of_vol * math.sqrt(1 - keep * keep))
        until = self._second + self.step_s
        common = self._factor.between(self._second, until) * numbers.beta * math.sqrt(numbers.factor_share)
        own = self._rng.gauss(0, math.sqrt(self.step_s * (1 - numbers.factor_share))) * math.exp(self._log_vol)
        self._second = until
        return (common + own) * numbers.sigma_bps_sqrt_min / math.sqrt(60) / 10_000


class Excitation:
    """A Hawkes intensity with exponential kernel, as Hawkes (1971) has it, sampled by thinning (Ogata 1981).

    `mean_rate` is the long-run rate; a share `branching` of the events are children of earlier ones.
    """

    def __init__(self, *, mean_rate: float, branching: float, decay_per_s: float, rng: Random) -> None:
        self._base = mean_rate * (1 - branching)
        self._kick = branching * decay_per_s
        self._decay = decay_per_s
        self._rng = rng
        self._excess = mean_rate * branching
        self._at_s = 0.0
        self._bound = self._base + self._excess

    def next_after_s(self, now_s: float) -> float:
        """Return the time of the next candidate; ask `accepts` at that time whether it is an event."""
        self._decay_to(now_s)
        self._bound = self._base + self._excess
        return now_s + self._rng.expovariate(self._bound)

    def accepts(self, now_s: float) -> bool:
        """Return whether the candidate at `now_s` is an event; if so, the intensity is raised."""
        self._decay_to(now_s)
        if self._rng.random() * self._bound > self._base + self._excess:
            return False
        self._excess += self._kick
        return True

    def _decay_to(self, now_s: float) -> None:
        self._excess *= math.exp(-self._decay * (now_s - self._at_s))
        self._at_s = now_s
