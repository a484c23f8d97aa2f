from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.flow.parameters import Profile, draw_parameters
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.flow_check.figures import measure_figures
from krakenbot.adapters.local_exchange.flow_check.run import record_tapes

START_NS = 1_700_000_000_000_000_000
NS = 1_000_000_000


def run(
    markets: Mapping[str, Any], *, profile: Profile = "edge", seed: int = 1, seconds: int = 20, step_ns: int = NS
) -> SeededFlow:
    flow = SeededFlow(markets, profile=profile, seed=seed)
    flow.open(START_NS)
    for now_ns in range(START_NS, START_NS + seconds * NS + 1, step_ns):
        flow.step(now_ns)
    return flow


def trace(markets: Mapping[str, Any]) -> dict[str, object]:
    return {symbol: (market.trades, market.levels("buy", 50)) for symbol, market in markets.items()}


def test_same_seed_gives_the_same_events_however_time_is_stepped(make_markets):
    coarse, fine = make_markets(3), make_markets(3)
    run(coarse, seed=7, step_ns=5 * NS)
    run(fine, seed=7, step_ns=NS // 10)

    assert any(market.trades for market in coarse.values())
    assert trace(coarse) == trace(fine)


def test_another_seed_gives_other_events(make_markets):
    one, other = make_markets(2), make_markets(2)
    run(one, seed=1)
    run(other, seed=2)

    assert trace(one) != trace(other)


def test_a_client_in_one_symbol_leaves_the_others_as_they_were(make_markets):
    alone, joined = make_markets(3), make_markets(3)
    run(alone)
    flow = SeededFlow(joined, profile="edge", seed=1)
    flow.open(START_NS)
    first, *rest = joined.values()
    first.place_client("buy", first.best("buy"), 10 * first.rules.qty_min_lots)
    for second in range(21):
        flow.step(START_NS + second * NS)

    assert trace(alone) != trace(joined)
    assert [trace(alone)[market.rules.symbol] for market in rest] == [
        trace(joined)[market.rules.symbol] for market in rest
    ]


@pytest.mark.parametrize("profile", ["null", "toxic", "edge"])
def test_ten_levels_a_side_are_always_there(make_markets, profile):
    markets = make_markets(4)
    flow = SeededFlow(markets, profile=profile, seed=3)
    flow.open(START_NS)
    fewest = 99
    for tenth in range(2400):
        flow.step(START_NS + tenth * NS // 10)
        fewest = min(
            [fewest] + [len(market.levels(side, 16)) for market in markets.values() for side in ("buy", "sell")]
        )

    assert fewest >= 10


def test_edge_offers_wide_deep_and_traded_books():
    tapes = record_tapes(
        lambda markets: SeededFlow(markets, profile="edge", seed=11), symbol_count=7, seed=11, duration_s=240
    )
    wide = [figures for figures in map(measure_figures, tapes.values()) if figures.spread_p50_bps > 350]

    assert len(wide) >= 4
    for figures in wide:
        assert figures.spread_p50_bps < 560
        assert figures.depth_25_p5_usd >= 1500
        assert figures.sold_usd_per_s >= 40
        assert figures.market_orders_per_s >= 0.5
        assert 3 <= figures.sigma_bps_sqrt_min <= 25


def test_edge_has_four_wide_symbols_of_seven_on_any_seed():
    for seed in range(300):
        drawn = [draw_parameters("edge", place, 7, Random(f"{seed}/{place}")) for place in range(7)]

        assert sum(numbers.half_spread_bps >= 190 for numbers in drawn) == 4


def test_a_less_active_flow_does_less_in_the_same_time(make_markets):
    busy, quiet = make_markets(3), make_markets(3)
    flow = run(busy)
    slow = SeededFlow(quiet, profile="edge", seed=1, activity=0.25)
    slow.open(START_NS)
    slow.step(START_NS + 20 * NS)

    assert 0 < slow.events.done < 0.5 * flow.events.done


def test_makers_join_a_client_who_leads(make_markets):
    markets = make_markets(3)
    market = markets["SOL/USD"]
    flow = run(markets, seconds=5)
    better = market.best("buy") + market.rules.price_increment_ticks
    order = market.place_client("buy", better, 100 * market.rules.qty_min_lots)
    joined = 0
    for tenth in range(50, 650):
        flow.step(START_NS + tenth * NS // 10)
        if market.remaining(order):
            joined = max(joined, market.size_at("buy", better) - market.client_size_at("buy", better))

    assert joined > 0


def test_a_quote_beyond_the_latent_price_is_sniped(make_markets):
    markets = make_markets(3)
    market = markets["SOL/USD"]
    flow = run(markets, seconds=5)
    order = market.place_client("buy", market.best("sell") - 1, 10 * market.rules.qty_min_lots)
    flow.step(START_NS + 8 * NS)

    assert market.remaining(order) == 0


def test_six_hundred_symbols_stay_within_the_budget_of_events(make_markets):
    markets = make_markets(600)
    flow = run(markets, seconds=3)
    before = flow.events.done
    for second in (4, 5):
        flow.step(START_NS + second * NS)

    assert all(market.best("buy") < market.best("sell") for market in markets.values())
    assert 500 < (flow.events.done - before) / 2 < 6000


def test_a_host_that_slept_does_not_replay_the_lost_time(make_markets):
    flow = run(make_markets(1), seconds=2)
    before = flow.events.done
    later = START_NS + 3600 * NS
    flow.step(later)

    assert flow.events.done - before < 50
    assert later < flow.next_at_ns() < later + 5 * NS


def test_parameters_say_that_they_are_chosen(make_markets):
    flow = SeededFlow(make_markets(2), profile="toxic", seed=4)
    parameters = json.loads(json.dumps(flow.parameters()))

    assert "no evidence of profit" in parameters["notice"]
    assert (parameters["profile"], parameters["seed"]) == ("toxic", 4)
    assert parameters["symbols"]["BTC/USD"]["informed_share"] == {"value": 0.6, "origin": "chosen"}
    assert flow.last_price_ticks("BTC/USD") == 600_000
