"""Units of work under cancellation, lost connections and commits in doubt; opening the right databases."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from psycopg import AsyncConnection

from krakenbot.adapters.postgres.database import _OWN_ID, CommitInDoubt, Database
from krakenbot.adapters.postgres.databases import ProcessKind, cluster_identity, open_databases
from krakenbot.adapters.postgres.embedded import EmbeddedCluster, Login
from krakenbot.adapters.postgres.migrate import DatabasePart, migrate
from krakenbot.domain.errors import ConfigError, StoreConflict, StoreUnavailable

pytestmark = pytest.mark.postgres
PUT = "INSERT INTO process_status (process, at, body) VALUES (%s, now(), '{}')"


@pytest.fixture
async def behind_cutter(cutter: Any) -> AsyncIterator[Database]:
    database = Database(cutter.url, name="cut", resolve_s=1.0)
    await database.open()
    yield database
    cutter.refuse = False
    await database.close()


async def _put(database: Database, name: str) -> None:
    await database.write(lambda connection: connection.execute(PUT, [name]))


async def _names(url: str) -> list[str]:
    async with await Database(url, name="look").connect() as connection:
        rows = await connection.execute("SELECT process FROM process_status ORDER BY 1")
        return [row[0] for row in await rows.fetchall()]


async def test_commit_whose_answer_is_lost_is_found_to_be_done(cutter, behind_cutter, database_urls):
    cutter.cut = "after"

    await _put(behind_cutter, "x")

    assert 1 == cutter.cuts
    assert ["x"] == await _names(database_urls.decision)


async def test_commit_that_never_arrived_is_found_to_be_undone(cutter, behind_cutter, database_urls):
    cutter.cut = "before"

    with pytest.raises(StoreUnavailable, match="not committed"):
        await _put(behind_cutter, "x")

    assert [] == await _names(database_urls.decision)
    await _put(behind_cutter, "x")
    assert ["x"] == await _names(database_urls.decision)


async def test_commit_that_cannot_be_looked_up_is_said_to_be_unknown(cutter, behind_cutter, database_urls):
    cutter.cut = "after, and away"

    with pytest.raises(StoreUnavailable, match="outcome could not be found"):
        await _put(behind_cutter, "x")

    assert ["x"] == await _names(database_urls.decision)


async def test_cancelled_write_is_finished_and_its_connection_kept(database_urls):
    database = Database(database_urls.decision, name="d", max_size=1)
    await database.open()
    begun = anyio.Event()

    async def body(connection):
        begun.set()
        await connection.execute("SELECT pg_sleep(0.2)")
        await connection.execute(PUT, ["slow"])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(database.write, body)
        await begun.wait()
        tasks.cancel_scope.cancel()
    await _put(database, "next")
    await database.close()

    assert ["next", "slow"] == await _names(database_urls.decision)


async def test_connection_whose_taker_is_cancelled_is_closed(database_urls, monkeypatch):
    taken: list[AsyncConnection] = []

    async def never(_: Database, connection: AsyncConnection) -> None:
        taken.append(connection)
        await anyio.sleep_forever()

    monkeypatch.setattr(Database, "_take_role", never)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Database(database_urls.ingest, name="cancelled").connect)
        with anyio.fail_after(10):
            while not taken:
                await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()

    assert [True] == [connection.closed for connection in taken]


async def test_cancelled_read_ends_its_query_at_the_server(database_urls):
    database = Database(database_urls.decision, name="d", max_size=1, statement_timeout_s=60, unit_timeout_s=60)
    await database.open()
    with anyio.fail_after(5):
        with anyio.move_on_after(0.2) as scope:
            await database.read(lambda connection: connection.execute("SELECT pg_sleep(50)"))
        found = await database.read(_sleepers)
    await database.close()

    assert scope.cancelled_caught
    assert 0 == found


async def test_cancelled_read_does_not_wait_for_a_server_that_hangs(database_urls):
    """An exit must not wait for the row of a database that does not answer."""
    database = Database(database_urls.decision, name="d", max_size=1)
    await database.open()
    backend = await database.read(_backend)
    os.kill(backend, signal.SIGSTOP)
    try:
        with anyio.fail_after(4), anyio.move_on_after(0.2) as scope:
            await database.read(_sleepers)
    finally:
        os.kill(backend, signal.SIGCONT)
    await _put(database, "next")
    await database.close()

    assert scope.cancelled_caught


async def _backend(connection):
    return (await (await connection.execute("SELECT pg_backend_pid()")).fetchone())[0]


async def _sleepers(connection):
    rows = await connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(50)%' AND pid <> pg_backend_pid()"
    )
    return (await rows.fetchone())[0]


async def test_statement_that_takes_too_long_is_unavailable(database_urls):
    database = Database(database_urls.decision, name="d", statement_timeout_s=0.1)
    await database.open()

    with pytest.raises(StoreUnavailable, match="statement timeout"):
        await database.read(lambda connection: connection.execute("SELECT pg_sleep(5)"))
    await _put(database, "twice")
    with pytest.raises(StoreConflict):
        await _put(database, "twice")
    await database.close()


async def test_pool_recovers_when_the_server_was_killed_and_started_again(tmp_path):
    cluster = EmbeddedCluster(tmp_path, "d")
    await cluster.start()
    try:
        await migrate(cluster.url(), [DatabasePart.DECISION])
        database = Database(cluster.url(), name="d", unit_timeout_s=5)
        await database.open()
        await _put(database, "before")
        cluster.kill()
        with pytest.raises(StoreUnavailable):
            await Database(cluster.url(), name="again").open()
        await cluster.start()
        with anyio.fail_after(10):
            await _put(database, "after")
        await database.close()

        assert ["after", "before"] == await _names(cluster.url())
    finally:
        await cluster.stop()


@pytest.fixture
async def durable(tmp_path_factory) -> AsyncIterator[tuple[EmbeddedCluster, EmbeddedCluster]]:
    home = tmp_path_factory.mktemp("durable")
    ingest, decision = EmbeddedCluster(home, "ingest"), EmbeddedCluster(home, "decision")
    await ingest.start()
    await decision.start()
    await migrate(ingest.url(), [DatabasePart.INGEST])
    await migrate(decision.url(), [DatabasePart.DECISION])
    yield ingest, decision
    await ingest.stop()
    await decision.stop()


async def test_processes_get_the_databases_that_are_theirs(durable):
    ingest, decision = durable

    async def user(database):
        async def body(connection):
            return (await (await connection.execute("SELECT current_user")).fetchone())[0]

        return await database.read(body)

    async with open_databases(
        ingest_url=ingest.url(Login.INGEST), decision_url=decision.url(Login.INGEST), process=ProcessKind.INGEST
    ) as opened:
        assert (False, None) == (opened.single, opened.decision)
        assert ["krakenbot_ingest"] * 3 == [await user(opened.need(n)) for n in ("ingest", "publish", "records")]
    async with open_databases(
        ingest_url=None, decision_url=decision.url(Login.EXECUTION), process=ProcessKind.EXECUTION
    ) as opened:
        assert (None, None) == (opened.ingest, opened.publish)
        assert ["krakenbot_execution"] * 2 == [await user(opened.need(n)) for n in ("decision", "records")]
        with pytest.raises(ConfigError, match="has no ingest database"):
            opened.need("ingest")
    async with open_databases(ingest_url=ingest.url(), decision_url=decision.url(), process=ProcessKind.BOTH) as opened:
        assert ["krakenbot_ingest", "krakenbot_ingest", "krakenbot_execution"] == [
            await user(opened.need(n)) for n in ("ingest", "publish", "decision")
        ]


async def test_one_url_means_one_pool_in_both_roles(durable):
    _, decision = durable
    await migrate(decision.url(), list(DatabasePart))

    async with open_databases(ingest_url=decision.url(), decision_url=None, process=ProcessKind.BOTH) as opened:
        assert opened.single
        assert opened.ingest is opened.publish is opened.decision


async def test_two_urls_to_one_cluster_are_refused_whatever_they_look_like(durable):
    ingest, decision = durable
    same = decision.url() + "&connect_timeout=9"

    with pytest.raises(ConfigError, match="same PostgreSQL cluster"):
        async with open_databases(ingest_url=decision.url(), decision_url=same, process=ProcessKind.BOTH):
            pass
    with pytest.raises(ConfigError, match="same PostgreSQL cluster"):
        async with open_databases(
            ingest_url=decision.url(Login.INGEST),
            decision_url=decision.url(Login.OWNER, "postgres"),
            process=ProcessKind.INGEST,
        ):
            pass
    assert await cluster_identity(ingest.url()) != await cluster_identity(decision.url())


async def test_missing_urls_and_absent_servers_say_what_is_wrong(tmp_path):
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        async with open_databases(ingest_url=None, decision_url=None, process=ProcessKind.INGEST):
            pass
    with pytest.raises(ConfigError, match="DECISION_DATABASE_URL"):
        async with open_databases(ingest_url=None, decision_url=None, process=ProcessKind.EXECUTION):
            pass
    nowhere = f"postgresql://u:p@/d?host={quote(str(tmp_path), safe='')}"
    with pytest.raises(StoreUnavailable):
        async with open_databases(ingest_url=None, decision_url=nowhere, process=ProcessKind.EXECUTION):
            pass


async def _committed_id(url: str) -> str:
    """Return the number of a transaction that the server has committed."""
    async with await Database(url, name="look").connect() as connection:
        row = await (await connection.execute("SELECT pg_current_xact_id()::text")).fetchone()
        assert row is not None
        return str(row[0])


async def test_number_of_before_a_crash_proves_no_commit_since_the_server_gives_it_out_again(database_urls):
    database = Database(database_urls.decision, name="d")
    number = await _committed_id(database_urls.decision)

    with pytest.raises(CommitInDoubt, match="started again") as raised:
        await database.is_committed(f"{number}@1.5")

    assert raised.value.is_reused


async def test_number_of_before_the_kill_of_one_backend_proves_no_commit_either(tmp_path):
    cluster = EmbeddedCluster(tmp_path, "d")
    await cluster.start()
    try:
        await migrate(cluster.url(), [DatabasePart.DECISION])
        database = Database(cluster.url(), name="d", resolve_s=10.0)
        lost = await database.connect()
        await lost.execute("BEGIN")
        row = await (await lost.execute(_OWN_ID)).fetchone()
        assert row is not None
        os.kill(lost.info.backend_pid, signal.SIGKILL)
        with anyio.fail_after(10):
            while int(await _next_id(database)) < int(row[0].partition("@")[0]):
                await anyio.sleep(0.05)

        with pytest.raises(CommitInDoubt, match="started again"):
            await database.is_committed(row[0])
        await lost.close()
    finally:
        await cluster.stop()


async def _next_id(database: Database) -> str:
    """Return the number of one more committed transaction; 0 while the server recovers."""
    with contextlib.suppress(StoreUnavailable):
        async with await database.connect() as connection:
            row = await (await connection.execute("SELECT pg_current_xact_id()::text")).fetchone()
            return str(row[0]) if row else "0"
    return "0"


async def test_number_that_the_server_has_not_reached_again_since_its_crash_was_not_committed(database_urls):
    database = Database(database_urls.decision, name="d")
    number = await _committed_id(database_urls.decision)

    assert not await database.is_committed(f"{int(number) + 1000}@1.5")
