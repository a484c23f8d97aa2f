"""What flows in the symbols where we have an order: the short-term measures behind a toxic cancel.

Enters: callbacks of the execution side's own market feed. Leaves: per symbol the order-flow imbalance of the last 5 s
in its own standard deviations, the change of the bid's volume over 1 s, and the last second's return in sigmas. None
wherever too little was seen.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Sequence

from attrs import asdict, define, field

from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.trade import PublicTrade, Ticker
from krakenbot.domain.values import Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.market_feed import MarketFeed, Reconnect

_BUCKETS = 300
_WINDOW = 5
_SAMPLES_MIN = 60


@define(kw_only=True)
class _Flow:
    top: tuple[int, int, int, int] | None = None
    second: int = -1
    ofi: deque[float] = field(factory=lambda: deque(maxlen=_BUCKETS))
    mids: deque[float] = field(factory=lambda: deque(maxlen=_BUCKETS))
    bids: deque[tuple[float, int, int]] = field(factory=lambda: deque(maxlen=400))


class LiveFlow:
    """A market listener that keeps second-wise sums of a few symbols."""

    def __init__(self, *, clock: Clock, market_feed: MarketFeed, event_sink: EventSink) -> None:
        self._clock = clock
        self._feed = market_feed
        self._sink = event_sink
        self._flows: dict[Symbol, _Flow] = {}

    def keep(self, symbols: set[Symbol]) -> None:
        """Forget what is not among these symbols."""
        self._flows = {symbol: flow for symbol, flow in self._flows.items() if symbol in symbols}

    def ofi_z(self, symbol: Symbol) -> float | None:
        """Return the order-flow imbalance of the last 5 s (Cont, Kukanov, Stoikov 2014) as a z-score."""
        flow = self._now(symbol)
        if flow is None or len(flow.ofi) < _SAMPLES_MIN:
            return None
        values = list(flow.ofi)
        sums = [sum(values[i : i + _WINDOW]) for i in range(len(values) - _WINDOW + 1)]
        return _z(sums)

    def return_1s_sigmas(self, symbol: Symbol) -> float | None:
        """Return the last second's mid return in standard deviations of its own."""
        flow = self._now(symbol)
        if flow is None or len(flow.mids) < _SAMPLES_MIN:
            return None
        mids = list(flow.mids)
        returns = [math.log(after / before) for before, after in itertools.pairwise(mids)]
        deviation = math.sqrt(sum(r * r for r in returns) / len(returns))
        return returns[-1] / deviation if deviation else None

    def bid_change_1s(self, symbol: Symbol) -> float | None:
        """Return the relative change of the bid's volume over the last second; -1 when the bid fell."""
        flow = self._flows.get(symbol)
        if flow is None or flow.top is None:
            return None
        horizon = self._clock.mono() - 1.0
        before = next((entry for entry in reversed(flow.bids) if entry[0] <= horizon), None)
        if before is None or before[2] == 0:
            return None
        bid, bid_size = flow.top[0], flow.top[1]
        if bid != before[1]:
            return -1.0 if bid < before[1] else None
        return bid_size / before[2] - 1.0

    # MarketListener

    def on_instruments(self, instruments: Sequence[Instrument]) -> None:
        """Take no notice: instruments are read from the feed."""

    def on_book(self, symbol: Symbol) -> None:
        """Fold a book message into the flow of its symbol."""
        book = self._feed.book(symbol)
        bid = None if book is None else book.best_bid()
        ask = None if book is None else book.best_ask()
        if bid is None or ask is None:
            return
        flow = self._flows.setdefault(symbol, _Flow())
        mono = self._clock.mono()
        self._roll(flow, int(mono))
        top = (bid[0], bid[1], ask[0], ask[1])
        if top == flow.top:
            return
        if flow.top is not None:
            flow.ofi[-1] += _imbalance(flow.top, top)
        flow.mids[-1] = (bid[0] + ask[0]) / 2
        flow.top = top
        flow.bids.append((mono, bid[0], bid[1]))

    def on_queue(self, symbol: Symbol) -> None:
        """Take no notice: the L2 book carries the touch."""

    def on_trades(self, trades: Sequence[PublicTrade], *, is_snapshot: bool) -> None:
        """Take no notice."""

    def on_ticker(self, ticker: Ticker) -> None:
        """Take no notice."""

    def on_validity(self, symbol: Symbol, source: str, *, valid: bool, reason: str) -> None:
        """Drop what was summed over a book that turned out wrong."""
        if not valid:
            self._flows.pop(symbol, None)
            self._sink.emit("live_book_invalid", symbol=symbol, source=source, reason=reason)

    def on_connection(self, stream: str, *, up: bool, reason: str) -> None:
        """Tell of a connection."""
        self._sink.emit("live_connection", stream=stream, up=up, reason=reason)

    def on_reconnect(self, reconnect: Reconnect) -> None:
        """Tell of a connection that is whole again."""
        self._sink.emit("live_reconnected", **asdict(reconnect))

    def _now(self, symbol: Symbol) -> _Flow | None:
        """Return a symbol's flow up to now: a book that went quiet has no flow, whatever came before."""
        flow = self._flows.get(symbol)
        if flow is not None:
            self._roll(flow, int(self._clock.mono()))
        return flow

    def _roll(self, flow: _Flow, second: int) -> None:
        """Open the buckets of the seconds that have passed; quiet ones hold no flow and the last mid."""
        if flow.second < 0:
            flow.ofi.append(0.0)
            flow.mids.append(0.0)
        for _ in range(min(second - flow.second, _BUCKETS) if flow.second >= 0 else 0):
            flow.ofi.append(0.0)
            flow.mids.append(flow.mids[-1])
        flow.second = second


def _imbalance(before: tuple[int, int, int, int], after: tuple[int, int, int, int]) -> float:
    gained = (after[1] if after[0] >= before[0] else 0) - (before[1] if after[0] <= before[0] else 0)
    offered = (after[3] if after[2] <= before[2] else 0) - (before[3] if after[2] >= before[2] else 0)
    return float(gained - offered)


def _z(values: list[float]) -> float | None:
    mean = sum(values) / len(values)
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
    return (values[-1] - mean) / deviation if deviation else None
