"""Both sides of the contract: stores in memory, and stores on two real PostgreSQL clusters or one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import anyio
import psycopg
import pytest
from attrs import define, frozen
from tests.events import Events

from krakenbot.adapters.memory.control_stores import MemoryCycleStore, MemoryLease, MemorySafetyStore
from krakenbot.adapters.memory.database import MemoryDatabase
from krakenbot.adapters.memory.ledger_store import MemoryLedgerStore
from krakenbot.adapters.memory.order_store import MemoryOrderStore
from krakenbot.adapters.memory.retention_store import MemoryRetentionStore
from krakenbot.adapters.memory.state_stores import (
    MemoryLineageStore,
    MemoryRefreshAnswers,
    MemorySampleSink,
    MemoryStateRefresher,
    MemoryStateStore,
)
from krakenbot.adapters.postgres.copy_writer import PostgresSampleSink
from krakenbot.adapters.postgres.cycle_store import PostgresCycleStore
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import EXECUTION_ROLE, INGEST_ROLE
from krakenbot.adapters.postgres.lease import PostgresLease
from krakenbot.adapters.postgres.ledger_store import PostgresLedgerStore
from krakenbot.adapters.postgres.lineage_store import PostgresLineageStore
from krakenbot.adapters.postgres.order_store import PostgresOrderStore
from krakenbot.adapters.postgres.retention_store import PostgresRetentionStore
from krakenbot.adapters.postgres.safety_store import PostgresSafetyStore
from krakenbot.adapters.postgres.state_refresher import PostgresRefreshAnswers, PostgresStateRefresher
from krakenbot.adapters.postgres.state_store import PostgresStateStore
from krakenbot.domain.values import VenueId
from krakenbot.ports.cycle_store import CycleStore
from krakenbot.ports.lease import Lease
from krakenbot.ports.ledger_store import LedgerStore
from krakenbot.ports.lineage_store import LineageStore
from krakenbot.ports.order_store import OrderStore
from krakenbot.ports.retention_store import RetentionStore
from krakenbot.ports.safety_store import SafetyStore
from krakenbot.ports.sample_sink import SampleSink
from krakenbot.ports.state_store import RefreshAnswers, StateRefresher, StateStore

VENUE = VenueId("loopback:test")


@define
class ManualClock:
    """The memory twin's server clock, moved by tests."""

    at: datetime = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at

    def now_ns(self) -> int:
        return int(self.at.timestamp()) * 10**9

    def mono(self) -> float:
        return self.at.timestamp()

    async def sleep(self, duration_s: float) -> None:
        self.at += timedelta(seconds=duration_s)


@frozen(kw_only=True)
class Stores:
    """All stores over one pair of databases; `expire_lease` lets the lease run out."""

    orders: OrderStore
    lease: Lease
    safety: SafetyStore
    cycles: CycleStore
    lineage: LineageStore
    retention: RetentionStore
    sink: SampleSink
    refresher: StateRefresher
    answers: RefreshAnswers
    state: StateStore
    ledger: LedgerStore
    clock: ManualClock
    url: str | None

    async def expire_lease(self) -> None:
        self.clock.at += timedelta(hours=1)
        if self.url is not None:
            async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as connection:
                await connection.execute("UPDATE krakenbot.leases SET expires_at = clock_timestamp()")


def _in_memory() -> Stores:
    database, clock = MemoryDatabase(), ManualClock()
    return Stores(
        orders=MemoryOrderStore(database, clock, venue_id=VENUE),
        lease=MemoryLease(database, clock),
        safety=MemorySafetyStore(database),
        cycles=MemoryCycleStore(database),
        lineage=MemoryLineageStore(database),
        retention=MemoryRetentionStore(database),
        sink=MemorySampleSink(database),
        refresher=MemoryStateRefresher(database),
        answers=MemoryRefreshAnswers(database),
        state=MemoryStateStore(database),
        ledger=MemoryLedgerStore(),
        clock=clock,
        url=None,
    )


@pytest.fixture(
    params=["memory", pytest.param("two", marks=pytest.mark.postgres), pytest.param("one", marks=pytest.mark.postgres)]
)
def store_urls(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """No URL, two, or one."""
    if request.param == "memory":
        return ()
    if request.param == "two":
        urls = request.getfixturevalue("database_urls")
        return (urls.ingest, urls.decision)
    return (request.getfixturevalue("single_url"),)


@pytest.fixture
async def stores(store_urls: tuple[str, ...]) -> AsyncIterator[Stores]:
    """The stores in memory, on two databases with their own roles, and on one database in both roles."""
    if not store_urls:
        yield _in_memory()
        return
    url = store_urls[-1]
    if len(store_urls) == 2:
        ingest = Database(store_urls[0], name="ingest", role=INGEST_ROLE, max_size=3)
        publish = Database(url, name="publish", role=INGEST_ROLE, max_size=3)
        decision = Database(url, name="decision", role=EXECUTION_ROLE, max_size=3)
        pools = [ingest, publish, decision]
    else:
        ingest = publish = decision = Database(url, name="both", max_size=5)
        pools = [ingest]
    for pool in pools:
        await pool.open()
    answers, state = PostgresRefreshAnswers(publish), PostgresStateStore(decision)
    lease = PostgresLease(decision)
    sink = PostgresSampleSink(ingest, batch_s=0.02, events=Events())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sink.run)
        yield Stores(
            orders=PostgresOrderStore(decision, venue_id=VENUE),
            lease=lease,
            safety=PostgresSafetyStore(decision),
            cycles=PostgresCycleStore(decision),
            lineage=PostgresLineageStore(ingest, publish),
            retention=PostgresRetentionStore(ingest, publish),
            sink=sink,
            refresher=PostgresStateRefresher(ingest, publish),
            answers=answers,
            state=state,
            ledger=PostgresLedgerStore(decision),
            clock=ManualClock(),
            url=url,
        )
        tasks.cancel_scope.cancel()
    await answers.aclose()
    await state.aclose()
    await lease.aclose()
    for pool in pools:
        await pool.close()
