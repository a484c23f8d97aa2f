from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.flow.instruments import load_instruments
from krakenbot.adapters.local_exchange.matching.fees import WINDOW_NS, FeeBook, Rates, TradedVolume, parse_pair_fees
from krakenbot.adapters.local_exchange.matching.settlement import usd_value
from krakenbot.adapters.local_exchange.matching.venue import Venue, VenueSettings
from krakenbot.adapters.local_exchange.protocol.rest_private import PrivateRest

RULES = load_instruments()


def shown(desk: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    result = PrivateRest(desk.exchange).answer("TradeVolume", desk.keys.keys["alice"], {"pair": "ABCUSD"})
    return result["fees"]["ABCUSD"], result["fees_maker"]["ABCUSD"]


@pytest.mark.parametrize(
    ("volume", "maker", "taker"),
    [
        ("0", 2500, 4000),
        ("9999.9999", 2500, 4000),
        ("10000", 2000, 3500),
        ("250000", 1000, 2000),
        ("10000000", 0, 1000),
        ("1e12", 0, 1000),
    ],
)
def test_the_rates_fall_with_the_volume(volume, maker, taker):
    assert Rates(maker, taker) == FeeBook(None, {}).rates(RULES["BTC/USD"], Decimal(volume))


def test_money_pairs_charge_maker_and_taker_alike():
    schedule = FeeBook(None, {}).schedule(RULES["USDT/USD"])

    assert schedule[0].rates == Rates(2000, 2000)
    assert all(tier.rates.maker_ppm == tier.rates.taker_ppm for tier in schedule)


def test_a_pairs_own_rates_go_before_flat_ones():
    book = FeeBook(Rates(2500, 4000), {"BTC/USD": Rates(-200, 1000)})

    assert Rates(-200, 1000) == book.rates(RULES["BTC/USD"], Decimal(0))
    assert Rates(2500, 4000) == book.rates(RULES["ETH/USD"], Decimal(10**9))


def test_a_rebate_is_paid_to_the_maker(make_desk):
    desk = make_desk(pair_fees={"ABC/USD": Rates(-200, 1000)})
    desk.order(desk.alice, "sell", "1", "100.0")
    desk.market.take("buy", 10_000)

    assert desk.alice.fills[0].fee == Decimal("-0.02000")
    assert desk.alice.balance("USD") == Decimal("1100.02000")


def test_own_trades_lower_the_rate_of_the_next_one(make_desk):
    desk = make_desk(fees="tiered")
    desk.alice.volume.add(Decimal(9950), desk.start_ns)
    desk.market.place("buy", 1000, 10_000)
    desk.order(desk.alice, "sell", "0.5", "100.0")
    desk.order(desk.alice, "sell", "0.5", "100.0")

    assert [Decimal("0.20000"), Decimal("0.17500")] == [fill.fee for fill in desk.alice.fills]


def test_volume_is_forgotten_after_30_days():
    volume = TradedVolume()
    volume.add(Decimal(100), 0)
    volume.add(Decimal(50), 10)

    assert [Decimal(150), Decimal(50), Decimal(0)] == [
        volume.at(at) for at in (WINDOW_NS - 1, WINDOW_NS, 2 * WINDOW_NS)
    ]


def test_trade_volume_shows_the_tier_and_the_next_one(make_desk):
    desk = make_desk(fees="tiered")
    desk.alice.volume.add(Decimal(10000), desk.start_ns)
    taker, maker = shown(desk)

    assert taker == {
        "fee": "0.3500",
        "minfee": "0.1000",
        "maxfee": "0.4000",
        "nextfee": "0.2400",
        "nextvolume": "50000.0000",
        "tiervolume": "10000.0000",
    }
    assert ("0.2000", "0.0000", "0.2500", "0.1400") == tuple(maker[n] for n in ("fee", "minfee", "maxfee", "nextfee"))


def test_trade_volume_of_the_last_tier_has_no_next_one(make_desk):
    desk = make_desk(fees="tiered")
    desk.alice.volume.add(Decimal("200709587.4223"), desk.start_ns)
    taker, _maker = shown(desk)

    assert (None, None, "10000000.0000") == (taker["nextfee"], taker["nextvolume"], taker["tiervolume"])


def test_flat_rates_stay_flat_at_any_volume(desk):
    desk.alice.volume.add(Decimal(10**8), desk.start_ns)
    taker, maker = shown(desk)

    assert ("0.4000", "0.2500", None) == (taker["fee"], maker["fee"], taker["nextfee"])


def test_a_rate_that_rose_is_capped_at_what_the_hold_covers(desk):
    order = desk.order(desk.alice, "buy", "9.96", "100.0")
    desk.alice.fixed_rates = Rates(90_000, 90_000)
    desk.market.take("sell", 99_600)

    assert order.status == "filled"
    assert Decimal("0.01600") == desk.alice.balance("USD") >= 0


def test_a_hold_covers_the_dearer_of_both_rates(make_desk):
    desk = make_desk(maker_ppm=5000, taker_ppm=1000)
    desk.order(desk.alice, "buy", "1", "100.0")

    assert desk.alice.held("USD") == Decimal("100.50000")


def test_volume_of_other_quotes_counts_in_dollars(desk):
    markets = {"ABC/USD": desk.market}
    before = usd_value(markets, "EUR", Decimal(10))
    desk.market.place("sell", 1000, 10)
    desk.market.take("buy", 10)

    assert before > 10
    assert usd_value(markets, "ABC", Decimal("1.5")) == Decimal("150.0000")
    assert usd_value(markets, "NOWHERE", Decimal(5)) == 0


def test_fees_of_pairs_are_read_from_the_command_line():
    found = parse_pair_fees(["BTC/USD=-0.2/10", "ETH/USD=0/0.5"])

    assert {"BTC/USD": Rates(-20, 1000), "ETH/USD": Rates(0, 50)} == found


@pytest.mark.parametrize(
    "texts",
    [["BTC/USD"], ["BTC/USD=1"], ["BTC/USD=1/2/3"], ["BTC/USD=x/1"], ["BTC/USD=1/-1"], ["BTC/USD=2000/1"],
     ["BTC/USD=0.001/1"], ["BTC/USD=NaN/1"], ["BTC/USD=1/1", "BTC/USD=2/2"]],
)  # fmt: skip
def test_fees_of_pairs_written_otherwise_are_refused(texts):
    with pytest.raises(ValueError, match="--pair-fee"):
        parse_pair_fees(texts)


def test_fees_of_a_pair_that_is_not_listed_are_refused():
    with pytest.raises(ValueError, match="NO/USD"):
        Venue({"BTC/USD": RULES["BTC/USD"]}, VenueSettings(pair_fees={"NO/USD": Rates(1, 1)}))
