"""Rotation and retention as engine tasks, over stores in memory and virtual time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from tests.events import Events

from krakenbot.adapters.memory.database import MemoryDatabase
from krakenbot.adapters.memory.retention_store import ROW_BYTES, MemoryRetentionStore
from krakenbot.adapters.memory.state_stores import MemoryLineageStore
from krakenbot.domain.engine.retention import (
    DELETE_ROWS,
    DELETE_STEPS,
    PRUNE_EPOCHS,
    PRUNE_STEPS,
    WINDOW_SLACK_S,
    Retention,
)
from krakenbot.domain.engine.runs import RunKeeper
from krakenbot.domain.errors import SecondWriteFailed, StoreConflict, StoreUnavailable
from krakenbot.domain.market.samples import TickerSample
from krakenbot.domain.state.retention import RetentionSettings, RunSettings
from krakenbot.domain.state.windows import ns_of
from krakenbot.domain.values import LineageId, RunId, Symbol

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class VirtualClock:
    def __init__(self) -> None:
        self.began = anyio.current_time()

    def mono(self) -> float:
        return anyio.current_time() - self.began

    def now(self) -> datetime:
        return START + timedelta(seconds=self.mono())

    def now_ns(self) -> int:
        return ns_of(self.now())

    async def sleep(self, duration_s: float) -> None:
        await anyio.sleep(duration_s)


class FailingLineageStore(MemoryLineageStore):
    """Raises what `fail` names for a call, as often as it says; a failed second write has done the first."""

    def __init__(self, database: MemoryDatabase) -> None:
        super().__init__(database)
        self.fail: dict[str, list[StoreUnavailable]] = {}

    def _maybe(self, name: str) -> None:
        if self.fail.get(name):
            raise self.fail[name].pop(0)

    async def start_lineage(self, at: datetime) -> tuple[LineageId, RunId]:
        self._maybe("start_lineage")
        return await super().start_lineage(at)

    async def prepare_run(self) -> RunId:
        self._maybe("prepare_run")
        return await super().prepare_run()

    async def start_run(self, lineage_id: LineageId, at: datetime, prepared: RunId | None = None) -> RunId:
        failures = self.fail.get("start_run", [])
        if failures and not isinstance(failures[0], SecondWriteFailed):
            self._maybe("start_run")
        run_id = await super().start_run(lineage_id, at, prepared)
        self._maybe("start_run")
        return run_id


class Rig:
    def __init__(self, **settings: Any) -> None:
        self.database, self.events, self.rows = MemoryDatabase(), Events(), 0
        self.store = FailingLineageStore(self.database)
        self.clock = VirtualClock()
        self.told: list[RunId] = []
        self.keeper = RunKeeper(
            clock=self.clock,
            store=self.store,
            events=self.events,
            settings=RunSettings(**{"check_interval_s": 1.0, **settings}),
            rows_written=lambda: self.rows,
        )
        self.keeper.tell(self.told.append)

    async def run_for(self, duration_s: float) -> None:
        with anyio.move_on_after(duration_s):
            await self.keeper.run()


async def test_a_run_is_prepared_long_before_it_is_needed_and_begun_by_age() -> None:
    rig = Rig(max_age_s=100.0)
    await rig.keeper.start()
    await rig.run_for(99.5)
    before = list(rig.told), [name for name, _ in rig.events.rows]
    await rig.run_for(110.0)

    assert ([1], ["run_prepared"]) == before
    assert [1, 2, 3] == rig.told
    assert {1: 1, 2: 1, 3: 1} == rig.database.runs
    assert [rig.database.run_starts[RunId(n)] for n in (2, 3)] == [rig.database.ended_runs[RunId(n)] for n in (1, 2)]
    assert ["age 100 s >= 100 s"] * 2 == [fields["cause"] for fields in rig.events.of("run_rotated")]
    assert 4 == rig.events.of("run_prepared")[-1]["run_id"]


async def test_rows_are_counted_from_the_beginning_of_each_run() -> None:
    rig = Rig(max_rows=100)
    await rig.keeper.start()
    rotations = []
    for rows in (99, 100, 199, 200, 299):
        rig.rows = rows
        await rig.run_for(2.5)
        rotations.append(rig.keeper.rotations)

    assert [0, 1, 1, 2, 2] == rotations
    assert 99 == rig.keeper.rows


async def test_a_database_that_is_away_keeps_the_run_going_and_is_said_each_time() -> None:
    rig = Rig(max_age_s=10.0)
    await rig.keeper.start()
    rig.store.fail = {"prepare_run": [StoreUnavailable("away")] * 2, "start_run": [StoreUnavailable("away")] * 3}
    await rig.run_for(12.5)
    during = list(rig.told)
    await rig.run_for(3.0)

    assert [1] == during
    assert [1, 2] == rig.told
    assert 5 == len(rig.events.of("run_not_rotated"))
    assert 2 == rig.events.of("run_prepared")[0]["run_id"], "the same run is begun by every attempt"


async def test_a_second_write_that_fails_is_said_and_rows_go_to_the_run_that_has_begun() -> None:
    rig = Rig(max_age_s=10.0)
    await rig.keeper.start()
    rig.store.fail = {"start_run": [SecondWriteFailed("decision away")]}
    await rig.run_for(11.5)

    assert [1, 2] == rig.told
    assert [{"run_id": 2, "reason": "decision away"}] == rig.events.of("run_not_published")
    assert 2 == rig.keeper.run_id


async def test_a_start_without_databases_waits_and_says_so() -> None:
    rig = Rig()
    rig.store.fail = {"start_lineage": [StoreUnavailable("away")] * 3}
    await rig.keeper.start()

    assert 3 == len(rig.events.of("lineage_not_started"))
    assert 3.0 == pytest.approx(rig.clock.mono())
    assert (1, 1) == (rig.keeper.lineage_id, rig.keeper.run_id)


class FailingRetentionStore(MemoryRetentionStore):
    failures = 0
    failure: Exception = StoreUnavailable("lock timeout")

    async def drop_run(self, run_id: RunId, at: datetime) -> int:
        if self.failures:
            self.failures -= 1
            raise self.failure
        return await super().drop_run(run_id, at)


async def retained(
    database: MemoryDatabase, *, reach_s: float = 1800.0, **settings: Any
) -> tuple[Retention, FailingRetentionStore, Events]:
    """Make five runs of an hour with ten rows each; the last goes on."""
    lineage, events, store = MemoryLineageStore(database), Events(), FailingRetentionStore(database)
    lineage_id, run_id = await lineage.start_lineage(START - timedelta(hours=5))
    for hour in range(5):
        begun_at = START - timedelta(hours=5 - hour)
        if hour:
            run_id = await lineage.start_run(lineage_id, begun_at)
        for minute in range(10):
            at_ns = ns_of(begun_at + timedelta(minutes=minute))
            database.samples[run_id].append(
                TickerSample(
                    symbol=Symbol("A/USD"), at_ns=at_ns, received_at_ns=at_ns, bid=1, ask=2, last=1, volume_24h=1
                )
            )
    clock = VirtualClock()
    made = Retention(
        clock=clock,
        store=store,
        events=events,
        settings=RetentionSettings(**{"keep_s": 0.0, "check_interval_s": 60.0, **settings}),
        reach_s=reach_s,
    )
    return made, store, events


async def test_retention_drops_by_bytes_and_its_effects_are_events() -> None:
    database = MemoryDatabase()
    retention, _, events = await retained(database, max_bytes=25 * ROW_BYTES)
    await retention.step()
    await retention.step()

    assert [1, 2, 3] == [fields["run_id"] for fields in events.of("run_dropped")]
    assert {10 * ROW_BYTES} == {fields["freed_bytes"] for fields in events.of("run_dropped")}
    assert {4, 5} == database.samples.keys()
    assert (20 * ROW_BYTES, 3, 0) == (retention.size_bytes, retention.dropped_runs, retention.over_bytes)


@pytest.mark.parametrize("failure", [StoreUnavailable("lock timeout"), StoreConflict("23503", "lock timeout")])
async def test_a_drop_that_fails_is_said_and_done_by_the_next_check(failure: Exception) -> None:
    database = MemoryDatabase()
    retention, store, events = await retained(database, max_age_s=3600.0 * 2.5)
    store.failures, store.failure = 1, failure
    with anyio.move_on_after(100.0):
        await retention.run()

    assert [{"reason": "lock timeout"}] == events.of("retention_failed")
    assert [1, 2] == [fields["run_id"] for fields in events.of("run_dropped")]


async def test_what_no_drop_can_bring_below_the_limit_is_said_and_trimmed_within_the_run_that_goes_on() -> None:
    database = MemoryDatabase()
    retention, _, events = await retained(database, max_bytes=1)
    await retention.step()

    assert {5} == database.samples.keys()
    assert 10 == events.of("run_rows_deleted")[0]["rows"]
    assert {"5": "goes on"} == events.of("retention_over_limit")[0]["kept"]
    assert 0 == len(database.samples[RunId(5)])
    assert DELETE_ROWS * DELETE_STEPS >= 100_000


@pytest.mark.parametrize(("reach_s", "dropped"), [(1800.0, 4), (3600.0 * 2.5, 2), (3600.0 * 9, 0)])
async def test_the_reach_of_the_windows_is_kept_even_where_the_settings_keep_less(reach_s: float, dropped: int) -> None:
    database = MemoryDatabase()
    retention, _, _ = await retained(database, reach_s=reach_s, max_bytes=1)
    await retention.step()

    assert dropped == retention.dropped_runs


@pytest.mark.parametrize("is_in_the_window", [False, True])
async def test_a_trim_takes_no_row_that_a_window_still_reads(is_in_the_window: bool) -> None:
    database = MemoryDatabase()
    # the ten rows of the run that goes on are 60 to 51 minutes old
    reach_s = 55 * 60.0 - WINDOW_SLACK_S + is_in_the_window
    retention, _, events = await retained(database, reach_s=reach_s, max_bytes=1)
    await retention.step()
    (deleted,) = events.of("run_rows_deleted")

    assert 5 == deleted["rows"]
    assert 5 == len(database.samples[RunId(5)])
    assert START - timedelta(seconds=reach_s + WINDOW_SLACK_S) == deleted["before"]


async def test_settings_that_keep_more_than_the_windows_reach_decide_what_a_trim_leaves() -> None:
    database = MemoryDatabase()
    retention, _, events = await retained(database, reach_s=60.0, keep_s=3600.0, max_bytes=1)
    await retention.step()

    assert [] == events.of("run_rows_deleted")
    assert 10 == len(database.samples[RunId(5)])


class CountingStore(MemoryRetentionStore):
    """Finds as many rows as it is given, each step at most as many as it may take, and remembers the steps."""

    def __init__(self, database: MemoryDatabase, found: int) -> None:
        super().__init__(database)
        self.found = dict.fromkeys(("delete_rows", "prune_epochs", "forget_lineages", "forget_runs"), found)
        self.steps: dict[str, list[int]] = {}

    def _take(self, name: str, limit: int) -> int:
        self.steps.setdefault(name, []).append(limit)
        count = min(limit, self.found[name])
        self.found[name] -= count
        return count

    async def delete_rows(self, run_id: RunId, before: datetime, limit: int) -> int:
        return self._take("delete_rows", limit)

    async def prune_epochs(self, before: datetime, limit: int) -> int:
        return self._take("prune_epochs", limit)

    async def forget_lineages(self, limit: int) -> int:
        return self._take("forget_lineages", limit)

    async def forget_runs(self, limit: int) -> int:
        return self._take("forget_runs", limit)


@pytest.mark.parametrize(
    ("found", "deletes", "prunes"), [(0, 1, 1), (1, 2, 2), (50_000, 4, PRUNE_STEPS), (10**9, DELETE_STEPS, PRUNE_STEPS)]
)
async def test_every_removal_goes_on_in_steps_until_nothing_is_left_or_the_check_has_done_enough(
    found: int, deletes: int, prunes: int
) -> None:
    retention, _, events = await retained(MemoryDatabase(), max_bytes=1, epochs_max_age_s=7200.0)
    store = CountingStore(retention._store._db, found)  # type: ignore[attr-defined]
    retention._store = store
    await retention.step()

    assert {
        "delete_rows": [DELETE_ROWS] * deletes,
        "prune_epochs": [PRUNE_EPOCHS] * prunes,
        "forget_lineages": [DELETE_ROWS] * deletes,
        "forget_runs": [DELETE_ROWS] * deletes,
    } == store.steps
    taken = {name: found - left for name, left in store.found.items()}
    said = {
        "delete_rows": [event["rows"] for event in events.of("run_rows_deleted")],
        "prune_epochs": [event["count"] for event in events.of("epochs_pruned")],
        "forget_lineages": [event["rows"] for event in events.of("lineages_forgotten")],
        "forget_runs": [event["rows"] for event in events.of("runs_forgotten")],
    }
    assert {name: [count] * bool(count) for name, count in taken.items()} == said


async def test_epochs_are_pruned_by_their_own_age() -> None:
    retention, _, events = await retained(MemoryDatabase(), epochs_max_age_s=7200.0)
    retention._store = CountingStore(retention._store._db, 1)  # type: ignore[attr-defined]
    await retention.step()

    assert [{"count": 1, "before": START - timedelta(seconds=7200)}] == events.of("epochs_pruned")
