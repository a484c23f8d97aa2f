from __future__ import annotations

import pytest

from krakenbot.adapters.local_exchange.flow.instruments import choose_symbols, load_instruments
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.matching.book import Changes, RestingOrder, Trade
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder

START_NS = 1_700_000_000_000_000_000
NS = 1_000_000_000


class QuietDesk:
    """A venue without clients."""

    def __init__(self) -> None:
        self.now_ns = START_NS
        self._number = 0

    def next_number(self) -> int:
        self._number += 1
        return self._number

    def settle(self, market: VenueMarket, trade: Trade, taker: ClientOrder | None, maker: RestingOrder) -> None:
        assert taker is None

    def self_trade(self, taker: ClientOrder, maker: ClientOrder) -> bool:
        raise AssertionError("no clients here")

    def publish(self, market: VenueMarket, changes: Changes) -> None:
        pass


@pytest.mark.parametrize("profile", ["edge", "toxic", "null"])
def test_the_venue_and_a_plain_market_show_the_same_books(make_markets, profile):
    rules, desk = load_instruments(), QuietDesk()
    venue = {symbol: VenueMarket(rules[symbol], desk) for symbol in choose_symbols(3)}
    plain = make_markets(3)
    flows = [SeededFlow(markets, profile=profile, seed=2) for markets in (venue, plain)]
    for flow in flows:
        flow.open(START_NS)
    for second in range(90):
        for flow in flows:
            flow.step(START_NS + second * NS)

    for symbol, market in venue.items():
        for side in ("buy", "sell"):
            assert plain[symbol].levels(side, 60) == market.levels(side, 60)
        assert sum(trade[2] for trade in plain[symbol].trades) == market.stats.volume_lots > 0
