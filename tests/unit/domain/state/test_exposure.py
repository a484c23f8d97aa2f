from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from krakenbot.domain.state.exposure import exposure_of, reserve_quote
from krakenbot.domain.values import Symbol

AMOUNTS = st.dictionaries(
    st.sampled_from([Symbol("A/USD"), Symbol("B/USD"), Symbol("C/USD")]), st.decimals(0, 10**6, places=4), max_size=3
)


@given(AMOUNTS, AMOUNTS)
def test_possible_positions_count_as_positions(held: dict[Symbol, Decimal], possible: dict[Symbol, Decimal]) -> None:
    exposure = exposure_of(held, possible)

    assert sum(held.values()) + sum(possible.values()) == exposure.total_quote
    assert all(exposure.of(symbol) >= amount for symbol, amount in possible.items())


def test_buy_reserves_its_cost_and_a_takers_fee() -> None:
    assert Decimal("100.40") == reserve_quote(Decimal(100), Decimal(40))
    assert exposure_of({}, {}).of(Symbol("A/USD")) == 0
