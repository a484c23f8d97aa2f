"""Encode public and level3 frames, each once, and hand the same text to all its readers.

The venue tells it of every operation; sessions subscribe and unsubscribe. A view exists per (symbol, depth)
while someone reads it.
"""

from __future__ import annotations

from typing import Literal, Protocol

from krakenbot.adapters.local_exchange.checksum import book_checksum, level3_checksum
from krakenbot.adapters.local_exchange.digits import fixed_text, rfc3339_ns, rfc3339_us
from krakenbot.adapters.local_exchange.matching.accounts import Account, LedgerEntry
from krakenbot.adapters.local_exchange.matching.book import Book, BookSide, Changes, RestingOrder, Trade
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, Fill
from krakenbot.adapters.local_exchange.matching.venue import OrderEvent, Venue
from krakenbot.adapters.local_exchange.views import Level2Window, Level3Window

SNAPSHOT_TRADES = 50
EventTrigger = Literal["trades", "bbo"]


class Reader(Protocol):
    """A connection that takes frames."""

    def push(self, text: str) -> None:
        """Queue one frame; never blocks."""


class BookView:
    """One depth of a book: two windows and who reads them."""

    def __init__(self, market: VenueMarket, depth: int) -> None:
        self.readers: dict[Reader, None] = {}
        self.bids = Level2Window(market.book.bids, depth)
        self.asks = Level2Window(market.book.asks, depth)


class Level3View:
    """One depth of level3: two windows and who reads them."""

    def __init__(self, market: VenueMarket, depth: int) -> None:
        self.readers: dict[Reader, None] = {}
        self.bids = Level3Window(market.book.bids, depth)
        self.asks = Level3Window(market.book.asks, depth)


class SymbolFeed:
    """The frames of one symbol."""

    def __init__(self, market: VenueMarket, venue: Venue) -> None:
        self._market = market
        self._venue = venue
        self._symbol = market.rules.symbol
        self._books: dict[int, BookView] = {}
        self._level3: dict[int, Level3View] = {}
        self._trades: dict[Reader, None] = {}
        self._tickers: dict[EventTrigger, dict[Reader, None]] = {"trades": {}, "bbo": {}}
        self._last_bbo: tuple[tuple[int, int] | None, tuple[int, int] | None] = (None, None)

    def publish(self, changes: Changes, now_ns: int) -> None:
        """Send one operation's frames to those who read them."""
        for book_view in self._books.values():
            self._send_book(book_view, changes, now_ns)
        for level3_view in self._level3.values():
            self._send_level3(level3_view, changes, now_ns)
        if changes.trades:
            if self._trades:
                _send(self._trades, self.trade_frame("update", changes.trades))
            if self._tickers["trades"]:
                _send(self._tickers["trades"], self.ticker_frame("update", now_ns))
        if self._tickers["bbo"] and (bbo := self._bbo()) != self._last_bbo:
            self._last_bbo = bbo
            _send(self._tickers["bbo"], self.ticker_frame("update", now_ns))

    def read_book(self, reader: Reader, depth: int, now_ns: int) -> str:
        """Subscribe a reader to the book; return the snapshot."""
        view = self._books.get(depth)
        if view is None:
            view = self._books[depth] = BookView(self._market, depth)
        view.readers[reader] = None
        book = self._market.book
        sides = [self._level2_rows([(key, s.levels[key].size_lots) for key in _top(s, depth)]) for s in _sides(book)]
        return self._book_frame("snapshot", sides[0], sides[1], now_ns)

    def leave_book(self, reader: Reader, depth: int) -> None:
        """End a book subscription."""
        _leave(self._books, reader, depth)

    def read_level3(self, reader: Reader, depth: int, now_ns: int) -> str:
        """Subscribe a reader to level3; return the snapshot."""
        view = self._level3.get(depth)
        if view is None:
            view = self._level3[depth] = Level3View(self._market, depth)
        view.readers[reader] = None
        sides = [
            ",".join(self._order_row(o) for key in _top(side, depth) for o in side.levels[key].orders.values())
            for side in _sides(self._market.book)
        ]
        return self._level3_frame("snapshot", sides[0], sides[1], now_ns)

    def leave_level3(self, reader: Reader, depth: int) -> None:
        """End a level3 subscription."""
        _leave(self._level3, reader, depth)

    def read_trades(self, reader: Reader) -> str:
        """Subscribe a reader to trades; return the snapshot of the last 50."""
        self._trades[reader] = None
        return self.trade_frame("snapshot", self._market.trades[-SNAPSHOT_TRADES:])

    def leave_trades(self, reader: Reader) -> None:
        """End a trade subscription."""
        self._trades.pop(reader, None)

    def read_ticker(self, reader: Reader, trigger: EventTrigger, now_ns: int) -> str:
        """Subscribe a reader to the ticker; return the snapshot."""
        if not self._tickers["bbo"]:
            self._last_bbo = self._bbo()
        self._tickers[trigger][reader] = None
        return self.ticker_frame("snapshot", now_ns)

    def leave_ticker(self, reader: Reader) -> None:
        """End a ticker subscription of either trigger."""
        for readers in self._tickers.values():
            readers.pop(reader, None)

    def forget(self, reader: Reader) -> None:
        """Drop a closed connection."""
        self.leave_trades(reader)
        self.leave_ticker(reader)
        for depth in list(self._books):
            self.leave_book(reader, depth)
        for depth in list(self._level3):
            self.leave_level3(reader, depth)

    def trade_frame(self, kind: str, trades: list[Trade]) -> str:
        """Return a trade frame."""
        rules = self._market.rules
        rows = ",".join(
            f'{{"symbol":"{self._symbol}","side":"{t.taker_side}",'
            f'"price":{fixed_text(t.price_ticks, rules.price_precision)},'
            f'"qty":{fixed_text(t.size_lots, rules.qty_precision)},"ord_type":"{t.taker_type}",'
            f'"trade_id":{t.trade_id},"timestamp":"{rfc3339_us(t.at_ns)}"}}'
            for t in trades
        )
        return f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}'

    def ticker_frame(self, kind: str, now_ns: int) -> str:
        """Return a ticker frame; an empty side shows zero."""
        rules, stats = self._market.rules, self._market.stats
        bid, ask = self._bbo()
        bid_ticks, bid_lots = bid or (0, 0)
        ask_ticks, ask_lots = ask or (0, 0)

        def price(ticks: int) -> str:
            return fixed_text(ticks, rules.price_precision)

        def qty(lots: int) -> str:
            return fixed_text(lots, rules.qty_precision)

        change = stats.last_ticks - stats.open_ticks
        change_pct = fixed_text(round(change * 10_000 / stats.open_ticks) if stats.open_ticks else 0, 2)
        return (
            f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{self._symbol}",'
            f'"bid":{price(bid_ticks)},"bid_qty":{qty(bid_lots)},"ask":{price(ask_ticks)},"ask_qty":{qty(ask_lots)},'
            f'"last":{price(stats.last_ticks)},"volume":{qty(stats.volume_lots)},"vwap":{price(stats.vwap_ticks())},'
            f'"low":{price(stats.low_ticks)},"high":{price(stats.high_ticks)},"change":{price(change)},'
            f'"change_pct":{change_pct},"timestamp":"{rfc3339_us(now_ns)}"}}]}}'
        )

    def _send_book(self, view: BookView, changes: Changes, now_ns: int) -> None:
        bids = view.bids.difference(changes.bids)
        asks = view.asks.difference(changes.asks)
        if bids or asks:
            _send(
                view.readers,
                self._book_frame("update", self._level2_rows(bids), self._level2_rows(asks), now_ns),
            )

    def _send_level3(self, view: Level3View, changes: Changes, now_ns: int) -> None:
        bids = view.bids.difference(changes.bids)
        asks = view.asks.difference(changes.asks)
        if bids or asks:
            _send(
                view.readers,
                self._level3_frame("update", self._event_rows(bids, now_ns), self._event_rows(asks, now_ns), now_ns),
            )

    def _book_frame(self, kind: str, bids: str, asks: str, now_ns: int) -> str:
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{self._symbol}","bids":[{bids}],"asks":[{asks}],'
            f'"checksum":{book_checksum(self._market.book)},"timestamp":"{rfc3339_us(now_ns)}"}}]}}'
        )

    def _level3_frame(self, kind: str, bids: str, asks: str, now_ns: int) -> str:
        return (
            f'{{"channel":"level3","type":"{kind}","data":[{{"symbol":"{self._symbol}",'
            f'"checksum":{level3_checksum(self._market.book)},"bids":[{bids}],"asks":[{asks}],'
            f'"timestamp":"{rfc3339_ns(now_ns)}"}}]}}'
        )

    def _level2_rows(self, rows: list[tuple[int, int]]) -> str:
        price_digits, qty_digits = self._market.rules.price_precision, self._market.rules.qty_precision
        return ",".join(
            [
                f'{{"price":{fixed_text(abs(key), price_digits)},"qty":{fixed_text(lots, qty_digits)}}}'
                for key, lots in rows
            ]
        )

    def _event_rows(self, rows: list[tuple[str, RestingOrder, int]], now_ns: int) -> str:
        return ",".join(
            f'{{"event":"{event}",{self._figures(order, lots, order.since_ns if event == "add" else now_ns)}'
            for event, order, lots in rows
        )

    def _order_row(self, order: RestingOrder) -> str:
        return "{" + self._figures(order, order.remaining_lots, order.since_ns)

    def _figures(self, order: RestingOrder, lots: int, at_ns: int) -> str:
        rules = self._market.rules
        return (
            f'"order_id":"{self._venue.order_id_of(order)}",'
            f'"limit_price":{fixed_text(order.price_ticks, rules.price_precision)},'
            f'"order_qty":{fixed_text(lots, rules.qty_precision)},"timestamp":"{rfc3339_ns(at_ns)}"}}'
        )

    def _bbo(self) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        bids, asks = self._market.levels("buy", 1), self._market.levels("sell", 1)
        return (bids[0] if bids else None, asks[0] if asks else None)


class PublicFeeds:
    """Every symbol's feed, as one listener of the venue."""

    def __init__(self, venue: Venue) -> None:
        self.symbols = {symbol: SymbolFeed(market, venue) for symbol, market in venue.markets.items()}

    def on_book(self, market: VenueMarket, changes: Changes, now_ns: int) -> None:
        """Publish one operation."""
        self.symbols[market.rules.symbol].publish(changes, now_ns)

    def on_order(self, event: OrderEvent, order: ClientOrder, now_ns: int) -> None:
        """Ignore private events."""

    def on_fill(self, order: ClientOrder, fill: Fill, entries: tuple[LedgerEntry, LedgerEntry]) -> None:
        """Ignore private events."""

    def on_refusal(self, account: Account, action: str, detail: dict[str, str], error: str, now_ns: int) -> None:
        """Ignore private events."""

    def forget(self, reader: Reader) -> None:
        """Drop a closed connection from every feed."""
        for feed in self.symbols.values():
            feed.forget(reader)


def _send(readers: dict[Reader, None], text: str) -> None:
    for reader in list(readers):
        reader.push(text)


def _sides(book: Book) -> tuple[BookSide, BookSide]:
    return (book.bids, book.asks)


def _top(side: BookSide, depth: int) -> list[int]:
    return side.keys[: -depth - 1 : -1]


def _leave(views: dict[int, BookView] | dict[int, Level3View], reader: Reader, depth: int) -> None:
    view = views.get(depth)
    if view is not None:
        view.readers.pop(reader, None)
        if not view.readers:
            del views[depth]
