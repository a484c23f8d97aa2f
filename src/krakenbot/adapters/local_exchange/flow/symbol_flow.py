"""All participants of one symbol: makers, noise takers, informed takers.

In: one `Market`, its parameters, a scheduler. Out: orders, cancels and trades in that market. Orders arrive at
random, rest for a random time and are hit at random, as in the zero-intelligence models of the Santa Fe group
(Smith, Farmer, Gillemot, Krishnamurthy 2003) and of Cont, Stoikov, Talreja (2010); on top of that, makers keep
a quote around a latent price, takers cluster in time, and a share of takers knows the next move.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Literal

from krakenbot.adapters.local_exchange.flow.latent import CommonFactor, Excitation, LatentPrice
from krakenbot.adapters.local_exchange.flow.market import Market, Side
from krakenbot.adapters.local_exchange.flow.parameters import SymbolParameters

Schedule = Callable[[int, Callable[[int, int], None], int], None]
NS = 1_000_000_000
MAX_ORDERS = 900
MIN_LEVELS = 16
SIDES: tuple[Side, Side] = ("buy", "sell")


class SymbolFlow:
    """The participants of one market. `schedule(at_ns, callback, argument)` is how they come back."""

    def __init__(
        self,
        market: Market,
        *,
        parameters: SymbolParameters,
        price_ticks: float,
        lots_per_usd: float,
        factor: CommonFactor,
        rng: Random,
        schedule: Schedule,
    ) -> None:
        self.parameters = parameters
        self.counts = {"add": 0, "cancel": 0, "noise": 0, "informed": 0}
        self.taken_lots: dict[Side, int] = {"buy": 0, "sell": 0}
        self._market = market
        self._rng = rng
        self._schedule = schedule
        self._lots_per_usd_tick = lots_per_usd * price_ticks
        self.latent = LatentPrice(price_ticks=price_ticks, parameters=parameters, factor=factor, rng=rng)
        informed = parameters.informed_share if parameters.jump_interval_s is not None else 0.0
        self._excitation = Excitation(
            mean_rate=parameters.takers_per_s * parameters.activity * (1 - informed),
            branching=parameters.branching,
            decay_per_s=parameters.kernel_decay_per_s * parameters.activity,
            rng=rng,
        )
        self._orders: dict[int, tuple[Side, int, int]] = {}
        self._by_level: dict[tuple[Side, int], dict[int, None]] = {}
        self._pending: dict[Side, bool] = {"buy": False, "sell": False}
        self._last_sign: Side = rng.choice(SIDES)
        self._skew_bps = 0.0
        self._opened_at_ns = 0

    # -- opening ---------------------------------------------------------------------------------------

    def open(self, now_ns: int) -> None:
        """Fill the book around the latent price and start every participant."""
        for side in SIDES:
            self._quote_touch(now_ns, side)
            for level in range(1, self.parameters.level_count):
                for _ in range(self._orders_per_level()):
                    self._place_at_level(now_ns, side, level)
        self.start(now_ns)

    def start(self, now_ns: int) -> None:
        """Start every participant on the book as it stands."""
        self._opened_at_ns = now_ns
        self._after(now_ns, self._rng.random() * self.latent.step_s, self._on_latent)
        self._after(now_ns, self._maker_gap_s(), self._on_maker)
        self._schedule_taker(now_ns)
        self._schedule_news(now_ns)

    def adopt(self, now_ns: int, side: Side, price_ticks: int, order_id: int) -> None:
        """Take over an order that already rests, and cancel it some day like any other."""
        self._remember(now_ns, side, price_ticks, order_id)

    # -- latent price ----------------------------------------------------------------------------------

    def _on_latent(self, now_ns: int, _: int) -> None:
        self.latent.step()
        self._skew_bps *= math.exp(-self.latent.step_s / self.parameters.impact_decay_s)
        self._react_to_price(now_ns)
        self._after(now_ns, self.latent.step_s, self._on_latent)

    def _react_to_price(self, now_ns: int) -> None:
        """Let makers requote later, and snipers hit at once what has become mispriced."""
        for side in SIDES:
            best = self._market.best(side)
            if best is None or self._verdict(side, best) != 0:
                self._requote_soon(now_ns, side)
            if best is not None and self._sign(side) * (best - self.latent.now) > 0:
                delay = self._rng.expovariate(1 / 0.15)
                self._after(now_ns, delay, self._on_sniper, SIDES.index(side))

    def _on_sniper(self, now_ns: int, side_index: int) -> None:
        """Trade against quotes of `side` that stand beyond the latent price."""
        side = SIDES[side_index]
        best = self._market.best(side)
        if best is None or self._sign(side) * (best - self.latent.now) <= 0:
            return
        limit = math.ceil(self.latent.now) if side == "buy" else math.floor(self.latent.now)
        self.counts["informed"] += 1
        self._take(now_ns, _other(side), self.lots(4 * self.parameters.taker_size_usd), limit)

    def _schedule_news(self, now_ns: int) -> None:
        interval_s = self.parameters.jump_interval_s
        if interval_s is not None:
            self._after(now_ns, self._rng.expovariate(1 / interval_s), self._on_news)

    def _on_news(self, now_ns: int, _: int) -> None:
        """Draw the next jump; those who know of it trade until it comes."""
        numbers, rng = self.parameters, self._rng
        jump = numbers.jump_bps * rng.uniform(0.75, 1.25) * rng.choice((-1, 1))
        informed_rate = numbers.takers_per_s * numbers.activity * numbers.informed_share
        mean_count = informed_rate * ((numbers.jump_interval_s or 0.0) + numbers.jump_leak_s)
        side_index = 0 if jump > 0 else 1
        at_s = 0.0
        while (at_s := at_s + rng.expovariate(mean_count / numbers.jump_leak_s)) < numbers.jump_leak_s:
            self._after(now_ns, at_s, self._on_insider, side_index)
        self._after(now_ns, numbers.jump_leak_s, self._on_jump, round(jump * 1000))

    def _on_insider(self, now_ns: int, side_index: int) -> None:
        self.counts["informed"] += 1
        size_lots = round(self._taker_lots() * self.parameters.insider_size)
        self._take(now_ns, SIDES[side_index], size_lots, None)

    def _on_jump(self, now_ns: int, jump_millibps: int) -> None:
        self.latent.jump(jump_millibps / 1000)
        self._react_to_price(now_ns)
        self._schedule_news(now_ns)

    # -- makers ----------------------------------------------------------------------------------------

    def _on_maker(self, now_ns: int, _: int) -> None:
        """Add one order: at the touch if volume is short there, else at a level behind it."""
        numbers, rng = self.parameters, self._rng
        side = SIDES[rng.random() < 0.5]
        self._fill_ladder(now_ns, side)
        best = self._market.best(side)
        # A client who leads alone, or a level that a client consumed: others see it and come.
        if best is None or self._market.size_at(side, best) < 0.7 * self.lots(numbers.touch_depth_usd):
            self._requote_soon(now_ns, side)
        if len(self._orders) < MAX_ORDERS:
            if rng.random() < numbers.touch_share:
                self._join_touch(now_ns, side, numbers.maker_size_usd)
            else:
                self._place_at_level(now_ns, side, 1 + int(rng.random() * (numbers.level_count - 1)))
        self._after(now_ns, self._maker_gap_s(), self._on_maker)

    def _fill_ladder(self, now_ns: int, side: Side, *, leaving: int = 0) -> None:
        """Put one order on empty levels behind the touch while a side, without those leaving, has too few."""
        wanted = MIN_LEVELS + leaving
        missing = wanted - len(self._market.levels(side, wanted))
        for level in range(1, 2 * self.parameters.level_count):
            if missing <= 0:
                break
            if not self._market.size_at(side, self._level_ticks(side, level)):
                self._place_at_level(now_ns, side, level)
                missing -= 1

    def _join_touch(self, now_ns: int, side: Side, size_usd: float) -> None:
        """Join the best price if it is near the makers' own quote; sometimes go one step before a client."""
        best = self._market.best(side)
        if best is None or self._verdict(side, best) != 0:
            self._requote_soon(now_ns, side)
            return
        if self._market.size_at(side, best) > 1.4 * self.lots(self.parameters.touch_depth_usd):
            return
        price = best
        if self._rng.random() < self.parameters.undercut_share and self._market.client_size_at(side, best):
            better = best + self._sign(side) * self._market.rules.price_increment_ticks
            price = better if self._verdict(side, better) == 0 else best
        self._place(now_ns, side, price, self._maker_lots(size_usd))

    def _requote_soon(self, now_ns: int, side: Side) -> None:
        if not self._pending[side]:
            self._pending[side] = True
            delay = self._rng.expovariate(self.parameters.activity**0.5 / self.parameters.reaction_s)
            self._after(now_ns, delay, self._on_requote, SIDES.index(side))

    def _on_requote(self, now_ns: int, side_index: int) -> None:
        """Withdraw what is quoted too well, refill the touch, or set a new one."""
        side = SIDES[side_index]
        self._pending[side] = False
        mispriced = [price for price, _ in self._market.levels(side, 40) if self._verdict(side, price) > 0]
        # New quotes first: the makers who stay do not leave the side empty for those who go.
        if mispriced:
            self._quote_touch(now_ns, side)
            self._fill_ladder(now_ns, side, leaving=len(mispriced))
        for price in mispriced:
            self._withdraw_level(side, price)
        best = self._market.best(side)
        if best is None or self._verdict(side, best) < 0:
            self._quote_touch(now_ns, side)
        elif self._verdict(side, best) == 0:
            self._refill_touch(now_ns, side, best)
        self._fill_ladder(now_ns, side)

    def _refill_touch(self, now_ns: int, side: Side, best: int) -> None:
        """Add part of what is missing at the best price; come back while much is missing."""
        target = self.lots(self.parameters.touch_depth_usd)
        short = target - self._market.size_at(side, best)
        if short <= 0:
            return
        usd = self.parameters.touch_depth_usd * short / target
        self._join_touch(now_ns, side, max(usd * self._rng.uniform(0.6, 1.2), 20.0))
        if self._market.size_at(side, best) < 0.85 * target:
            self._requote_soon(now_ns, side)

    def _quote_touch(self, now_ns: int, side: Side) -> None:
        """Set a new best level with several makers at once."""
        price = self._touch_ticks(side)
        target = self.lots(self.parameters.touch_depth_usd)
        short_share = 1 - self._market.size_at(side, price) / target
        if short_share < 0.1:
            return
        usd, count = self.parameters.touch_depth_usd * short_share, self._rng.randint(3, 5)
        for _ in range(count):
            self._place(now_ns, side, price, self._maker_lots(usd / count))

    def _withdraw_level(self, side: Side, price_ticks: int) -> None:
        for order_id in list(self._by_level.get((side, price_ticks), ())):
            self._cancel(order_id)

    def _place_at_level(self, now_ns: int, side: Side, level: int) -> None:
        usd = self.parameters.level_depth_usd * (1 + 0.03 * level) / self._orders_per_level()
        self._place(now_ns, side, self._level_ticks(side, level), self._maker_lots(usd))

    def _place(self, now_ns: int, side: Side, price_ticks: int, size_lots: int) -> None:
        if price_ticks <= 0:
            return
        order_id = self._market.place(side, price_ticks, size_lots)
        if order_id is not None:
            self.counts["add"] += 1
            self._remember(now_ns, side, price_ticks, order_id)

    def _remember(self, now_ns: int, side: Side, price_ticks: int, order_id: int) -> None:
        self._orders[order_id] = (side, price_ticks, now_ns)
        self._by_level.setdefault((side, price_ticks), {})[order_id] = None
        self._after(now_ns, self._residual_life_s(0.0), self._on_expiry, order_id)

    def _on_expiry(self, now_ns: int, order_id: int) -> None:
        """Cancel an order whose time is up; the nearer to the front of its queue, the likelier it stays."""
        order = self._orders.get(order_id)
        if order is None:
            return
        side, price, placed_at_ns = order
        resting = self._market.remaining(order_id)
        if resting and price == self._market.best(side):
            place = self._market.ahead(order_id) / max(1, self._market.size_at(side, price))
            front = self.parameters.cancel_share_front
            if self._rng.random() > front + (1 - front) * place:
                life = self._residual_life_s((now_ns - placed_at_ns) / NS)
                self._after(now_ns, life, self._on_expiry, order_id)
                return
        self._cancel(order_id)
        if (side, price) not in self._by_level:
            self._fill_ladder(now_ns, side)

    def _cancel(self, order_id: int) -> None:
        side, price, _ = self._orders.pop(order_id)
        level = self._by_level[side, price]
        del level[order_id]
        if not level:
            del self._by_level[side, price]
        if self._market.cancel(order_id):
            self.counts["cancel"] += 1

    def _residual_life_s(self, age_s: float) -> float:
        """Draw the time an order still has: a Lomax law, whose hazard falls with age."""
        numbers = self.parameters
        scale = numbers.lifetime_s * (numbers.lifetime_alpha - 1) / numbers.activity
        return (scale + age_s) * (math.pow(1 - self._rng.random(), -1 / numbers.lifetime_alpha) - 1)

    # -- takers ----------------------------------------------------------------------------------------

    def _schedule_taker(self, now_ns: int) -> None:
        now_s = (now_ns - self._opened_at_ns) / NS
        self._after(now_ns, self._excitation.next_after_s(now_s) - now_s, self._on_taker)

    def _on_taker(self, now_ns: int, _: int) -> None:
        """Trade as noise, or in the direction of the move to come."""
        if self._excitation.accepts((now_ns - self._opened_at_ns) / NS):
            numbers, rng = self.parameters, self._rng
            if numbers.jump_interval_s is None and rng.random() < numbers.informed_share:
                side: Side = "buy" if self.latent.ahead_bps() > 0 else "sell"
                self.counts["informed"] += 1
            else:
                repeat = rng.random() < (1 + numbers.sign_persistence) / 2
                side = self._last_sign = self._last_sign if repeat else _other(self._last_sign)
                self.counts["noise"] += 1
            self._take(now_ns, side, self._taker_lots(), None)
        self._schedule_taker(now_ns)

    def _take(self, now_ns: int, side: Side, size_lots: int, limit_ticks: int | None) -> None:
        """Trade and let makers react: they shade their quotes and refill what was consumed."""
        traded = self._market.take(side, size_lots, limit_ticks=limit_ticks)
        if not traded:
            return
        self.taken_lots[side] += traded
        numbers = self.parameters
        relative = traded / self.lots(numbers.taker_size_usd)
        push = numbers.impact_bps * math.sqrt(min(relative, 9.0))
        self._skew_bps += push if side == "buy" else -push
        self._requote_soon(now_ns, _other(side))

    def _taker_lots(self) -> int:
        numbers = self.parameters
        size = _pareto(self._rng, numbers.taker_size_usd, numbers.taker_size_alpha, numbers.taker_size_cap)
        return self.lots(size)

    # -- prices and sizes ------------------------------------------------------------------------------

    def _touch_exact(self, side: Side) -> float:
        """Return where makers would quote without a price grid, in ticks."""
        offset = self._skew_bps - self._sign(side) * self.parameters.half_spread_bps
        return self.latent.now * (1 + offset / 10_000)

    def _touch_ticks(self, side: Side) -> int:
        return self._on_grid(side, self._touch_exact(side), self.parameters.touch_step_bps)

    def _level_ticks(self, side: Side, level: int) -> int:
        numbers = self.parameters
        spacing = max(self._step_ticks(numbers.level_spacing_bps), self._step_ticks(numbers.touch_step_bps))
        away = self._touch_exact(side) - self._sign(side) * level * spacing
        return self._on_grid(side, away, numbers.level_spacing_bps)

    def _verdict(self, side: Side, price_ticks: int) -> int:
        """Return 1 if a price is better than makers tolerate, -1 if their touch is missing, else 0.

        Next to a client they tolerate more: who leads the book is followed for a while.
        """
        numbers = self.parameters
        step = self._step_ticks(numbers.touch_step_bps)
        gap = self._sign(side) * (price_ticks - self._touch_exact(side))
        tolerance = max(self.latent.now * numbers.touch_tolerance_bps / 10_000, step)
        if gap <= tolerance:
            return -1 if gap < -tolerance - step else 0
        follows = self._market.client_size_at(side, price_ticks) and gap <= numbers.client_tolerance * tolerance
        return 0 if follows else 1

    def _on_grid(self, side: Side, ticks: float, step_bps: float) -> int:
        step = self._step_ticks(step_bps)
        return (math.floor(ticks / step) if side == "buy" else math.ceil(ticks / step)) * step

    def _step_ticks(self, step_bps: float) -> int:
        increment = self._market.rules.price_increment_ticks
        return max(1, round(self.latent.now * step_bps / 10_000 / increment)) * increment

    def lots(self, usd: float) -> int:
        """Return a size worth so many US dollars at the latent price, at least the minimum."""
        rules = self._market.rules
        lots = usd * self._lots_per_usd_tick / self.latent.now
        return max(rules.qty_min_lots, round(lots / rules.qty_increment_lots) * rules.qty_increment_lots)

    def _maker_lots(self, mean_usd: float) -> int:
        return self.lots(_pareto(self._rng, mean_usd, self.parameters.maker_size_alpha, 12.0))

    def _orders_per_level(self) -> int:
        return max(1, round(self.parameters.level_depth_usd / self.parameters.maker_size_usd))

    def _maker_gap_s(self) -> float:
        return self._rng.expovariate(self.parameters.maker_adds_per_s * self.parameters.activity)

    def _after(self, now_ns: int, delay_s: float, callback: Callable[[int, int], None], argument: int = 0) -> None:
        self._schedule(now_ns + int(delay_s * NS) + 1, callback, argument)

    @staticmethod
    def _sign(side: Side) -> Literal[1, -1]:
        return 1 if side == "buy" else -1


def _other(side: Side) -> Side:
    return "sell" if side == "buy" else "buy"


def _pareto(rng: Random, mean: float, alpha: float, cap: float) -> float:
    """Draw a Pareto size with the given mean before the cap (a multiple of the mean)."""
    minimum = mean * (alpha - 1) / alpha
    return min(minimum * math.pow(1 - rng.random(), -1 / alpha), cap * mean)
