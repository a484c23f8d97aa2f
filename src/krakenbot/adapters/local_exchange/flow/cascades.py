"""Cascades: waves of one-sided taking that run from symbol to symbol.

In: random numbers of the whole exchange. Out: when each wave starts, its side and its strength; a symbol joins it
after its own delay. Waves are drawn ahead and in order, whoever asks first, so that what a client does in one symbol
changes no other. They stand for forced selling and buying that spreads (Brunnermeier, Pedersen 2009).
"""

from __future__ import annotations

from random import Random

from attrs import frozen

from krakenbot.adapters.local_exchange.flow.market import SIDES, Side

MEAN_INTERVAL_S = 150.0
LEAST_STRENGTH = 0.5


@frozen(kw_only=True)
class Cascade:
    """One wave: its start in seconds since the opening, its side, its strength (mean 1)."""

    at_s: float
    side: Side
    strength: float


class Cascades:
    """The waves of one exchange, drawn as they are asked for."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._drawn: list[Cascade] = []

    def cascade(self, index: int) -> Cascade:
        """Return the wave with this number, from 0."""
        while len(self._drawn) <= index:
            before_s = self._drawn[-1].at_s if self._drawn else 0.0
            gap_s = self._rng.expovariate(1 / MEAN_INTERVAL_S)
            strength = LEAST_STRENGTH + (1 - LEAST_STRENGTH) * self._rng.expovariate(1.0)
            self._drawn.append(Cascade(at_s=before_s + gap_s, side=self._rng.choice(SIDES), strength=strength))
        return self._drawn[index]
