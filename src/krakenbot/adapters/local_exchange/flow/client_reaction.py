"""What the flow does about clients' orders: makers join and undercut who leads, takers are drawn to him.

In: the market's count of clients' sizes. Out: prices for makers who join, a side for takers. Without a client in the
book nothing here draws a random number, so that the flow is the same with and without an idle client.
"""

from __future__ import annotations

from random import Random

from krakenbot.adapters.local_exchange.flow.market import SIDES, Market, Side, opposite, sign_of
from krakenbot.adapters.local_exchange.flow.parameters import SymbolParameters
from krakenbot.adapters.local_exchange.flow.quotes import Quotes


class ClientReaction:
    """How one symbol's participants treat the best price when a client stands there."""

    def __init__(self, market: Market, *, parameters: SymbolParameters, quotes: Quotes, rng: Random) -> None:
        self._market = market
        self._parameters = parameters
        self._quotes = quotes
        self._rng = rng

    def price_to_join(self, side: Side, best: int) -> int:
        """Return the best price, or now and then one step before a client who stands there."""
        if not self._market.client_size_at(side, best) or self._rng.random() >= self._parameters.undercut_share:
            return best
        better = best + sign_of(side) * self._market.rules.price_increment_ticks
        return better if self._quotes.verdict(side, better) == 0 else best

    def draws_taker(self) -> Side | None:
        """Return the taker's side that a client's better price attracts this time; None when nobody leads."""
        for side in SIDES:
            best = self._market.best(side)
            if best is None or not self._market.client_size_at(side, best):
                continue
            leads = self._quotes.gap_ticks(side, best) > 0
            if leads and self._rng.random() < self._parameters.client_draw:
                return opposite(side)
        return None
