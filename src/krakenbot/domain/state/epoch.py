"""Runs, lineages, epochs and universe snapshots.

A run is one period of raw data, a lineage an unbroken sequence of epochs, an epoch one universe refresh with the
criteria as measured. Enters: counts that ingest measured. Leaves: a status and the reasons for it.
"""

from __future__ import annotations

import enum
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
