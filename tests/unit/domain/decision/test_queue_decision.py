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
