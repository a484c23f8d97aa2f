from __future__ import annotations

from decimal import Decimal

import pytest

from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.state.standing import Layer, Standing, StandingKeeper, StandingSettings, Trouble
from krakenbot.domain.values import Asset, Symbol

BTC = Symbol("BTC/USD")
SETTINGS = StandingSettings(suspend_after_s=30, bar_after_s=300, rest_s=3600, clean_after_s=60, status_patience_s=900)


def listed(status: InstrumentStatus = InstrumentStatus.ONLINE) -> list[Instrument]:
    return [
        Instrument(
            symbol=BTC,
            base=Asset("BTC"),
            quote=Asset("USD"),
            status=status,
            price_precision=1,
            qty_precision=8,
            cost_precision=5,
            price_increment=Decimal("0.1"),
            qty_increment=Decimal("0.00000001"),
            qty_min=Decimal("0.0001"),
            cost_min=Decimal("0.5"),
        )
    ]


def trouble(layer: Layer = Layer.L2, *, for_ever: bool = False) -> list[Trouble]:
    return [Trouble(symbol=BTC, layer=layer, reason="checksum", for_ever=for_ever)]


def after(keeper: StandingKeeper, at_mono: float, troubles: list[Trouble]) -> Standing:
    return keeper.observe(listed(), troubles, at_mono)


@pytest.mark.parametrize(
    ("age_s", "suspended", "barred"),
    [(0, False, False), (29.9, False, False), (30, True, False), (299.9, True, False), (300, True, True)],
)
def test_each_threshold_of_a_trouble_is_crossed(age_s: float, suspended: bool, barred: bool) -> None:
    keeper = StandingKeeper(SETTINGS)
    after(keeper, 0.0, trouble())
    standing = after(keeper, age_s, trouble())

    assert suspended is (BTC in standing.suspended)
    assert barred is (BTC in standing.barred)
    assert set(standing.suspended.values()) <= {"checksum"}


def test_a_trouble_that_flickers_counts_from_its_beginning() -> None:
    keeper = StandingKeeper(SETTINGS)
    seen = [
        BTC in after(keeper, at_mono, trouble() if at_mono % 40 == 0 else []).suspended for at_mono in range(0, 200, 10)
    ]

    assert seen == [False] * 4 + [True] * 16, "only when it was seen again is it known to last"


def test_a_symbol_in_trouble_once_and_well_again_is_never_suspended() -> None:
    keeper = StandingKeeper(SETTINGS)
    seen = [after(keeper, at_mono, trouble() if at_mono < 20 else []) for at_mono in range(0, 400, 10)]

    assert all(standing == Standing() for standing in seen)


def test_a_trouble_is_over_when_all_was_well_for_long_enough() -> None:
    keeper = StandingKeeper(SETTINGS)
    after(keeper, 0.0, trouble())
    after(keeper, 100.0, trouble())

    assert BTC in after(keeper, 159.9, []).suspended
    assert BTC not in after(keeper, 160.0, []).suspended
    assert BTC not in after(keeper, 170.0, trouble()).suspended, "it counts anew"


def test_who_is_barred_rests_although_nothing_is_seen_of_it_and_then_tries_again() -> None:
    keeper = StandingKeeper(SETTINGS)
    after(keeper, 0.0, trouble())
    after(keeper, 300.0, trouble())

    assert BTC in after(keeper, 3899.0, []).barred
    assert after(keeper, 3900.0, []) == Standing()


def test_a_refusal_for_ever_bars_at_once() -> None:
    keeper = StandingKeeper(SETTINGS)

    assert after(keeper, 0.0, trouble(for_ever=True)).barred == {BTC: "checksum"}


def test_a_queue_in_trouble_costs_its_own_layer_only() -> None:
    keeper = StandingKeeper(SETTINGS)
    after(keeper, 0.0, trouble(Layer.L3))
    early, late = after(keeper, 299.0, trouble(Layer.L3)), after(keeper, 300.0, trouble(Layer.L3))

    assert early == Standing()
    assert late == Standing(barred_l3={BTC: "checksum"})


@pytest.mark.parametrize(
    ("age_s", "status", "barred"),
    [
        (899.9, InstrumentStatus.CANCEL_ONLY, False),
        (900.0, InstrumentStatus.CANCEL_ONLY, True),
        (0.0, InstrumentStatus.MAINTENANCE, False),
        (0.0, InstrumentStatus.DELISTED, True),
    ],
)
def test_a_symbol_that_is_not_online_leaves_execution_at_once_and_the_feed_late(
    age_s: float, status: InstrumentStatus, barred: bool
) -> None:
    keeper = StandingKeeper(SETTINGS)
    keeper.observe(listed(status), [], 0.0)
    standing = keeper.observe(listed(status), [], age_s)

    assert standing.suspended == {BTC: f"status {status}"}
    assert barred is (BTC in standing.barred)


def test_a_symbol_that_is_online_again_is_back_at_once() -> None:
    keeper = StandingKeeper(SETTINGS)
    keeper.observe(listed(InstrumentStatus.POST_ONLY), [], 0.0)

    assert keeper.observe(listed(), [], 1.0) == Standing()


def test_a_symbol_that_is_no_longer_listed_is_forgotten() -> None:
    keeper = StandingKeeper(SETTINGS)
    after(keeper, 0.0, trouble(for_ever=True))
    keeper.observe([], [], 1.0)

    assert after(keeper, 2.0, []) == Standing()
