"""From a live book to sample rows: order-flow imbalance between samples, and the touch at a sampling instant.

Enters: a symbol's book and queue views, after every message and at every sampling instant. Leaves: `BookSample` and
`QueueSample`. Called by the ingest engine; one `Sampler` per symbol.
"""

from __future__ import annotations

from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.samples import BookSample, QueueSample
from krakenbot.domain.market.views import BookView, LevelQueue, QueueView
from krakenbot.domain.values import BPS, NS_PER_S, Side, Symbol

DEPTH_LEVELS = 100
"""How many levels a book has to hold for the depths; within the farthest band there are mostly far fewer."""
DEPTH_BANDS_BPS = (10.0, 25.0, 50.0)
IMBALANCE_LEVELS = 5


class Sampler:
    """Counters of one symbol between two samples."""

    def __init__(self, symbol: Symbol) -> None:
        self.symbol = symbol
        self._bid: tuple[int, int] | None = None
        self._ask: tuple[int, int] | None = None
        self._ofi_lots = 0
        self._updates = 0
        self._last_at_ns: int | None = None
        self._crossed_s = 0.0
        self._invalid_s = 0.0

    def observe_book(self, book: BookView) -> None:
        """Take notice of a book message: adds its order-flow imbalance (Cont, Kukanov, Stoikov 2014)."""
        self._updates += 1
        bid, ask = book.best_bid(), book.best_ask()
        if bid is self._bid and ask is self._ask:
            # nearly every message: it was behind the touch
            return
        if bid is not None and ask is not None and self._bid is not None and self._ask is not None:
            self._ofi_lots += _bid_flow(self._bid, bid) - _ask_flow(self._ask, ask)
        self._bid, self._ask = bid, ask

    def forget_touch(self) -> None:
        """Take notice that messages were lost: what the touch gained since is not order flow."""
        self._bid = self._ask = None

    def sample_book(self, instrument: Instrument, book: BookView, at_ns: int) -> BookSample | None:
        """Return the sample at `at_ns` and start counting anew; None while the book is invalid or one-sided.

        Seconds without a usable book are kept and stated by the next sample.
        """
        elapsed_s = 0.0 if self._last_at_ns is None else (at_ns - self._last_at_ns) / NS_PER_S
        self._last_at_ns = at_ns
        bids = book.levels_near(Side.BUY, DEPTH_BANDS_BPS[-1], IMBALANCE_LEVELS)
        asks = book.levels_near(Side.SELL, DEPTH_BANDS_BPS[-1], IMBALANCE_LEVELS)
        if not bids or not asks:
            if "crossed" in book.invalid_reason:
                self._crossed_s += elapsed_s
            self._invalid_s += elapsed_s
            return None
        sample = self._row(instrument, bids, asks, at_ns)
        self._ofi_lots = self._updates = 0
        self._crossed_s = self._invalid_s = 0.0
        return sample

    def _row(
        self, instrument: Instrument, bids: list[tuple[int, int]], asks: list[tuple[int, int]], at_ns: int
    ) -> BookSample:
        tick, lot = 10.0**-instrument.price_precision, 10.0**-instrument.qty_precision
        bid_ticks, bid_lots = bids[0]
        ask_ticks, ask_lots = asks[0]
        bid, ask = bid_ticks * tick, ask_ticks * tick
        mid = (bid + ask) / 2
        microprice = (bid * ask_lots + ask * bid_lots) / (bid_lots + ask_lots)
        bid_5 = sum(size for _, size in bids[:IMBALANCE_LEVELS])
        ask_5 = sum(size for _, size in asks[:IMBALANCE_LEVELS])
        bid_depths = _depths_quote(bids, tick * lot)
        ask_depths = _depths_quote(asks, tick * lot)
        return BookSample(
            symbol=self.symbol,
            at_ns=at_ns,
            bid=bid,
            ask=ask,
            bid_qty=bid_lots * lot,
            ask_qty=ask_lots * lot,
            mid=mid,
            spread_bps=(ask - bid) / mid * BPS,
            microprice_dev_bps=(microprice - mid) / mid * BPS,
            imbalance_5=(bid_5 - ask_5) / (bid_5 + ask_5),
            bid_depth_10_quote=bid_depths[0],
            bid_depth_25_quote=bid_depths[1],
            bid_depth_50_quote=bid_depths[2],
            ask_depth_10_quote=ask_depths[0],
            ask_depth_25_quote=ask_depths[1],
            ask_depth_50_quote=ask_depths[2],
            ofi=self._ofi_lots * lot,
            updates=self._updates,
            crossed_s=self._crossed_s,
            invalid_s=self._invalid_s,
        )

    def sample_queue(self, instrument: Instrument, queue: QueueView, at_ns: int) -> QueueSample | None:
        """Return the touch queues at `at_ns`; None while the L3 book is invalid or one-sided."""
        counters = queue.take_touch_counters()
        bid_ticks, ask_ticks = queue.best(Side.BUY), queue.best(Side.SELL)
        if bid_ticks is None or ask_ticks is None:
            return None
        bid = queue.level(Side.BUY, bid_ticks, at_ns)
        ask = queue.level(Side.SELL, ask_ticks, at_ns)
        if bid is None or ask is None:
            return None
        tick, lot = 10.0**-instrument.price_precision, 10.0**-instrument.qty_precision
        bid_added, bid_removed, ask_added, ask_removed = (lots * lot for lots in counters)
        return QueueSample(
            symbol=self.symbol,
            at_ns=at_ns,
            bid_volume=bid.size_lots * lot,
            bid_orders=bid.orders,
            bid_notional=_notional(bid, tick * lot),
            ask_volume=ask.size_lots * lot,
            ask_orders=ask.orders,
            ask_notional=_notional(ask, tick * lot),
            bid_added=bid_added,
            bid_removed=bid_removed,
            ask_added=ask_added,
            ask_removed=ask_removed,
            bid_mean_age_s=bid.mean_age_s,
            ask_mean_age_s=ask.mean_age_s,
            bid_largest_share=bid.largest_share,
            ask_largest_share=ask.largest_share,
        )


def _bid_flow(before: tuple[int, int], after: tuple[int, int]) -> int:
    flow = 0
    if after[0] >= before[0]:
        flow += after[1]
    if after[0] <= before[0]:
        flow -= before[1]
    return flow


def _ask_flow(before: tuple[int, int], after: tuple[int, int]) -> int:
    flow = 0
    if after[0] <= before[0]:
        flow += after[1]
    if after[0] >= before[0]:
        flow -= before[1]
    return flow


def _depths_quote(levels: list[tuple[int, int]], unit_quote: float) -> list[float]:
    """Return the depth in quote units within each band, measured from this side's own best price."""
    best = levels[0][0]
    near, middle, far = (best * band / BPS for band in DEPTH_BANDS_BPS)
    depth_near = depth_middle = depth_far = 0
    for price_ticks, size_lots in levels:
        distance = abs(price_ticks - best)
        if distance > far:
            break
        quote = price_ticks * size_lots
        depth_far += quote
        if distance <= middle:
            depth_middle += quote
            if distance <= near:
                depth_near += quote
    return [depth_near * unit_quote, depth_middle * unit_quote, depth_far * unit_quote]


def _notional(level: LevelQueue, unit_quote: float) -> float:
    return level.price_ticks * level.size_lots * unit_quote
