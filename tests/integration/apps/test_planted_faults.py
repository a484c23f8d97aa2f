"""Faults planted in a real decision database: the rehearsal's report must show each and end non-zero.

Method: a small consistent ledger goes in through the engine's own store, the exchange's record is written by hand.
Then one fault at a time is planted as the owner, past the guards of the schema.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import psycopg
import pytest
from attrs import evolve, frozen
from psycopg.conninfo import conninfo_to_dict
from tests.decision_rows import ABC, VENUE, entry_row, fill_row, publish_gate, stop_row

from krakenbot.adapters.postgres.cycle_store import PostgresCycleStore
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import EXECUTION_ROLE, INGEST_ROLE
from krakenbot.adapters.postgres.embedded import Login
from krakenbot.adapters.postgres.lease import PostgresLease
from krakenbot.adapters.postgres.order_store import PostgresOrderStore
from krakenbot.apps.rehearsal.collect import Collected, collect
from krakenbot.apps.rehearsal.exchange_truth import exchange_book
from krakenbot.apps.rehearsal.report import build_report, exit_status
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import OrderState
from krakenbot.domain.execution.position import Position, Protection, ProtectionEvent
from krakenbot.domain.values import ClOrdId, VenueOrderId
from krakenbot.ports.order_store import OrderChange

pytestmark = pytest.mark.postgres
_copies = itertools.count(1)
FEED = {"book_ok": 5, "book_bad": 0, "level3_ok": 5, "level3_bad": 0, "frames": {"book": 5}}
TRUTH: dict[str, Any] = {
    "accounts": [
        {
            "name": "trader",
            "balances": {"USD": "899.75", "ABC": "1"},
            "orders": [
                {"cl_ord_id": "kbe1", "order_id": "O1", "status": "filled", "filled_qty": "1.0"},
                {"cl_ord_id": "kbs1", "order_id": "O2", "status": "new", "filled_qty": "0"},
            ],
            "fills": [
                {
                    "exec_id": exec_id,
                    "cl_ord_id": "kbe1",
                    "order_id": "O1",
                    "price": "100.0",
                    "qty": qty,
                    "fee": fee,
                    "fee_asset": "USD",
                }
                for exec_id, qty, fee in (("E1", "0.40", "0.10"), ("E2", "0.60", "0.15"))
            ],
        }
    ]
}
PLANTS = {
    "a missing fill": "DELETE FROM krakenbot.fills WHERE exec_id = 'E2'",
    "a wrong fee": "UPDATE krakenbot.fills SET fee_qty = fee_qty + 0.01 WHERE exec_id = 'E1'",
    "a wrong price": "UPDATE krakenbot.fills SET price = price + 0.01 WHERE exec_id = 'E1'",
    "a fill too much": "CREATE TEMP TABLE copied ON COMMIT DROP AS SELECT * FROM krakenbot.fills WHERE exec_id = 'E1';"
    " UPDATE copied SET exec_id = 'E9'; INSERT INTO krakenbot.fills SELECT * FROM copied",
    "an extra order": "ALTER TABLE krakenbot.execution_orders ALTER COLUMN regime DROP EXPRESSION;"
    " CREATE TEMP TABLE copied ON COMMIT DROP AS"
    " SELECT * FROM krakenbot.execution_orders WHERE cl_ord_id = 'kbs1';"
    " UPDATE copied SET cl_ord_id = 'kbs9', venue_order_id = 'O9';"
    " INSERT INTO krakenbot.execution_orders SELECT * FROM copied",
    "an order that is not open any more": "UPDATE krakenbot.execution_orders SET state = 'canceled'"
    " WHERE cl_ord_id = 'kbs1'",
    "an outcome that is not known": "UPDATE krakenbot.execution_orders SET state = 'unknown' WHERE cl_ord_id = 'kbs1'",
}


def fill(exec_id: str, qty: str, fee: str, at: datetime) -> Fill:
    return fill_row(exec_id, at, qty=Decimal(qty), cost=Decimal(qty) * 100, fee_qty=Decimal(fee))


async def write_ledger(ingest: Database, publish: Database, decision: Database, at: datetime) -> None:
    """One entry, filled in two parts; its stop, open; its protection after half a second."""
    lease = PostgresLease(decision)
    gate = evolve(await publish_gate(ingest, publish, decision, at), lease_epoch=await lease.acquire("test", 30))
    entry, stop = entry_row("kbe1", at), stop_row("kbs1", at, "kbe1")
    orders = PostgresOrderStore(decision, venue_id=VENUE)
    await orders.insert_entry(entry, stop, gate)

    def covered(protection: Protection, after_s: float) -> ProtectionEvent:
        return ProtectionEvent(
            symbol=ABC,
            at=at + timedelta(seconds=after_s),
            protection=protection,
            position_qty=Decimal(1),
            protected_qty=Decimal(protection is Protection.PROTECTED),
            reason="test",
        )

    await orders.apply(
        OrderChange(
            orders=(
                evolve(entry, state=OrderState.FILLED, cum_qty=Decimal(1), venue_order_id=VenueOrderId("O1")),
                evolve(stop, state=OrderState.OPEN, venue_order_id=VenueOrderId("O2")),
            ),
            fills=(fill("E1", "0.4", "0.1", at), fill("E2", "0.6", "0.15", at)),
            positions=(
                Position(
                    symbol=ABC,
                    qty=Decimal(1),
                    cost_quote=Decimal("100.25"),
                    realized_quote=Decimal(0),
                    opened_at=at,
                    entry_id=ClOrdId("kbe1"),
                ),
            ),
            protection=(covered(Protection.BARE, 0.0), covered(Protection.PROTECTED, 0.5)),
        ),
        gate.lease_epoch,
    )
    await PostgresCycleStore(decision).publish_status("execution", at, {"live_feed": FEED})
    await lease.aclose()


@frozen(kw_only=True)
class Ledger:
    """Two databases with the ledger in them, and when it begins."""

    ingest: str
    decision: str
    at: datetime


async def write_once(ingest: str, decision: str, at: datetime) -> None:
    pools = [
        Database(ingest, name="ingest", role=INGEST_ROLE),
        Database(decision, name="publish", role=INGEST_ROLE),
        Database(decision, name="decision", role=EXECUTION_ROLE),
    ]
    for pool in pools:
        await pool.open()
    try:
        await write_ledger(pools[0], pools[1], pools[2], at)
    finally:
        for pool in pools:
            await pool.close()


@pytest.fixture(scope="module")
def original(clusters: Any) -> Ledger:
    """The consistent ledger, written once."""
    at = datetime.now(UTC)  # noqa: TID251  # the server judges lease and gate by its own clock
    ingest = clusters.migrated(clusters.ingest, "kb_ingest")
    decision = clusters.migrated(clusters.decision, "kb_decision")
    anyio.run(write_once, ingest, decision, at)
    return Ledger(ingest=ingest, decision=decision, at=at)


@pytest.fixture
def ledger(clusters: Any, original: Ledger) -> Ledger:
    """A copy of its own for a test that plants a fault."""
    name = str(conninfo_to_dict(original.decision)["dbname"])
    copy = f"{name}_{next(_copies)}"
    with psycopg.connect(clusters.decision.superuser_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {copy} TEMPLATE {name} OWNER {Login.OWNER}".encode())
    return evolve(original, decision=clusters.decision.url(Login.OWNER, copy))


def reported(collected: Collected, at: datetime, truth: dict[str, Any] | None = None) -> dict[str, Any]:
    return build_report(
        run={"duration_s": 1.0, "failures": []},
        collected=collected,
        exchange=exchange_book(truth or TRUTH, "trader", {"USD": Decimal(1000)}),
        ended_at=at + timedelta(seconds=2),
        exit_reason="duration",
    )


async def test_a_consistent_ledger_equals_the_exchange(ledger: Ledger) -> None:

    collected = await collect(ledger.ingest, ledger.decision)
    report = reported(collected, ledger.at)

    assert report["differences"] == []
    assert report["ledger_equals_exchange"] is True
    assert report["ledger"] == report["exchange"]
    assert exit_status(report) == 0
    assert report["orders"] == {"filled": 1, "open": 1}
    assert report["fills"] == 2
    assert report["epochs"] == {"valid": 1}
    assert report["generations"] == 1
    assert report["seconds"]["bare"] == pytest.approx(0.5)
    assert report["seconds"]["protected"] == pytest.approx(1.5)
    assert report["checksums"] == {"book_ok": 5, "book_bad": 0, "level3_ok": 5, "level3_bad": 0}
    assert [entry["cl_ord_id"] for entry in report["entries"]] == ["kbe1"]
    assert report["entries"][0]["children"] == [{"role": "protective_stop", "state": "open", "qty": "1"}]


@pytest.mark.parametrize("plant", PLANTS)
async def test_each_planted_fault_is_a_difference_and_ends_non_zero(ledger: Ledger, plant: str) -> None:
    async with await psycopg.AsyncConnection.connect(ledger.decision) as connection:
        for table in ("fills", "execution_orders"):
            await connection.execute(f"ALTER TABLE krakenbot.{table} DISABLE TRIGGER USER".encode())
        await connection.execute(PLANTS[plant].encode())

    report = reported(await collect(ledger.ingest, ledger.decision), ledger.at)

    assert report["ledger_equals_exchange"] is False
    assert report["differences"]
    assert exit_status(report) == 1
    if "order" in plant or "outcome" in plant:
        assert report["orphan_orders"] == 1


async def test_faults_on_the_exchanges_side_count_alike(ledger: Ledger) -> None:
    collected = await collect(ledger.ingest, ledger.decision)
    account = TRUTH["accounts"][0]
    foreign = {"cl_ord_id": None, "order_id": "O7", "status": "new", "filled_qty": "0"}
    planted = [
        {**account, "fills": account["fills"][:1]},
        {**account, "orders": [*account["orders"], foreign]},
        {**account, "balances": {"USD": "899.74", "ABC": "1"}},
    ]

    for one in planted:
        report = reported(collected, ledger.at, {"accounts": [one]})

        assert report["ledger_equals_exchange"] is False
        assert exit_status(report) == 1
