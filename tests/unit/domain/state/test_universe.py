from __future__ import annotations

from decimal import Decimal

import pytest
from attrs import evolve

from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.state.universe import UniverseSettings, choose_universe, pegged_reason
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

    assert choice.pool == ("BTC/USD", "ETH/USD", "SOL/USD")
    assert choice.l2 == choice.execution == ("BTC/USD", "ETH/USD")
    assert choice.l3 == ("BTC/USD",)
    assert choice.left_out == {
        "ADA/EUR": "quote EUR is not traded",
        "EUR/USD": "fiat against fiat",
        "SOL/USD": "above the L2 limit",
        "USDT/USD": "stable base",
        "XRP/USD": "24 h volume is not known",
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
