"""What `krakenbot exchange` is told about fees, accounts and open rules reaches the venue."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from krakenbot.adapters.local_exchange.keys import AccountsFileError, parse_accounts
from krakenbot.adapters.local_exchange.matching.accounts import StopHolds
from krakenbot.adapters.local_exchange.matching.fees import Rates
from krakenbot.adapters.local_exchange.matching.settings import RULES
from krakenbot.adapters.local_exchange.pytest_plugin import kraken_exchange
from krakenbot.apps.exchange_building import build, steady_clock
from krakenbot.apps.exchange_options import ExchangeOptions

__all__ = ["kraken_exchange"]


def accounts(**more: object) -> str:
    return json.dumps([{"name": "a", "keys": [], "balances": {"USD": "5"}} | more])


def test_fees_tiers_and_rules_reach_the_venue():
    options = ExchangeOptions(
        symbols=2,
        flow="still",
        fees="tiered",
        pair_fees=("BTC/USD=-2/10",),
        rules=("amend_queue=always_back", "stop_holds=shared"),
        post_only_reject="cancel",
    )
    entries = parse_accounts(accounts(tier="starter", volume_usd="100000"))
    built, _flow = build(options, entries, steady_clock(), None)
    venue = built.venue
    account = venue.accounts["a"]
    rates = {symbol: venue.rates(account, market) for symbol, market in venue.markets.items()}

    assert {"BTC/USD": Rates(-200, 1000), "ETH/USD": Rates(1200, 2200)} == rates
    assert account.limits.threshold == 60
    assert ("always_back", "cancel", StopHolds.SHARED) == (
        venue.settings.amend_queue,
        venue.settings.post_only_reject,
        account.stop_holds,
    )


def test_without_options_rates_are_flat_and_the_tier_is_pro():
    built, _flow = build(ExchangeOptions(symbols=1, flow="still"), parse_accounts(accounts()), steady_clock(), None)
    account = built.venue.accounts["a"]
    account.volume.add(Decimal(10**9), built.venue.now_ns)

    assert built.venue.rates(account, built.venue.markets["BTC/USD"]) == Rates(2500, 4000)
    assert account.limits.threshold == 180


@pytest.mark.parametrize("more", [{"volume_usd": 5}, {"volume_usd": "-1"}, {"volume_usd": "much"}, {"tier": "gold"}])
def test_a_wrong_tier_or_volume_names_the_place(more):
    with pytest.raises(AccountsFileError, match=next(iter(more))):
        parse_accounts(accounts(**more))


@pytest.mark.parametrize(
    "kraken_exchange",
    [{"flow": "still", "fees": "tiered", "pair_fee": ["BTC/USD=-2/10"], "rule": ["gtd_post_only=refused"]}],
    indirect=True,
)
def test_the_command_line_reaches_the_venue(kraken_exchange):
    status = kraken_exchange.status()

    assert status["fees"] == "tiered"
    assert status["rules"] == {name: rule.values[0] for name, rule in RULES.items()} | {"gtd_post_only": "refused"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rules": ("amend_queue=no",)}, "amend_queue is one of"),
        ({"rules": ("nothing=no",)}, "rules are"),
        ({"pair_fees": ("BTC/USD",)}, "write SYMBOL=MAKER/TAKER"),
        (
            {"pair_fees": ("NO/USD=1/1",)},
            "NO/USD, not listed here: name another pair in --pair-fee",
        ),
    ],
)
def test_a_wrong_option_is_refused_with_a_sentence(options, message):
    with pytest.raises(ValueError, match=message):
        build(ExchangeOptions(symbols=1, flow="still", **options), parse_accounts(accounts()), steady_clock(), None)
