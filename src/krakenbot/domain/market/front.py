"""Why orders left the front of one price level: departures of level3, matched with public trades.

Enters: what left the front, trades of that price, the time. Leaves: the causes, booked on the places concerned. Called
by `market.places`, one `Front` per followed level. The two feeds are two connections: a trade may come before or after
its departure. A trade of the same size and instant explains at once. Any other pair waits MATCH_NS for a better
partner, and then same instants go first, same sizes next, the nearest in time after them: what was cancelled just
before a trade is not taken for what traded.
"""

from __future__ import annotations

from itertools import chain, product

from attrs import Factory, define

from krakenbot.domain.market.place import Place
from krakenbot.domain.values import NS_PER_S

MATCH_NS = NS_PER_S
"""How far apart in venue time a trade and the departure that it explains may be."""
INSTANT_NS = 1_000_000
"""Kraken stamps a trade and the departure that it caused alike, to the microsecond (recorded, 2024-11)."""
SETTLE_NS = 5 * NS_PER_S
"""After so long without a trade that explains it, a departure was no trade."""
MANY, MOST = 64, 1024
"""So many unexplained departures or trades of one level are settled by age, and so many at once."""


@define(eq=False, slots=True)
class Departure:
    """What left the front of a level, and whom it concerned; `order` is 1 when the whole order left.

    `has_waited`: it was offered to every trade that had waited too.
    """

    at_ns: int
    order: int
    lots: int
    before: list[Place]
    after: list[Place]
    has_waited: bool = False


@define(eq=False, slots=True)
class _Print:
    """What of a public trade has not been found in the queue yet."""

    at_ns: int
    lots: int
    has_waited: bool = False


@define(eq=False, slots=True)
class Front:
    """What left the front of one level and is unexplained, and the trades there that have explained nothing yet."""

    _departures: list[Departure] = Factory(list)
    _prints: list[_Print] = Factory(list)

    def on_print(self, lots: int, at_ns: int) -> None:
        """Take a public trade at this price."""
        found = _Print(at_ns, lots)
        for departure in self._departures:
            if departure.lots == lots and abs(departure.at_ns - at_ns) <= INSTANT_NS:
                self._traded(departure, found)
                self._departures.remove(departure)
                return
        self._prints.append(found)
        if len(self._prints) > MANY:
            self.settle(at_ns)
            del self._prints[:-MOST]

    def on_departure(self, departure: Departure) -> None:
        """Take what left the front and was not moved."""
        for found in self._prints:
            if found.lots == departure.lots and abs(found.at_ns - departure.at_ns) <= INSTANT_NS:
                self._traded(departure, found)
                self._prints.remove(found)
                return
        self._departures.append(departure)
        if len(self._departures) > MANY:
            self.settle(departure.at_ns)
        if len(self._departures) > MOST:
            self.settle(departure.at_ns + SETTLE_NS)

    def settle(self, now_ns: int) -> None:
        """Explain what has waited, call departures without a trade what they were, forget trades without departure."""
        if self._departures and self._prints:
            self._match(now_ns)
        if self._departures:
            for departure in self._departures:
                if departure.at_ns + SETTLE_NS <= now_ns:
                    for place in departure.before:
                        place.pending.add(-departure.order, -departure.lots)
                        (place.cancelled if departure.order else place.amended).add(departure.order, departure.lots)
                    departure.lots = 0
            self._departures = [each for each in self._departures if each.lots]
        if self._prints:
            self._prints = [each for each in self._prints if each.at_ns + SETTLE_NS > now_ns]

    def _match(self, now_ns: int) -> None:
        """Give the trades that have waited to departures that have, best pairs first; each pair is tried once."""
        departures = [each for each in self._departures if each.at_ns + MATCH_NS <= now_ns]
        prints = [each for each in self._prints if each.at_ns + MATCH_NS <= now_ns]
        untried = chain(
            product([each for each in departures if not each.has_waited], prints),
            product([each for each in departures if each.has_waited], [each for each in prints if not each.has_waited]),
        )
        pairs = [
            (apart_ns > INSTANT_NS, departure.lots != found.lots, apart_ns, number, departure, found)
            for number, (departure, found) in enumerate(untried)
            if (apart_ns := abs(departure.at_ns - found.at_ns)) <= MATCH_NS
        ]
        for *_, departure, found in sorted(pairs, key=lambda pair: pair[:4]):
            if departure.lots and found.lots:
                self._traded(departure, found)
        for waited in departures:
            waited.has_waited = True
        for heard in prints:
            heard.has_waited = True
        self._departures = [each for each in self._departures if each.lots]
        self._prints = [each for each in self._prints if each.lots]

    @staticmethod
    def _traded(departure: Departure, found: _Print) -> None:
        lots = min(departure.lots, found.lots)
        departure.lots -= lots
        found.lots -= lots
        # an order whose last lots are explained has gone with them
        order = departure.order if not departure.lots else 0
        for place in departure.before:
            place.pending.add(-order, -lots)
            place.traded.add(order, lots)
        for place in departure.after:
            place.reached.add(order, lots)
            place.reached_at_ns = max(place.reached_at_ns, found.at_ns)
