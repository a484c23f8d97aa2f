"""The market listener of ingest: what the feed tells becomes samples.

Enters: callbacks of the market feed, in the receive loop. Leaves: trade and ticker samples at once, book and queue
samples at every sampling instant, and events for people. Made by `engine.ingest`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from attrs import asdict

from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.sampler import Sampler
from krakenbot.domain.market.samples import Sample, TickerSample, TradeSample
from krakenbot.domain.market.trade import PublicTrade, Ticker
from krakenbot.domain.market.trade_ledger import TradeSource
from krakenbot.domain.values import NS_PER_S, RunId, Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.market_feed import MarketFeed, Reconnect
from krakenbot.ports.sample_sink import SampleSink

AHEAD_NS = 60 * NS_PER_S
"""A trade's time counts as at most so far ahead of the clock."""


class MarketRecorder:
    """Turns callbacks into rows of one run; implements `MarketListener`."""

    def __init__(self, *, clock: Clock, feed: MarketFeed, sink: SampleSink, events: EventSink, run_id: RunId) -> None:
        self._clock = clock
        self._feed = feed
        self._sink = sink
        self._events = events
        self._run_id = run_id
        self._samplers: dict[Symbol, Sampler] = {}
        # id and venue time
        self._newest_trade: dict[Symbol, tuple[int, int]] = {}
        self._volumes: dict[Symbol, tuple[float, float]] = {}
        self.with_book: set[Symbol] = set()
        """Symbols that have had a valid L2 book since start."""
        self.with_queue: set[Symbol] = set()
        """Symbols that have had a valid L3 book since start."""
        self.missing_trades: Counter[Symbol] = Counter()
        """Trade ids that were jumped over, per symbol."""
        self.instruments_changed = False
        """Set when instruments came in; whoever publishes them resets it."""

    def use_run(self, run_id: RunId) -> None:
        """Write what comes from now on into another run: each row belongs to exactly one."""
        self._run_id = run_id

    def sample(self, symbols: Sequence[Symbol]) -> int:
        """Take a book and a queue sample of each symbol now; return how many rows were queued."""
        at_ns = self._clock.now_ns()
        instruments = self._feed.instruments()
        rows: list[Sample] = []
        for symbol in symbols:
            instrument = instruments.get(symbol)
            if instrument is None:
                continue
            sampler = self._sampler(symbol)
            book = self._feed.book(symbol)
            if book is not None and (row := sampler.sample_book(instrument, book, at_ns)) is not None:
                rows.append(row)
            queue = self._feed.queue(symbol)
            if queue is not None and (queue_row := sampler.sample_queue(instrument, queue, at_ns)) is not None:
                rows.append(queue_row)
        if rows:
            self._sink.put(self._run_id, rows)
        return len(rows)

    def volumes_24h_quote(self, max_age_s: float) -> dict[Symbol, float]:
        """Return 24 h volumes in quote units by symbol, from tickers that came within `max_age_s`."""
        since_mono = self._clock.mono() - max_age_s
        return {symbol: volume for symbol, (volume, at_mono) in self._volumes.items() if at_mono >= since_mono}

    def on_instruments(self, instruments: Sequence[Instrument]) -> None:
        """Remember that instruments have to be published."""
        self.instruments_changed = True
        self._events.emit("instruments", count=len(instruments))

    def on_book(self, symbol: Symbol) -> None:
        """Count order-flow imbalance of the message."""
        book = self._feed.book(symbol)
        if book is not None:
            self._sampler(symbol).observe_book(book)

    def on_queue(self, symbol: Symbol) -> None:
        """Do nothing: queues keep their own touch counters until they are sampled."""

    def on_trades(self, trades: Sequence[PublicTrade], *, is_snapshot: bool) -> None:
        """Queue trades, also late ones, whose repetitions the sink leaves out; a jump of their ids is counted and said.

        A trade is never left out here for its id: a snapshot brings what a gap had cost, in whatever order. An id that
        has passed, of a trade newer than all others, says that ids began anew or that the highest one was wrong: jumps
        are counted from there.
        """
        received_at_ns = self._clock.now_ns()
        latest_ns = received_at_ns + AHEAD_NS
        instruments = self._feed.instruments()
        rows: list[Sample] = []
        for trade in sorted(trades, key=lambda trade: trade.trade_id):
            instrument = instruments.get(trade.symbol)
            if instrument is None:
                continue
            last_id, last_ns = self._newest_trade.get(trade.symbol, (trade.trade_id - 1, 0))
            if trade.trade_id > last_id + 1:
                self._miss(trade, last_id, is_snapshot=is_snapshot)
            if trade.trade_id > last_id or trade.at_ns > last_ns:
                self._newest_trade[trade.symbol] = trade.trade_id, min(trade.at_ns, latest_ns)
            rows.append(
                TradeSample(
                    symbol=trade.symbol,
                    trade_id=trade.trade_id,
                    side=trade.side,
                    price=instrument.price_of(trade.price_ticks),
                    qty=instrument.qty_of(trade.size_lots),
                    at_ns=trade.at_ns,
                    received_at_ns=received_at_ns,
                )
            )
        if rows:
            source = TradeSource.SNAPSHOT if is_snapshot else TradeSource.FEED
            self._sink.put(self._run_id, rows, source=source)

    def on_ticker(self, ticker: Ticker) -> None:
        """Queue a ticker row and remember the volume."""
        self._volumes[ticker.symbol] = (ticker.volume_24h * ticker.last, self._clock.mono())
        row = TickerSample(
            symbol=ticker.symbol,
            at_ns=ticker.at_ns,
            received_at_ns=self._clock.now_ns(),
            bid=ticker.bid,
            ask=ticker.ask,
            last=ticker.last,
            volume_24h=ticker.volume_24h,
        )
        self._sink.put(self._run_id, [row])

    def on_validity(self, symbol: Symbol, source: str, *, valid: bool, reason: str) -> None:
        """Say that a book became valid or invalid."""
        if valid:
            (self.with_book if source == "l2" else self.with_queue).add(symbol)
        elif source == "l2":
            self._sampler(symbol).forget_touch()
        self._events.emit("book_valid" if valid else "book_invalid", symbol=symbol, source=source, reason=reason)

    def on_connection(self, stream: str, *, up: bool, reason: str) -> None:
        """Say that a connection came up or went down."""
        self._events.emit("connection_up" if up else "connection_down", stream=stream, reason=reason)

    def on_reconnect(self, reconnect: Reconnect) -> None:
        """Say that a lost connection is whole again."""
        self._events.emit("reconnected", **asdict(reconnect))

    def _sampler(self, symbol: Symbol) -> Sampler:
        sampler = self._samplers.get(symbol)
        if sampler is None:
            sampler = self._samplers[symbol] = Sampler(symbol)
        return sampler

    def _miss(self, trade: PublicTrade, last: int, *, is_snapshot: bool) -> None:
        missing = trade.trade_id - last - 1
        self.missing_trades[trade.symbol] += missing
        self._events.emit(
            "trade_gap", symbol=trade.symbol, after=last, before=trade.trade_id, missing=missing, resumed=is_snapshot
        )
