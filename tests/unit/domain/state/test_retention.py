from __future__ import annotations

import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest
from attrs import evolve

from krakenbot.domain.state.retention import (
    RetentionPlan,
    RetentionSettings,
    RunSettings,
    StoredRun,
    plan_retention,
)
from krakenbot.domain.values import LineageId, RunId

AT = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR_S = 3600.0
SETTINGS = RetentionSettings(max_age_s=100 * HOUR_S, max_bytes=1000, keep_s=2 * HOUR_S)


def stored(run_id: int, started_h: float | None, ended_h: float | None, size_bytes: int = 100) -> StoredRun:
    def ago(hours: float | None) -> datetime | None:
        return None if hours is None else AT - timedelta(hours=hours)

    return StoredRun(
        run_id=RunId(run_id),
        lineage_id=None if started_h is None else LineageId(1),
        started_at=ago(started_h),
        ended_at=ago(ended_h),
        size_bytes=size_bytes,
    )


def plan(
    *runs: StoredRun, open_since: tuple[datetime | None, ...] = (), settings: RetentionSettings = SETTINGS
) -> RetentionPlan:
    return plan_retention(runs, open_since, at=AT, window_s=2 * HOUR_S, settings=settings)


def dropped(made: RetentionPlan) -> list[int]:
    return [run_id for run_id, _ in made.drops]


@pytest.mark.parametrize(("ended_h", "goes"), [(100.0, True), (99.99, False)])
def test_age_is_counted_from_the_end_of_a_run(ended_h: float, goes: bool) -> None:
    made = plan(stored(1, 200, ended_h), stored(2, ended_h, None))

    assert ([1] if goes else []) == dropped(made)
    assert "goes on" == made.kept[RunId(2)]


def test_bytes_take_the_oldest_first_and_no_more_than_needed() -> None:
    runs = [stored(n, 20 - n, 19 - n, 300) for n in range(1, 6)] + [stored(6, 14, None, 100)]
    made = plan(*runs)

    assert [1, 2] == dropped(made)
    assert 0 == made.over_bytes
    assert [1, 2, 3] == dropped(plan(*runs, settings=evolve(SETTINGS, max_bytes=999)))
    assert [] == dropped(plan(*runs, settings=evolve(SETTINGS, max_bytes=1600)))


@pytest.mark.parametrize(("ended_h", "goes"), [(2.0, True), (1.99, False)])
def test_what_a_window_needs_stays_whatever_its_size(ended_h: float, goes: bool) -> None:
    made = plan(stored(1, 50, ended_h, 10_000), stored(2, ended_h, None, 100))

    assert ([1] if goes else []) == dropped(made)
    assert (0 if goes else 9_100) == made.over_bytes
    assert RunId(2) == made.trim


def test_a_run_in_which_something_open_began_stays_whatever_its_age_and_size() -> None:
    runs = [stored(1, 300, 250, 5_000), stored(2, 250, 200, 5_000), stored(3, 200, None)]
    made = plan(*runs, open_since=(AT - timedelta(hours=220),))

    assert [1] == dropped(made)
    assert "an open order or position began in it" == made.kept[RunId(2)]
    assert 4_100 == made.over_bytes
    assert [1, 2] == dropped(plan(*runs))
    assert [] == dropped(plan(*runs, open_since=(None,)))


@pytest.mark.parametrize(("since_h", "kept"), [(300.01, None), (300, 1), (275, 1), (250, 1), (249.99, 2), (200, 2)])
def test_what_began_at_the_very_edge_of_a_run_began_in_it(since_h: float, kept: int | None) -> None:
    runs = [stored(1, 300, 250), stored(2, 249.99, 200), stored(3, 200, None)]
    made = plan(*runs, open_since=(AT - timedelta(hours=since_h),))

    assert [run_id for run_id in (1, 2) if run_id != kept] == dropped(made)


def test_a_run_that_was_prepared_and_never_begun_goes_once_a_later_one_has_begun() -> None:
    made = plan(stored(1, None, None, 8), stored(2, 1, None), stored(3, None, None, 8))

    assert ((RunId(1), "never begun"),) == made.drops
    assert "prepared" == made.kept[RunId(3)]


def test_no_plan_drops_what_is_needed_and_none_keeps_more_than_it_must() -> None:
    rng = random.Random(11)
    for _ in range(500):
        edges = sorted((rng.uniform(0, 300) for _ in range(rng.randrange(2, 9))), reverse=True)
        runs = [stored(n, a, b, rng.randrange(600)) for n, (a, b) in enumerate(itertools.pairwise(edges), start=1)]
        runs.append(stored(len(edges), edges[-1], None, rng.randrange(600)))
        since = tuple(AT - timedelta(hours=rng.uniform(0, 300)) for _ in range(rng.randrange(3)))
        made = plan(*runs, open_since=since)
        going = set(dropped(made))
        kept = [run for run in runs if run.run_id not in going]
        free = [run for run in kept if made.kept[run.run_id] == "within the limits"]

        assert {run.run_id for run in runs} == going | made.kept.keys()
        for run in runs:
            if run.run_id in going:
                assert run.ended_at is not None
                assert run.started_at is not None
                assert (AT - run.ended_at).total_seconds() >= 2 * HOUR_S
                assert not any(run.started_at <= at <= run.ended_at for at in since)
        assert not (free and made.over_bytes)
        assert max(0, sum(run.size_bytes for run in kept) - 1000) == made.over_bytes


@pytest.mark.parametrize(
    ("age_s", "rows", "is_over"), [(9.9, 99, False), (10.0, 0, True), (0.0, 100, True), (0.0, 99, False)]
)
def test_a_run_is_over_by_age_or_by_rows(age_s: float, rows: int, is_over: bool) -> None:
    assert is_over is bool(RunSettings(max_age_s=10, max_rows=100).is_over(age_s, rows))
