"""Write down what one venue shows, in arrays: market orders, quotes, adds and ends of orders, samples of depth.

In: a venue whose flow runs without sockets, as a `VenueListener`. Out: one `SymbolTape` per symbol, which the
statistics read. Times are seconds since the tape began. Prices are ticks, sizes are lots. Orders of clients are
left out of adds and ends; their trades count like any other.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Callable

from attrs import define, field

from krakenbot.adapters.local_exchange.matching.book import BookSide, Changes, RestingOrder, SideChanges
from krakenbot.adapters.local_exchange.matching.listeners import VenueListener
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.venue import Venue

NS = 1_000_000_000
SAMPLED_LEVELS = 10
ALL_LEVELS = 200
NEAR = 25e-4
QuoteFigure = Callable[[int, int], float]


def _doubles() -> array[float]:
    return array("d")


def _longs() -> array[int]:
    return array("q")


@define(eq=False)
class TakerColumns:
    """Market orders: trades of one instant and side are one. Bid and ask are those before it."""

    at_s: array[float] = field(factory=_doubles)
    sign: array[int] = field(factory=_longs)
    size_lots: array[int] = field(factory=_longs)
    bid_ticks: array[int] = field(factory=_longs)
    ask_ticks: array[int] = field(factory=_longs)


@define(eq=False)
class QuoteColumns:
    """Best bid and ask at every change; 0 where a side is empty."""

    at_s: array[float] = field(factory=_doubles)
    bid_ticks: array[int] = field(factory=_longs)
    ask_ticks: array[int] = field(factory=_longs)


@define(eq=False)
class AddColumns:
    """Orders that came to rest: `ahead` orders at their price, `level` prices better than theirs."""

    at_s: array[float] = field(factory=_doubles)
    price_ticks: array[int] = field(factory=_longs)
    size_lots: array[int] = field(factory=_longs)
    ahead: array[int] = field(factory=_longs)
    level: array[int] = field(factory=_longs)


@define(eq=False)
class EndColumns:
    """Orders that ended, and those still open when the tape ended (`kind` 2).

    `kind` is 0 for a cancel, 1 for a fill. `key` is the price, negative for asks. `ahead` and `behind` count the
    orders at that price just after the end of this one; `level` counts the prices better than it.
    """

    at_s: array[float] = field(factory=_doubles)
    age_s: array[float] = field(factory=_doubles)
    kind: array[int] = field(factory=_longs)
    key: array[int] = field(factory=_longs)
    ahead: array[int] = field(factory=_longs)
    behind: array[int] = field(factory=_longs)
    level: array[int] = field(factory=_longs)


@define(eq=False)
class DepthColumns:
    """Both sides' ten best levels at fixed times: the touch, the mean behind it, the mean distance of levels.

    `near_lots` is the smaller side's size within 25 bps of its own best price.
    """

    at_s: array[float] = field(factory=_doubles)
    touch_lots: array[float] = field(factory=_doubles)
    behind_lots: array[float] = field(factory=_doubles)
    gap_bps: array[float] = field(factory=_doubles)
    near_lots: array[float] = field(factory=_doubles)


CANCELLED, FILLED, STILL_OPEN = 0, 1, 2


@define(eq=False, kw_only=True)
class SymbolTape:
    """Everything that was written down of one symbol in `duration_s` seconds."""

    symbol: str
    usd_per_lot_tick: float
    duration_s: float = 0.0
    takers: TakerColumns = field(factory=TakerColumns)
    quotes: QuoteColumns = field(factory=QuoteColumns)
    adds: AddColumns = field(factory=AddColumns)
    ends: EndColumns = field(factory=EndColumns)
    depth: DepthColumns = field(factory=DepthColumns)

    def mids_at(self, step_s: float) -> list[float]:
        """Return the mid in ticks every `step_s`, from 0 to the end; a one-sided book repeats the last one."""
        return self._sampled(step_s, lambda bid, ask: (bid + ask) / 2)

    def spreads_at(self, step_s: float) -> list[float]:
        """Return the spread in bps of the mid every `step_s`; a one-sided book repeats the last one."""
        return self._sampled(step_s, lambda bid, ask: (ask - bid) / (ask + bid) * 20_000)

    def mid_at(self, at_s: float) -> float:
        """Return the mid in ticks that stood at a time, changes of that instant included."""
        quotes = self.quotes
        index = bisect_right(quotes.at_s, at_s) - 1
        while index > 0 and not (quotes.bid_ticks[index] and quotes.ask_ticks[index]):
            index -= 1
        index = max(index, 0)
        return (quotes.bid_ticks[index] + quotes.ask_ticks[index]) / 2

    def _sampled(self, step_s: float, figure: QuoteFigure) -> list[float]:
        quotes, index = self.quotes, 0
        pairs = zip(quotes.bid_ticks, quotes.ask_ticks, strict=True)
        last = next((figure(bid, ask) for bid, ask in pairs if bid and ask), 0.0)
        samples: list[float] = []
        for step in range(int(self.duration_s / step_s) + 1):
            while index < len(quotes.at_s) and quotes.at_s[index] <= step * step_s:
                bid, ask = quotes.bid_ticks[index], quotes.ask_ticks[index]
                if bid and ask:
                    last = figure(bid, ask)
                index += 1
            samples.append(last)
        return samples


class TapeRecorder(VenueListener):
    """Listen to a venue from `start_ns` on and fill one tape per symbol."""

    def __init__(self, venue: Venue, usd_per_lot_tick: dict[str, float]) -> None:
        self._venue = venue
        self._start_ns = venue.now_ns
        self.tapes = {
            symbol: SymbolTape(symbol=symbol, usd_per_lot_tick=usd_per_lot_tick[symbol]) for symbol in venue.markets
        }
        for symbol, market in venue.markets.items():
            self._note_quote(self.tapes[symbol], market, 0.0)
        venue.listeners.append(self)

    def on_book(self, market: VenueMarket, changes: Changes, now_ns: int) -> None:
        """Write down one operation."""
        tape, at_s = self.tapes[market.rules.symbol], (now_ns - self._start_ns) / NS
        trades = changes.trades
        if trades:
            sign = 1 if trades[0].taker_side == "buy" else -1
            self._note_taker(tape, at_s, sign, sum(trade.size_lots for trade in trades))
        buyer_took = bool(trades) and trades[0].taker_side == "buy"
        seller_took = bool(trades) and trades[0].taker_side == "sell"
        self._note_side(tape, at_s, market.book.bids, changes.bids, FILLED if seller_took else CANCELLED)
        self._note_side(tape, at_s, market.book.asks, changes.asks, FILLED if buyer_took else CANCELLED)
        self._note_quote(tape, market, at_s)

    def sample_depth(self) -> None:
        """Write down the ten best levels of every symbol as they stand."""
        at_s = (self._venue.now_ns - self._start_ns) / NS
        for symbol, market in self._venue.markets.items():
            columns = self.tapes[symbol].depth
            sides = [market.levels("buy", SAMPLED_LEVELS), market.levels("sell", SAMPLED_LEVELS)]
            if min(map(len, sides)) < 2:
                continue
            columns.at_s.append(at_s)
            columns.touch_lots.append(sum(side[0][1] for side in sides) / 2)
            columns.behind_lots.append(sum(sum(lots for _, lots in side[1:]) / (len(side) - 1) for side in sides) / 2)
            gaps = [abs(side[-1][0] - side[0][0]) / side[0][0] / (len(side) - 1) * 10_000 for side in sides]
            columns.gap_bps.append(sum(gaps) / 2)
            columns.near_lots.append(
                min(_near_lots(market.levels("buy", ALL_LEVELS)), _near_lots(market.levels("sell", ALL_LEVELS)))
            )

    def close(self) -> dict[str, SymbolTape]:
        """Stop listening, write down what is still open, and return the tapes."""
        self._venue.listeners.remove(self)
        end_s = (self._venue.now_ns - self._start_ns) / NS
        for symbol, market in self._venue.markets.items():
            tape = self.tapes[symbol]
            tape.duration_s = end_s
            for order in market.book.orders.values():
                if order.client is None:
                    self._note_end(tape.ends, end_s, market.book.side(order.side), order, STILL_OPEN)
        return self.tapes

    def _note_taker(self, tape: SymbolTape, at_s: float, sign: int, size_lots: int) -> None:
        columns, quotes = tape.takers, tape.quotes
        if columns.at_s and columns.at_s[-1] == at_s and columns.sign[-1] == sign:
            columns.size_lots[-1] += size_lots
            return
        columns.at_s.append(at_s)
        columns.sign.append(sign)
        columns.size_lots.append(size_lots)
        columns.bid_ticks.append(quotes.bid_ticks[-1])
        columns.ask_ticks.append(quotes.ask_ticks[-1])

    def _note_side(self, tape: SymbolTape, at_s: float, side: BookSide, changes: SideChanges, kind: int) -> None:
        for event, order, key, size_lots in changes.events:
            if order.client is not None or event == "modify":
                continue
            if event == "delete":
                self._note_end(tape.ends, at_s, side, order, kind)
                continue
            level, columns = side.levels.get(key), tape.adds
            columns.at_s.append(at_s)
            columns.price_ticks.append(order.price_ticks)
            columns.size_lots.append(size_lots)
            columns.ahead.append(len(level.orders) - 1 if level else 0)
            columns.level.append(len(side.keys) - bisect_right(side.keys, key))

    def _note_end(self, columns: EndColumns, at_s: float, side: BookSide, order: RestingOrder, kind: int) -> None:
        key = order.price_ticks * side.sign
        level = side.levels.get(key)
        rest = [other.since_ns for other in level.orders.values() if other is not order] if level else []
        ahead = sum(since_ns < order.since_ns for since_ns in rest)
        columns.at_s.append(at_s)
        columns.age_s.append(max(0.0, at_s - (order.since_ns - self._start_ns) / NS))
        columns.kind.append(kind)
        columns.key.append(key)
        columns.ahead.append(ahead)
        columns.behind.append(len(rest) - ahead)
        columns.level.append(len(side.keys) - bisect_right(side.keys, key))

    def _note_quote(self, tape: SymbolTape, market: VenueMarket, at_s: float) -> None:
        quotes, bid, ask = tape.quotes, market.best("buy") or 0, market.best("sell") or 0
        if quotes.at_s and quotes.bid_ticks[-1] == bid and quotes.ask_ticks[-1] == ask:
            return
        quotes.at_s.append(at_s)
        quotes.bid_ticks.append(bid)
        quotes.ask_ticks.append(ask)


def _near_lots(levels: list[tuple[int, int]]) -> int:
    best = levels[0][0]
    return sum(lots for price_ticks, lots in levels if abs(price_ticks - best) <= NEAR * best)
