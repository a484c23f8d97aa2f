"""Measure a flow from outside: what its books and trades look like, and what a naive maker earns at zero fee.

In: a `SeededFlow` with its markets and a span of simulated time. Out: one `FlowMeasures` per symbol and the
pooled markouts of the naive maker. Called by tests and by `scripts/measure_flow.py`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from itertools import pairwise

from attrs import define, field, frozen

from krakenbot.adapters.local_exchange.flow.market import Market
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.flow.symbol_flow import SymbolFlow

NS = 1_000_000_000
POLL_NS = NS // 10
POLLS_PER_SAMPLE = 10
PROBE_USD = 60.0
SIT_S = 45.0
JUMP_SIGMAS = 4.5
WINDOW = 60
MARKOUTS_S = (5, 30)


@frozen(kw_only=True)
class FlowMeasures:
    """One symbol's figures. Money in US dollars; depth is the smaller side's, from its own best price."""

    spread_p50_bps: float
    depth_25_p5_usd: float
    depth_50_p5_usd: float
    levels_min: int
    touch_p50_usd: float
    trades_per_s: float
    sell_usd_per_s: float
    informed_share: float
    cancel_share: float
    sigma_bps_sqrt_min: float
    jump_window_share: float
    filled_in_20_s_share: float
    book_events_per_s: float


@frozen(kw_only=True)
class Markout:
    """Mean signed move of the mid after fills of the naive maker, in bps; `t` over half-minutes of a symbol."""

    horizon_s: int
    fills: int
    mean_bps: float
    t: float


@frozen(kw_only=True)
class FlowReport:
    """The measures by symbol, and the naive maker's markouts pooled over symbols."""

    symbols: dict[str, FlowMeasures]
    markouts: dict[int, Markout]


def measure_flow(
    flow: SeededFlow,
    markets: Mapping[str, Market],
    *,
    start_ns: int,
    duration_s: int,
    set_time: Callable[[int], None] = lambda _: None,
) -> FlowReport:
    """Open the flow, run it over simulated time and return what was seen.

    `set_time` is told every time before the flow is stepped, for markets that keep a clock.
    """
    set_time(start_ns)
    flow.open(start_ns)
    watches = {symbol: Watch(market=markets[symbol], flow=flow.symbols[symbol]) for symbol in flow.symbols}
    for poll in range(1, duration_s * POLLS_PER_SAMPLE + 1):
        now_ns = start_ns + poll * POLL_NS
        while flow.next_at_ns() <= now_ns:
            at_ns = flow.next_at_ns()
            set_time(at_ns)
            flow.step(at_ns)
        for watch in watches.values():
            if poll % POLLS_PER_SAMPLE == 0:
                watch.sample()
            watch.follow_probes((now_ns - start_ns) / NS)
    blocks: dict[int, list[list[float]]] = {horizon: [] for horizon in MARKOUTS_S}
    for watch in watches.values():
        for horizon in MARKOUTS_S:
            blocks[horizon] += watch.markouts_by_block(horizon)
    return FlowReport(
        symbols={symbol: watch.measures(duration_s) for symbol, watch in watches.items()},
        markouts={horizon: _pool(horizon, values) for horizon, values in blocks.items()},
    )


@define(kw_only=True)
class Watch:
    """What is seen of one market: samples every second, a maker who always joins the bid, one who sits still."""

    market: Market
    flow: SymbolFlow
    mids: list[float] = field(factory=list)
    spreads: list[float] = field(factory=list)
    depths_25: list[float] = field(factory=list)
    depths_50: list[float] = field(factory=list)
    touches: list[float] = field(factory=list)
    levels_min: int = 1_000_000
    joiner: int | None = None
    joiner_ticks: int = 0
    fills: list[tuple[float, int]] = field(factory=list)
    sitter: int | None = None
    sitter_at_s: float = 0.0
    sat: int = 0
    sat_filled: int = 0

    def sample(self) -> None:
        """Take the second's sample; a one-sided book repeats the last mid."""
        bids, asks = self.market.levels("buy", 400), self.market.levels("sell", 400)
        self.levels_min = min(self.levels_min, len(bids), len(asks))
        if not bids or not asks:
            if self.mids:
                self.mids.append(self.mids[-1])
            return
        bid, ask = bids[0][0], asks[0][0]
        self.mids.append((bid + ask) / 2)
        self.spreads.append((ask - bid) / (ask + bid) * 20_000)
        usd_per_lot = 1e6 / self.flow.lots(1e6)
        for depths, bps in ((self.depths_25, 25), (self.depths_50, 50)):
            low, high = bid * (1 - bps / 1e4), ask * (1 + bps / 1e4)
            bid_lots = sum(size for price, size in bids if price >= low)
            depths.append(min(bid_lots, sum(size for price, size in asks if price <= high)) * usd_per_lot)
        self.touches.append(bids[0][1] * usd_per_lot)

    def follow_probes(self, now_s: float) -> None:
        """Keep one small order at the best bid, and another where the best bid was when it came."""
        best = self.market.best("buy")
        if self.joiner is not None and not self.market.remaining(self.joiner):
            self.fills.append((now_s, self.joiner_ticks))
            self.joiner = None
        if self.joiner is not None and best is not None and best > self.joiner_ticks:
            self.market.cancel(self.joiner)
            self.joiner = None
        if self.joiner is None and best is not None:
            self.joiner = self.market.place("buy", best, self.flow.lots(PROBE_USD))
            self.joiner_ticks = best
        if self.sitter is not None and now_s - self.sitter_at_s > SIT_S:
            self.market.cancel(self.sitter)
            self.sitter = None
        elif self.sitter is not None and not self.market.remaining(self.sitter):
            self.sat_filled += now_s - self.sitter_at_s <= 20
            self.sitter = None
        if self.sitter is None and best is not None:
            self.sitter = self.market.place("buy", best, self.flow.lots(PROBE_USD))
            self.sitter_at_s = now_s
            self.sat += 1

    def measures(self, duration_s: int) -> FlowMeasures:
        """Return the figures of the whole span."""
        counts = self.flow.counts
        takers = counts["noise"] + counts["informed"]
        usd_per_lot = 1e6 / self.flow.lots(1e6)
        returns = _returns_bps(self.mids, 0)
        return FlowMeasures(
            spread_p50_bps=statistics.median(self.spreads),
            depth_25_p5_usd=_quantile(self.depths_25, 0.05),
            depth_50_p5_usd=_quantile(self.depths_50, 0.05),
            levels_min=self.levels_min,
            touch_p50_usd=statistics.median(self.touches),
            trades_per_s=takers / duration_s,
            sell_usd_per_s=self.flow.taken_lots["sell"] * usd_per_lot / duration_s,
            informed_share=counts["informed"] / max(1, takers),
            cancel_share=counts["cancel"] / counts["add"],
            sigma_bps_sqrt_min=math.sqrt(12 * statistics.fmean(r * r for r in returns)),
            jump_window_share=_jump_window_share(self.mids),
            filled_in_20_s_share=self.sat_filled / max(1, self.sat),
            book_events_per_s=(counts["add"] + counts["cancel"] + takers) / duration_s,
        )

    def markouts_by_block(self, horizon_s: int) -> list[list[float]]:
        """Return the markouts of the joiner's fills in bps, grouped by half-minutes."""
        blocks: dict[int, list[float]] = {}
        for at_s, price in self.fills:
            later = math.ceil(at_s) - 1 + horizon_s
            if later < len(self.mids):
                blocks.setdefault(int(at_s // 30), []).append((self.mids[later] / price - 1) * 10_000)
        return list(blocks.values())


def _pool(horizon_s: int, blocks: list[list[float]]) -> Markout:
    """Return mean and t of fills that come in blocks: fills of one block share one price path."""
    total = sum(map(len, blocks))
    mean = sum(map(sum, blocks)) / max(1, total)
    spread = math.sqrt(sum((sum(block) - mean * len(block)) ** 2 for block in blocks))
    return Markout(horizon_s=horizon_s, fills=total, mean_bps=mean, t=mean * total / spread if spread else 0.0)


def _returns_bps(mids: list[float], offset: int) -> list[float]:
    points = mids[offset::5]
    return [math.log(b / a) * 10_000 for a, b in pairwise(points)]


def _jump_window_share(mids: list[float]) -> float:
    """Return the share of five-minute windows with a 5 s return beyond 4.5 times the bipower sigma."""
    windows = jumps = 0
    for offset in range(5):
        returns = _returns_bps(mids, offset)
        for start in range(0, len(returns) - WINDOW + 1, WINDOW):
            window = returns[start : start + WINDOW]
            products = [abs(a * b) for a, b in pairwise(window)]
            sigma = math.sqrt(math.pi / 2 * statistics.fmean(products))
            windows += 1
            jumps += any(abs(value) > JUMP_SIGMAS * sigma for value in window)
    return jumps / windows if windows else 0.0


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * len(values))]
