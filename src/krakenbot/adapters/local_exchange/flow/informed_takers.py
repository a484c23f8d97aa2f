"""Informed takers: know the next moves of the latent price, and hit quotes that stand beyond it.

In: the latent price with its coming steps and news. Out: the side that an informed taker trades on, and snipers who
race the makers' withdrawals and clients' cancels (Glosten, Milgrom 1985; Kyle 1985; Budish, Cramton, Shim 2015).
Who knows trades more: the chance that a taker is informed grows with the square root of size (Easley, O'Hara 1987).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

from krakenbot.adapters.local_exchange.flow.market import SIDES, Market, Side, opposite, sign_of
from krakenbot.adapters.local_exchange.flow.parameters import SymbolParameters
from krakenbot.adapters.local_exchange.flow.quotes import Quotes, pareto
from krakenbot.adapters.local_exchange.flow.timer import Timer

Take = Callable[[int, Side, int, int | None], None]


class InformedTakers:
    """Insiders and snipers of one symbol. `take(now_ns, side, size_lots, limit_ticks)` trades for them."""

    def __init__(
        self,
        market: Market,
        *,
        parameters: SymbolParameters,
        quotes: Quotes,
        counts: dict[str, int],
        take: Take,
        on_jump: Callable[[int], None],
        rng: Random,
        timer: Timer,
    ) -> None:
        self._market = market
        self._parameters = parameters
        self._quotes = quotes
        self._counts = counts
        self._take = take
        self._on_jump_seen = on_jump
        self._rng = rng
        self._timer = timer
        self._sniping: dict[Side, bool] = {"buy": False, "sell": False}
        alpha = parameters.taker_size_alpha
        mean_root = alpha / (alpha - 0.5) * math.sqrt((alpha - 1) / alpha)
        self._share_per_root = parameters.informed_share / mean_root

    def start(self, now_ns: int) -> None:
        """Wait for the first news."""
        self._schedule_news(now_ns)

    def is_informed(self, size_ratio: float) -> bool:
        """Draw whether the taker of an order of this many mean sizes knows more."""
        return self._rng.random() < self._share_per_root * math.sqrt(size_ratio)

    def side(self) -> Side:
        """Return the side of the move to come; now and then an informed taker is wrong."""
        up = self._quotes.latent.ahead_bps() > 0
        right = self._rng.random() < self._parameters.informed_accuracy
        return "buy" if up == right else "sell"

    def look_for_mispriced(self, now_ns: int) -> None:
        """Race for quotes that stand beyond the latent price."""
        for side in SIDES:
            if not self._sniping[side] and self._is_mispriced(side):
                self._sniping[side] = True
                delay = self._rng.expovariate(1 / self._parameters.sniper_s)
                self._timer.after(now_ns, delay, self._on_sniper, SIDES.index(side))

    def _is_mispriced(self, side: Side) -> bool:
        best = self._market.best(side)
        return best is not None and sign_of(side) * (best - self._quotes.latent.now) > 0

    def _on_sniper(self, now_ns: int, side_index: int) -> None:
        """Trade against quotes of `side` that still stand beyond the latent price."""
        side = SIDES[side_index]
        self._sniping[side] = False
        if not self._is_mispriced(side):
            return
        now, numbers = self._quotes.latent.now, self._parameters
        limit = math.ceil(now) if side == "buy" else math.floor(now)
        self._counts["informed"] += 1
        size = pareto(self._rng, 1.0, numbers.taker_size_alpha, numbers.taker_size_cap)
        self._take(now_ns, opposite(side), self._quotes.lots(size * numbers.taker_size_usd), limit)

    def _schedule_news(self, now_ns: int) -> None:
        interval_s = self._parameters.jump_interval_s / self._parameters.activity
        self._timer.after(now_ns, self._rng.expovariate(1 / interval_s), self._on_news)

    def _on_news(self, now_ns: int, _: int) -> None:
        """Let the informed know of the next jump some seconds before it comes."""
        numbers, rng = self._parameters, self._rng
        size_bps = numbers.jump_bps * self._quotes.latent.volatility() * (0.5 + 0.5 * rng.expovariate(1.0))
        size_bps *= rng.choice((-1, 1))
        self._quotes.latent.foresee(size_bps)
        self._timer.after(now_ns, numbers.jump_leak_s * rng.uniform(0.5, 1.5), self._on_jump)

    def _on_jump(self, now_ns: int, _: int) -> None:
        self._quotes.latent.jump()
        self._on_jump_seen(now_ns)
        self._schedule_news(now_ns)
