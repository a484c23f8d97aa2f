"""Rotation and retention on real partitions: every row in exactly one run, and nothing that is needed is dropped."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest
from tests.events import Events

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.postgres.copy_writer import PostgresSampleSink
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.lineage_store import PostgresLineageStore
from krakenbot.adapters.postgres.retention_store import REFRESH_TABLES, PostgresRetentionStore
from krakenbot.domain.engine.retention import Retention
from krakenbot.domain.engine.runs import RunKeeper
from krakenbot.domain.errors import StoreUnavailable
from krakenbot.domain.market.samples import TickerSample, TradeSample
from krakenbot.domain.state.retention import RetentionSettings, RunSettings
from krakenbot.domain.values import RunId, Side, Symbol

pytestmark = pytest.mark.postgres
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
PARENTS = {"l2_snap_metrics", "l3_queue_metrics", "ticker_samples", "trade_samples"}
_PARTITIONS = """
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'krakenbot'::regnamespace AND c.relkind = 'r'
    AND c.relname ~ '_r[0-9]+$'
"""


def ticker(number: int) -> TickerSample:
    return TickerSample(
        symbol=Symbol("BTC/USD"), at_ns=number, received_at_ns=number, bid=1.0, ask=2.0, last=1.5, volume_24h=10.0
    )


@pytest.fixture
async def database(database_urls: Any) -> AsyncIterator[Database]:
    database = Database(database_urls.ingest, name="ingest", max_size=4)
    await database.open()
    yield database
    await database.close()


async def fetch(database: Database, query: str) -> list[Any]:
    async def body(connection: Any) -> list[Any]:
        return list(await (await connection.execute(query)).fetchall())

    return await database.read(body)


async def partitions(database: Database) -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for (name,) in await fetch(database, _PARTITIONS):
        parent, _, number = name.rpartition("_r")
        found.setdefault(int(number), set()).add(parent)
    return found


async def test_rotation_in_mid_session_puts_each_row_in_exactly_one_run(database: Database) -> None:
    events = Events()
    sink = PostgresSampleSink(database, batch_s=0.02, events=events)
    runs = RunKeeper(
        clock=SystemClock(),
        store=PostgresLineageStore(database, database),
        events=events,
        settings=RunSettings(max_rows=400, check_interval_s=0.1),
        rows_written=lambda: sum(sink.stats().rows.values()),
    )
    await runs.start()
    switches: list[tuple[RunId, int]] = []
    number = 0

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sink.run)
        runs.tell(lambda run_id: switches.append((run_id, number)))
        tasks.start_soon(runs.run)
        while len(switches) < 3:
            for _ in range(50):
                number += 1
                sink.put(runs.run_id, [ticker(number)])
            await anyio.sleep(0.01)
        await sink.flush()
        tasks.cancel_scope.cancel()

    rows = await fetch(database, "SELECT received_at_ns, run_id FROM ticker_samples ORDER BY 1")
    assert list(range(1, number + 1)) == [row[0] for row in rows]
    edges = [0, *(at for _, at in switches), number]
    run_ids = sorted({row[1] for row in rows})
    for run_id, low, high in zip(run_ids, edges[:-1], edges[1:], strict=False):
        assert {run_id} == {row[1] for row in rows[low:high]}
    prepared = [fields["run_id"] for fields in events.of("run_prepared")]
    rotated = [fields["run_id"] for fields in events.of("run_rotated")]
    assert prepared[: len(rotated)] == rotated
    runs_kept = await fetch(
        database, "SELECT run_id, started_at, ended_at, lineage_id FROM observation_runs ORDER BY 1"
    )
    assert [row[2] for row in runs_kept[:-1]] == [row[1] for row in runs_kept[1:]]
    assert 1 == len({row[3] for row in runs_kept})
    assert all(found == PARENTS for found in (await partitions(database)).values())


async def test_a_trade_that_a_snapshot_repeats_after_a_rotation_stays_in_its_first_run(database: Database) -> None:
    lineage = PostgresLineageStore(database, database)
    sink = PostgresSampleSink(database, batch_s=0.02, events=Events())
    lineage_id, run_1 = await lineage.start_lineage(AT)

    def trade(trade_id: int) -> TradeSample:
        return TradeSample(
            symbol=Symbol("BTC/USD"),
            trade_id=trade_id,
            side=Side.BUY,
            price=Decimal(1),
            qty=Decimal(1),
            at_ns=trade_id,
            received_at_ns=trade_id,
        )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sink.run)
        sink.put(run_1, [trade(5), trade(6)])
        await sink.flush()
        run_2 = await lineage.start_run(lineage_id, AT + timedelta(seconds=1))
        sink.put(run_2, [trade(5), trade(6), trade(7)])
        await sink.flush()
        tasks.cancel_scope.cancel()

    rows = await fetch(database, "SELECT run_id, trade_id FROM trade_samples ORDER BY 2")
    assert [(run_1, 5), (run_1, 6), (run_2, 7)] == rows


async def make_runs(database: Database, count: int) -> list[RunId]:
    """Make runs of one hour each, with a row in each; the last one goes on at AT."""
    lineage = PostgresLineageStore(database, database)
    sink = PostgresSampleSink(database, batch_s=0.02, events=Events())
    begun_at = AT - timedelta(hours=count)
    lineage_id, run_id = await lineage.start_lineage(begun_at)
    run_ids = [run_id]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sink.run)
        for hour in range(count):
            if hour:
                run_ids.append(await lineage.start_run(lineage_id, begun_at + timedelta(hours=hour)))
            sink.put(run_ids[-1], [ticker(hour)])
        await sink.flush()
        tasks.cancel_scope.cancel()
    return run_ids


class FixedClock(SystemClock):
    def now(self) -> datetime:
        return AT


async def test_old_partitions_are_dropped_and_the_rest_is_untouched(single_url: str) -> None:
    database, events = Database(single_url, name="both", max_size=4), Events()
    await database.open()
    run_ids = await make_runs(database, 6)
    retention = Retention(
        clock=FixedClock(),
        store=PostgresRetentionStore(database, database),
        events=events,
        settings=RetentionSettings(max_age_s=3.5 * 3600, keep_s=600),
        reach_s=300,
    )
    await retention.step()
    await retention.step()
    left = await partitions(database)
    noted = await fetch(database, "SELECT run_id FROM observation_runs WHERE raw_dropped_at IS NOT NULL ORDER BY 1")
    rows = await fetch(database, "SELECT run_id FROM ticker_samples ORDER BY 1")
    named = await fetch(database, "SELECT run_id FROM run_symbols ORDER BY 1")
    await database.close()

    assert run_ids[:2] == [fields["run_id"] for fields in events.of("run_dropped")]
    assert [(run_id,) for run_id in run_ids[:2]] == noted
    assert set(run_ids[2:]) == left.keys()
    assert [(run_id,) for run_id in run_ids[2:]] == rows == named
    assert events.of("run_dropped")[0]["freed_bytes"] > 0


async def test_bytes_are_given_back_down_to_what_a_window_needs_and_then_row_by_row(single_url: str) -> None:
    database, events = Database(single_url, name="both", max_size=4), Events()
    await database.open()
    run_ids = await make_runs(database, 4)
    retention = Retention(
        clock=FixedClock(),
        store=PostgresRetentionStore(database, database),
        events=events,
        settings=RetentionSettings(max_bytes=1, keep_s=600),
        reach_s=1.5 * 3600,
    )
    await retention.step()
    left = await partitions(database)
    rows = await fetch(database, "SELECT run_id FROM ticker_samples ORDER BY 1")
    await database.close()

    # the third run ended within the window, the fourth goes on and gives up the row that is older than the window
    assert set(run_ids[2:]) == left.keys()
    assert [(run_ids[2],)] == rows
    assert {"a window needs it", "goes on"} == set(events.of("retention_over_limit")[0]["kept"].values())
    assert 1 == events.of("run_rows_deleted")[0]["rows"]


async def test_a_busy_table_is_not_waited_for_long_and_the_drop_is_finished_later(database: Database) -> None:
    run_ids = await make_runs(database, 2)
    store = PostgresRetentionStore(database, database)
    async with await database.connect() as reader, reader.transaction():
        await reader.execute("SELECT count(*) FROM trade_samples")
        with anyio.fail_after(5), pytest.raises(StoreUnavailable, match="lock timeout"):
            await store.drop_run(run_ids[0], AT)
    halfway = await partitions(database)
    await store.drop_run(run_ids[0], AT)

    assert "trade_samples" in halfway[run_ids[0]]
    assert halfway[run_ids[0]] < PARENTS
    assert {run_ids[1]} == (await partitions(database)).keys()


async def test_a_run_is_prepared_while_its_tables_are_read_and_written(database: Database) -> None:
    (run_id,) = await make_runs(database, 1)
    lineage = PostgresLineageStore(database, database)
    async with await database.connect() as other, other.transaction():
        await other.execute(f"INSERT INTO ticker_samples VALUES ({run_id}, 'BTC/USD', 1, 1, 1, 1, 1, 1)")
        await other.execute("SELECT count(*) FROM trade_samples")
        with anyio.fail_after(2):
            prepared = await lineage.prepare_run()

    assert PARENTS == (await partitions(database))[prepared]


async def test_what_the_refresh_kept_for_older_lineages_is_forgotten_table_by_table(database: Database) -> None:
    lineage, store = PostgresLineageStore(database, database), PostgresRetentionStore(database, database)
    first, _ = await lineage.start_lineage(AT)
    second, _ = await lineage.start_lineage(AT)
    kept = [
        (name,)
        for (name,) in await fetch(
            database,
            "SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid WHERE a.attname = 'lineage_id' "
            "AND c.relkind = 'r' AND c.relnamespace = 'krakenbot'::regnamespace ORDER BY 1",
        )
        if name not in {"ingest_lineage", "observation_runs", "ingest_epochs", "run_symbol_state", "state_generations"}
    ]
    rows = [(lineage_id, "S", minute, 1.0) for lineage_id in (first, second) for minute in range(5)]
    await database.write(
        lambda connection: connection.cursor().executemany(
            "INSERT INTO minute_values (lineage_id, symbol, minute, spread_bps) VALUES (%s, %s, %s, %s)", rows
        )
    )
    counts = [await store.forget_lineages(3) for _ in range(3)]

    assert sorted(REFRESH_TABLES) == [name for (name,) in kept]
    assert [3, 2, 0] == counts
    assert [(second, 5)] == await fetch(database, "SELECT lineage_id, count(*) FROM minute_values GROUP BY 1")


async def test_late_words_about_a_run_that_was_dropped_are_forgotten(database: Database) -> None:
    run_1, run_2 = await make_runs(database, 2)
    prepared = await PostgresLineageStore(database, database).prepare_run()
    store = PostgresRetentionStore(database, database)
    await store.drop_run(run_1, AT)
    rows = [(run_id, "ticker_samples", "coalesced", 1, 2, 3) for run_id in (run_1, run_1, run_2, prepared)]
    await database.write(
        lambda connection: connection.cursor().executemany(
            "INSERT INTO sample_losses (run_id, kind, cause, first_at_ns, last_at_ns, samples) "
            "VALUES (%s, %s, %s, %s, %s, %s)",
            rows,
        )
    )
    counts = [await store.forget_runs(1) for _ in range(3)]

    assert [1, 1, 0] == counts
    assert [(run_2,), (prepared,)] == await fetch(database, "SELECT run_id FROM sample_losses ORDER BY 1")
    assert [(run_2,)] == await fetch(database, "SELECT DISTINCT run_id FROM run_symbols")
