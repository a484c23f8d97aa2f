"""The level3 session of WS v2: L3 books of up to 200 symbols, with a token.

Enters: frames of the level3 host. Leaves: verified L3 books, listener calls, subscribe requests (which hold the
token). Made anew by the market feed for every connection, each with a token of its own.
"""

from __future__ import annotations

from collections.abc import Sequence

from krakenbot.adapters.kraken.codec.envelope import BAD_INPUT, Reply, encode_request
from krakenbot.adapters.kraken.codec.market import (
    ExactQueueRow,
    MarketFrame,
    QueueFrame,
    QueueRow,
    decode_queue_exactly,
)
from krakenbot.adapters.kraken.protocol.market_session import MarketSession, MarketState, Pacing, SessionSettings, known
from krakenbot.domain.market.book import Verdict
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.values import Symbol
from krakenbot.ports.market_feed import MarketListener

LEVEL3_COSTS = {10: 5.0, 100: 25.0, 1000: 100.0}
"""Subscribe cost of one symbol by depth; the budget is 200 a second."""


class Level3Session(MarketSession):
    """One level3 connection; its books are those of the state whose symbols were given to it."""

    stream = "level3"
    book_channel = "level3"
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
        self._own: dict[str, L3Book] = {}
        super().__init__(state=state, listener=listener, settings=settings, pacing=pacing, now_mono=now_mono)
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

    def _books(self) -> dict[str, L3Book]:
        return self._own

    def _symbol_cost(self) -> float:
        return LEVEL3_COSTS.get(self.settings.level3_depth, max(LEVEL3_COSTS.values()))

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
            self._close(f"token refused: {reply.error[:80]}")

    def _on_frame(self, frame: MarketFrame, text: str | bytes, now_mono: float) -> None:
        if type(frame) is QueueFrame:
            self._on_queue(frame, text, now_mono)
        else:
            self._on_common(frame)

    def _on_queue(self, frame: QueueFrame, text: str | bytes, now_mono: float) -> None:
        self._count("level3")
        state = self.state
        is_snapshot = frame.type == "snapshot"
        for index, row in enumerate(frame.data):
            queue = self._own.get(row.symbol)
            if queue is None:
                self._count("level3 of no wanted symbol")
                continue
            if self._sample_lag:
                self._observe_lag(row.timestamp, now_mono)
            was_valid = queue.is_valid
            if is_snapshot:
                if not self.subscriptions.expects_snapshot("level3", row.symbol):
                    self._count("level3 before resubscription")
                    continue
                verdict = queue.load(row.bids, row.asks, row.checksum, row.timestamp, now_mono)
            elif was_valid:
                verdict = queue.apply(row.bids, row.asks, row.checksum, row.timestamp, now_mono)
            else:
                self._count("level3 before resubscription")
                continue
            if verdict is Verdict.INEXACT:
                verdict = self._exactly(queue, row, text, index, now_mono, is_snapshot=is_snapshot)
            if verdict is Verdict.GOOD:
                state.level3_ok += 1
                if not was_valid:
                    self.subscriptions.proved("level3", row.symbol, now_mono)
                    self._tell_validity(row.symbol, valid=True, reason="")
                self.listener.on_queue(Symbol(row.symbol))
            else:
                self._on_bad_queue(queue, row.symbol, now_mono, was_valid=was_valid)

    def _exactly(
        self, queue: L3Book, row: QueueRow, text: str | bytes, index: int, now_mono: float, *, is_snapshot: bool
    ) -> Verdict:
        self._count("level3 decoded exactly")
        try:
            exact: ExactQueueRow = decode_queue_exactly(text).data[index]
        except BAD_INPUT:
            return queue.invalidate("malformed frame")
        put = queue.load if is_snapshot else queue.apply
        return put(exact.bids, exact.asks, row.checksum, row.timestamp, now_mono, exact=True)

    def _on_bad_queue(self, queue: L3Book, symbol: str, now_mono: float, *, was_valid: bool) -> None:
        reason = queue.invalid_reason
        if reason == "checksum mismatch":
            self.state.level3_bad += 1
        self.state.count_error(f"level3: {reason}")
        if was_valid:
            self._tell_validity(symbol, valid=False, reason=reason)
        self.resync(symbol, reason, now_mono)
