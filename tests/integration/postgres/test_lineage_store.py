"""The second write of runs and epochs: whatever fails, both databases end up the same, and ids never fall back."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from krakenbot.adapters.postgres.database import Body, Database, T
from krakenbot.adapters.postgres.databases import INGEST_ROLE
from krakenbot.adapters.postgres.lineage_store import PostgresLineageStore
from krakenbot.domain.errors import SecondWriteFailed, StoreUnavailable
from krakenbot.domain.state.epoch import EpochCriteria, EpochStatus
from krakenbot.domain.values import LineageId, RunId, Symbol

pytestmark = pytest.mark.postgres
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
CRITERIA = EpochCriteria(
    symbols=1,
    l2_fresh=1,
    l3_set=0,
    l3_fresh=0,
    pinned=0,
    pinned_l2_fresh=0,
    pinned_l3_fresh=0,
    writer_lag_s=0.25,
    symbols_configured=None,
    l3_enabled=False,
)
TABLES = {
    "ingest_lineage": "lineage_id, created_at",
    "observation_runs": "run_id, lineage_id, started_at, ended_at, raw_dropped_at",
    "ingest_epochs": "epoch_id, lineage_id, run_id, status, created_at, criteria, reasons",
    "execution_universe_snapshots": "epoch_id, execution, l3, pinned",
}


_MANY_EPOCHS = """
INSERT INTO ingest_epochs SELECT nextval('epoch_id_seq'), lineage_id, run_id, status, created_at, criteria, reasons
FROM ingest_epochs, generate_series(1, 400)
"""


class FailingDatabase(Database):
    """A real database; the next writes are refused, or committed with their answer lost."""

    refuse = 0
    lose_answer = 0

    async def write(self, body: Body[T]) -> T:
        if self.refuse:
            self.refuse -= 1
            raise StoreUnavailable("refused by the test")
        result = await super().write(body)
        if self.lose_answer:
            self.lose_answer -= 1
            raise StoreUnavailable("the answer was lost")
        return result


class Rig:
    def __init__(self, ingest: FailingDatabase, publish: FailingDatabase) -> None:
        self.ingest = ingest
        self.publish = publish
        self.store = PostgresLineageStore(ingest, publish)

    async def epoch(self, lineage_id: LineageId, run_id: RunId, at: datetime = AT) -> int:
        epoch, _ = await self.store.publish_epoch(
            lineage_id=lineage_id,
            run_id=run_id,
            status=EpochStatus.DEGRADED,
            criteria=CRITERIA,
            reasons=("L2 fresh 1 of 2 < 95 %",),
            execution=(Symbol("BTC/USD"),),
            l3=(),
            pinned=(Symbol("BTC/USD"),),
            at=at,
        )
        return epoch.epoch_id

    async def contents(self, database: Database) -> dict[str, list[Any]]:
        async def body(connection: Any) -> dict[str, list[Any]]:
            return {
                table: await (await connection.execute(f"SELECT {columns} FROM {table} ORDER BY 1")).fetchall()
                for table, columns in TABLES.items()
            }

        return await database.read(body)

    async def is_same(self) -> bool:
        return await self.contents(self.ingest) == await self.contents(self.publish)


@pytest.fixture
async def rig(database_urls: Any) -> AsyncIterator[Rig]:
    ingest = FailingDatabase(database_urls.ingest, name="ingest", role=INGEST_ROLE, max_size=2)
    publish = FailingDatabase(database_urls.decision, name="publish", role=INGEST_ROLE, max_size=2)
    await ingest.open()
    await publish.open()
    yield Rig(ingest, publish)
    await ingest.close()
    await publish.close()


async def test_an_epoch_whose_second_write_failed_waits_and_is_not_made_twice(rig: Rig) -> None:
    lineage_id, run_id = await rig.store.start_lineage(AT)
    rig.publish.refuse = 2
    with pytest.raises(SecondWriteFailed, match="refused by the test"):
        await rig.epoch(lineage_id, run_id)
    with pytest.raises(SecondWriteFailed):
        await rig.store.publish_pending()
    was_same = await rig.is_same()
    copied = [await rig.store.publish_pending(), await rig.store.publish_pending()]

    assert was_same is False
    assert [1, 0] == copied
    assert await rig.is_same()
    assert 1 == len((await rig.contents(rig.publish))["ingest_epochs"])


async def test_a_second_write_whose_answer_was_lost_is_not_written_twice(rig: Rig) -> None:
    lineage_id, run_id = await rig.store.start_lineage(AT)
    rig.publish.lose_answer = 1
    with pytest.raises(SecondWriteFailed):
        await rig.epoch(lineage_id, run_id)

    assert 0 == await rig.store.publish_pending()
    assert await rig.is_same()


async def test_a_rotation_that_did_not_reach_the_decision_database_comes_before_its_first_epoch(rig: Rig) -> None:
    lineage_id, _ = await rig.store.start_lineage(AT)
    rig.publish.refuse = 1
    prepared = await rig.store.prepare_run()
    with pytest.raises(SecondWriteFailed):
        await rig.store.start_run(lineage_id, AT, prepared)
    await rig.epoch(lineage_id, prepared)

    assert await rig.is_same()


async def test_what_one_process_could_not_write_the_next_one_brings_over(rig: Rig) -> None:
    lineage_id, run_id = await rig.store.start_lineage(AT)
    rig.publish.refuse = 3
    for n in range(3):
        with pytest.raises(SecondWriteFailed):
            await rig.epoch(lineage_id, run_id, AT + timedelta(seconds=n))
    after_restart = PostgresLineageStore(rig.ingest, rig.publish)
    await after_restart.start_lineage(AT + timedelta(seconds=60))

    assert await rig.is_same()
    assert 3 == len((await rig.contents(rig.publish))["ingest_epochs"])


@pytest.mark.parametrize("seed", range(2))
async def test_whatever_fails_in_whatever_order_both_databases_end_up_the_same(rig: Rig, seed: int) -> None:
    rng = random.Random(seed)
    lineage_id, run_id = await rig.store.start_lineage(AT)
    prepared = await rig.store.prepare_run()
    failures = 0
    for step in range(30):
        at = AT + timedelta(seconds=step)
        rig.publish.refuse, rig.publish.lose_answer = rng.choice([(0, 0), (1, 0), (0, 1), (2, 0)])
        try:
            kind = rng.random()
            if kind < 0.6:
                await rig.epoch(lineage_id, run_id, at)
            elif kind < 0.8:
                run_id = prepared
                await rig.store.start_run(lineage_id, at, run_id)
            else:
                lineage_id, run_id = await rig.store.start_lineage(at)
                prepared = await rig.store.prepare_run()
        except StoreUnavailable:
            failures += 1
        if run_id == prepared:
            prepared = await rig.store.prepare_run()
    rig.publish.refuse = rig.publish.lose_answer = 0
    await rig.store.publish_pending()
    contents = await rig.contents(rig.ingest)

    assert failures > 5
    assert await rig.is_same()
    ids = [row[0] for row in contents["ingest_epochs"]]
    assert ids == sorted(set(ids))
    assert [row[0] for row in contents["execution_universe_snapshots"]] == ids


async def test_a_long_absence_is_made_up_for_in_portions(rig: Rig) -> None:
    lineage_id, run_id = await rig.store.start_lineage(AT)
    alone = Rig(rig.ingest, rig.ingest)
    for n in range(3):
        await alone.epoch(lineage_id, run_id, AT + timedelta(seconds=n))
    await rig.ingest.write(lambda connection: connection.execute(_MANY_EPOCHS))

    assert 1203 == await rig.store.publish_pending()
    assert await rig.is_same()
