"""How long a restart takes until the ledger is reconciled with the venue.

A local exchange holds 200 open orders and at least 10,000 old fills of the account; the decision database holds the
same, with the cursor further past the fills than the look-back, so that they count as old. The execution process is
started as a person would start it, with its own REST budget at the lowest tier's, and the time is taken from the start
of the process to the end of the first ladder that has seen the stream's snapshot. The process must find nothing to
correct, and load all open orders. Wall time of one start; what else runs on the machine counts. The lease is free:
after a kill its time to live (15 s) comes on top.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import websockets
from psycopg.types.json import Jsonb
from tests.bench._subscriber import SECRET, call
from tests.bench.acknowledgement import resting_orders

from krakenbot.adapters.postgres.embedded import EmbeddedCluster, Login
from krakenbot.adapters.postgres.rows import FILL_COLUMNS, ORDER_COLUMNS
from krakenbot.apps.databases import embedded_clusters
from krakenbot.apps.rehearsal import setup
from krakenbot.apps.rehearsal.children import Child
from krakenbot.apps.rehearsal.exchange_truth import fetch_truth
from krakenbot.domain.engine.ladder import LOOK_BACK

MOST_S = 5.0
OPEN_ORDERS, OLD_FILLS = 200, 10_000
PATIENCE_S = 30
IN_FLIGHT = 50
LARGER = 40
"""A market order is so many times the least that rests, so that it takes several makers."""
VENUE = "bench"
LITTLE = timedelta(seconds=10)
SECTION = {"execution.venue_id": VENUE}


def run() -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="kb-bench-") as name:
        return asyncio.run(measure(Path(name)))


async def measure(folder: Path) -> dict[str, Any]:
    events: list[tuple[float, dict[str, Any]]] = []

    def take(_: str, line: str) -> None:
        if line.startswith("{"):
            events.append((time.perf_counter(), json.loads(line)))

    ingest_key, key = setup.new_key_pair(), setup.KeyPair(key="reader", secret=SECRET)
    accounts, ready_file = folder / "accounts.json", folder / "ready"
    write_rich_account(accounts, ingest_key, key)
    options = [
        "--symbols",
        "40",
        "--seed",
        "3",
        "--limits",
        "off",
        "--latency-median-ms",
        "0",
        "--latency-p99-ms",
        "0",
    ]
    files = ["--accounts", str(accounts), "--ready-file", str(ready_file)]
    children = [child("exchange", ["exchange", *options, *files], folder, take)]
    try:
        async with embedded_clusters(folder / "postgres") as (ingest, decision):
            async with asyncio.timeout(60):
                while not ready_file.exists():
                    await asyncio.sleep(0.05)
            ready = json.loads(ready_file.read_text())
            setup.write_settings(folder / "settings.toml", ready, folder, SECTION)
            setup.write_process_credentials(folder, ingest, decision, ingest_key, key)
            await trade(ready)
            fills = await fill_database(decision, ready)
            started = time.perf_counter()
            arguments = ["run-execution-only", "--config", str(folder / "settings.toml")]
            children.append(child("execution", arguments, folder, take))
            found = await until_reconciled(events, started, children[-1])
            await asyncio.to_thread(children.pop().stop, 60.0)
    finally:
        for each in reversed(children):
            await asyncio.to_thread(each.stop, 60.0)
    is_right = found["orders"] == OPEN_ORDERS and not found["corrections"]
    return {"passed": is_right and found["start_to_clean_s"] < MOST_S, "most_s": MOST_S, "old_fills": fills, **found}


def write_rich_account(path: Path, ingest_key: setup.KeyPair, key: setup.KeyPair) -> None:
    """Write the accounts of a rehearsal, with money enough for all the trades."""
    setup.write_accounts(path, ingest_key, key)
    accounts = json.loads(path.read_text())
    # the highest tier: the trading counter of each symbol has room for its share of the orders
    accounts[0]["tier"] = "pro"
    accounts[0]["balances"] = {setup.QUOTE: "1000000000"}
    path.write_text(json.dumps(accounts))


def child(name: str, arguments: list[str], folder: Path, take: Any) -> Child:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}  # noqa: TID251
    environment = {"HOME": str(folder), **kept}
    if name != "exchange":
        environment |= setup.credentials_environment(folder, "execution")
    return Child(name, arguments, environment=environment, error_file=folder / f"{name}.err", on_line=take)


async def trade(ready: dict[str, Any]) -> None:
    """Rest the open orders first, so that all fills are younger than they are; then buy at market."""
    resting = await resting_orders(ready)
    token = (await asyncio.to_thread(call, ready["rest_url"], "GetWebSocketsToken"))["token"]
    fills, number = 0, 0
    async with websockets.connect(ready["ws_private_url"], proxy=None, max_size=None, compression=None) as socket:
        subscription = {"channel": "executions", "snap_orders": False, "token": token}
        await socket.send(json.dumps({"method": "subscribe", "params": subscription}))
        while fills < OLD_FILLS:
            waiting = set(range(number, number + IN_FLIGHT))
            for each in sorted(waiting):
                order = resting[each % len(resting)] | {"cl_ord_id": f"kbe{each:012d}", "token": token}
                if each >= OPEN_ORDERS:
                    del order["limit_price"]
                    order |= {"order_type": "market", "order_qty": order["order_qty"] * LARGER}
                await socket.send(json.dumps({"method": "add_order", "params": order, "req_id": each}))
            number += IN_FLIGHT
            async with asyncio.timeout(60):
                while waiting:
                    answer = json.loads(await socket.recv())
                    if answer.get("channel") == "executions":
                        fills += sum(row["exec_type"] == "trade" for row in answer["data"])
                    elif answer.get("req_id") in waiting:
                        if not answer["success"]:
                            raise AssertionError(answer)
                        waiting.discard(answer["req_id"])


async def fill_database(decision: EmbeddedCluster, ready: dict[str, Any]) -> int:
    """Write what the exchange has, as an execution process that saw it all would have; return the fills."""
    truth = await fetch_truth(ready["rest_url"], timeout_s=60.0)
    account = next(each for each in truth["accounts"] if each["name"] == setup.ACCOUNT)
    orders = {order["order_id"]: order for order in account["orders"]}
    if len(account["fills"]) < OLD_FILLS or sum(o["status"] == "new" for o in orders.values()) != OPEN_ORDERS:
        raise AssertionError(f"{len(account['fills'])} fills, {len(orders)} orders")
    record = Jsonb({"regime": "range"})
    gate = "lineage_id, epoch_id, generation_id, lease_epoch"
    async with await psycopg.AsyncConnection.connect(decision.url(Login.OWNER)) as connection:
        async with connection.cursor() as cursor:
            async with cursor.copy(f"COPY krakenbot.execution_orders ({ORDER_COLUMNS}, {gate}) FROM STDIN") as copy:
                for order in orders.values():
                    is_open, at = order["status"] == "new", instant(order["opened_at_ns"])
                    row = [order["cl_ord_id"], VENUE, order["symbol"], "buy", "entry", "limit", order["qty"]]
                    row += [order["limit_price"] or "1", None, None, is_open, "open" if is_open else "filled", at, at]
                    row += [at + timedelta(days=30), None, None, order["order_id"], order["filled_qty"], at, "", record]
                    await copy.write_row([*row, 1, 1, 1, 0])
            async with cursor.copy(f"COPY krakenbot.fills ({FILL_COLUMNS}) FROM STDIN") as copy:
                for fill in account["fills"]:
                    order, at = orders[fill["order_id"]], instant(fill["at_ns"])
                    cost = Decimal(fill["price"]) * Decimal(fill["qty"])
                    row = [fill["exec_id"], order["cl_ord_id"], order["order_id"], VENUE, order["symbol"], "buy"]
                    row += [fill["price"], fill["qty"], cost, fill["fee_asset"], fill["fee"], False, at, at, "stream"]
                    await copy.write_row(row)
        newest = max(instant(fill["at_ns"]) for fill in account["fills"]) + LOOK_BACK + LITTLE
        await connection.execute(
            "INSERT INTO krakenbot.reconciled (venue_id, reconciled_at) VALUES (%s, %s)", [VENUE, newest]
        )
    return len(account["fills"])


async def until_reconciled(
    events: list[tuple[float, dict[str, Any]]], started: float, execution: Child
) -> dict[str, Any]:
    """Return when rows were loaded, when a ladder had answered start and snapshot, and what it corrected."""
    async with asyncio.timeout(2 * PATIENCE_S):
        while True:
            if execution.exit_code() is not None:
                raise AssertionError(execution.error_tail())
            loaded = [(at, row) for at, row in list(events) if row["event"] == "loaded"]
            ladders = [(at, row) for at, row in list(events) if row["event"] == "reconciled"]
            answered: set[str] = set()
            for at, row in ladders:
                answered |= set(row["reasons"])
                if {"start", "snapshot"} <= answered:
                    corrections = sum(each["corrections"] for each_at, each in ladders if each_at <= at)
                    loaded_at, rows = loaded[0]
                    return {
                        "start_to_clean_s": round(at - started, 2),
                        "start_to_loaded_s": round(loaded_at - started, 2),
                        "orders": rows["orders"],
                        "corrections": corrections,
                    }
            if time.perf_counter() - started > PATIENCE_S:
                raise AssertionError(f"not clean in {PATIENCE_S} s: {[row for _, row in events][-10:]}")
            await asyncio.sleep(0.005)


def instant(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns / 1e9, UTC)
