"""Queue probes: started within a budget, followed through the live L3 feed, priced after their fill, stored.

Enters: what the market feed tells, the symbols with L3. Leaves: rows for the probe store, counts for the status.
`QueueProbes.listen` stands between the feed and the recorder; `run` starts, ends and stores probes. Made by ingest.
Probes read books and write labels; nothing here knows of an order, a position or money.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence

from attrs import field, frozen
from attrs.validators import ge, gt, instance_of, le

from krakenbot.domain.engine.probe_markouts import ProbeMarkouts
from krakenbot.domain.engine.probe_rows import ProbeRows
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.probe import MARKOUT_HORIZONS_S, Probe, ProbeEnd, ProbeKind
from krakenbot.domain.market.probe_follower import ProbeFollower, venue_now_ns
from krakenbot.domain.market.trade import PublicTrade, Ticker
from krakenbot.domain.values import NS_PER_S, LineageId, Side, Symbol, VenueId
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.market_feed import MarketFeed, MarketListener, Reconnect
from krakenbot.ports.probe_store import ProbeStore

STEP_S = 0.25
FLUSH_S = 2.0
RETENTION_CHECK_S = 3600.0
AHEAD_NS = 60 * NS_PER_S
"""A trade's time counts as at most so far ahead of the clock."""
TURNS = tuple(itertools.product((ProbeKind.JOIN, ProbeKind.JOIN, ProbeKind.IMPROVE), (Side.BUY, Side.SELL)))
"""What a symbol's probes are in turn: two JOINs for an IMPROVE, on both sides."""


@frozen(kw_only=True)
class ProbeSettings:
    """The budget of queue probes and how they are followed.

    At most `max_active` probes are followed at once, `max_per_symbol` of one symbol, and `starts_per_s` begin. Each
    has a hypothetical size of `size_quote` quote units and ends by `timeout_s`. The price has moved away when the touch
    is better than the probe by `away_spread_share` of the spread at the start, and by one tick at least. `match_s` is
    how long trades and L3 may lag behind each other. Rows are kept for `keep_days` whole days.
    """

    enabled: bool = field(default=True, validator=instance_of(bool))
    max_active: int = field(default=100, validator=[ge(1), le(5000)])
    max_per_symbol: int = field(default=2, validator=[ge(1), le(16)])
    starts_per_s: float = field(default=1.0, validator=[gt(0.0), le(100.0)])
    timeout_s: float = field(default=120.0, validator=[ge(1.0), le(3600.0)])
    size_quote: float = field(default=100.0, validator=gt(0.0))
    away_spread_share: float = field(default=0.5, validator=[gt(0.0), le(10.0)])
    match_s: float = field(default=2.0, validator=[ge(0.1), le(30.0)])
    keep_days: int = field(default=30, validator=[ge(1), le(3650)])


class QueueProbes:
    """The probes of one ingest process."""

    def __init__(
        self,
        *,
        clock: Clock,
        feed: MarketFeed,
        store: ProbeStore,
        events: EventSink,
        settings: ProbeSettings,
        venue_id: VenueId,
    ) -> None:
        self._clock = clock
        self._feed = feed
        self._settings = settings
        self._venue_id = venue_id
        self._followers: dict[Symbol, ProbeFollower] = {}
        self._turns: Counter[Symbol] = Counter()
        self._numbers = itertools.count(1)
        self._next_symbol = 0
        self._budget = 0.0
        # id and venue time
        self._newest_trade: dict[Symbol, tuple[int, int]] = {}
        self._markouts = ProbeMarkouts(clock, feed)
        self._rows = ProbeRows(clock=clock, store=store, events=events, venue_id=venue_id, keep_days=settings.keep_days)
        self.started = 0
        self.ends: Counter[ProbeEnd] = Counter()

    def listen(self, listener: MarketListener) -> MarketListener:
        """Return a listener that tells these probes and then another one; the other alone when probes are off."""
        return ProbedListener(self, listener) if self._settings.enabled else listener

    async def run(self, lineage_id: LineageId, symbols: Callable[[], Sequence[Symbol]]) -> None:
        """Start probes on the symbols given at each time, end them and store them, until cancelled."""
        if not self._settings.enabled:
            return
        flush_mono = retention_mono = self._clock.mono()
        while True:
            self.step(symbols())
            now = self._clock.mono()
            if now >= flush_mono:
                await self._rows.flush(lineage_id)
                flush_mono = self._clock.mono() + FLUSH_S
            if now >= retention_mono:
                await self._rows.retain()
                retention_mono = now + RETENTION_CHECK_S
            await self._clock.sleep(STEP_S)

    async def end(self, lineage_id: LineageId) -> None:
        """Censor what is followed and store it, with the markouts that are there."""
        for symbol in list(self._followers):
            self._censor(symbol, "ingest stopped")
        self._rows.add(self._markouts.give_up())
        await self._rows.flush_all(lineage_id)

    def step(self, symbols: Sequence[Symbol]) -> None:
        """Let time pass: ends that are final, markouts that are due, new probes within the budget."""
        now = self._clock.mono()
        wanted = set(symbols)
        for symbol, follower in list(self._followers.items()):
            queue = self._feed.queue(symbol)
            if symbol not in wanted or queue is None:
                self._censor(symbol, "not watched any more")
                continue
            if any(probe.end is not None for probe in follower.probes):
                self._markouts.price_early(follower.probes, venue_now_ns(queue, now))
            for probe in follower.step(queue, now):
                self._ended(probe)
        self._rows.add(self._markouts.step(now))
        self._start(symbols, now)

    def status(self) -> dict[str, object]:
        """Return the counts since start."""
        return {
            "enabled": self._settings.enabled,
            "venue_id": self._venue_id,
            "active": sum(len(follower.probes) for follower in self._followers.values()),
            "started": self.started,
            "ends": {str(end): count for end, count in self.ends.items()},
            "awaiting_markouts": len(self._markouts),
            "waiting_rows": len(self._rows),
            "recorded": self._rows.recorded,
            "dropped": self._rows.dropped,
        }

    def on_queue(self, symbol: Symbol) -> None:
        """Take notice of a message applied to an L3 book."""
        follower = self._followers.get(symbol)
        if follower is not None and follower.probes and (queue := self._feed.queue(symbol)) is not None:
            follower.on_queue(queue, self._clock.mono())

    def on_trades(self, trades: Sequence[PublicTrade], *, is_snapshot: bool) -> None:
        """Take live trades; lost ones censor the symbol's probes, whose ends they might have been.

        An id that has passed is a repetition, unless its trade is newer than all others: then ids began anew, or the
        highest one was wrong.
        """
        latest_ns = self._clock.now_ns() + AHEAD_NS
        for trade in trades:
            symbol = trade.symbol
            last_id, last_ns = self._newest_trade.get(symbol, (trade.trade_id - 1, 0))
            begins_anew = trade.trade_id <= last_id and trade.at_ns > last_ns
            is_new = begins_anew or trade.trade_id > last_id
            if is_new:
                self._newest_trade[symbol] = trade.trade_id, min(trade.at_ns, latest_ns)
            follower = self._followers.get(symbol)
            if follower is None or not follower.probes:
                continue
            if begins_anew or trade.trade_id > last_id + 1:
                self._censor(symbol, "trades lost")
            queue = self._feed.queue(symbol)
            if not is_snapshot and queue is not None and is_new:
                queue.places.on_trade(trade)
                follower.on_trade(trade, self._clock.mono())

    def on_lost(self, symbol: Symbol, reason: str) -> None:
        """Take notice that an L3 book became invalid."""
        self._censor(symbol, f"book invalid: {reason}")

    def on_public_lost(self) -> None:
        """Take notice that the connection of the trades was lost."""
        for symbol in list(self._followers):
            self._censor(symbol, "trades lost")

    def _censor(self, symbol: Symbol, reason: str) -> None:
        follower = self._followers.pop(symbol, None)
        if follower is not None:
            for probe in follower.censor(self._feed.queue(symbol), reason, self._clock.mono()):
                self._ended(probe)

    def _ended(self, probe: Probe) -> None:
        if probe.end is None:
            raise RuntimeError("a probe was released before its end")
        self.ends[probe.end] += 1
        if not probe.end.is_fill:
            probe.markouts_bps = [None] * len(MARKOUT_HORIZONS_S)
            self._rows.add([probe])
            return
        self._markouts.add(probe)

    def _start(self, symbols: Sequence[Symbol], now: float) -> None:
        settings = self._settings
        self._budget = min(self._budget + settings.starts_per_s * STEP_S, max(1.0, settings.starts_per_s))
        active = sum(len(follower.probes) for follower in self._followers.values())
        instruments = self._feed.instruments() if self._budget >= 1.0 and symbols else {}
        for _ in range(len(symbols)):
            if self._budget < 1.0 or active >= settings.max_active:
                return
            self._next_symbol = (self._next_symbol + 1) % len(symbols)
            symbol = symbols[self._next_symbol]
            if symbol in instruments and self._start_one(instruments[symbol], now):
                self._budget -= 1.0
                active += 1

    def _start_one(self, instrument: Instrument, now: float) -> bool:
        symbol, settings = instrument.symbol, self._settings
        follower, queue = self._followers.get(symbol), self._feed.queue(symbol)
        if queue is None or not queue.is_valid or (follower and len(follower.probes) >= settings.max_per_symbol):
            return False
        if follower is None or not follower.probes:
            follower = self._followers[symbol] = ProbeFollower(instrument, settings.match_s)
        kind, side = TURNS[self._turns[symbol] % len(TURNS)]
        self._turns[symbol] += 1
        probe = follower.start(
            queue,
            probe_no=next(self._numbers),
            kind=kind,
            side=side,
            size_quote=settings.size_quote,
            timeout_s=settings.timeout_s,
            away_spread_share=settings.away_spread_share,
            now_mono=now,
        )
        self.started += probe is not None
        return probe is not None


class ProbedListener:
    """Tells the probes what they need, and another listener everything."""

    def __init__(self, probes: QueueProbes, listener: MarketListener) -> None:
        self._probes = probes
        self._listener = listener

    def on_instruments(self, instruments: Sequence[Instrument]) -> None:
        """Tell the other one."""
        self._listener.on_instruments(instruments)

    def on_book(self, symbol: Symbol) -> None:
        """Tell the other one."""
        self._listener.on_book(symbol)

    def on_ticker(self, ticker: Ticker) -> None:
        """Tell the other one."""
        self._listener.on_ticker(ticker)

    def on_queue(self, symbol: Symbol) -> None:
        """Tell both."""
        self._probes.on_queue(symbol)
        self._listener.on_queue(symbol)

    def on_trades(self, trades: Sequence[PublicTrade], *, is_snapshot: bool) -> None:
        """Tell both."""
        self._probes.on_trades(trades, is_snapshot=is_snapshot)
        self._listener.on_trades(trades, is_snapshot=is_snapshot)

    def on_validity(self, symbol: Symbol, source: str, *, valid: bool, reason: str) -> None:
        """Tell both."""
        if source == "l3" and not valid:
            self._probes.on_lost(symbol, reason)
        self._listener.on_validity(symbol, source, valid=valid, reason=reason)

    def on_connection(self, stream: str, *, up: bool, reason: str) -> None:
        """Tell both."""
        # of several public connections nobody here knows which one brings whose trades
        if stream.startswith("public") and not up:
            self._probes.on_public_lost()
        self._listener.on_connection(stream, up=up, reason=reason)

    def on_reconnect(self, reconnect: Reconnect) -> None:
        """Tell the other one: what the loss meant for probes was taken when it came."""
        self._listener.on_reconnect(reconnect)
