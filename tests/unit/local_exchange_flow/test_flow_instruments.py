from __future__ import annotations

from decimal import Decimal

import pytest

from krakenbot.adapters.local_exchange.flow.instruments import (
    MONEY,
    PEGGED,
    choose_symbols,
    load_assets,
    load_instruments,
    load_reference_prices,
    reference_price,
)


def test_figures_are_whole_ticks_and_lots():
    doge = load_instruments()["DOGE/USD"]

    assert (
        doge.price_precision,
        doge.qty_precision,
        doge.price_increment_ticks,
        doge.qty_increment_lots,
        doge.qty_min_lots,
        doge.cost_min.rstrip("0"),
    ) == (7, 8, 1, 1, 6_000_000_000, "0.5")


def test_every_pair_has_its_assets_and_a_price():
    prices = load_reference_prices()
    pairs = load_instruments()

    assert len(pairs) == 683
    assert {rule.base for rule in pairs.values()} | {rule.quote for rule in pairs.values()} <= prices.keys()
    assert all(price > 0 for price in prices.values())
    assert load_assets()["USD"].precision == 4


def test_choice_starts_with_the_recorded_four_and_is_a_prefix():
    assert choose_symbols(4) == ["BTC/USD", "ETH/USD", "SOL/USD", "DOGE/USD"]
    assert choose_symbols(40) == choose_symbols(600)[:40]


def test_choice_leaves_out_money_pegged_and_closed_pairs():
    rules = load_instruments()
    chosen = [rules[symbol] for symbol in choose_symbols(600)]

    assert len({rule.symbol for rule in chosen}) == 600
    assert {rule.status for rule in chosen} == {"online"}
    assert not {rule.base for rule in chosen} & (MONEY | PEGGED)


def test_minimum_order_is_worth_a_few_dollars():
    rules = load_instruments()
    for symbol in choose_symbols(30):
        rule = rules[symbol]
        worth = reference_price(rule) * Decimal(rule.qty_min_lots).scaleb(-rule.qty_precision)

        assert 4 <= worth <= 9, symbol


@pytest.mark.parametrize("count", [0, -1, 10_000])
def test_a_count_beyond_the_list_is_refused(count):
    with pytest.raises(ValueError, match="allowed are 1 to"):
        choose_symbols(count)
