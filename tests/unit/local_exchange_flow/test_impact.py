from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.flow.impact import Impact
from krakenbot.adapters.local_exchange.flow.latent import CommonFactor, LatentPrice
from krakenbot.adapters.local_exchange.flow.parameters import SymbolParameters
from krakenbot.adapters.local_exchange.flow.quotes import Quotes


def make_impact(make_markets: Any, **numbers: Any) -> tuple[Impact, Quotes]:
    market = next(iter(make_markets(1).values()))
    parameters = SymbolParameters(half_spread_bps=10, appetite_bps=0, **numbers)
    latent = LatentPrice(
        price_ticks=100_000, parameters=parameters, factor=CommonFactor(Random("factor")), rng=Random(1)
    )
    quotes = Quotes(market, parameters=parameters, latent=latent, lots_per_usd=1.0)
    return Impact(quotes, parameters), quotes


def spread_bps(quotes: Quotes) -> float:
    return (quotes.touch_exact("sell") - quotes.touch_exact("buy")) / quotes.latent.now * 10_000


def test_makers_stand_back_after_a_trade_and_come_back(make_markets):
    impact, quotes = make_impact(
        make_markets, impact_bps=8.0, impact_lasting_share=1.0, widening_share=0.25, widening_decay_s=2.0
    )
    impact.add("sell", 4.0)
    wide = spread_bps(quotes)
    impact.decay(2.0)

    assert wide == pytest.approx(20 + 2 * 0.25 * 16)
    assert spread_bps(quotes) == pytest.approx(20 + 2 * 0.25 * 16 / math.e)


def test_without_a_share_no_trade_changes_the_spread(make_markets):
    impact, quotes = make_impact(make_markets, impact_bps=8.0)
    impact.add("sell", 4.0)

    assert spread_bps(quotes) == pytest.approx(20)


def test_impact_in_proportion_to_volatility_moves_a_lively_market_further(make_markets):
    moves = []
    for follows in (False, True):
        impact, quotes = make_impact(
            make_markets, impact_bps=8.0, impact_lasting_share=1.0, impact_follows_volatility=follows, vol_of_vol=0.6
        )
        before, volatility = quotes.latent.now, quotes.latent.volatility()
        impact.add("buy", 1.0)
        moves.append((quotes.latent.now / before - 1) * 10_000)

    assert moves[0] == pytest.approx(8.0)
    assert moves[1] == pytest.approx(8.0 * volatility)
    assert abs(volatility - 1) > 0.05
