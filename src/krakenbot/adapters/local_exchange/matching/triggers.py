"""Watch the waiting stops of a market: let trailing ones follow, and say which have reached their trigger.

The venue asks after trades and after every sample of the index; it activates what comes back.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from krakenbot.adapters.local_exchange.matching.book import Trade
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder
from krakenbot.adapters.local_exchange.matching.pricing import MILLI, follow


def reference_of(market: VenueMarket, kind: Literal["last", "index"]) -> int:
    """Return a reference price in thousandths of a tick; 0 when there is none yet."""
    return market.index_milliticks if kind == "index" else market.stats.last_ticks * MILLI


def due(market: VenueMarket) -> list[ClientOrder]:
    """Return the waiting stops that the present reference prices have reached, oldest first."""
    references = {"last": reference_of(market, "last"), "index": reference_of(market, "index")}
    return [order for order in market.stops.values() if reached(order, references[order.request.trigger_reference])]


def follow_trades(market: VenueMarket, trades: Sequence[Trade]) -> list[ClientOrder]:
    """Show every print to the stops on the last price; return those that one of them reached, in that order."""
    fired: dict[str, ClientOrder] = {}
    for trade in trades:
        for order in market.stops.values():
            if order.request.trigger_reference == "last" and reached(order, trade.price_ticks * MILLI):
                fired.setdefault(order.order_id, order)
    return list(fired.values())


def reached(order: ClientOrder, reference_milliticks: int) -> bool:
    """Tell whether a reference price has reached a waiting stop, after a trailing one followed it."""
    if not reference_milliticks or order.trigger_ticks is None:
        return False
    order.reference_milliticks = reference_milliticks
    if order.trails:
        follow(order, reference_milliticks, order.rules)
    trigger = order.trigger_ticks * MILLI
    return reference_milliticks <= trigger if order.falls_to_trigger else reference_milliticks >= trigger
