"""Run a venue with its flow over simulated time, without sockets, and write the tape.

In: a way to make the flow, symbols, a seed, a duration. Out: the tapes. Called by the checks and by tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from krakenbot.adapters.local_exchange.flow.instruments import (
    choose_symbols,
    load_instruments,
    load_reference_prices,
)
from krakenbot.adapters.local_exchange.flow.market import Flow, InstrumentRules, Market
from krakenbot.adapters.local_exchange.flow_check.tape import SymbolTape, TapeRecorder
from krakenbot.adapters.local_exchange.matching.venue import Venue, VenueSettings

NS = 1_000_000_000
START_NS = 1_700_000_000 * NS
WARM_UP_S = 60
"""What the opening looks like is no property of the flow: the tape begins a minute later."""
MakeFlow = Callable[[Mapping[str, Market]], Flow]


def open_venue(make_flow: MakeFlow, *, symbol_count: int, seed: int) -> Venue:
    """Return a venue with open books of the first symbols of the fixed order."""
    listed = load_instruments()
    rules = {symbol: listed[symbol] for symbol in choose_symbols(symbol_count)}
    venue = Venue(rules, VenueSettings(seed=seed))
    venue.open(make_flow(dict(venue.markets)), START_NS)
    return venue


def record_tapes(
    make_flow: MakeFlow, *, symbol_count: int, seed: int, duration_s: int, warm_up_s: int = WARM_UP_S
) -> dict[str, SymbolTape]:
    """Run a flow without clients and return one tape per symbol."""
    venue = open_venue(make_flow, symbol_count=symbol_count, seed=seed)
    venue.advance(START_NS + warm_up_s * NS)
    scales = {symbol: usd_per_lot_tick(market.rules) for symbol, market in venue.markets.items()}
    recorder = TapeRecorder(venue, scales)
    for second in range(1, duration_s + 1):
        venue.advance(START_NS + (warm_up_s + second) * NS)
        recorder.sample_depth()
    return recorder.close()


def usd_per_lot_tick(rules: InstrumentRules) -> float:
    """Return the US dollars of one lot at a price of one tick, by the reference price of the quote currency."""
    quote_usd = float(load_reference_prices()[rules.quote])
    return quote_usd * 10.0 ** -(rules.price_precision + rules.qty_precision)
