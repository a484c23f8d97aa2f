"""The public session of WS v2: instruments, L2 books, tickers and trades of the wanted symbols.

Enters: frames of `/v2`. Leaves: verified books, listener calls, subscribe requests. Made anew by the market feed
for every connection; what outlives it is in `MarketState`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from krakenbot.adapters.kraken.codec.envelope import BAD_INPUT, Reply, encode_request
from krakenbot.adapters.kraken.codec.market import (
    BookFrame,
    ExactBookRow,
    InstrumentFrame,
    MarketFrame,
    TickerFrame,
    TradeFrame,
    decode_book_exactly,
    decode_instruments,
    decode_trade,
    has_turnover,
)
from krakenbot.adapters.kraken.protocol.market_session import MarketSession, SessionSettings
from krakenbot.adapters.kraken.protocol.market_state import MarketState, Outage, Pacing
from krakenbot.adapters.kraken.protocol.silence import SilenceWatch
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.book import L2Book
from krakenbot.domain.market.freshness import utc_ns
from krakenbot.domain.market.trade import PublicTrade, Ticker
from krakenbot.domain.values import Symbol
from krakenbot.ports.market_feed import MarketListener

InstrumentsChanged = Callable[[Mapping[Symbol, str], float], None]
"""(symbols whose books must begin anew, with the reason; now_mono): some instruments are new or have changed."""


class PublicSession(MarketSession):
    """One public connection. The one that `has_instruments` tells the others of changed instruments."""

    stream = "public"
    book_channel = "book"
    book_frame = BookFrame
    source = "l2"
    channels = ("book", "ticker", "trade")

    def __init__(
        self,
        *,
        name: str = stream,
        state: MarketState,
        listener: MarketListener,
        settings: SessionSettings,
        pacing: Pacing,
        instruments_changed: InstrumentsChanged,
        symbols: Sequence[Symbol],
        now_mono: float,
        has_instruments: bool = True,
        outage: Outage | None = None,
    ) -> None:
        super().__init__(
            name=name,
            state=state,
            listener=listener,
            settings=settings,
            pacing=pacing,
            symbol_cost=1.0,
            tally=state.l2,
            told=listener.on_book,
            outage=outage,
            now_mono=now_mono,
        )
        self._instruments_changed = instruments_changed
        # tickers and trades say when a book should have moved, a ticker's last price when a trade should have come
        self._book_watch = SilenceWatch(settings.silence_patience_s)
        self._trade_watch = SilenceWatch(settings.silence_patience_s)
        self._last: dict[Symbol, float] = {}
        self._traded_mono: dict[Symbol, float] = {}
        if has_instruments:
            self.subscriptions.want("instrument", [""], now_mono)
        self.follow_symbols(symbols, now_mono)
        self.on_deadline(now_mono)

    def _hold(self, instrument: Instrument) -> L2Book:
        # one left by an earlier connection is invalid, but its readers go on holding it
        price_precision, qty_precision = instrument.price_precision, instrument.qty_precision
        book = self.state.books.get(instrument.symbol)
        if book is None:
            book = L2Book(price_precision=price_precision, qty_precision=qty_precision, depth=self.settings.book_depth)
            self.state.books[instrument.symbol] = book
        else:
            book.reshape(price_precision=price_precision, qty_precision=qty_precision)
        return book

    def _let_go(self, symbol: Symbol) -> None:
        self.state.books.pop(symbol, None)
        self._last.pop(symbol, None)
        self._traded_mono.pop(symbol, None)

    def _encode(self, method: str, channel: str, symbols: list[str], req_id: int) -> str:
        params: dict[str, object] = {"channel": channel}
        if symbols:
            params["symbol"] = symbols
        if channel == "book":
            # an unsubscribe must quote the depth too
            params["depth"] = self.settings.book_depth
        if channel == "ticker":
            params["event_trigger"] = self.settings.ticker_trigger
        if method == "subscribe":
            params["snapshot"] = True
        return encode_request(method, params, req_id)

    def _on_frame(self, frame: MarketFrame, now_mono: float) -> None:
        if isinstance(frame, TickerFrame):
            self._on_ticker(frame, now_mono)
        elif isinstance(frame, TradeFrame):
            self._on_trade(frame, now_mono)
        elif isinstance(frame, InstrumentFrame):
            self._on_instrument(frame, now_mono)
        else:
            self._on_common(frame, now_mono)

    def _on_refusal(self, reply: Reply) -> bool:
        del reply
        return False

    def _check_silence(self, now_mono: float) -> None:
        for symbol in self._book_watch.silent(self._book_heard_mono, now_mono):
            self.state.count_error("book: silent while the market moved")
            self.resync(symbol, "silent while the market moved", now_mono)
        for symbol in self._trade_watch.silent(self._trade_heard_mono, now_mono):
            self.state.count_error("trade: silent while the last price moved")
            self.subscriptions.restart("trade", symbol, "silent while the last price moved", now_mono)

    def _book_heard_mono(self, symbol: Symbol) -> float | None:
        book = self.state.books.get(symbol)
        return book.received_mono if book is not None and book.is_valid else None

    def _trade_heard_mono(self, symbol: Symbol) -> float | None:
        return self._traded_mono.get(symbol, 0.0) if self.subscriptions.is_active("trade", symbol) else None

    def _exact_rows(self, text: str | bytes) -> Sequence[ExactBookRow]:
        return decode_book_exactly(text).data

    def _on_ticker(self, frame: TickerFrame, now_mono: float) -> None:
        self._count("ticker")
        for row in frame.data:
            if not self.subscriptions.is_wanted("ticker", row.symbol):
                self._count("ticker of no wanted symbol")
                continue
            if not has_turnover(row):
                self.state.count_error("public: ticker out of range")
                continue
            try:
                at_ns = utc_ns(row.timestamp) if row.timestamp else 0
            except ValueError:
                self.state.count_error("public: bad timestamp")
                continue
            if frame.type == "update":
                self._book_watch.hint(row.symbol, now_mono)
                if self._last.get(row.symbol, row.last) != row.last:
                    self._trade_watch.hint(row.symbol, now_mono)
            self._last[row.symbol] = row.last
            self.listener.on_ticker(
                Ticker(
                    symbol=row.symbol,
                    bid=row.bid,
                    ask=row.ask,
                    last=row.last,
                    volume_24h=row.volume,
                    at_ns=at_ns,
                )
            )

    def _on_trade(self, frame: TradeFrame, now_mono: float) -> None:
        self._count("trade")
        trades: list[PublicTrade] = []
        for row in frame.data:
            instrument = self.state.instruments.get(row.symbol)
            if instrument is None or not self.subscriptions.is_wanted("trade", row.symbol):
                self._count("trade of no wanted symbol")
                continue
            self._traded_mono[row.symbol] = now_mono
            if frame.type == "update":
                self._book_watch.hint(row.symbol, now_mono)
            try:
                trades.append(decode_trade(row, instrument))
            except BAD_INPUT:
                self.state.count_error("public: malformed trade")
        if trades:
            self.listener.on_trades(trades, is_snapshot=frame.type == "snapshot")

    def _on_instrument(self, frame: InstrumentFrame, now_mono: float) -> None:
        self._count("instrument")
        instruments, refused = decode_instruments(frame.data)
        for _ in range(refused):
            self.state.count_error("public: malformed instrument")
        known_before = self.state.instruments
        changed = [each for each in instruments if known_before.get(each.symbol) != each]
        if not changed:
            return
        reshaped = {
            each.symbol: reason
            for each in changed
            if (old := known_before.get(each.symbol)) is not None and (reason := _reshaping(old, each))
        }
        known_before.update((each.symbol, each) for each in changed)
        self.listener.on_instruments(changed)
        self._instruments_changed(reshaped, now_mono)


def _reshaping(old: Instrument, new: Instrument) -> str:
    """Return what changed that a book must not outlive; empty when nothing did."""
    if (old.price_precision, old.qty_precision) != (new.price_precision, new.qty_precision):
        return "precision changed"
    if (old.price_increment, old.qty_increment) != (new.price_increment, new.qty_increment):
        return "increment changed"
    return "minimum changed" if (old.qty_min, old.cost_min) != (new.qty_min, new.cost_min) else ""
