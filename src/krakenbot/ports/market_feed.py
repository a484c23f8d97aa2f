"""Market data: books to read, and callbacks for what happens.

The feed connects, subscribes, verifies and resynchronises on its own. Callbacks are synchronous and run in the
receive loop, after the book holds the whole message; they must be quick and must not raise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from attrs import field, frozen

from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.trade import PublicTrade, Ticker
from krakenbot.domain.market.views import BookView, QueueView
from krakenbot.domain.values import Symbol


@frozen(kw_only=True)
class Quarantine:
    """One subscription that does not work, of a channel and a symbol (empty for a channel without symbols).

    `age_s` counts from the first failure in a row, `attempts` all of them; the next comes in `retry_in_s`.
    `is_refused`: the venue says no. Otherwise its data is wrong, or it does not come.
    """

    channel: str
    symbol: Symbol
    reason: str
    age_s: float
    attempts: int
    is_refused: bool
    retry_in_s: float


@frozen(kw_only=True)
class Reconnect:
    """A connection that was lost and is whole again.

    `gap_s` is the time without a frame, `attempts` how many connections it took, `took_s` how long it took from the
    first frame until everything was fetched anew. `refetched` counts symbols by channel; `missing` names those that
    had not come back by then.
    """

    stream: str
    reason: str
    gap_s: float
    attempts: int
    took_s: float
    refetched: dict[str, int]
    missing: dict[str, tuple[Symbol, ...]]


@frozen(kw_only=True)
class StreamHealth:
    """State of one connection; `lag_s` and `heartbeat_age_s` as in `FeedHealth`."""

    stream: str
    connected: bool
    symbols: int
    heartbeat_age_s: float | None
    lag_s: float | None
    reconnects: int


@frozen(kw_only=True)
class FeedHealth:
    """State of the feed: counts since start. Keys of the mappings are channel names or symbols.

    `heartbeat_age_s` is the age of the last sign of life of the public connections: the oldest of those that are up;
    the books of the others are invalid. `lag_s` is how far their data has fallen behind the clock, beyond the quickest
    delivery seen; None before the first measurement. `clock_offset_s` is our clock minus the venue's, the quickest
    delivery included. `refused_l2` and `refused_l3` name symbols that the venue goes on refusing, with the reason:
    they are to be left out of the set, and leave the mapping when another attempt is due.
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
    quarantined: tuple[Quarantine, ...] = ()
    refused_l2: dict[Symbol, str] = field(factory=dict)
    refused_l3: dict[Symbol, str] = field(factory=dict)
    streams: tuple[StreamHealth, ...] = ()
    lag_s: float | None = None
    clock_offset_s: float | None = None


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
        """Take notice that a connection ("public", "public-2", "level3", ...) came up or went down."""

    def on_reconnect(self, reconnect: Reconnect) -> None:
        """Take notice that a lost connection is whole again: how long the gap was, and what was fetched anew."""


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
