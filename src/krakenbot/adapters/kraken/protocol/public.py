"""The public session of WS v2: instruments, L2 books, tickers and trades of the wanted symbols.

Enters: frames of `/v2`. Leaves: verified books, listener calls, subscribe requests. Made anew by the market feed
for every connection; what outlives it is in `MarketState`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from krakenbot.adapters.kraken.codec.envelope import BAD_INPUT, encode_request
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
from krakenbot.adapters.kraken.protocol.market_session import MarketSession, MarketState, Pacing, SessionSettings, known
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.book import L2Book
from krakenbot.domain.market.freshness import utc_ns
from krakenbot.domain.market.trade import PublicTrade, Ticker
from krakenbot.domain.values import Symbol
from krakenbot.ports.market_feed import MarketListener

InstrumentsChanged = Callable[[Sequence[Instrument], Sequence[Symbol], float], None]
"""(changed instruments, symbols whose precisions changed, now_mono)."""


class PublicSession(MarketSession):
    """One public connection."""

    stream = "public"
    book_channel = "book"
    book_frame = BookFrame
    source = "l2"

    def __init__(
        self,
        *,
        state: MarketState,
        listener: MarketListener,
        settings: SessionSettings,
        pacing: Pacing,
        instruments_changed: InstrumentsChanged,
        now_mono: float,
    ) -> None:
        super().__init__(
            state=state,
            listener=listener,
            settings=settings,
            pacing=pacing,
            books=state.books,
            tally=state.l2,
            told=listener.on_book,
            now_mono=now_mono,
        )
        self._instruments_changed = instruments_changed
        self.subscriptions.want("instrument", [""], now_mono)
        self.follow_symbols(now_mono)
        self.on_deadline(now_mono)

    def follow_symbols(self, now_mono: float) -> None:
        """Take over the wanted symbols and known instruments of the state."""
        state, depth = self.state, self.settings.book_depth
        symbols = known(state.wanted_l2, state.instruments)
        for symbol in symbols:
            if symbol not in state.books:
                instrument = state.instruments[symbol]
                state.books[symbol] = L2Book(
                    price_precision=instrument.price_precision, qty_precision=instrument.qty_precision, depth=depth
                )
        for gone in set(state.books).difference(symbols):
            self._invalidate(gone, state.books.pop(gone), "not wanted any more")
        for channel in ("book", "ticker", "trade"):
            self.subscriptions.want(channel, symbols, now_mono)

    def quarantined(self, now_mono: float) -> dict[str, str]:
        """Return the symbols that do not work on this connection, with reason and age."""
        found = super().quarantined(now_mono)
        if self.state.instruments:
            unknown = set(self.state.wanted_l2).difference(self.state.instruments)
            found |= dict.fromkeys(unknown, "instrument: the venue does not list it")
        return found

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
            self._on_ticker(frame)
        elif isinstance(frame, TradeFrame):
            self._on_trade(frame)
        elif isinstance(frame, InstrumentFrame):
            self._on_instrument(frame, now_mono)
        else:
            self._on_common(frame)

    def _exact_rows(self, text: str | bytes) -> Sequence[ExactBookRow]:
        return decode_book_exactly(text).data

    def _on_ticker(self, frame: TickerFrame) -> None:
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

    def _on_trade(self, frame: TradeFrame) -> None:
        self._count("trade")
        trades: list[PublicTrade] = []
        for row in frame.data:
            instrument = self.state.instruments.get(row.symbol)
            if instrument is None or not self.subscriptions.is_wanted("trade", row.symbol):
                self._count("trade of no wanted symbol")
                continue
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
        reshaped = [
            each.symbol
            for each in changed
            if (old := known_before.get(each.symbol)) is not None
            and (old.price_precision, old.qty_precision) != (each.price_precision, each.qty_precision)
        ]
        known_before.update((each.symbol, each) for each in changed)
        if not changed:
            return
        for symbol in reshaped:
            if symbol in self.state.books:
                self.state.books[symbol].reshape(
                    price_precision=known_before[symbol].price_precision,
                    qty_precision=known_before[symbol].qty_precision,
                )
                self.resync(symbol, "precision changed", now_mono)
        self.follow_symbols(now_mono)
        self.listener.on_instruments(changed)
        self._instruments_changed(changed, reshaped, now_mono)
