"""The lease between two processes: who is alive keeps it, who is dead loses it at once."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import psycopg
import pytest
from attrs import frozen
from tests.events import Events

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import EXECUTION_ROLE
from krakenbot.adapters.postgres.embedded import EmbeddedCluster, Login
from krakenbot.adapters.postgres.lease import PostgresLease
from krakenbot.adapters.postgres.migrate import DatabasePart, migrate
from krakenbot.domain.engine.lease_keeper import LeaseKeeper
from krakenbot.domain.errors import LeaseLost
from krakenbot.domain.values import LeaseEpoch

pytestmark = pytest.mark.postgres


@frozen(kw_only=True)
class Urls:
    decision: str


@asynccontextmanager
async def process(urls: Any) -> AsyncIterator[PostgresLease]:
    """One process's lease, on a pool of its own; the end of the block is the end of the process."""
    async with AsyncExitStack() as stack:
        database = Database(urls.decision, name="decision", role=EXECUTION_ROLE, max_size=2)
        await database.open()
        stack.push_async_callback(database.close)
        lease = PostgresLease(database)
        stack.push_async_callback(lease.aclose)
        yield lease


async def acquire_of_the_dead(heir: PostgresLease, holder: str) -> LeaseEpoch:
    """Acquire as an heir does, again and again: PostgreSQL takes a moment to see that a connection has ended."""
    with anyio.fail_after(10.0):
        while True:
            with contextlib.suppress(LeaseLost):
                return await heir.acquire(holder, 60)
            await anyio.sleep(0.02)


async def test_lease_of_a_killed_process_is_taken_long_before_it_expires(database_urls):
    async with process(database_urls) as heir:
        async with process(database_urls) as killed:
            first = await killed.acquire("a", 60)
            for _ in range(3):
                with pytest.raises(LeaseLost, match="held by a"):
                    await heir.acquire("b", 60)

        second = await acquire_of_the_dead(heir, "b")

        assert second == first + 1


async def test_heir_of_a_stopped_process_keeps_the_lease_when_that_process_ends(database_urls):
    async with process(database_urls) as heir, process(database_urls) as third:
        async with process(database_urls) as stopped:
            await stopped.acquire("a", 0.0)
            epoch = await heir.acquire("b", 60)

            with pytest.raises(LeaseLost):
                await stopped.renew(LeaseEpoch(epoch - 1), 60)
        with pytest.raises(LeaseLost, match="held by b"):
            await third.acquire("c", 60)
        await heir.renew(epoch, 60)


async def test_lock_is_taken_again_after_its_connection_was_lost(database_urls):
    async with process(database_urls) as leader, process(database_urls) as other:
        epoch = await leader.acquire("a", 60)
        async with await psycopg.AsyncConnection.connect(database_urls.decision, autocommit=True) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = %s", [epoch]
            )
        await leader.renew(epoch, 60)

        with pytest.raises(LeaseLost, match="held by a"):
            await other.acquire("b", 60)


@pytest.mark.timeout(40)
async def test_leader_outlives_an_outage_of_the_database_that_is_shorter_than_its_lease(tmp_path):
    cluster = EmbeddedCluster(tmp_path, "decision")
    await cluster.start()
    try:
        await migrate(cluster.url(Login.OWNER), {DatabasePart.DECISION})
        async with process(Urls(decision=cluster.url(Login.EXECUTION))) as lease:
            keeper = LeaseKeeper(
                clock=SystemClock(), lease=lease, event_sink=Events(), holder="a", ttl_s=15.0, margin_s=3.0
            )
            await keeper.acquire()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keeper.run)
                cluster.kill()
                await anyio.sleep(6.0)
                await cluster.start()
                with anyio.fail_after(6.0):
                    while (keeper.age_s or 0.0) > 1.0:
                        await anyio.sleep(0.05)
                tasks.cancel_scope.cancel()

            assert keeper.is_held
    finally:
        await cluster.stop()
