"""How trades move prices: by the square root of their size, and only as far as their direction surprises.

In: every trade of the flow's takers. Out: a push of the latent price that stays, a shade of the makers' quotes and a
wider spread that decay. Spreads open at once and close slowly (Ponzi, Lillo, Mantegna 2009). Direction is persistent
(Lillo, Mike, Farmer 2005); were its foreseeable part not left out, returns would be foreseeable too (Lillo, Farmer
2004; Bouchaud, Gefen, Potters, Wyart 2004). The square root is the usual finding, and that impact is in proportion to
volatility (Torre 1997; Bouchaud, Farmer, Lillo 2009).
"""

from __future__ import annotations

import math

from krakenbot.adapters.local_exchange.flow.market import Side, sign_of
from krakenbot.adapters.local_exchange.flow.parameters import SymbolParameters
from krakenbot.adapters.local_exchange.flow.quotes import Quotes


class Impact:
    """What makers learn from trades."""

    def __init__(self, quotes: Quotes, parameters: SymbolParameters) -> None:
        self._quotes = quotes
        self._parameters = parameters
        self._mean_sign = 0.0

    def add(self, side: Side, size_ratio: float) -> None:
        """Count a trade whose size is `size_ratio` times the mean."""
        numbers, sign = self._parameters, sign_of(side)
        surprise = sign - numbers.sign_foresight * self._mean_sign
        self._mean_sign += numbers.sign_learning * (sign - self._mean_sign)
        move = numbers.impact_bps * math.sqrt(size_ratio) * surprise
        if numbers.impact_follows_volatility:
            move *= self._quotes.latent.volatility()
        self._quotes.widening_bps += numbers.widening_share * abs(move)
        self._quotes.latent.push(numbers.impact_lasting_share * move)
        limit = numbers.shade_limit * numbers.half_spread_bps
        shade = self._quotes.shade_bps + (1 - numbers.impact_lasting_share) * move
        self._quotes.shade_bps = min(limit, max(-limit, shade))

    def decay(self, elapsed_s: float) -> None:
        """Let the shade and the wider spread fade."""
        self._quotes.shade_bps *= math.exp(-elapsed_s / self._parameters.impact_decay_s)
        self._quotes.widening_bps *= math.exp(-elapsed_s / self._parameters.widening_decay_s)
