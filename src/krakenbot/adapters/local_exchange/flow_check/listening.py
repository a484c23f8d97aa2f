"""A listener that hears nothing: the tape and the makers override what they need."""

from __future__ import annotations

from krakenbot.adapters.local_exchange.matching.accounts import Account, LedgerEntry
from krakenbot.adapters.local_exchange.matching.book import Changes
from krakenbot.adapters.local_exchange.matching.listeners import OrderEvent
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, Fill


class SilentListener:
    """Implement the venue's listener without doing anything."""

    def on_book(self, market: VenueMarket, changes: Changes, now_ns: int) -> None:
        """Leave books alone."""

    def on_order(self, event: OrderEvent, order: ClientOrder, now_ns: int) -> None:
        """Leave clients' orders alone."""

    def on_fill(self, order: ClientOrder, fill: Fill, entries: tuple[LedgerEntry, LedgerEntry]) -> None:
        """Leave fills alone."""

    def on_refusal(self, account: Account, action: str, detail: dict[str, str], error: str, now_ns: int) -> None:
        """Leave refusals alone."""

    def on_ledger(self, account: Account, entry: LedgerEntry) -> None:
        """Leave bookings alone."""

    def on_rules(self, market: VenueMarket) -> None:
        """Leave rules alone."""

    def on_system(self, mode: str) -> None:
        """Leave the mode alone."""

    def on_operator(self, action: str, detail: dict[str, str], now_ns: int) -> None:
        """Leave the operator alone."""
