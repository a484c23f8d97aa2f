"""End orders when their time has come: expiries and dead man's switches, which wait where maintenance goes on.

The venue asks when something is next due, and calls `end_due` as time passes and whenever a mode changes.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

from krakenbot.adapters.local_exchange.matching import checks
from krakenbot.adapters.local_exchange.matching.accounts import Account
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder

if TYPE_CHECKING:
    from krakenbot.adapters.local_exchange.matching.venue import Venue

NEVER: Final = 2**63 - 1
Ending = tuple[int, int, ClientOrder, bool]
"""When, the order's number, the order, and whether a dead man's switch ends it; else it expires."""


class Endings:
    """What ends by itself at a venue."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        # A heap; closed orders leave it when their time comes up.
        self._due: list[Ending] = []
        self._put_off: dict[str, list[Ending]] = {}

    def expire_at(self, order: ClientOrder, at_ns: int) -> None:
        """Note when an order expires."""
        heappush(self._due, (at_ns, order.number, order, False))

    def next_ns(self) -> int:
        """Return when the next order or switch is due; nothing is during a maintenance of the engine."""
        if self._venue.system == "maintenance":
            return NEVER
        switches = (account.cancel_all_at_ns or NEVER for account in self._venue.accounts.values())
        return min(self._next_order_ns(), *switches, NEVER)

    def end_due(self) -> None:
        """Expire orders and fire the switches whose time has come; in maintenance they wait."""
        venue = self._venue
        if venue.system == "maintenance":
            return
        while self._next_order_ns() <= venue.now_ns:
            ending = heappop(self._due)
            _at_ns, _number, order, by_switch = ending
            if venue.in_maintenance(order):
                self._put_off.setdefault(order.rules.symbol, []).append(ending)
            elif by_switch:
                venue.withdraw(order, checks.USER_REQUESTED)
            else:
                venue.withdraw(order, None, status="expired")
        for account in venue.accounts.values():
            if account.cancel_all_at_ns is not None and account.cancel_all_at_ns <= venue.now_ns:
                account.cancel_all_at_ns = None
                self._fire_switch(account)

    def resume(self, market: VenueMarket) -> None:
        """End what was put off while a pair was in maintenance."""
        for ending in self._put_off.pop(market.rules.symbol, []):
            heappush(self._due, ending)
        self.end_due()

    def _fire_switch(self, account: Account) -> None:
        venue = self._venue
        for order in list(account.open_orders.values()):
            if venue.in_maintenance(order):
                put_off = self._put_off.setdefault(order.rules.symbol, [])
                put_off.append((venue.now_ns, order.number, order, True))
            else:
                venue.withdraw(order, checks.USER_REQUESTED)

    def _next_order_ns(self) -> int:
        while self._due and not self._due[0][2].is_open:
            heappop(self._due)
        return self._due[0][0] if self._due else NEVER
