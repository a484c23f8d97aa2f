"""Retention: which runs' raw rows may go, and when a run has to give way to the next.

Enters: the stored runs with their sizes, the instants at which open orders and positions began, limits. Leaves: what
to drop and why the rest is kept. Called by the run keeper and the retention task of ingest.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from attrs import field, frozen
from attrs.validators import ge, gt

from krakenbot.domain.values import LineageId, RunId


@frozen(kw_only=True)
class RunSettings:
    """When a run ends and the next begins, within one lineage: after `max_age_s`, or after `max_rows` raw rows."""

    max_age_s: float = field(default=6 * 3600.0, validator=ge(1.0))
    max_rows: int = field(default=20_000_000, validator=ge(1))
    check_interval_s: float = field(default=5.0, validator=ge(0.1))

    def is_over(self, age_s: float, rows: int) -> str:
        """Return why a run of this age and size has to end; empty when it may go on."""
        if age_s >= self.max_age_s:
            return f"age {age_s:.0f} s >= {self.max_age_s:.0f} s"
        return f"rows {rows} >= {self.max_rows}" if rows >= self.max_rows else ""


@frozen(kw_only=True)
class RetentionSettings:
    """How long and how much is kept.

    `max_age_s` and `max_bytes` limit raw rows, counted from the end of their run. `keep_s` is kept in any case, and so
    is what the longest window reads. Epochs and universe snapshots are kept for `epochs_max_age_s`.
    """

    max_age_s: float = field(default=7 * 86_400.0, validator=gt(0.0))
    max_bytes: int = field(default=50 * 1024**3, validator=ge(1))
    keep_s: float = field(default=7_200.0, validator=ge(0.0))
    epochs_max_age_s: float = field(default=7 * 86_400.0, validator=ge(3600.0))
    check_interval_s: float = field(default=300.0, validator=ge(1.0))


@frozen(kw_only=True)
class StoredRun:
    """A run with raw rows; `started_at` None when it was only prepared, `ended_at` None while it goes on."""

    run_id: RunId
    lineage_id: LineageId | None
    started_at: datetime | None
    ended_at: datetime | None
    size_bytes: int


@frozen(kw_only=True)
class RetentionPlan:
    """What to do now: runs to drop with the cause, oldest first, and why each other one stays.

    `over_bytes` is what stays above the limit afterwards. `trim` names the run that then gives up its old rows, row by
    row; None when no run goes on.
    """

    drops: tuple[tuple[RunId, str], ...]
    kept: dict[RunId, str]
    over_bytes: int
    trim: RunId | None


def plan_retention(
    runs: Sequence[StoredRun],
    open_since: Sequence[datetime | None],
    *,
    at: datetime,
    window_s: float,
    settings: RetentionSettings,
) -> RetentionPlan:
    """Plan what is dropped: by age, then by bytes, oldest first; only what nothing needs any more.

    Kept whatever their size: the run that goes on, runs that ended within `window_s`, and runs in which an order that
    is still open or a position that is still held began. An unknown beginning (None) keeps all.
    """
    newest = max((run.run_id for run in runs if run.started_at is not None), default=RunId(0))
    kept: dict[RunId, str] = {}
    drops: list[tuple[RunId, str]] = []
    droppable: list[StoredRun] = []
    for run in sorted(runs, key=lambda run: run.run_id):
        reason = _needed(run, open_since, newest, at, window_s)
        if reason:
            kept[run.run_id] = reason
        elif run.ended_at is None:
            drops.append((run.run_id, "never begun"))
        elif (at - run.ended_at).total_seconds() >= settings.max_age_s:
            drops.append((run.run_id, f"ended more than {settings.max_age_s:.0f} s ago"))
        else:
            droppable.append(run)
    dropped = {run_id for run_id, _ in drops}
    size_bytes = sum(run.size_bytes for run in runs if run.run_id not in dropped)
    for run in droppable:
        if size_bytes > settings.max_bytes:
            drops.append((run.run_id, f"raw rows take more than {settings.max_bytes} bytes"))
            size_bytes -= run.size_bytes
        else:
            kept[run.run_id] = "within the limits"
    going_on = [run.run_id for run in runs if run.started_at is not None and run.ended_at is None]
    over_bytes = max(0, size_bytes - settings.max_bytes)
    return RetentionPlan(drops=tuple(sorted(drops)), kept=kept, over_bytes=over_bytes, trim=max(going_on, default=None))


def _needed(run: StoredRun, open_since: Sequence[datetime | None], newest: RunId, at: datetime, window_s: float) -> str:
    """Return why a run must stay; empty when it may go."""
    if run.started_at is None:
        return "" if run.run_id < newest else "prepared"
    if run.ended_at is None:
        return "goes on"
    if at - run.ended_at < timedelta(seconds=window_s):
        return "a window needs it"
    for since in open_since:
        if since is None:
            return "something open began at an unknown time"
        if run.started_at <= since <= run.ended_at:
            return "an open order or position began in it"
    return ""
