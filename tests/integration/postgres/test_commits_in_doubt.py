"""Orders whose commit was not answered: what is still in progress, what a new start of the server leaves behind."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import anyio
import psycopg
import pytest
from attrs import evolve
from tests.decision_rows import ABC, VENUE, entry_row, fill_row, publish_gate, stop_row

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.lease import PostgresLease
from krakenbot.adapters.postgres.order_store import PostgresOrderStore
from krakenbot.domain.errors import StoreUnavailable
from krakenbot.domain.execution.change import OrderChange, OrderEventRow
from krakenbot.domain.execution.order import OrderRole
from krakenbot.domain.execution.position import Protection, ProtectionEvent
from krakenbot.domain.values import ClOrdId, JournalId, LeaseEpoch, Side, VenueId
from krakenbot.ports.order_store import EntryGate

pytestmark = pytest.mark.postgres
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOBODY = LeaseEpoch(0)
FILL = fill_row("E1", AT)
EVENT = OrderEventRow(
    cl_ord_id=ClOrdId("kbe1"), at=AT, event="acked", from_state="submitted", to_state="acked", detail={}
)
PROTECTION = ProtectionEvent(
    symbol=ABC,
    at=AT,
    protection=Protection.BARE,
    position_qty=Decimal(1),
    protected_qty=Decimal(0),
    reason="first fill",
)
CHANGES = {
    "order_journal": OrderChange(journal_ids=(JournalId("j1"),), events=(EVENT,)),
    "execution_orders": OrderChange(inserts=(entry_row("kbe2", AT, side=Side.SELL, role=OrderRole.MARKET_EXIT),)),
    "fills": OrderChange(fills=(FILL,), events=(EVENT,)),
    "execution_order_events": OrderChange(events=(EVENT,)),
    "protection_events": OrderChange(protection=(PROTECTION,)),
}


@pytest.fixture
async def behind_cutter(cutter: Any) -> AsyncIterator[Database]:
    database = Database(cutter.url, name="cut", max_size=1, resolve_s=0.5)
    await database.open()
    yield database
    cutter.refuse = False
    await database.close()


async def make_store(database: Database) -> PostgresOrderStore:
    """Return a store whose database holds the row that the changes are about."""
    store = PostgresOrderStore(database, venue_id=VENUE)
    await store.apply(OrderChange(inserts=(entry_row("kbe1", AT, side=Side.SELL, role=OrderRole.MARKET_EXIT),)), NOBODY)
    return store


async def ask(url: str, query: str) -> Any:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        row = await (await connection.execute(query.encode())).fetchone()
        assert row is not None
        return row[0]


def look_as_started_again(store: PostgresOrderStore, number: str | None = None) -> None:
    """Let the transaction that is in doubt be one of before the server's start, under this number."""
    attempt = store._attempt
    assert attempt is not None
    assert attempt.transaction_id is not None
    attempt.transaction_id = f"{number or attempt.transaction_id.partition('@')[0]}@1.5"


async def backend_of(database: Database) -> int:
    async def body(connection: psycopg.AsyncConnection) -> int:
        return connection.info.backend_pid

    return await database.read(body)


@pytest.fixture
async def gate(database_urls) -> AsyncIterator[EntryGate]:
    """What lets an entry in; the lease is held until the end of the test."""
    ingest = Database(database_urls.ingest, name="ingest", max_size=2)
    decision = Database(database_urls.decision, name="decision", max_size=2)
    await ingest.open()
    await decision.open()
    lease = PostgresLease(decision)
    found = await publish_gate(ingest, decision, decision, AT)
    yield evolve(found, lease_epoch=await lease.acquire("a", 60))
    await lease.aclose()
    await decision.close()
    await ingest.close()


@asynccontextmanager
async def stopped_at_commit(cutter: Any, database: Database) -> AsyncIterator[None]:
    """Stop the backend as soon as its COMMIT is on its way, and lose the connection; it goes on after the block."""
    backend = await backend_of(database)
    cutter.on_commit.append(lambda: os.kill(backend, signal.SIGSTOP))
    cutter.cut = "after"
    try:
        yield
    finally:
        os.kill(backend, signal.SIGCONT)


async def test_row_whose_commit_is_in_progress_is_neither_there_nor_absent(gate, cutter, behind_cutter):
    store = PostgresOrderStore(behind_cutter, venue_id=VENUE)
    async with stopped_at_commit(cutter, behind_cutter):
        with pytest.raises(StoreUnavailable):
            await store.insert_entry(entry_row("kbe1", AT), stop_row("kbp1", AT, "kbe1"), gate)

        for cl_ord_id in ("kbe1", "kbp1"):
            with pytest.raises(StoreUnavailable, match="in progress"):
                await store.find_order(ClOrdId(cl_ord_id))

    found = [await store.find_order(ClOrdId(cl_ord_id)) for cl_ord_id in ("kbe1", "kbp1")]
    assert [entry_row("kbe1", AT), stop_row("kbp1", AT, "kbe1")] == found


async def test_row_in_doubt_is_read_back_also_by_one_who_gave_up_on_the_commit(gate, cutter, behind_cutter):
    store = PostgresOrderStore(behind_cutter, venue_id=VENUE)
    async with stopped_at_commit(cutter, behind_cutter):
        with anyio.move_on_after(0.2) as scope:
            await store.insert_entry(entry_row("kbe1", AT), stop_row("kbp1", AT, "kbe1"), gate)

        assert scope.cancelled_caught
        with pytest.raises(StoreUnavailable, match="in progress"):
            await store.find_order(ClOrdId("kbe1"))


async def lose(store: PostgresOrderStore, change: OrderChange, cutter: Any, url: str) -> None:
    """Lose a change before its COMMIT, and let a server that was started again give its number to another."""
    cutter.cut = "before, and away"
    with pytest.raises(StoreUnavailable):
        await store.apply(change, NOBODY)
    look_as_started_again(store, await ask(url, "SELECT pg_current_xact_id()::text"))
    cutter.refuse = False


@pytest.mark.parametrize("table", CHANGES)
async def test_change_that_a_server_started_again_holds_is_not_written_twice(
    database_urls, cutter, behind_cutter, table
):
    store = await make_store(behind_cutter)
    change = CHANGES[table]
    before = await ask(database_urls.decision, f"SELECT count(*) FROM krakenbot.{table}")
    cutter.cut = "after, and away"
    with pytest.raises(StoreUnavailable):
        await store.apply(change, NOBODY)
    look_as_started_again(store)
    cutter.refuse = False

    await store.apply(change, NOBODY)

    assert before + 1 == await ask(database_urls.decision, f"SELECT count(*) FROM krakenbot.{table}")


@pytest.mark.parametrize("table", CHANGES)
async def test_change_whose_number_went_to_another_transaction_is_written(database_urls, cutter, behind_cutter, table):
    store = await make_store(behind_cutter)
    change = CHANGES[table]
    before = await ask(database_urls.decision, f"SELECT count(*) FROM krakenbot.{table}")
    await lose(store, change, cutter, database_urls.decision)

    await store.apply(change, NOBODY)

    assert before + 1 == await ask(database_urls.decision, f"SELECT count(*) FROM krakenbot.{table}")


async def test_protection_of_another_account_is_not_taken_for_ones_own(database_urls, cutter, behind_cutter):
    other = PostgresOrderStore(behind_cutter, venue_id=VenueId("127.0.0.1/other"))
    await other.apply(CHANGES["protection_events"], NOBODY)
    store = await make_store(behind_cutter)
    await lose(store, CHANGES["protection_events"], cutter, database_urls.decision)

    await store.apply(CHANGES["protection_events"], NOBODY)

    assert 2 == await ask(database_urls.decision, "SELECT count(*) FROM krakenbot.protection_events")
