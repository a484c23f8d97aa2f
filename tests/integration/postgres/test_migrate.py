"""Migrations and the rights that they grant, on a real server."""

from __future__ import annotations

import anyio
import psycopg
import pytest
from attrs import fields

from krakenbot.adapters.postgres.databases import EXECUTION_ROLE, INGEST_ROLE, check_server
from krakenbot.adapters.postgres.embedded import Login
from krakenbot.adapters.postgres.migrate import DatabasePart, load_migrations, migrate
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.state.symbol_state import SymbolState

pytestmark = pytest.mark.postgres
RAW = ("ticker_samples", "trade_samples", "l2_snap_metrics", "l3_queue_metrics")


def _url_as(cluster, owner_url, login) -> str:
    return str(cluster.url(login, owner_url.split("@/")[1].split("?")[0]))


async def _fresh(cluster, name) -> str:
    async with await psycopg.AsyncConnection.connect(cluster.superuser_url, autocommit=True) as connection:
        await connection.execute(f"CREATE DATABASE {name} OWNER {Login.OWNER}".encode())
    return str(cluster.url(Login.OWNER, name))


async def test_second_run_applies_nothing(clusters):
    url = await _fresh(clusters.ingest, "migrate_twice")

    first = await migrate(url, [DatabasePart.INGEST])
    second = await migrate(url, [DatabasePart.INGEST])

    assert [f"{item.part}/{item.name}" for item in load_migrations([DatabasePart.INGEST])] == first
    assert [] == second


async def test_concurrent_runners_apply_each_file_once(clusters):
    url = await _fresh(clusters.decision, "migrate_race")
    applied: list[str] = []

    async def run():
        applied.extend(await migrate(url, list(DatabasePart)))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(run)

    assert sorted(f"{m.part}/{m.name}" for m in load_migrations(list(DatabasePart))) == sorted(applied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("INSERT INTO krakenbot.schema_migrations VALUES ('ingest', 99, '0099_new', 'x')", "newer than this program"),
        ("UPDATE krakenbot.schema_migrations SET checksum = 'x' WHERE part = 'both'", "was changed"),
    ],
)
async def test_foreign_history_is_refused(database_urls, change, message):
    async with await psycopg.AsyncConnection.connect(database_urls.ingest, autocommit=True) as connection:
        await connection.execute(change)

    with pytest.raises(ConfigError, match=message):
        await migrate(database_urls.ingest, [DatabasePart.INGEST])
    with pytest.raises(ConfigError, match=message):
        await check_server(database_urls.ingest, role=None, parts=[DatabasePart.INGEST])


async def test_unmigrated_database_says_what_to_run(clusters):
    url = await _fresh(clusters.ingest, "migrate_never")

    with pytest.raises(ConfigError, match="krakenbot migrate"):
        await check_server(url, role=INGEST_ROLE, parts=[DatabasePart.INGEST])


@pytest.mark.parametrize("table", RAW)
async def test_execution_may_not_read_raw_rows(clusters, single_url, table):
    url = _url_as(clusters.decision, single_url, Login.EXECUTION)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("SELECT count(*) FROM krakenbot.run_symbol_state")

        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(f"SELECT count(*) FROM krakenbot.{table}".encode())


@pytest.mark.parametrize("table", ["fills", "execution_order_events", "realized_pnl"])
@pytest.mark.parametrize("verb", ["UPDATE krakenbot.{} SET at = now()", "DELETE FROM krakenbot.{}"])
async def test_append_only_tables_refuse_execution_by_right_and_the_owner_by_trigger(
    clusters, database_urls, table, verb
):
    statement = verb.format(table).encode()
    url = _url_as(clusters.decision, database_urls.decision, Login.EXECUTION)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute(statement)
    async with await psycopg.AsyncConnection.connect(database_urls.decision, autocommit=True) as connection:
        with pytest.raises(psycopg.errors.CheckViolation, match="append-only"):
            await connection.execute(statement)


async def test_status_reads_views_and_no_tables(clusters, single_url):
    url = _url_as(clusters.decision, single_url, Login.STATUS)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for view in ("orders", "fills", "positions", "cycles", "outcomes", "processes", "epochs", "engine"):
            await connection.execute(f"SELECT * FROM krakenbot.status_{view}".encode())

        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            await connection.execute("SELECT * FROM krakenbot.fills")


@pytest.mark.parametrize("role", [INGEST_ROLE, EXECUTION_ROLE])
async def test_login_without_the_role_is_refused(clusters, database_urls, role):
    url = _url_as(clusters.decision, database_urls.decision, Login.STATUS)

    with pytest.raises(ConfigError, match=f"GRANT {role} TO krakenbot_status"):
        await check_server(url, role=role, parts=[DatabasePart.DECISION])


async def test_decision_database_without_fsync_is_refused(database_urls):
    with pytest.raises(ConfigError, match="fsync = off"):
        await check_server(database_urls.decision, role=EXECUTION_ROLE, parts=[DatabasePart.DECISION])


async def test_state_table_holds_the_fields_of_the_domain(database_urls):
    async with await psycopg.AsyncConnection.connect(database_urls.decision) as connection:
        rows = await connection.execute(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = 'krakenbot' AND table_name = 'run_symbol_state'"
        )
        columns = {row[0] for row in await rows.fetchall()}

    assert {*(field.name for field in fields(SymbolState)), "updated_at"} == columns
