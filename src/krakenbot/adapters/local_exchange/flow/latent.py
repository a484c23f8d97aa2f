"""The latent price that makers quote around and informed takers know ahead.

In: random numbers and the common factor's returns. Out: a driftless price per symbol, stepped once per
`step_s`, with the coming steps already drawn. Returns are conditionally normal with a log-volatility that
reverts to its mean (Taylor 1986), in part common to all symbols, and a part of each return is one common factor,
so that moves and busy times run across symbols. Trades push it for good, and news makes it jump.
"""

from __future__ import annotations

import math
from collections import deque
from random import Random

from krakenbot.adapters.local_exchange.flow.parameters import SymbolParameters

COMMON_LOG_VOL = 0.35
COMMON_REVERSION_S = 90.0


class CommonFactor:
    """Returns and volatility shared by all symbols, in units of a symbol's own; drawn ahead by whole seconds."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._log_vol = rng.gauss(0, COMMON_LOG_VOL)
        self._draws: list[float] = []
        self._volatilities: list[float] = []

    def between(self, from_s: int, until_s: int) -> float:
        """Return the factor's move over a span of whole seconds since the opening, in sigmas per sqrt-s."""
        self._draw_until(until_s)
        return sum(self._draws[from_s:until_s])

    def volatility_at(self, second: int) -> float:
        """Return the common volatility in a second since the opening; its mean square is 1."""
        self._draw_until(second + 1)
        return self._volatilities[second]

    def _draw_until(self, until_s: int) -> None:
        keep = math.exp(-1 / COMMON_REVERSION_S)
        noise = COMMON_LOG_VOL * math.sqrt(1 - keep * keep)
        while len(self._draws) < until_s:
            self._log_vol = keep * self._log_vol + self._rng.gauss(0, noise)
            volatility = math.exp(self._log_vol - COMMON_LOG_VOL**2)
            self._volatilities.append(volatility)
            self._draws.append(self._rng.gauss(0, 1) * volatility)


class LatentPrice:
    """A driftless price in ticks whose next steps are already drawn: `now`, and `ahead` as informed takers see it."""

    def __init__(self, *, price_ticks: float, parameters: SymbolParameters, factor: CommonFactor, rng: Random) -> None:
        self.now = price_ticks
        self.step_s = 1 if parameters.activity >= 1 else min(5, math.ceil(0.5 / parameters.activity))
        self._parameters = parameters
        self._factor = factor
        self._rng = rng
        self._log_vol = rng.gauss(0, parameters.vol_of_vol)
        self._second = 0
        self._coming: deque[float] = deque()
        self._news_bps = 0.0
        for _ in range(max(1, parameters.informed_horizon_s // self.step_s)):
            self._coming.append(self._draw())

    def step(self) -> float:
        """Take the next step and draw one more; return the new price in ticks."""
        self._coming.append(self._draw())
        self.now *= 1 + self._coming.popleft()
        return self.now

    def push(self, size_bps: float) -> None:
        """Move the price for good by what a trade told everybody."""
        self.now *= 1 + size_bps / 10_000

    def foresee(self, size_bps: float) -> None:
        """Let those who know the coming steps know of a jump as well."""
        self._news_bps = size_bps

    def jump(self) -> float:
        """Move the price at once by the jump that was foreseen, and make the steps drawn from now on larger."""
        self.now *= 1 + self._news_bps / 10_000
        self._news_bps = 0.0
        self._log_vol += self._parameters.jump_log_vol
        return self.now

    def ahead_bps(self) -> float:
        """Return the move to come over the drawn steps, in bps: what an informed taker knows."""
        return sum(self._coming) * 10_000 + self._news_bps

    def volatility(self) -> float:
        """Return how lively the symbol is at the last step that was drawn; the mean square is 1."""
        return math.exp(self._log_vol - self._parameters.vol_of_vol**2)

    def _draw(self) -> float:
        numbers = self._parameters
        keep = math.exp(-self.step_s / numbers.vol_reversion_s)
        self._log_vol = keep * self._log_vol + self._rng.gauss(0, numbers.vol_of_vol * math.sqrt(1 - keep * keep))
        until = self._second + self.step_s
        common = self._factor.between(self._second, until) * numbers.beta * math.sqrt(numbers.factor_share)
        own = self._rng.gauss(0, math.sqrt(self.step_s * (1 - numbers.factor_share)))
        own *= self._factor.volatility_at(self._second)
        self._second = until
        return (common + own) * self.volatility() * numbers.sigma_bps_sqrt_min / math.sqrt(60) / 10_000
