"""What outlives a market data connection: wanted symbols' books, instruments, counters, troubles, budgets.

Enters: what the sessions found. Leaves: what the feed shows and the next session starts from. Made by the market feed.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from attrs import define, field, frozen

from krakenbot.adapters.kraken.protocol.budget import Budget
from krakenbot.adapters.kraken.protocol.quarantine import Troubles
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.book import L2Book, Verdict
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.values import Symbol
from krakenbot.ports.market_feed import Reconnect

MAX_ERROR_KINDS = 256
"""Kinds of errors that are counted apart; the venue may put a time or an id into each of its errors."""


class VerifiedBook(Protocol):
    """What the L2 and the L3 book have in common; rows are what their channel's frames hold."""

    is_valid: bool
    invalid_reason: str
    received_mono: float

    @property
    def updated_at_ns(self) -> int:
        """Return the venue's time of the last message."""

    def load(self, bids: Any, asks: Any, checksum: int, at: str, now_mono: float) -> Verdict:
        """Replace the book by a snapshot."""

    def apply(self, bids: Any, asks: Any, checksum: int, at: str, now_mono: float) -> Verdict:
        """Apply a whole message."""

    def exactly(self) -> AbstractContextManager[None]:
        """Take quantities as Decimals."""

    def invalidate(self, reason: str) -> Verdict:
        """Drop the book."""

    def reshape(self, *, price_precision: int, qty_precision: int) -> None:
        """Take over other precisions; an empty book afterwards."""


@define
class Tally:
    """Verified messages, all others, and of those the ones with a wrong checksum."""

    ok: int = 0
    other: int = 0
    bad: int = 0


@define(kw_only=True)
class MarketState:
    """Instruments, books, counters and troubles of all connections of a feed."""

    instruments: dict[Symbol, Instrument] = field(factory=dict)
    books: dict[Symbol, L2Book] = field(factory=dict)
    queues: dict[Symbol, L3Book] = field(factory=dict)
    troubles: Troubles = field(factory=Troubles)
    frames: defaultdict[str, int] = field(factory=lambda: defaultdict(int))
    errors: dict[str, int] = field(factory=dict)
    venue_status: str = ""
    l2: Tally = field(factory=Tally)
    l3: Tally = field(factory=Tally)
    resyncs: int = 0

    def frame_counts(self) -> dict[str, int]:
        """Return the counts of frames by channel."""
        books = {"book": self.l2.ok + self.l2.other, "level3": self.l3.ok + self.l3.other}
        return {**self.frames, **{channel: count for channel, count in books.items() if count}}

    def count_error(self, kind: str) -> None:
        """Count an error of the venue's input by kind, and further kinds than MAX_ERROR_KINDS as one."""
        if kind not in self.errors and len(self.errors) >= MAX_ERROR_KINDS:
            kind = "further kinds of errors"
        self.errors[kind] = self.errors.get(kind, 0) + 1


@frozen(kw_only=True)
class Pacing:
    """Budgets and randomness of a stream; shared by its connections, one after another or side by side."""

    budget: Budget
    resync_budget: Budget
    jitter: Callable[[], float]


@frozen(kw_only=True)
class Outage:
    """What the connection before a session left behind: since when nothing came, why, and how many were tried since."""

    since_mono: float
    reason: str
    attempts: int

    def ended(
        self,
        stream: str,
        up_mono: float,
        took_s: float,
        refetched: dict[str, int],
        missing: Mapping[str, Sequence[str]],
    ) -> Reconnect:
        """Return what is told of it, once a connection that came up at `up_mono` is whole again."""
        return Reconnect(
            stream=stream,
            reason=self.reason,
            gap_s=up_mono - self.since_mono,
            attempts=self.attempts,
            took_s=took_s,
            refetched=refetched,
            missing={channel: tuple(map(Symbol, symbols)) for channel, symbols in missing.items()},
        )
