"""Noise takers: arrive in clusters, with heavy-tailed sizes, as pieces of large orders that were split.

In: a symbol's numbers and random numbers. Out: when somebody takes, how much, and on which side. Signs have long
memory because large orders, Pareto in length, are worked piece by piece (Lillo, Mike, Farmer 2005).
"""

from __future__ import annotations

import math
from random import Random

from krakenbot.adapters.local_exchange.flow.hawkes import Excitation
from krakenbot.adapters.local_exchange.flow.market import SIDES, Side
from krakenbot.adapters.local_exchange.flow.parameters import SymbolParameters
from krakenbot.adapters.local_exchange.flow.quotes import pareto

MAX_PIECES = 400


class NoiseTakers:
    """Everybody who trades without knowing more than others. Times are seconds since the symbol's start."""

    def __init__(self, parameters: SymbolParameters, rng: Random) -> None:
        self._parameters = parameters
        self._rng = rng
        self.arrivals = Excitation(
            mean_rate=parameters.takers_per_s * parameters.activity,
            branching=parameters.branching,
            slow_share=parameters.slow_share,
            fast_decay_per_s=parameters.fast_decay_per_s * parameters.activity,
            slow_decay_per_s=parameters.slow_decay_per_s * parameters.activity,
            rng=rng,
        )
        self._split_orders = [self._draw_split_order() for _ in range(parameters.split_orders)]

    def size_ratio(self) -> float:
        """Draw a size as a multiple of the mean."""
        numbers = self._parameters
        return pareto(self._rng, 1.0, numbers.taker_size_alpha, numbers.taker_size_cap)

    def side(self) -> Side:
        """Return the side of the next piece: one of the orders being worked goes on."""
        index = int(self._rng.random() * len(self._split_orders))
        side, pieces = self._split_orders[index]
        self._split_orders[index] = (side, pieces - 1) if pieces > 1 else self._draw_split_order()
        return side

    def join_cascade(self, now_s: float, side: Side, arrivals: float) -> None:
        """Come in a wave on one side: so many arrivals, and a large order behind them."""
        self.arrivals.excite(now_s, arrivals)
        self._split_orders[0] = (side, round(arrivals))

    def _draw_split_order(self) -> tuple[Side, int]:
        pieces = self._parameters.split_pieces_least * math.pow(
            1 - self._rng.random(), -1 / self._parameters.split_alpha
        )
        return self._rng.choice(SIDES), min(MAX_PIECES, round(pieces))
