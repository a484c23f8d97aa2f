from __future__ import annotations

import random
from decimal import Decimal

import pytest
from attrs import evolve

from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.state.standing import Standing
from krakenbot.domain.state.universe import (
    NO_UNIVERSE,
    UniverseChoice,
    UniverseSettings,
    choose_universe,
    pegged_reason,
)
from krakenbot.domain.values import Asset, Symbol


def instrument(symbol: str, status: InstrumentStatus = InstrumentStatus.ONLINE) -> Instrument:
    base, quote = symbol.split("/")
    return Instrument(
        symbol=Symbol(symbol),
        base=Asset(base),
        quote=Asset(quote),
        status=status,
        price_precision=2,
        qty_precision=8,
        cost_precision=5,
        price_increment=Decimal("0.01"),
        qty_increment=Decimal("0.00000001"),
        qty_min=Decimal("0.1"),
        cost_min=Decimal("0.5"),
    )


LISTED = [instrument(s) for s in ("BTC/USD", "ETH/USD", "SOL/USD", "ADA/EUR", "USDT/USD", "EUR/USD", "XRP/USD")]
VOLUMES = {Symbol("BTC/USD"): 9e6, Symbol("ETH/USD"): 8e6, Symbol("SOL/USD"): 7e6, Symbol("USDT/USD"): 9e9}
SETTINGS = UniverseSettings()
XRP = Symbol("XRP/USD")


@pytest.mark.parametrize(
    ("base", "quote", "out"),
    [
        ("EUR", "USD", True),
        ("USDT", "USD", True),
        ("USDC", "EUR", True),
        ("USDC", "USDT", True),
        ("WBTC", "BTC", True),
        ("STETH", "ETH", True),
        ("BTC", "USD", False),
        ("WBTC", "USD", False),
        ("ETH", "BTC", False),
        ("BTC", "USDT", False),
    ],
)
def test_pairs_without_a_price_of_their_own_are_out(base: str, quote: str, out: bool) -> None:
    assert out is (pegged_reason(Asset(base), Asset(quote)) is not None)


def test_layers_are_chosen_by_volume_and_everything_left_out_has_a_reason() -> None:
    settings = evolve(SETTINGS, l2_limit=2, l3_limit=1)
    choice = choose_universe(LISTED, VOLUMES, configured=(), pinned=(), settings=settings)

    assert choice.pool == ("BTC/USD", "ETH/USD", "SOL/USD", "XRP/USD")
    assert choice.l2 == choice.execution == ("BTC/USD", "ETH/USD")
    assert choice.l3 == ("BTC/USD",)
    assert choice.left_out == {
        "ADA/EUR": "quote EUR is not traded",
        "EUR/USD": "fiat against fiat",
        "SOL/USD": "above the L2 limit",
        "USDT/USD": "stable base",
        "XRP/USD": "above the L2 limit",
    }


def test_pinned_symbols_stay_in_every_layer_above_any_limit_and_status() -> None:
    listed = [*LISTED, instrument("OLD/USD", InstrumentStatus.CANCEL_ONLY)]
    pinned = (Symbol("OLD/USD"), Symbol("XRP/USD"))
    settings = evolve(SETTINGS, l2_limit=1, l3_limit=1)
    choice = choose_universe(listed, VOLUMES, configured=(), pinned=pinned, settings=settings)

    assert choice.execution == choice.l3 == choice.pinned == pinned


def test_configured_symbols_need_no_volume_but_keep_the_other_rules() -> None:
    configured = (Symbol("XRP/USD"), Symbol("USDT/USD"), Symbol("NO/USD"))
    choice = choose_universe(LISTED, {}, configured=configured, pinned=(), settings=SETTINGS)

    assert choice.execution == ("XRP/USD",)
    assert choice.left_out[Symbol("USDT/USD")] == "stable base"
    assert choice.left_out[Symbol("NO/USD")] == "not listed by the venue"
    assert choice.left_out[Symbol("BTC/USD")] == "not configured"


def test_without_level3_its_layer_is_empty_and_the_rest_goes_on() -> None:
    choice = choose_universe(
        LISTED, VOLUMES, configured=(), pinned=(Symbol("BTC/USD"),), settings=evolve(SETTINGS, l3_limit=0)
    )

    assert choice.l3 == ()
    assert len(choice.execution) == 3


def test_a_symbol_of_unknown_volume_is_watched_last_of_all_but_not_traded() -> None:
    unlimited = choose_universe(LISTED, VOLUMES, configured=(), pinned=(), settings=SETTINGS)
    narrow = choose_universe(LISTED, VOLUMES, configured=(), pinned=(), settings=evolve(SETTINGS, l2_limit=3))

    assert "XRP/USD" in unlimited.l2
    assert "XRP/USD" not in unlimited.execution
    assert unlimited.left_out[XRP] == "24 h volume is not known"
    assert "XRP/USD" not in narrow.l2


@pytest.mark.parametrize(
    ("volume", "comes_in", "stays"), [(100e3, True, True), (99e3, False, True), (79e3, False, False)]
)
def test_it_takes_more_volume_to_come_in_than_to_stay(volume: float, comes_in: bool, stays: bool) -> None:
    full = choose_universe(LISTED, {**VOLUMES, XRP: 9e9}, configured=(), pinned=(), settings=SETTINGS)

    def is_in(previous: UniverseChoice) -> bool:
        volumes = {**VOLUMES, XRP: volume}
        choice = choose_universe(LISTED, volumes, configured=(), pinned=(), settings=SETTINGS, previous=previous)
        return XRP in choice.execution

    assert comes_in is is_in(NO_UNIVERSE)
    assert stays is is_in(full)


@pytest.mark.parametrize("limit", ["l2_limit", "l3_limit"])
@pytest.mark.parametrize(("rival", "wins"), [(8.7e6, False), (8.8e6, True)])
def test_a_rival_takes_a_place_only_with_a_margin(limit: str, rival: float, wins: bool) -> None:
    settings = evolve(SETTINGS, l2_limit=2) if limit == "l2_limit" else evolve(SETTINGS, l3_limit=2)
    before = choose_universe(LISTED, VOLUMES, configured=(), pinned=(), settings=settings)
    volumes = {**VOLUMES, Symbol("ETH/USD"): 7e6, Symbol("SOL/USD"): rival}
    after = choose_universe(LISTED, volumes, configured=(), pinned=(), settings=settings, previous=before)

    layer = after.l2 if limit == "l2_limit" else after.l3
    assert wins is ("SOL/USD" in layer)
    assert wins is ("ETH/USD" not in layer)


def test_volumes_that_swing_around_every_edge_change_nothing() -> None:
    settings = evolve(SETTINGS, l2_limit=3, l3_limit=1)
    choice = choose_universe(LISTED, VOLUMES, configured=(), pinned=(), settings=settings)
    rng = random.Random(4)
    changes = 0
    for _ in range(500):
        volumes = {symbol: volume * rng.uniform(0.95, 1.05) for symbol, volume in VOLUMES.items()}
        after = choose_universe(LISTED, volumes, configured=(), pinned=(), settings=settings, previous=choice)
        changes += (after.l2, after.l3, after.execution) != (choice.l2, choice.l3, choice.execution)
        choice = after

    assert changes == 0


def test_symbols_in_trouble_leave_their_layers_with_the_reason_unless_pinned() -> None:
    btc, eth, sol = Symbol("BTC/USD"), Symbol("ETH/USD"), Symbol("SOL/USD")
    trouble = Standing(
        barred={btc: "refused by the venue", sol: "book quarantined"},
        barred_l3={eth: "level3 quarantined"},
        suspended={eth: "book late"},
    )
    choice = choose_universe(LISTED, VOLUMES, configured=(), pinned=(sol,), settings=SETTINGS, standing=trouble)

    assert choice.l2 == (eth, sol, XRP)
    assert choice.l3 == (sol, XRP)
    assert choice.execution == (sol,)
    assert choice.left_out[btc] == "refused by the venue"
    assert choice.left_out[eth] == "book late"


def test_a_pinned_symbol_keeps_its_queue_whatever_is_wrong_with_it() -> None:
    btc, eth = Symbol("BTC/USD"), Symbol("ETH/USD")
    trouble = Standing(barred_l3={btc: "level3 quarantined", eth: "level3 quarantined"})
    choice = choose_universe(LISTED, VOLUMES, configured=(), pinned=(eth,), settings=SETTINGS, standing=trouble)

    assert btc not in choice.l3
    assert eth in choice.l3
    assert {btc, eth} <= set(choice.execution)


@pytest.mark.parametrize("status", [each for each in InstrumentStatus if each is not InstrumentStatus.ONLINE])
def test_a_symbol_that_is_not_online_comes_in_no_layer_but_a_member_stays_subscribed(status: InstrumentStatus) -> None:
    before = choose_universe(LISTED, VOLUMES, configured=(), pinned=(), settings=SETTINGS)
    listed = [instrument("BTC/USD", status), *LISTED[1:]]
    fresh = choose_universe(listed, VOLUMES, configured=(), pinned=(), settings=SETTINGS)
    member = choose_universe(listed, VOLUMES, configured=(), pinned=(), settings=SETTINGS, previous=before)

    assert "BTC/USD" not in fresh.l2
    assert fresh.left_out[Symbol("BTC/USD")] == f"status {status}"
    assert "BTC/USD" in member.l2


def test_a_pinned_symbol_that_the_venue_no_longer_lists_is_named() -> None:
    gone = Symbol("GONE/USD")
    choice = choose_universe(LISTED, VOLUMES, configured=(), pinned=(gone,), settings=SETTINGS)

    assert choice.pinned == ()
    assert choice.left_out[gone] == "not listed by the venue"
