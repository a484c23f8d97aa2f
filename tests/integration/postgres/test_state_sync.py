"""Generations on their way to the decision database, requests for them, and ids after the ingest cluster was lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import psycopg
import pytest

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import INGEST_ROLE
from krakenbot.adapters.postgres.lineage_store import PostgresLineageStore
from krakenbot.adapters.postgres.listener import GENERATION_CHANNEL
from krakenbot.adapters.postgres.state_refresher import PostgresRefreshAnswers, PostgresStateRefresher
from krakenbot.domain.errors import StoreUnavailable
from krakenbot.domain.state.epoch import EpochCriteria, EpochStatus
from krakenbot.domain.state.windows import ns_of
from krakenbot.domain.values import GenerationId, LineageId, RunId, Symbol

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


class Rig:
    """Ingest's stores over two databases, and their owner's hand in both."""

    def __init__(self, urls: tuple[str, str], ingest: Database, publish: Database) -> None:
        self.urls = dict(zip(("ingest", "decision"), urls, strict=True))
        self.lineage = PostgresLineageStore(ingest, publish)
        self.refresher = PostgresStateRefresher(ingest, publish)
        self.answers = PostgresRefreshAnswers(publish)

    async def begin(self) -> tuple[LineageId, RunId]:
        """Begin a lineage with a row of one symbol."""
        lineage_id, run_id = await self.lineage.start_lineage(AT)
        row = [run_id, ns_of(AT), ns_of(AT)]
        await self.sql("ingest", "INSERT INTO ticker_samples VALUES (%s, 'BTC/USD', %s, %s, 1, 2, 1, 1)", row)
        return lineage_id, run_id

    async def generation(self, lineage_id: LineageId, run_id: RunId) -> GenerationId:
        return (await self.refresher.refresh(lineage_id, run_id, AT)).generation_id

    async def epoch(self, lineage_id: LineageId, run_id: RunId) -> int:
        epoch, _ = await self.lineage.publish_epoch(
            lineage_id=lineage_id,
            run_id=run_id,
            status=EpochStatus.VALID,
            criteria=CRITERIA,
            reasons=(),
            execution=(Symbol("BTC/USD"),),
            l3=(),
            pinned=(),
            at=AT,
        )
        return epoch.epoch_id

    async def sql(self, place: str, query: str, values: list[Any] | None = None) -> list[Any]:
        url = self.urls[place]
        async with await psycopg.AsyncConnection.connect(url, options="-c search_path=krakenbot") as connection:
            cursor = await connection.execute(query.encode(), values)
            return await cursor.fetchall() if cursor.description else []


@asynccontextmanager
async def rig_over(ingest_url: str, decision_url: str) -> AsyncIterator[Rig]:
    ingest = Database(ingest_url, name="ingest", role=INGEST_ROLE, max_size=2)
    publish = Database(decision_url, name="publish", role=INGEST_ROLE, max_size=2)
    await ingest.open()
    await publish.open()
    rig = Rig((ingest_url, decision_url), ingest, publish)
    yield rig
    await rig.answers.aclose()
    await ingest.close()
    await publish.close()


@pytest.fixture
async def rig(database_urls: Any) -> AsyncIterator[Rig]:
    async with rig_over(database_urls.ingest, database_urls.decision) as made:
        yield made


async def test_an_older_generation_is_not_written_over_a_newer_one(rig: Rig) -> None:
    lineage_id, run_id = await rig.begin()
    held = await rig.generation(lineage_id, run_id)
    await rig.refresher.sync(held)
    newer = "INSERT INTO state_generations SELECT generation_id + 5, lineage_id, run_id, computed_at, symbols"
    await rig.sql("decision", f"{newer} FROM state_generations")
    late = await rig.generation(lineage_id, run_id)

    with pytest.raises(StoreUnavailable, match=f"generation {held + 5} is newer than {late}"):
        await rig.refresher.sync(late)
    assert [(held,)] == await rig.sql("decision", "SELECT generation_id FROM run_symbol_state")


async def test_a_generation_that_lacks_a_row_is_not_copied(rig: Rig) -> None:
    lineage_id, run_id = await rig.begin()
    held = await rig.generation(lineage_id, run_id)
    await rig.refresher.sync(held)
    torn = await rig.generation(lineage_id, run_id)
    await rig.sql("ingest", "DELETE FROM run_symbol_state")

    with pytest.raises(StoreUnavailable, match=f"generation {torn} is not the one in the database"):
        await rig.refresher.sync(torn)
    assert [(held,)] == await rig.sql("decision", "SELECT generation_id FROM run_symbol_state")


async def test_a_synced_generation_is_notified_by_its_id(rig: Rig) -> None:
    generation_id = await rig.generation(*await rig.begin())
    async with await psycopg.AsyncConnection.connect(rig.urls["decision"], autocommit=True) as connection:
        await connection.execute(f"LISTEN {GENERATION_CHANNEL}".encode())
        await rig.refresher.sync(generation_id)
        heard = [notify.payload async for notify in connection.notifies(timeout=5.0, stop_after=1)]

    assert [str(generation_id)] == heard


async def test_ten_thousand_generations_are_remembered_after_a_sync(rig: Rig) -> None:
    lineage_id, run_id = await rig.begin()
    await rig.sql("ingest", "SELECT setval('generation_id_seq', 20000)")
    old = "INSERT INTO state_generations VALUES (10000, 1, 1, now(), 0), (10001, 1, 1, now(), 0)"
    await rig.sql("decision", old)
    generation_id = await rig.generation(lineage_id, run_id)
    await rig.refresher.sync(generation_id)

    assert 20001 == generation_id
    assert [(10001,), (20001,)] == await rig.sql("decision", "SELECT generation_id FROM state_generations ORDER BY 1")


async def test_requests_that_are_long_past_are_pruned_now_and_then(rig: Rig) -> None:
    put = "INSERT INTO refresh_requests (request_id, requested_at) OVERRIDING SYSTEM VALUE SELECT n, now() FROM unnest"
    await rig.sql("decision", f"{put}(ARRAY[9998, 9999, 10000, 19999, 20000]) n")
    await rig.answers.answer([19999], GenerationId(1))
    before = await rig.sql("decision", "SELECT count(*) FROM refresh_requests")
    await rig.answers.answer([20000], GenerationId(1))

    assert [(5,)] == before
    left = await rig.sql("decision", "SELECT request_id FROM refresh_requests ORDER BY 1")
    assert [(10000,), (19999,), (20000,)] == left


async def test_a_request_that_nobody_waits_for_any_more_is_not_answered(rig: Rig) -> None:
    put = "INSERT INTO refresh_requests (requested_at, inserted_at) SELECT now(), now() - n * interval '1 second'"
    await rig.sql("decision", f"{put} FROM unnest(ARRAY[61, 45]) n")
    with anyio.fail_after(5):
        found = await rig.answers.wait_for_requests(0.0)

    assert [(45.0,)] == await rig.sql(
        "decision",
        "SELECT round(extract(epoch FROM requested_at - inserted_at))::float FROM refresh_requests "
        "WHERE request_id = ANY(%s)",
        [found],
    )


async def test_after_the_loss_of_the_ingest_cluster_no_id_comes_back_and_no_run_stays_open(
    rig: Rig, clusters: Any
) -> None:
    lineage_id, run_id = await rig.begin()
    epoch_ids = [await rig.epoch(lineage_id, run_id) for _ in range(3)]
    for _ in range(4):
        held = await rig.generation(lineage_id, run_id)
    await rig.refresher.sync(held)

    later = AT + timedelta(hours=1)
    async with rig_over(clusters.migrated(clusters.ingest, "kb_ingest"), rig.urls["decision"]) as fresh:
        new_lineage, new_run = await fresh.lineage.start_lineage(later)
        epoch_id = await fresh.epoch(new_lineage, new_run)
        generation_id = await fresh.generation(new_lineage, new_run)
        await fresh.refresher.sync(generation_id)

    assert all(
        old < new
        for old, new in (
            (lineage_id, new_lineage),
            (run_id, new_run),
            (max(epoch_ids), epoch_id),
            (held, generation_id),
        )
    )
    runs = await rig.sql("decision", "SELECT run_id, ended_at FROM observation_runs ORDER BY 1")
    assert [(run_id, later), (new_run, None)] == runs
