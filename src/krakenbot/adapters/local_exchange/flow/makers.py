"""Makers: keep a touch and a ladder of levels behind it, refill what is consumed, withdraw what is mispriced.

In: the quotes they want, a timer, random numbers. Out: orders and cancels in one market. Orders arrive and leave at
random, as in the zero-intelligence models of the Santa Fe group (Smith, Farmer, Gillemot, Krishnamurthy 2003)
and of Cont, Stoikov, Talreja (2010). The hazard of a cancel falls with age and is lower at the front of the queue.
A touch that was consumed is refilled over seconds: spreads open at once and close slowly (Biais, Hillion,
Spatt 1995; Ponzi, Lillo, Mantegna 2009).
"""

from __future__ import annotations

import math
from random import Random

from krakenbot.adapters.local_exchange.flow.client_reaction import ClientReaction
from krakenbot.adapters.local_exchange.flow.market import SIDES, Market, Side
from krakenbot.adapters.local_exchange.flow.parameters import SymbolParameters
from krakenbot.adapters.local_exchange.flow.quotes import Quotes, pareto
from krakenbot.adapters.local_exchange.flow.timer import NS, Timer

MAX_ORDERS = 900
MIN_LEVELS = 16
MAX_MAKER_SIZE = 12.0
LEAST_REFILL_USD = 20.0
FULL_TOUCH_SHARE = 0.85


class Makers:
    """All makers of one market. `counts` is shared with the takers."""

    def __init__(
        self,
        market: Market,
        *,
        parameters: SymbolParameters,
        quotes: Quotes,
        clients: ClientReaction,
        counts: dict[str, int],
        rng: Random,
        timer: Timer,
    ) -> None:
        self._market = market
        self._parameters = parameters
        self._quotes = quotes
        self._clients = clients
        self._counts = counts
        self._rng = rng
        self._timer = timer
        self._orders: dict[int, tuple[Side, int, int, float]] = {}
        self._by_level: dict[tuple[Side, int], dict[int, None]] = {}
        self._withdrawing: dict[Side, bool] = {"buy": False, "sell": False}
        self._refilling: dict[Side, bool] = {"buy": False, "sell": False}

    def open(self, now_ns: int) -> None:
        """Fill the book around the latent price."""
        for side in SIDES:
            count = self._orders_per_level(self._parameters.touch_depth_usd)
            for _ in range(count):
                size_usd = self._parameters.touch_depth_usd / count
                self._place(now_ns, side, self._quotes.touch_ticks(side), size_usd)
            for level in range(1, self._parameters.level_count):
                for _ in range(self._orders_per_level(self._parameters.level_depth_usd)):
                    self._place_at_level(now_ns, side, level)

    def start(self, now_ns: int) -> None:
        """Begin to add orders."""
        self._timer.after(now_ns, self._gap_s(), self._on_arrival)

    def adopt(self, now_ns: int, side: Side, price_ticks: int, order_id: int) -> None:
        """Take over an order that already rests, and cancel it some day like any other."""
        self._remember(now_ns, side, price_ticks, order_id)

    def react(self, now_ns: int) -> None:
        """Look at both touches: withdraw a mispriced one soon, replace a missing or thin one over seconds."""
        for side in SIDES:
            best = self._market.best(side)
            verdict = -1 if best is None else self._quotes.verdict(side, best)
            if verdict > 0:
                self._withdraw_soon(now_ns, side)
            elif best is None or verdict < 0:
                self._refill_soon(now_ns, side, self._parameters.requote_s)
            elif self._is_thin(side, best):
                self._refill_soon(now_ns, side, self._parameters.refill_s)

    # -- arrivals --------------------------------------------------------------------------------------

    def _on_arrival(self, now_ns: int, _: int) -> None:
        """Add one order: at the touch, else at a level behind it."""
        numbers, rng = self._parameters, self._rng
        side = SIDES[rng.random() < 0.5]
        self._fill_ladder(now_ns, side)
        best = self._market.best(side)
        # A client who leads alone, or a level that a client consumed: others see it and come.
        if best is None or self._is_thin(side, best):
            self._refill_soon(now_ns, side, numbers.refill_s)
        if len(self._orders) < MAX_ORDERS:
            if best is not None and rng.random() < numbers.touch_share:
                self._join(now_ns, side, best, numbers.maker_size_usd)
            else:
                fleeting = numbers.fleeting_share > 0 and rng.random() < numbers.fleeting_share
                level = 1 + int(rng.random() * (numbers.level_count - 1))
                self._place_at_level(now_ns, side, level, fleeting=fleeting)
        self._timer.after(now_ns, self._gap_s(), self._on_arrival)

    def _join(self, now_ns: int, side: Side, best: int, size_usd: float) -> None:
        """Join the best price if it is near the makers' own quote and not full."""
        if self._quotes.verdict(side, best) != 0:
            return
        if self._market.size_at(side, best) < 1.4 * self._quotes.lots(self._parameters.touch_depth_usd):
            self._place(now_ns, side, self._clients.price_to_join(side, best), size_usd)

    def _fill_ladder(self, now_ns: int, side: Side, *, leaving: int = 0) -> None:
        """Put one order on empty levels behind the touch while a side, without those leaving, has too few."""
        wanted = MIN_LEVELS + leaving
        missing = wanted - len(self._market.levels(side, wanted))
        # On a grid finer than the spacing, empty prices between levels are as they should be: go on behind them.
        first = 1 if self._parameters.level_step_bps is None else self._parameters.level_count
        for level in range(first, first + 2 * self._parameters.level_count - 1):
            if missing <= 0:
                break
            if not self._market.size_at(side, self._quotes.level_ticks(side, level)):
                self._place_at_level(now_ns, side, level)
                missing -= 1

    def _place_at_level(self, now_ns: int, side: Side, level: int, *, fleeting: bool = False) -> None:
        numbers = self._parameters
        even = numbers.even_level_share > 0 and self._rng.random() < numbers.even_level_share
        price = self._quotes.level_ticks(side, level, even=even)
        if numbers.fleeting_share > 0:
            size_usd = numbers.maker_size_usd * self._of_class(numbers.fleeting_size_ratio, fleeting=fleeting)
            self._place(now_ns, side, price, size_usd, fleeting=fleeting)
            return
        depth_usd = numbers.level_depth_usd
        self._place(now_ns, side, price, depth_usd * (1 + 0.03 * level) / self._orders_per_level(depth_usd))

    # -- the touch -------------------------------------------------------------------------------------

    def _is_thin(self, side: Side, best: int) -> bool:
        target = self._quotes.lots(self._parameters.touch_depth_usd)
        return self._market.size_at(side, best) < FULL_TOUCH_SHARE * target

    def _refill_soon(self, now_ns: int, side: Side, mean_s: float) -> None:
        if not self._refilling[side]:
            self._refilling[side] = True
            delay = self._rng.expovariate(self._parameters.activity**0.5 / mean_s)
            self._timer.after(now_ns, delay, self._on_refill, SIDES.index(side))

    def _on_refill(self, now_ns: int, side_index: int) -> None:
        """Add part of what is missing at the touch, or set a better one; come back while much is missing."""
        side = SIDES[side_index]
        self._refilling[side] = False
        best = self._market.best(side)
        verdict = -1 if best is None else self._quotes.verdict(side, best)
        if verdict > 0:
            self._withdraw_soon(now_ns, side)
            return
        target_usd = self._parameters.touch_depth_usd
        if verdict < 0 or best is None:
            price = self._improved(side, best)
            for _ in range(2):
                self._place(now_ns, side, price, target_usd * self._rng.uniform(0.15, 0.35))
        else:
            missing = 1 - self._market.size_at(side, best) / self._quotes.lots(target_usd)
            if missing > 0:
                usd = target_usd * missing * self._rng.uniform(0.4, 0.9)
                self._join(now_ns, side, best, max(usd, LEAST_REFILL_USD))
        self.react(now_ns)

    def _improved(self, side: Side, best: int | None) -> int:
        """Return a price between the best one and what makers want: gaps close in steps."""
        wanted = self._quotes.touch_exact(side)
        if best is not None:
            share = self._rng.uniform(*self._parameters.improvement)
            wanted = best + share * (wanted - best)
        return self._quotes.on_grid(side, wanted, self._parameters.touch_step_bps)

    def _withdraw_soon(self, now_ns: int, side: Side) -> None:
        if not self._withdrawing[side]:
            self._withdrawing[side] = True
            delay = self._rng.expovariate(self._parameters.activity**0.5 / self._parameters.reaction_s)
            self._timer.after(now_ns, delay, self._on_withdraw, SIDES.index(side))

    def _on_withdraw(self, now_ns: int, side_index: int) -> None:
        """Withdraw every quote that is better than makers tolerate."""
        side = SIDES[side_index]
        self._withdrawing[side] = False
        mispriced: list[int] = []
        for price, _ in self._market.levels(side, 40):
            if self._quotes.gap_ticks(side, price) <= 0:
                break
            if self._quotes.verdict(side, price) > 0:
                mispriced.append(price)
        # New levels first: a side is never left with too few.
        self._fill_ladder(now_ns, side, leaving=len(mispriced))
        for price in mispriced:
            for order_id in list(self._by_level.get((side, price), ())):
                self._cancel(order_id)
        self.react(now_ns)

    # -- orders and their lives ------------------------------------------------------------------------

    def _place(self, now_ns: int, side: Side, price_ticks: int, mean_usd: float, *, fleeting: bool = False) -> None:
        if price_ticks <= 0:
            return
        size = pareto(self._rng, mean_usd, self._parameters.maker_size_alpha, MAX_MAKER_SIZE)
        order_id = self._market.place(side, price_ticks, self._quotes.lots(size))
        if order_id is not None:
            self._counts["add"] += 1
            self._remember(now_ns, side, price_ticks, order_id, fleeting=fleeting)

    def _remember(self, now_ns: int, side: Side, price_ticks: int, order_id: int, *, fleeting: bool = False) -> None:
        life_s = self._mean_life_s(fleeting=fleeting)
        self._orders[order_id] = (side, price_ticks, now_ns, life_s)
        self._by_level.setdefault((side, price_ticks), {})[order_id] = None
        self._timer.after(now_ns, self._residual_life_s(0.0, life_s), self._on_expiry, order_id)

    def _on_expiry(self, now_ns: int, order_id: int) -> None:
        """Cancel an order whose time is up; the nearer to the front of its queue, the likelier it stays."""
        order = self._orders.get(order_id)
        if order is None:
            return
        side, price, placed_at_ns, mean_life_s = order
        resting = self._market.remaining(order_id)
        if resting:
            place = (self._market.ahead(order_id) + resting / 2) / max(1, self._market.size_at(side, price))
            front = self._parameters.cancel_share_front
            if self._rng.random() > front + (1 - front) * place:
                life = self._residual_life_s((now_ns - placed_at_ns) / NS, mean_life_s)
                self._timer.after(now_ns, life, self._on_expiry, order_id)
                return
        self._cancel(order_id)
        if (side, price) not in self._by_level:
            self._fill_ladder(now_ns, side)

    def _cancel(self, order_id: int) -> None:
        side, price, _, _ = self._orders.pop(order_id)
        level = self._by_level[side, price]
        del level[order_id]
        if not level:
            del self._by_level[side, price]
        if self._market.cancel(order_id):
            self._counts["cancel"] += 1

    def _mean_life_s(self, *, fleeting: bool) -> float:
        numbers = self._parameters
        if numbers.fleeting_share <= 0:
            return numbers.lifetime_s
        return numbers.lifetime_s * self._of_class(numbers.fleeting_life_ratio, fleeting=fleeting)

    def _of_class(self, ratio: float, *, fleeting: bool) -> float:
        """Return the mean of fleeting, else of resting orders as a multiple of the mean of all arrivals."""
        share = self._parameters.fleeting_share
        return (ratio if fleeting else 1.0) / (share * ratio + 1 - share)

    def _residual_life_s(self, age_s: float, mean_life_s: float) -> float:
        """Draw the time an order still has: a Lomax law, whose hazard falls with age."""
        numbers = self._parameters
        scale = mean_life_s * (numbers.lifetime_alpha - 1) / numbers.activity
        return (scale + age_s) * (math.pow(1 - self._rng.random(), -1 / numbers.lifetime_alpha) - 1)

    def _orders_per_level(self, depth_usd: float) -> int:
        return max(1, round(depth_usd / self._parameters.maker_size_usd))

    def _gap_s(self) -> float:
        return self._rng.expovariate(self._parameters.maker_adds_per_s * self._parameters.activity)
