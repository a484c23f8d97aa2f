"""Market data: books to read, and callbacks for what happens.

The feed connects, subscribes, verifies and resynchronises on its own. Callbacks are synchronous and run in the
receive loop, after the book holds the whole message; they must be quick and must not raise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import frozen

from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.trade import PublicTrade, Ticker
from krakenbot.domain.market.views import BookView, QueueView
from krakenbot.domain.values import Symbol


@frozen(kw_only=True)
class FeedHealth:
    """State of the feed: counts since start. Keys of the mappings are channel names or symbols.

    `heartbeat_age_s` is the age of the last sign of life of the public connection. `lag_s` is how far its data has
    fallen behind the clock, beyond the quickest delivery seen; None before the first measurement.
    """

    connected: bool
    venue_status: str
    heartbeat_age_s: float | None
    frames: dict[str, int]
    errors: dict[str, int]
    book_ok: int
    book_bad: int
    level3_ok: int
    level3_bad: int
    resyncs: int
    reconnects: int
    level3_enabled: bool
    quarantined: dict[str, str]
    lag_s: float | None = None


class MarketListener(Protocol):
    """What the feed tells, in the order in which it happened."""

    def on_instruments(self, instruments: Sequence[Instrument]) -> None:
        """Take new or changed instruments."""

    def on_book(self, symbol: Symbol) -> None:
        """Take notice of a message applied to the L2 book of a symbol."""

    def on_queue(self, symbol: Symbol) -> None:
        """Take notice of a message applied to the L3 book of a symbol."""

    def on_trades(self, trades: Sequence[PublicTrade], *, is_snapshot: bool) -> None:
        """Take public trades; a snapshot repeats history on subscription."""

    def on_ticker(self, ticker: Ticker) -> None:
        """Take a ticker row."""

    def on_validity(self, symbol: Symbol, source: str, *, valid: bool, reason: str) -> None:
        """Take notice that a book ("l2" or "l3") became valid or invalid."""

    def on_connection(self, stream: str, *, up: bool, reason: str) -> None:
        """Take notice that a connection ("public" or "level3") came up or went down."""


class MarketFeed(Protocol):
    """A live market data feed."""

    async def run(self, listener: MarketListener) -> None:
        """Connect and stay connected until cancelled; raises nothing for a failing venue."""

    def set_symbols(self, l2: Sequence[Symbol], l3: Sequence[Symbol]) -> None:
        """Say which symbols to hold: L2 book, ticker and trades for `l2`, L3 for `l3` too. Takes effect soon."""

    def instruments(self) -> dict[Symbol, Instrument]:
        """Return the instruments known so far."""

    def book(self, symbol: Symbol) -> BookView | None:
        """Return the L2 book of a symbol; None when it is not subscribed."""

    def queue(self, symbol: Symbol) -> QueueView | None:
        """Return the L3 book of a symbol; None when it is not subscribed."""

    def health(self) -> FeedHealth:
        """Return the feed's counters."""
