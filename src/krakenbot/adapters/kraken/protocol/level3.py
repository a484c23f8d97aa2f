"""The level3 session of WS v2: L3 books of up to 200 symbols, with a token.

Enters: frames of the level3 host. Leaves: verified L3 books, listener calls, subscribe requests (which hold the
token). Made anew by the market feed for every connection, each with a token of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from krakenbot.adapters.kraken.codec.envelope import Reply, encode_request, readable
from krakenbot.adapters.kraken.codec.market import (
    ExactQueueRow,
    MarketFrame,
    QueueFrame,
    decode_queue_exactly,
)
from krakenbot.adapters.kraken.protocol.market_session import MarketSession, SessionSettings
from krakenbot.adapters.kraken.protocol.market_state import MarketState, Outage, Pacing
from krakenbot.adapters.kraken.protocol.silence import SilenceWatch
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.book import L2Book
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.values import Side, Symbol
from krakenbot.ports.market_feed import MarketListener

LEVEL3_COSTS: Final = {10: 5.0, 100: 25.0, 1000: 100.0}
"""Subscribe cost of one symbol by depth; the budget is 200 a second."""
# as a word of its own: TOKEN/USD may be refused for other reasons
_ABOUT_TOKEN = re.compile(r"(?<![\w/])(?:token|session)(?![\w/])", re.IGNORECASE)
_BEHIND_S = 2.0


class Level3Session(MarketSession):
    """One level3 connection; its books are those of the state whose symbols were given to it."""

    stream = "level3"
    book_channel = "level3"
    book_frame = QueueFrame
    source = "l3"
    channels = ("level3",)

    def __init__(
        self,
        *,
        name: str = stream,
        state: MarketState,
        listener: MarketListener,
        settings: SessionSettings,
        pacing: Pacing,
        token: str,
        symbols: Sequence[Symbol],
        now_mono: float,
        outage: Outage | None = None,
    ) -> None:
        self._token = token
        self._contradicted = SilenceWatch(settings.silence_patience_s)
        super().__init__(
            name=name,
            state=state,
            listener=listener,
            settings=settings,
            pacing=pacing,
            symbol_cost=LEVEL3_COSTS.get(settings.level3_depth, max(LEVEL3_COSTS.values())),
            tally=state.l3,
            told=listener.on_queue,
            outage=outage,
            now_mono=now_mono,
        )
        self.follow_symbols(symbols, now_mono)
        self.on_deadline(now_mono)

    def _hold(self, instrument: Instrument) -> L3Book:
        # one left by an earlier connection is invalid, but its readers go on holding it
        depth = self.settings.level3_depth
        empty = L3Book(price_precision=0, qty_precision=0, depth=depth)
        queue = self.state.queues.setdefault(instrument.symbol, empty)
        queue.reshape(price_precision=instrument.price_precision, qty_precision=instrument.qty_precision)
        return queue

    def _let_go(self, symbol: Symbol) -> None:
        self.state.queues.pop(symbol, None)

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

    def _on_frame(self, frame: MarketFrame, now_mono: float) -> None:
        self._on_common(frame, now_mono)

    def _on_refusal(self, reply: Reply) -> bool:
        is_about_token = _ABOUT_TOKEN.search(reply.error) is not None
        if is_about_token:
            # only a new connection brings a new token
            self._close(f"token refused: {readable(reply.error, 80)}")
        return is_about_token

    def _check_silence(self, now_mono: float) -> None:
        """Hold each L3 book against its L2 twin: one that is older and shows another touch is dead."""
        for symbol in self._books:
            queue, book = self.state.queues[symbol], self.state.books.get(symbol)
            is_behind = (
                book is not None
                and book.is_valid
                and queue.is_valid
                and book.received_mono - queue.received_mono >= _BEHIND_S
            )
            if is_behind and book is not None and _touch(book) != _queue_touch(queue):
                self._contradicted.hint(symbol, now_mono)
            else:
                self._contradicted.clear(symbol)
        for symbol in self._contradicted.silent(self._heard_mono, now_mono):
            self.state.count_error("level3: silent while the book moved")
            self.resync(symbol, "silent while the book moved", now_mono)

    def _heard_mono(self, symbol: Symbol) -> float | None:
        queue = self.state.queues.get(symbol)
        return None if queue is None else queue.received_mono

    def _exact_rows(self, text: str | bytes) -> Sequence[ExactQueueRow]:
        return decode_queue_exactly(text).data


def _touch(book: L2Book) -> tuple[int | None, int | None]:
    bid, ask = book.best_bid(), book.best_ask()
    return None if bid is None else bid[0], None if ask is None else ask[0]


def _queue_touch(queue: L3Book) -> tuple[int | None, int | None]:
    return queue.best(Side.BUY), queue.best(Side.SELL)
