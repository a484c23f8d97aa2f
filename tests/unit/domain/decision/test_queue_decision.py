from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from krakenbot.domain.decision.queue_decision import (
    LiveView,
    QueueSettings,
    RestingAction,
    choose_entry,
    decide_resting,
    microprice_dev_without_own_bps,
)

CALM = LiveView(
    book_valid=True,
    spread_bps=100.0,
    microprice_dev_bps=0.0,
    ofi_5s_z=0.0,
    bid_queue_change_1s=0.0,
    btc_return_1s_sigmas=0.0,
    is_btc=False,
    away_bps=0.0,
    p_fill_hold=0.2,
    p_fill_move=0.9,
    surplus_bps=30.0,
    rate_points=1.0,
    rest_s=20.0,
    since_reprice_s=None,
)


@pytest.mark.parametrize(
    ("changed", "action"),
    [
        ({}, RestingAction.HOLD),
        ({"book_valid": False}, RestingAction.CANCEL),
        ({"ofi_5s_z": -2.0}, RestingAction.HOLD),
        ({"ofi_5s_z": -2.01}, RestingAction.CANCEL),
        ({"ofi_5s_z": None}, RestingAction.HOLD),
        ({"microprice_dev_bps": -25.0}, RestingAction.HOLD),
        ({"microprice_dev_bps": -25.1}, RestingAction.CANCEL),
        ({"bid_queue_change_1s": -0.59}, RestingAction.HOLD),
        ({"bid_queue_change_1s": -0.6}, RestingAction.CANCEL),
        ({"btc_return_1s_sigmas": -3.0}, RestingAction.HOLD),
        ({"btc_return_1s_sigmas": -3.1}, RestingAction.CANCEL),
        ({"btc_return_1s_sigmas": -3.1, "is_btc": True}, RestingAction.HOLD),
        # 0.9 x (30 - 5) - 0.2 x 30 = 16.5, needs max(2, 7.5) + 0.2
        ({"away_bps": 5.0}, RestingAction.AMEND),
        ({"away_bps": 5.0, "rate_points": 46.0}, RestingAction.HOLD),
        ({"away_bps": 5.0, "rate_points": 44.0}, RestingAction.AMEND),
        ({"away_bps": 5.0, "rest_s": 14.9}, RestingAction.HOLD),
        ({"away_bps": 5.0, "since_reprice_s": 14.9}, RestingAction.HOLD),
        ({"away_bps": 5.0, "since_reprice_s": 15.0}, RestingAction.AMEND),
        ({"away_bps": 29.0}, RestingAction.HOLD),
        ({"away_bps": 5.0, "rest_s": 1.0, "ofi_5s_z": -3.0}, RestingAction.CANCEL),
    ],
)
def test_resting_entry(changed: dict[str, Any], action: RestingAction) -> None:
    assert decide_resting(evolve(CALM, **changed), QueueSettings()).action is action


def test_nothing_to_choose_from_is_stay_out() -> None:
    assert choose_entry([]) is None


@pytest.mark.parametrize(
    "changed", [{"improve_min_increments": 2}, {"min_gain_bps": 1.0}, {"gain_surplus_share": 0.2}, {"toxic_ofi_z": 0.0}]
)
def test_limits_cannot_be_loosened(changed: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        QueueSettings(**changed)


@pytest.mark.parametrize(
    ("bids", "own_price_ticks", "own_lots", "expected"),
    [
        # Alone at 9800: the next bid stands for the side, equal to the ask.
        ([(9800, 10), (9700, 50)], 9800, 10, 0.0),
        # Shared: 40 others against 50 asks.
        ([(9800, 50), (9700, 99)], 9800, 10, ((9800 * 50 + 10_300 * 40) / 90 - 10_050) / 10_050 * 10_000),
        # Behind the touch: nothing changes there.
        ([(9800, 50), (9700, 10)], 9700, 10, 0.0),
        ([(9800, 10)], 9800, 10, None),
        ([], 9800, 10, None),
    ],
)
def test_own_order_is_taken_out_of_the_microprice(
    bids: list[tuple[int, int]], own_price_ticks: int, own_lots: int, expected: float | None
) -> None:
    got = microprice_dev_without_own_bps(bids, [(10_300, 50)], own_price_ticks, own_lots)

    assert got is None if expected is None else got == pytest.approx(expected)


def test_order_alone_at_an_improved_price_is_not_toxic_to_itself() -> None:
    bids, asks = [(9801, 2), (9800, 50)], [(10_200, 50)]
    alone = microprice_dev_without_own_bps(bids, asks, 9801, 2)
    naive = microprice_dev_without_own_bps(bids, asks, 0, 0)

    assert alone is not None
    assert naive is not None
    spread_bps = (10_200 - 9800) / 10_000 * 10_000
    view = evolve(CALM, spread_bps=spread_bps)
    assert decide_resting(evolve(view, microprice_dev_bps=alone), QueueSettings()).action is RestingAction.HOLD
    assert decide_resting(evolve(view, microprice_dev_bps=naive), QueueSettings()).action is RestingAction.CANCEL


def test_no_book_on_one_side_has_no_microprice() -> None:
    assert microprice_dev_without_own_bps([(9800, 50)], [], 0, 0) is None
