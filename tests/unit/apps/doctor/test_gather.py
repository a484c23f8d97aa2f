"""What is put together from what was read."""

from __future__ import annotations

from decimal import Decimal

from krakenbot.apps.doctor.gather import by_asset
from krakenbot.domain.values import Asset, Symbol


def test_positions_in_one_coin_are_added_up_whatever_they_were_bought_with() -> None:
    held = by_asset({Symbol("BTC/USD"): Decimal("0.5"), Symbol("BTC/EUR"): Decimal(1), Symbol("ETH/USD"): Decimal(2)})

    assert {Asset("BTC"): Decimal("1.5"), Asset("ETH"): Decimal(2)} == held
