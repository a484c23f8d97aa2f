"""Runs, lineages, epochs and universe snapshots.

A run is one period of raw data, a lineage an unbroken sequence of epochs, an epoch one universe refresh with the
criteria as measured. Enters: counts that ingest measured. Leaves: a status and the reasons for it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from datetime import datetime

from attrs import frozen

from krakenbot.domain.values import EpochId, LineageId, RunId, Symbol


class EpochStatus(enum.StrEnum):
    """How far an epoch may be trusted."""

    VALID = "valid"
    DEGRADED = "degraded"
    INVALID = "invalid"


@frozen(kw_only=True)
class EpochCriteria:
    """What was measured when the epoch was made; shares in 0..1, lag in seconds."""

    symbols: int
    l2_fresh: int
    l3_set: int
    l3_fresh: int
    pinned: int
    pinned_l2_fresh: int
    pinned_l3_fresh: int
    writer_lag_s: float
    symbols_configured: int | None
    l3_enabled: bool


@frozen(kw_only=True)
class Epoch:
    """One epoch of a lineage; `epoch_id` is monotone per lineage."""

    epoch_id: EpochId
    lineage_id: LineageId
    run_id: RunId
    status: EpochStatus
    created_at: datetime
    criteria: EpochCriteria
    reasons: tuple[str, ...]


@frozen(kw_only=True)
class UniverseSnapshot:
    """The symbols of one epoch: the execution set, and the pinned ones among them."""

    epoch_id: EpochId
    execution: tuple[Symbol, ...]
    l3: tuple[Symbol, ...]
    pinned: tuple[Symbol, ...]


MIN_SYMBOLS = 10
L2_SHARE_PERCENT = 95
L2_DEGRADED_PERCENT = 50
L3_SHARE_PERCENT = 80
MAX_WRITER_LAG_S = 5.0


def judge_epoch(criteria: EpochCriteria) -> tuple[EpochStatus, tuple[str, ...]]:
    """Return the status of an epoch, and every criterion that it misses (none when valid).

    Valid: fresh L2 for at least 95 % of the symbols and every pinned one, fresh L3 for at least 80 % of the L3 set
    and every pinned one, writer lag at most 5 s, at least 10 symbols or all configured ones when those are fewer.
    Degraded: fresh L2 for at least half. Else invalid. Without level3 (no key, or none wanted) its criteria do not
    apply; with it an empty L3 set misses them.
    """
    reasons = [reason for missed, reason in _criteria(criteria) if missed]
    if criteria.symbols == 0 or criteria.l2_fresh * 100 < criteria.symbols * L2_DEGRADED_PERCENT:
        return EpochStatus.INVALID, tuple(reasons)
    return (EpochStatus.DEGRADED if reasons else EpochStatus.VALID), tuple(reasons)


def bind_epoch(epochs: Iterable[Epoch], at: datetime, max_epoch_age_s: float) -> Epoch | None:
    """Return the newest valid epoch of at most `max_epoch_age_s`, else the newest degraded one, else None.

    A degraded epoch serves exits only; readiness refuses entries on it.
    """
    newest_first = sorted(epochs, key=lambda epoch: (epoch.created_at, epoch.epoch_id), reverse=True)
    for epoch in newest_first:
        if epoch.status is EpochStatus.VALID and (at - epoch.created_at).total_seconds() <= max_epoch_age_s:
            return epoch
    return next((epoch for epoch in newest_first if epoch.status is EpochStatus.DEGRADED), None)


def _criteria(criteria: EpochCriteria) -> list[tuple[bool, str]]:
    configured = criteria.symbols_configured
    least = MIN_SYMBOLS if configured is None else min(MIN_SYMBOLS, configured)
    l3 = criteria.l3_enabled
    return [
        (criteria.symbols < least, f"symbols {criteria.symbols} < {least}"),
        (
            criteria.l2_fresh * 100 < criteria.symbols * L2_SHARE_PERCENT,
            f"L2 fresh {criteria.l2_fresh} of {criteria.symbols} < {L2_SHARE_PERCENT} %",
        ),
        (
            criteria.pinned_l2_fresh < criteria.pinned,
            f"L2 of pinned symbols {criteria.pinned_l2_fresh} of {criteria.pinned}",
        ),
        (
            l3 and (criteria.l3_fresh * 100 < criteria.l3_set * L3_SHARE_PERCENT or criteria.l3_set == 0),
            f"L3 fresh {criteria.l3_fresh} of {criteria.l3_set} < {L3_SHARE_PERCENT} %",
        ),
        (
            l3 and criteria.pinned_l3_fresh < criteria.pinned,
            f"L3 of pinned symbols {criteria.pinned_l3_fresh} of {criteria.pinned}",
        ),
        (
            not criteria.writer_lag_s <= MAX_WRITER_LAG_S,
            f"writer lag {criteria.writer_lag_s:.1f} s > {MAX_WRITER_LAG_S:.0f} s",
        ),
    ]
