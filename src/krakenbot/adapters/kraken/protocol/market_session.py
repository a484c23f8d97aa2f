"""What the public and the level3 session share: decoding, replies, liveness, lag, counters, subscriptions.

Enters: frames and the monotonic time. Leaves: requests to send, calls to the market listener, a close reason.
A frame is either an event or a counted error; nothing that the venue sends raises, and nothing malformed leaves a
book valid that it may have concerned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from attrs import field, frozen

from krakenbot.adapters.kraken.codec.envelope import BAD_INPUT, Reply, decode_reply, encode_request, readable, salvage
from krakenbot.adapters.kraken.codec.market import (
    BookFrame,
    BookRow,
    ExactBookRow,
    ExactQueueRow,
    HeartbeatFrame,
    MarketFrame,
    QueueFrame,
    QueueRow,
    StatusFrame,
    decode_frame,
)
from krakenbot.adapters.kraken.protocol.liveness import Liveness
from krakenbot.adapters.kraken.protocol.market_state import MarketState, Outage, Pacing, Tally, VerifiedBook
from krakenbot.adapters.kraken.protocol.subscriptions import Subscriptions, SubscriptionSettings
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.book import Verdict
from krakenbot.domain.market.freshness import LagMeter
from krakenbot.domain.values import Symbol
from krakenbot.ports.market_feed import MarketListener

# a member of an enum costs more to look up than a global
_GOOD, _INEXACT = Verdict.GOOD, Verdict.INEXACT
_LATE_IN_A_ROW = 3


@frozen(kw_only=True)
class SessionSettings:
    """Limits of a market data connection.

    `liveness_timeout_s` closes a connection without any frame for so long (heartbeats come at 1 Hz once something
    is subscribed); `open_timeout_s` is the same before the first frame, connecting included. `lag_limit_s` closes
    one whose books are valid but that old: the next begins with fresh snapshots. `silence_patience_s` is how long
    other channels may contradict a silent subscription. `whole_after_s` is when a reconnect is reported with what
    is still missing.
    """

    liveness_timeout_s: float = 5.0
    open_timeout_s: float = 15.0
    lag_limit_s: float = 10.0
    silence_patience_s: float = 5.0
    whole_after_s: float = 30.0
    book_depth: int = 10
    level3_depth: int = 10
    ticker_trigger: str = "bbo"
    subscriptions: SubscriptionSettings = field(factory=SubscriptionSettings)


class MarketSession(ABC):
    """One market data connection; subclasses add their channels."""

    stream: ClassVar[str]
    # the channel with verified books, its frames, its name as the listener knows it, and all channels of a symbol
    book_channel: ClassVar[str]
    book_frame: ClassVar[type[BookFrame | QueueFrame]]
    source: ClassVar[str]
    channels: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        *,
        name: str,
        state: MarketState,
        listener: MarketListener,
        settings: SessionSettings,
        pacing: Pacing,
        symbol_cost: float,
        tally: Tally,
        told: Callable[[Symbol], None],
        outage: Outage | None,
        now_mono: float,
    ) -> None:
        # the books of this connection, their counts, and the listener's method for an applied message
        self._books: dict[Symbol, VerifiedBook] = {}
        # when each book had its last snapshot
        self._loaded_mono: dict[Symbol, float] = {}
        self._tally = tally
        self._told = told
        self._outage = outage
        self._up_mono = now_mono
        self._late = 0
        self.name = name
        self.state = state
        self.listener = listener
        self.settings = settings
        self.subscriptions = Subscriptions(
            settings=settings.subscriptions,
            encode=self._encode,
            symbol_cost=symbol_cost,
            budget=pacing.budget,
            resync_budget=pacing.resync_budget,
            jitter=pacing.jitter,
            proven_channel=self.book_channel,
            troubles=state.troubles,
        )
        self.last_frame_mono: float | None = None
        self.lag = LagMeter()
        self._liveness = Liveness(
            open_timeout_s=settings.open_timeout_s, timeout_s=settings.liveness_timeout_s, now_mono=now_mono
        )
        self._close_reason: str | None = None
        self._outbox: list[str] = []

    @property
    def close_reason(self) -> str | None:
        """Return why the connection must be closed; None while it is good."""
        return self._close_reason

    def receive(self, text: str | bytes, now_mono: float) -> None:
        """Take one frame as received."""
        if self.last_frame_mono is None:
            self._up_mono = now_mono
            self.listener.on_connection(self.name, up=True, reason="")
        self.last_frame_mono = now_mono
        try:
            frame = decode_frame(text)
        except BAD_INPUT:
            self._on_other(text, now_mono)
            return
        if type(frame) is not self.book_frame:
            self._on_frame(frame, now_mono)
            return
        # the hot path, kept in one function
        rows: Any = frame.data
        is_update = frame.type == "update"
        for row in rows:
            symbol = row.symbol
            book = self._books.get(symbol)
            if is_update and book is not None and book.is_valid:
                try:
                    verdict = book.apply(row.bids, row.asks, row.checksum, row.timestamp, now_mono)
                except OverflowError:
                    verdict = book.invalidate("number too large")
                if verdict is _GOOD:
                    self._tally.ok += 1
                    self._told(symbol)
                    continue
            else:
                verdict = None
            self._tally.other += 1
            self._on_rare(book, row, verdict, text, now_mono, is_update=is_update)

    def to_send(self) -> list[str]:
        """Return and forget the frames to be sent, in order; they may hold a token and are never logged."""
        if not self._outbox:
            return []
        frames, self._outbox = self._outbox, []
        return frames

    def next_deadline(self) -> float | None:
        """Return the monotonic time at which `on_deadline` wants to be called."""
        due = self.subscriptions.next_deadline()
        look = self._liveness.due_mono(self.last_frame_mono)
        return look if due is None else min(due, look)

    def on_deadline(self, now_mono: float) -> None:
        """Take notice that a deadline has passed: liveness, replies, resubscriptions."""
        if reason := self._liveness.why_dead(self.last_frame_mono, now_mono):
            self._close(reason)
            return
        if self._liveness.wants_ping(self.last_frame_mono, now_mono):
            self._outbox.append(encode_request("ping", None, 0))
        resyncs = self.subscriptions.resyncs
        self._outbox += self.subscriptions.step(now_mono)
        self.state.resyncs += self.subscriptions.resyncs - resyncs

    def closed(self, reason: str) -> None:
        """Take notice that the connection was lost: every book of it is invalid from now on."""
        for symbol, book in self._books.items():
            self._invalidate(symbol, book, f"connection lost: {reason}")

    def stopped(self) -> None:
        """Take notice that we ended the connection: its books are invalid, and nobody needs to be told."""
        for book in self._books.values():
            book.invalidate("the feed was stopped")

    def follow_symbols(self, symbols: Sequence[Symbol], now_mono: float) -> None:
        """Hold these symbols, as far as their precisions are known: no book can be verified without them."""
        listed = [symbol for symbol in symbols if symbol in self.state.instruments]
        for symbol in listed:
            if symbol not in self._books:
                self._books[symbol] = self._hold(self.state.instruments[symbol])
        for gone in set(self._books).difference(listed):
            self._invalidate(gone, self._books.pop(gone), "not wanted any more")
            self._loaded_mono.pop(gone, None)
            self._let_go(gone)
        for channel in self.channels:
            self.subscriptions.want(channel, listed, now_mono)

    def reshape(self, symbol: Symbol, reason: str, now_mono: float) -> None:
        """Take over a changed instrument: its books begin anew."""
        book = self._books.get(symbol)
        if book is not None:
            self.resync(symbol, reason, now_mono, is_failure=False)
            instrument = self.state.instruments[symbol]
            book.reshape(price_precision=instrument.price_precision, qty_precision=instrument.qty_precision)

    def resync(self, symbol: Symbol, reason: str, now_mono: float, *, is_failure: bool = True) -> None:
        """Drop a book at once and ask for a fresh snapshot."""
        book = self._books.get(symbol)
        if book is not None:
            self._invalidate(symbol, book, reason)
        before = self.subscriptions.resyncs
        self.subscriptions.restart(self.book_channel, symbol, reason, now_mono, is_failure=is_failure)
        self.state.resyncs += self.subscriptions.resyncs - before

    @abstractmethod
    def _hold(self, instrument: Instrument) -> VerifiedBook:
        """Return the book of a symbol, with its precisions; one that readers hold already stays the same object."""

    @abstractmethod
    def _let_go(self, symbol: Symbol) -> None:
        """Take the book of a symbol away from its readers."""

    @abstractmethod
    def _encode(self, method: str, channel: str, symbols: list[str], req_id: int) -> str:
        """Return the text of a request."""

    @abstractmethod
    def _exact_rows(self, text: str | bytes) -> Sequence[ExactBookRow | ExactQueueRow]:
        """Return the rows of a frame of the book channel, decoded exactly; raises one of BAD_INPUT."""

    @abstractmethod
    def _on_frame(self, frame: MarketFrame, now_mono: float) -> None:
        """Take a frame that is not of the book channel."""

    @abstractmethod
    def _on_refusal(self, reply: Reply) -> bool:
        """Take a refusal that is about the whole connection; False when it is about what was asked."""

    @abstractmethod
    def _check_silence(self, now_mono: float) -> None:
        """Look for subscriptions that are silent while something else says that they should not be."""

    def _on_rare(
        self,
        book: VerifiedBook | None,
        row: BookRow | QueueRow,
        verdict: Verdict | None,
        text: str | bytes,
        now_mono: float,
        *,
        is_update: bool,
    ) -> None:
        """Take a row that was not simply good: of no book, a snapshot, inexact or bad; `verdict` None is none yet."""
        if book is None:
            self._count(f"{self.book_channel} of no wanted symbol")
            return
        if verdict is None:
            if is_update or not self.subscriptions.expects_snapshot(self.book_channel, row.symbol):
                self._count(f"{self.book_channel} before resubscription")
                return
            self._invalidate(row.symbol, book, "new snapshot")
            try:
                verdict = book.load(row.bids, row.asks, row.checksum, row.timestamp, now_mono)
            except OverflowError:
                verdict = book.invalidate("number too large")
        if verdict is _INEXACT:
            verdict = self._put_exactly(book, row, text, now_mono, is_update=is_update)
        if verdict is not _GOOD:
            self._on_bad(book, row.symbol, now_mono, was_valid=is_update)
            return
        self._tally.ok += 1
        self._tally.other -= 1
        if not is_update:
            self._loaded_mono[row.symbol] = now_mono
            self.subscriptions.proved(self.book_channel, row.symbol, now_mono)
            self._tell_validity(row.symbol, valid=True, reason="")
        self._told(row.symbol)

    def _put_exactly(
        self, book: VerifiedBook, row: BookRow | QueueRow, text: str | bytes, now_mono: float, *, is_update: bool
    ) -> Verdict:
        self._count(f"{self.book_channel} decoded exactly")
        try:
            exact = next(each for each in self._exact_rows(text) if each.symbol == row.symbol)
        except BAD_INPUT:
            return book.invalidate("malformed frame")
        put = book.apply if is_update else book.load
        with book.exactly():
            return put(exact.bids, exact.asks, row.checksum, row.timestamp, now_mono)

    def _on_bad(self, book: VerifiedBook, symbol: Symbol, now_mono: float, *, was_valid: bool) -> None:
        reason = book.invalid_reason
        if reason == "checksum mismatch":
            self._tally.bad += 1
        self.state.count_error(f"{self.book_channel}: {reason}")
        if was_valid:
            self._tell_validity(symbol, valid=False, reason=reason)
        self.resync(symbol, reason, now_mono)

    def _on_common(self, frame: MarketFrame, now_mono: float) -> None:
        match frame:
            case HeartbeatFrame():
                self._count("heartbeat")
                self._observe_lag()
                self._check_silence(now_mono)
                self._tell_reconnect(now_mono)
                if self.subscriptions.is_empty:
                    self._close("nothing is subscribed any more")
            case StatusFrame():
                self._count("status")
                for row in frame.data:
                    self.state.venue_status = readable(row.system)
            case _:
                self.state.count_error(f"{self.stream}: frame of a channel that was not asked for")

    def _observe_lag(self) -> None:
        """Sample the lag by the newest book message; once a heartbeat is enough.

        Snapshots tell nothing: that of a quiet book is as old as its last change, however quickly it came.
        """
        loaded = self._loaded_mono
        updated = (book for symbol, book in self._books.items() if book.received_mono > loaded.get(symbol, 0.0))
        newest = max(updated, key=lambda book: book.received_mono, default=None)
        if newest is None or not newest.updated_at_ns:
            return
        self.lag.observe(newest.updated_at_ns, newest.received_mono)
        lag_s = self.lag.lag_s or 0.0
        self._late = self._late + 1 if lag_s > self.settings.lag_limit_s else 0
        if self._late >= _LATE_IN_A_ROW:
            self._close(f"valid but old: frames come {lag_s:.1f} s late")

    def _tell_reconnect(self, now_mono: float) -> None:
        outage, up_for_s = self._outage, now_mono - self._up_mono
        if outage is None:
            return
        if self.subscriptions.is_settled(now_mono) or up_for_s >= self.settings.whole_after_s:
            self._outage = None
            self.listener.on_reconnect(outage.ended(self.name, self._up_mono, up_for_s, *self.subscriptions.standing()))

    def _on_other(self, text: str | bytes, now_mono: float) -> None:
        try:
            reply = decode_reply(text)
        except BAD_INPUT:
            self._on_malformed(text, now_mono)
            return
        if reply.rate_error:
            self.state.count_error(f"{self.stream}: {readable(reply.rate_error)}")
            self.subscriptions.slow_down(now_mono)
        elif reply.method in {"subscribe", "unsubscribe"} and reply.success is not None:
            self._on_reply(reply, now_mono)
        elif reply.method:
            self._count(reply.method if reply.method in {"pong", "error"} else "other reply")
            if reply.error:
                self.state.count_error(f"{self.stream}: {readable(reply.error)}")
        else:
            self._on_malformed(text, now_mono)

    def _on_reply(self, reply: Reply, now_mono: float) -> None:
        self._count(reply.method)
        if reply.success:
            result = reply.result
            if result is None or not self.subscriptions.acked(reply.method, result.channel, result.symbol, now_mono):
                self.state.count_error(f"{self.stream}: reply to nothing that was asked")
            return
        self.state.count_error(f"{self.stream}: {reply.method} refused")
        if not self._on_refusal(reply):
            self.subscriptions.refused(reply.method, reply.req_id, reply.symbol, readable(reply.error, 120), now_mono)

    def _on_malformed(self, text: str | bytes, now_mono: float) -> None:
        found = salvage(text)
        if not found.is_json:
            # Cloudflare announces a restart of its proxy in plain words before it drops the connection
            self.state.count_error(f"{self.stream}: text that is no JSON")
            self._close("text that is no JSON")
            return
        self.state.count_error(f"{self.stream}: malformed {found.channel or 'frame'}")
        if found.channel not in {self.book_channel, ""}:
            return
        concerned = found.symbols.intersection(self._books)
        for symbol in concerned:
            self.resync(Symbol(symbol), "malformed frame", now_mono)
        if not concerned and (not found.is_whole or (found.channel and not found.symbols)):
            # it may have been of any book, also where a damaged symbol reads as one that is not ours
            self._close("malformed frame that names no symbol")

    def _invalidate(self, symbol: Symbol, book: VerifiedBook, reason: str) -> None:
        if book.is_valid:
            book.invalidate(reason)
            self._tell_validity(symbol, valid=False, reason=reason)

    def _tell_validity(self, symbol: Symbol, *, valid: bool, reason: str) -> None:
        self.listener.on_validity(symbol, self.source, valid=valid, reason=reason)

    def _count(self, what: str) -> None:
        self.state.frames[what] += 1

    def _close(self, reason: str) -> None:
        self._close_reason = self._close_reason or reason
