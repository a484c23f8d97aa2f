from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve

from krakenbot.domain.state.epoch import Epoch, EpochCriteria, EpochStatus, bind_epoch, judge_epoch
from krakenbot.domain.values import EpochId, LineageId, RunId

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GOOD = EpochCriteria(
    symbols=100,
    l2_fresh=100,
    l3_set=50,
    l3_fresh=50,
    pinned=2,
    pinned_l2_fresh=2,
    pinned_l3_fresh=2,
    writer_lag_s=0.0,
    symbols_configured=None,
    l3_enabled=True,
)


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({}, EpochStatus.VALID),
        ({"l2_fresh": 95}, EpochStatus.VALID),
        ({"l2_fresh": 94}, EpochStatus.DEGRADED),
        ({"l2_fresh": 50}, EpochStatus.DEGRADED),
        ({"l2_fresh": 49}, EpochStatus.INVALID),
        ({"pinned_l2_fresh": 1}, EpochStatus.DEGRADED),
        ({"l3_fresh": 40}, EpochStatus.VALID),
        ({"l3_fresh": 39}, EpochStatus.DEGRADED),
        ({"pinned_l3_fresh": 1}, EpochStatus.DEGRADED),
        ({"l3_set": 0, "l3_fresh": 0}, EpochStatus.DEGRADED),
        ({"l3_set": 0, "l3_fresh": 0, "l3_enabled": False}, EpochStatus.VALID),
        ({"l3_fresh": 0, "pinned_l3_fresh": 0, "l3_enabled": False}, EpochStatus.VALID),
        ({"writer_lag_s": 5.0}, EpochStatus.VALID),
        ({"writer_lag_s": 5.001}, EpochStatus.DEGRADED),
        ({"writer_lag_s": float("nan")}, EpochStatus.DEGRADED),
        ({"symbols": 10, "l2_fresh": 10}, EpochStatus.VALID),
        ({"symbols": 9, "l2_fresh": 9}, EpochStatus.DEGRADED),
        ({"symbols": 7, "l2_fresh": 7, "symbols_configured": 7}, EpochStatus.VALID),
        ({"symbols": 6, "l2_fresh": 6, "symbols_configured": 7}, EpochStatus.DEGRADED),
        ({"symbols": 11, "l2_fresh": 11, "symbols_configured": 12}, EpochStatus.VALID),
        ({"symbols": 0, "l2_fresh": 0}, EpochStatus.INVALID),
    ],
)
def test_each_threshold_is_crossed_both_ways(changed: dict[str, Any], status: EpochStatus) -> None:
    judged, reasons = judge_epoch(evolve(GOOD, **changed))

    assert status is judged
    assert (status is EpochStatus.VALID) is (reasons == ())


def epoch(epoch_id: int, status: EpochStatus, age_s: float) -> Epoch:
    return Epoch(
        epoch_id=EpochId(epoch_id),
        lineage_id=LineageId(1),
        run_id=RunId(1),
        status=status,
        created_at=AT - timedelta(seconds=age_s),
        criteria=GOOD,
        reasons=(),
    )


def test_newest_valid_epoch_is_bound_even_behind_a_newer_degraded_one() -> None:
    epochs = [
        epoch(1, EpochStatus.VALID, 90),
        epoch(2, EpochStatus.VALID, 60),
        epoch(3, EpochStatus.DEGRADED, 30),
        epoch(4, EpochStatus.INVALID, 1),
    ]

    assert epochs[1] == bind_epoch(epochs, AT, 120.0)
    assert epochs[1] == bind_epoch(epochs, AT, 60.0)
    assert epochs[2] == bind_epoch(epochs, AT, 59.9)


def test_without_valid_or_degraded_epoch_nothing_is_bound() -> None:
    assert bind_epoch([epoch(1, EpochStatus.INVALID, 1), epoch(2, EpochStatus.VALID, 121)], AT, 120.0) is None
    assert bind_epoch([], AT, 120.0) is None
