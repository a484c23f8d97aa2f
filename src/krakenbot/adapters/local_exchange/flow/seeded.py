"""Seeded order flow: the same markets, profile and seed give the same events.

In: markets that are empty, a profile, a seed. Out: opening books and then events as time goes on. Called by the
exchange server, which asks when the next event is due. A heap holds one entry per coming event; each symbol
draws from its own random numbers, so that a client's order in one symbol leaves the others as they were.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from random import Random

from krakenbot.adapters.local_exchange.flow.cascades import Cascades
from krakenbot.adapters.local_exchange.flow.instruments import load_reference_prices, reference_price
from krakenbot.adapters.local_exchange.flow.latent import CommonFactor
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules, Market
from krakenbot.adapters.local_exchange.flow.parameters import (
    Profile,
    SymbolParameters,
    describe,
    draw_parameters,
)
from krakenbot.adapters.local_exchange.flow.symbol_flow import SymbolFlow

# A host that slept must not replay hours of events: time that was lost is left out.
MAX_CATCH_UP_NS = 60_000_000_000


class EventHeap:
    """Coming events in the order of time, then of scheduling."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Callable[[int, int], None], int]] = []
        self._sequence = 0
        self._lost_ns = 0
        self.done = 0

    def schedule(self, at_ns: int, callback: Callable[[int, int], None], argument: int) -> None:
        """Have `callback(at_ns, argument)` called when that time is due."""
        self._sequence += 1
        heapq.heappush(self._heap, (at_ns, self._sequence, callback, argument))

    def next_at_ns(self) -> int:
        """Return when the next event is due; raises IndexError when nothing is scheduled."""
        return self._heap[0][0] + self._lost_ns

    def run_until(self, now_ns: int) -> None:
        """Call what is due, each at its own time; after a gap of a minute the schedule moves on instead."""
        if self._heap and now_ns - self.next_at_ns() > MAX_CATCH_UP_NS:
            self._lost_ns += now_ns - self.next_at_ns()
        until_ns, heap = now_ns - self._lost_ns, self._heap
        while heap and heap[0][0] <= until_ns:
            at_ns, _, callback, argument = heapq.heappop(heap)
            self.done += 1
            callback(at_ns, argument)


class SeededFlow:
    """Makers, noise takers and informed takers in every market; implements `Flow`."""

    def __init__(self, markets: Mapping[str, Market], *, profile: Profile, seed: int, activity: float = 1.0) -> None:
        self._profile = profile
        self._seed = seed
        self.events = EventHeap()
        self._factor = CommonFactor(Random(f"{seed}/factor"))
        self._cascades = Cascades(Random(f"{seed}/cascades"))
        self.symbols: dict[str, SymbolFlow] = {}
        for position, (symbol, market) in enumerate(markets.items()):
            rng = Random(f"{seed}/{symbol}/parameters")
            numbers = draw_parameters(profile, position, len(markets), rng, activity=activity)
            price = reference_price(market.rules).scaleb(market.rules.price_precision)
            self.symbols[symbol] = self.make_symbol_flow(market, numbers, float(price))

    def make_symbol_flow(self, market: Market, parameters: SymbolParameters, price_ticks: float) -> SymbolFlow:
        """Return the participants of one market, on this flow's events and random numbers."""
        return SymbolFlow(
            market,
            parameters=parameters,
            price_ticks=price_ticks,
            lots_per_usd=lots_per_usd(market.rules, price_ticks),
            factor=self._factor,
            cascades=self._cascades,
            rng=Random(f"{self._seed}/{market.rules.symbol}"),
            schedule=self.events.schedule,
        )

    def open(self, now_ns: int) -> None:
        """Build the opening books of all markets."""
        for flow in self.symbols.values():
            flow.open(now_ns)

    def next_at_ns(self) -> int:
        """Return when the next event is due."""
        return self.events.next_at_ns()

    def step(self, now_ns: int) -> None:
        """Carry out every event due at or before `now_ns`."""
        self.events.run_until(now_ns)

    def last_price_ticks(self, symbol: str) -> int:
        """Return the latent price, rounded: an index that no single order moves."""
        return round(self.symbols[symbol].latent.now)

    def parameters(self) -> dict[str, object]:
        """Return every number with its origin, and that chosen numbers are no evidence of profit."""
        numbers = {symbol: flow.parameters for symbol, flow in self.symbols.items()}
        return {"flow": "seeded", **describe(self._profile, self._seed, numbers, {})}


def lots_per_usd(rules: InstrumentRules, price_ticks: float) -> float:
    """Return how many lots one US dollar buys at a price in ticks."""
    quote_usd = float(load_reference_prices()[rules.quote])
    return 10.0 ** (rules.price_precision + rules.qty_precision) / (price_ticks * quote_usd)
