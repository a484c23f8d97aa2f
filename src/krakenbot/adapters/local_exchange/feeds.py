"""Encode public and level3 frames, each once, and hand the same text to all its readers.

The venue tells it of every operation; sessions subscribe and unsubscribe. A view exists per (symbol, depth)
while someone reads it.
"""

from __future__ import annotations

from typing import Final, Literal, Protocol

from krakenbot.adapters.local_exchange.checksum import Checksum, Level2Digits, Level3Digits
from krakenbot.adapters.local_exchange.digits import FixedTexts, fixed_text, rfc3339_ns, rfc3339_us
from krakenbot.adapters.local_exchange.matching.book import Book, BookSide, Changes, RestingOrder, Trade
from krakenbot.adapters.local_exchange.matching.listeners import VenueListener
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.venue import Venue
from krakenbot.adapters.local_exchange.views import Level2Window, Level3Window

SNAPSHOT_TRADES = 50
KINDS: Final = ("snapshot", "update")
EventTrigger = Literal["trades", "bbo"]
Kind = Literal["snapshot", "update"]


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
        self._symbol = symbol = market.rules.symbol
        self._prices = FixedTexts(market.rules.price_precision)
        self._qty_precision = market.rules.qty_precision
        self._books: dict[int, BookView] = {}
        self._book_checksum: Checksum | None = None
        self._level3: dict[int, Level3View] = {}
        self._level3_checksum: Checksum | None = None
        self._trades: dict[Reader, None] = {}
        self._trade_tickers: dict[Reader, None] = {}
        self._bbo_tickers: dict[Reader, None] = {}
        self._last_bbo: tuple[tuple[int, int] | None, tuple[int, int] | None] = (None, None)
        self._book_head = {
            kind: f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{symbol}","bids":[' for kind in KINDS
        }
        self._level3_head = {
            kind: f'{{"channel":"level3","type":"{kind}","data":[{{"symbol":"{symbol}","checksum":' for kind in KINDS
        }

    def publish(self, changes: Changes, now_ns: int) -> None:
        """Send one operation's frames to those who read them."""
        stamp = rfc3339_ns(now_ns) if self._books or self._level3 else ""
        if self._book_checksum is not None:
            checksum = self._book_checksum.update(changes)
            for book_view in self._books.values():
                self._send_book(book_view, checksum, changes, stamp)
        if self._level3_checksum is not None:
            checksum = self._level3_checksum.update(changes)
            for level3_view in self._level3.values():
                self._send_level3(level3_view, checksum, changes, now_ns, stamp)
        if changes.trades:
            if self._trades:
                _send(self._trades, self.trade_frame("update", changes.trades))
            if self._trade_tickers:
                _send(self._trade_tickers, self.ticker_frame("update", now_ns))
        if self._bbo_tickers and (bbo := self._bbo()) != self._last_bbo:
            self._last_bbo = bbo
            _send(self._bbo_tickers, self.ticker_frame("update", now_ns))

    def offers(self, channel: str, depth: int) -> bool:  # noqa: ARG002, a played-back symbol has its own answer
        """Tell whether a channel can be had at this depth."""
        return True

    def read_book(self, reader: Reader, depth: int, now_ns: int) -> str:
        """Subscribe a reader to the book; return the snapshot."""
        view = self._books.get(depth)
        if view is None:
            view = self._books[depth] = BookView(self._market, depth)
        view.readers[reader] = None
        book = self._market.book
        if self._book_checksum is None:
            self._book_checksum = Checksum(Level2Digits(book.bids), Level2Digits(book.asks))
        sides = [self._level2_rows([(key, s.levels[key].size_lots) for key in _top(s, depth)]) for s in _sides(book)]
        return self._book_frame("snapshot", sides[0], sides[1], self._book_checksum.value, rfc3339_ns(now_ns))

    def leave_book(self, reader: Reader, depth: int) -> None:
        """End a book subscription."""
        _leave(self._books, reader, depth)
        if not self._books:
            self._book_checksum = None

    def read_level3(self, reader: Reader, depth: int, now_ns: int) -> str:
        """Subscribe a reader to level3; return the snapshot."""
        view = self._level3.get(depth)
        if view is None:
            view = self._level3[depth] = Level3View(self._market, depth)
        view.readers[reader] = None
        book = self._market.book
        if self._level3_checksum is None:
            self._level3_checksum = Checksum(Level3Digits(book.bids), Level3Digits(book.asks))
        sides = [
            ",".join([self._order_row(o) for key in _top(side, depth) for o in side.levels[key].orders.values()])
            for side in _sides(book)
        ]
        return self._level3_frame("snapshot", sides[0], sides[1], self._level3_checksum.value, rfc3339_ns(now_ns))

    def leave_level3(self, reader: Reader, depth: int) -> None:
        """End a level3 subscription."""
        _leave(self._level3, reader, depth)
        if not self._level3:
            self._level3_checksum = None

    def read_trades(self, reader: Reader) -> str:
        """Subscribe a reader to trades; return the snapshot of the last 50."""
        self._trades[reader] = None
        return self.trade_frame("snapshot", self._market.trades[-SNAPSHOT_TRADES:])

    def leave_trades(self, reader: Reader) -> None:
        """End a trade subscription."""
        self._trades.pop(reader, None)

    def read_ticker(self, reader: Reader, trigger: EventTrigger, now_ns: int) -> str:
        """Subscribe a reader to the ticker; return the snapshot."""
        if not self._bbo_tickers:
            self._last_bbo = self._bbo()
        (self._bbo_tickers if trigger == "bbo" else self._trade_tickers)[reader] = None
        return self.ticker_frame("snapshot", now_ns)

    def leave_ticker(self, reader: Reader) -> None:
        """End a ticker subscription of either trigger."""
        self._trade_tickers.pop(reader, None)
        self._bbo_tickers.pop(reader, None)

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
        symbol, prices, digits = self._symbol, self._prices, self._qty_precision
        rows = ",".join(
            [
                f'{{"symbol":"{symbol}","side":"{t.taker_side}","price":{prices[t.price_ticks]},'
                f'"qty":{fixed_text(t.size_lots, digits)},"ord_type":"{t.taker_type}",'
                f'"trade_id":{t.trade_id},"timestamp":"{rfc3339_us(t.at_ns)}"}}'
                for t in trades
            ]
        )
        return f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}'

    def ticker_frame(self, kind: str, now_ns: int) -> str:
        """Return a ticker frame; an empty side shows zero."""
        stats, price, digits = self._market.stats, self._prices, self._qty_precision
        bid, ask = self._bbo()
        bid_ticks, bid_lots = bid or (0, 0)
        ask_ticks, ask_lots = ask or (0, 0)
        change = stats.last_ticks - stats.open_ticks
        change_pct = fixed_text(round(change * 10_000 / stats.open_ticks) if stats.open_ticks else 0, 2)
        return (
            f'{{"channel":"ticker","type":"{kind}","data":[{{"symbol":"{self._symbol}",'
            f'"bid":{price[bid_ticks]},"bid_qty":{fixed_text(bid_lots, digits)},'
            f'"ask":{price[ask_ticks]},"ask_qty":{fixed_text(ask_lots, digits)},'
            f'"last":{price[stats.last_ticks]},"volume":{fixed_text(stats.volume_lots, digits)},'
            f'"vwap":{price[stats.vwap_ticks()]},"low":{price[stats.low_ticks]},"high":{price[stats.high_ticks]},'
            f'"change":{price[change]},"change_pct":{change_pct},"timestamp":"{rfc3339_us(now_ns)}"}}]}}'
        )

    def _send_book(self, view: BookView, checksum: int, changes: Changes, stamp: str) -> None:
        bids, asks = changes.bids, changes.asks
        bid_rows = self._level2_rows(view.bids.difference(bids)) if bids.keys else ""
        ask_rows = self._level2_rows(view.asks.difference(asks)) if asks.keys else ""
        if bid_rows or ask_rows:
            _send(view.readers, self._book_frame("update", bid_rows, ask_rows, checksum, stamp))

    def _send_level3(self, view: Level3View, checksum: int, changes: Changes, now_ns: int, stamp: str) -> None:
        bids, asks = changes.bids, changes.asks
        bid_rows = self._event_rows(view.bids.difference(bids), now_ns, stamp) if bids.keys else ""
        ask_rows = self._event_rows(view.asks.difference(asks), now_ns, stamp) if asks.keys else ""
        if bid_rows or ask_rows:
            _send(view.readers, self._level3_frame("update", bid_rows, ask_rows, checksum, stamp))

    def _book_frame(self, kind: Kind, bids: str, asks: str, checksum: int, stamp: str) -> str:
        # The book's time has microseconds, level3's nanoseconds.
        head = self._book_head[kind]
        return f'{head}{bids}],"asks":[{asks}],"checksum":{checksum},"timestamp":"{stamp[:-4]}Z"}}]}}'

    def _level3_frame(self, kind: Kind, bids: str, asks: str, checksum: int, stamp: str) -> str:
        return f'{self._level3_head[kind]}{checksum},"bids":[{bids}],"asks":[{asks}],"timestamp":"{stamp}"}}]}}'

    def _level2_rows(self, rows: list[tuple[int, int]]) -> str:
        prices, digits = self._prices, self._qty_precision
        return ",".join([f'{{"price":{prices[abs(key)]},"qty":{fixed_text(lots, digits)}}}' for key, lots in rows])

    def _event_rows(self, rows: list[tuple[str, RestingOrder, int]], now_ns: int, stamp: str) -> str:
        """Return order events; an add carries the time the order joined its queue, the others that of the event."""
        texts = []
        for event, order, lots in rows:
            row = order.level3_row if lots == order.level3_lots else self._row(order, lots)
            at = stamp if event != "add" or order.since_ns == now_ns else rfc3339_ns(order.since_ns)
            texts.append(f'{{"event":"{event}",{row}{at}"}}')
        return ",".join(texts)

    def _order_row(self, order: RestingOrder) -> str:
        return f'{{{self._row(order, order.remaining_lots)}{rfc3339_ns(order.since_ns)}"}}'

    def _row(self, order: RestingOrder, lots: int) -> str:
        """Return an order's row without event and time, and remember it: most orders are shown twice as they are."""
        row = (
            f'"order_id":"{self._venue.order_id_of(order)}","limit_price":{self._prices[order.price_ticks]},'
            f'"order_qty":{fixed_text(lots, self._qty_precision)},"timestamp":"'
        )
        order.level3_row, order.level3_lots = row, lots
        return row

    def _bbo(self) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        bids, asks = self._market.levels("buy", 1), self._market.levels("sell", 1)
        return (bids[0] if bids else None, asks[0] if asks else None)


class PublicFeeds(VenueListener):
    """Every symbol's feed, as one listener of the venue."""

    def __init__(self, venue: Venue) -> None:
        self.symbols = {symbol: SymbolFeed(market, venue) for symbol, market in venue.markets.items()}

    def on_book(self, market: VenueMarket, changes: Changes, now_ns: int) -> None:
        """Publish one operation."""
        self.symbols[market.rules.symbol].publish(changes, now_ns)

    def forget(self, reader: Reader) -> None:
        """Drop a closed connection from every feed."""
        for feed in self.symbols.values():
            feed.forget(reader)


def _send(readers: dict[Reader, None], text: str) -> None:
    for reader in tuple(readers):
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
