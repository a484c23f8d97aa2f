"""Fire stops: activate those whose price is reached, each once, with the funds judged at the trigger.

The venue asks after trades, samples of the index, new and amended stops, and when matching goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from krakenbot.adapters.local_exchange.matching import checks, settlement, triggers
from krakenbot.adapters.local_exchange.matching.accounts import Account, StopHolds
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder

if TYPE_CHECKING:
    from krakenbot.adapters.local_exchange.matching.venue import Venue


class StopDesk:
    """Activates stops for a venue; while one fires, what it triggers waits its turn."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue
        self._is_firing = False

    def fire(self, market: VenueMarket, ready: list[ClientOrder] | None = None) -> None:
        """Activate the stops that are `ready`, then every waiting one whose price is reached; each fires once."""
        if self._is_firing or not self._venue.matches(market):
            return
        self._is_firing = True
        try:
            while ready := ready or triggers.due(market):
                for order in ready:
                    if market.stops.pop(order.order_id, None) is not None:
                        self._activate(market, order)
                ready = None
        finally:
            self._is_firing = False

    def _activate(self, market: VenueMarket, order: ClientOrder) -> None:
        venue = self._venue
        order.is_triggered = True
        order.triggered_ns = venue.now_ns
        venue.tell("triggered", order)
        account = venue.accounts[order.account]
        rivals = self._rivals_in_the_way(account, market, order)
        if rivals is None:
            venue.close(order, "canceled", checks.FUNDS_REASON)
            return
        for rival in rivals:
            venue.withdraw(rival, checks.SHARED_HOLD_REASON)
        venue.work(market, order)

    def _rivals_in_the_way(self, account: Account, market: VenueMarket, order: ClientOrder) -> list[ClientOrder] | None:
        """Return the resting orders that must go for a stop to be payable, oldest first; None when that is not enough.

        Only where stops share what they hold does a stop take funds from others.
        """
        rivals = [
            rival
            for rival in account.open_orders.values()
            if self._venue.settings.stop_holds is StopHolds.SHARED
            and rival.resting is not None
            and (rival.rules.symbol, rival.side) == (order.rules.symbol, order.side)
        ]
        gone: list[ClientOrder] = []
        while not (payable := settlement.can_pay_at_trigger(account, market, order)) and len(gone) < len(rivals):
            gone.append(rivals[len(gone)])
            account.claims.remove(gone[-1])
        for rival in gone:
            account.claims.add(rival)
        return gone if payable else None
