"""Where makers want to quote, on the price grid, and what an order is worth.

In: the latent price and a shade that trades leave behind. Out: prices in ticks, sizes in lots, and whether a
resting price is still one that makers tolerate. Makers and takers of one symbol share one `Quotes`.
"""

from __future__ import annotations

import math
from random import Random

from krakenbot.adapters.local_exchange.flow.latent import LatentPrice
from krakenbot.adapters.local_exchange.flow.market import SIDES, Market, Side, sign_of
from krakenbot.adapters.local_exchange.flow.parameters import SymbolParameters


class Quotes:
    """The makers' view of prices in one market.

    `shade_bps` moves both sides of it one way from the latent price, `widening_bps` moves them apart.
    """

    def __init__(
        self, market: Market, *, parameters: SymbolParameters, latent: LatentPrice, lots_per_usd: float
    ) -> None:
        self.latent = latent
        self.shade_bps = 0.0
        self.widening_bps = 0.0
        self._appetite_bps: dict[Side, float] = {"buy": 0.0, "sell": 0.0}
        self._market = market
        self._parameters = parameters
        self._lots_per_usd_tick = lots_per_usd * latent.now

    def change_appetite(self, rng: Random, elapsed_s: float) -> None:
        """Let makers want each side more or less than the usual, independently; it reverts to the mean."""
        numbers = self._parameters
        keep = math.exp(-elapsed_s / numbers.appetite_reversion_s)
        noise = numbers.appetite_bps * math.sqrt(1 - keep * keep)
        for side in SIDES:
            self._appetite_bps[side] = keep * self._appetite_bps[side] + rng.gauss(0, noise)

    def touch_exact(self, side: Side) -> float:
        """Return where makers would quote without a price grid, in ticks."""
        away = self._parameters.half_spread_bps + self.widening_bps - self._appetite_bps[side]
        offset = self.shade_bps - sign_of(side) * away
        return self.latent.now * (1 + offset / 10_000)

    def touch_ticks(self, side: Side) -> int:
        """Return the best price that makers want to show."""
        return self.on_grid(side, self.touch_exact(side), self._parameters.touch_step_bps)

    def level_ticks(self, side: Side, level: int, *, even: bool = False) -> int:
        """Return the price of the level so many steps behind the touch; `even` is on every second price of its grid."""
        numbers = self._parameters
        if numbers.level_step_bps is not None:
            away = self.touch_exact(side) - sign_of(side) * level * self.latent.now * numbers.level_spacing_bps / 10_000
            return self.on_grid(side, away, numbers.level_step_bps * (2 if even else 1))
        spacing = max(self._step_ticks(numbers.level_spacing_bps), self._step_ticks(numbers.touch_step_bps))
        away = self.touch_exact(side) - sign_of(side) * level * spacing
        return self.on_grid(side, away, numbers.level_spacing_bps)

    def gap_ticks(self, side: Side, price_ticks: int) -> float:
        """Return by how much a price is better for a taker than what makers want to show."""
        return sign_of(side) * (price_ticks - self.touch_exact(side))

    def tolerance_ticks(self) -> float:
        """Return the gap up to which makers leave a quote as it stands."""
        numbers = self._parameters
        least = numbers.touch_tolerance_steps * self._step_ticks(numbers.touch_step_bps)
        return max(self.latent.now * numbers.touch_tolerance_bps / 10_000, least)

    def verdict(self, side: Side, price_ticks: int) -> int:
        """Return 1 if a price is better than makers tolerate, -1 if their touch is missing, else 0.

        Next to a client they tolerate more: who leads the book is followed for a while.
        """
        gap, tolerance = self.gap_ticks(side, price_ticks), self.tolerance_ticks()
        if gap <= tolerance:
            return -1 if gap < -tolerance - self._step_ticks(self._parameters.touch_step_bps) else 0
        follows = gap <= self._parameters.client_tolerance * tolerance and self._market.client_size_at(
            side, price_ticks
        )
        return 0 if follows else 1

    def on_grid(self, side: Side, ticks: float, step_bps: float) -> int:
        """Return the price on a grid of about `step_bps` that is no better for takers."""
        step = self._step_ticks(step_bps)
        return (math.floor(ticks / step) if side == "buy" else math.ceil(ticks / step)) * step

    def lots(self, usd: float) -> int:
        """Return a size worth so many US dollars at the latent price, at least the minimum."""
        rules = self._market.rules
        lots = usd * self._lots_per_usd_tick / self.latent.now
        return max(rules.qty_min_lots, round(lots / rules.qty_increment_lots) * rules.qty_increment_lots)

    def _step_ticks(self, step_bps: float) -> int:
        increment = self._market.rules.price_increment_ticks
        return max(1, round(self.latent.now * step_bps / 10_000 / increment)) * increment


def pareto(rng: Random, mean: float, alpha: float, cap: float) -> float:
    """Draw a Pareto size with the given mean before the cap (a multiple of the mean)."""
    minimum = mean * (alpha - 1) / alpha
    return min(minimum * math.pow(1 - rng.random(), -1 / alpha), cap * mean)
