"""The level3 session of WS v2: L3 books of up to 200 symbols, with a token.

Enters: frames of the level3 host. Leaves: verified L3 books, listener calls, subscribe requests (which hold the
token). Made anew by the market feed for every connection, each with a token of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from krakenbot.adapters.kraken.codec.envelope import Reply, encode_request, readable
from krakenbot.adapters.kraken.codec.market import (
    ExactQueueRow,
    QueueFrame,
    decode_queue_exactly,
)
from krakenbot.adapters.kraken.protocol.market_session import MarketSession, MarketState, Pacing, SessionSettings, known
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.values import Symbol
from krakenbot.ports.market_feed import MarketListener

LEVEL3_COSTS = {10: 5.0, 100: 25.0, 1000: 100.0}
"""Subscribe cost of one symbol by depth; the budget is 200 a second."""


class Level3Session(MarketSession):
    """One level3 connection; its books are those of the state whose symbols were given to it."""

    stream = "level3"
    book_channel = "level3"
    book_frame = QueueFrame
    source = "l3"

    def __init__(
        self,
        *,
        state: MarketState,
        listener: MarketListener,
        settings: SessionSettings,
        pacing: Pacing,
        token: str,
        symbols: Sequence[Symbol],
        now_mono: float,
    ) -> None:
        self._token = token
        self._own: dict[Symbol, L3Book] = {}
        self.symbol_cost = LEVEL3_COSTS.get(settings.level3_depth, max(LEVEL3_COSTS.values()))
        super().__init__(
            state=state,
            listener=listener,
            settings=settings,
            pacing=pacing,
            books=self._own,
            tally=state.l3,
            told=listener.on_queue,
            now_mono=now_mono,
        )
        self.follow_symbols(symbols, now_mono)
        self.on_deadline(now_mono)

    def follow_symbols(self, symbols: Sequence[Symbol], now_mono: float) -> None:
        """Hold the L3 books of these symbols, as far as their instruments are known."""
        state, depth = self.state, self.settings.level3_depth
        listed = known(symbols, state.instruments)
        for symbol in listed:
            if symbol not in self._own:
                # one left by an earlier connection is invalid, but its readers go on holding it
                queue = state.queues.setdefault(symbol, L3Book(price_precision=0, qty_precision=0, depth=depth))
                instrument = state.instruments[symbol]
                queue.reshape(price_precision=instrument.price_precision, qty_precision=instrument.qty_precision)
                self._own[symbol] = queue
        for gone in set(self._own).difference(listed):
            self._invalidate(gone, self._own.pop(gone), "not wanted any more")
            state.queues.pop(gone, None)
        self.subscriptions.want("level3", listed, now_mono)

    def reshape(self, symbol: Symbol, now_mono: float) -> None:
        """Take over changed precisions of a symbol."""
        queue = self._own.get(symbol)
        if queue is not None:
            instrument = self.state.instruments[symbol]
            queue.reshape(price_precision=instrument.price_precision, qty_precision=instrument.qty_precision)
            self.resync(symbol, "precision changed", now_mono)

    def _encode(self, method: str, channel: str, symbols: list[str], req_id: int) -> str:
        params: dict[str, object] = {
            "channel": channel,
            "symbol": symbols,
            "depth": self.settings.level3_depth,
            "token": self._token,
        }
        if method == "subscribe":
            params["snapshot"] = True
        return encode_request(method, params, req_id)

    def _on_refusal(self, reply: Reply) -> None:
        if "session" in reply.error.lower() or "token" in reply.error.lower():
            # only a new connection brings a new token
            self._close(f"token refused: {readable(reply.error, 80)}")

    def _exact_rows(self, text: str | bytes) -> Sequence[ExactQueueRow]:
        return decode_queue_exactly(text).data
