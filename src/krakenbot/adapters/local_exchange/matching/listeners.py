"""Name what the venue answers and what its listeners hear."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

from krakenbot.adapters.local_exchange.matching.accounts import Account, LedgerEntry
from krakenbot.adapters.local_exchange.matching.book import Changes
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, Fill

OrderEvent = Literal["pending_new", "new", "filled", "canceled", "expired", "amended", "triggered"]


@frozen(kw_only=True)
class Refusal:
    """The venue's error text for a request that changed nothing."""

    error: str


@frozen(kw_only=True)
class Validated:
    """The answer to a request with `validate`: it would have been accepted."""


class VenueListener:
    """Hears what happens, in order, and does nothing: whoever listens overrides what concerns him."""

    def on_book(self, market: VenueMarket, changes: Changes, now_ns: int) -> None:
        """Hear of one operation's changes to a book and its trades."""

    def on_order(self, event: OrderEvent, order: ClientOrder, now_ns: int) -> None:
        """Hear of a client order's transition."""

    def on_fill(self, order: ClientOrder, fill: Fill, entries: tuple[LedgerEntry, LedgerEntry]) -> None:
        """Hear of an execution and its two bookings."""

    def on_refusal(self, account: Account, action: str, detail: dict[str, str], error: str, now_ns: int) -> None:
        """Hear of a request that was refused."""

    def on_ledger(self, account: Account, entry: LedgerEntry) -> None:
        """Hear of a booking that no trade caused."""

    def on_rules(self, market: VenueMarket) -> None:
        """Hear that an instrument's rules or status changed."""

    def on_system(self, mode: str) -> None:
        """Hear that the engine's mode changed."""

    def on_operator(self, action: str, detail: dict[str, str], now_ns: int) -> None:
        """Hear of what the venue's operator does, before it takes effect."""
