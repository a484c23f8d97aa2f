"""What a rehearsal reads from the databases for its report, after the processes have stopped.

Enters: URLs of both clusters. Leaves: the ledger's book and plain figures. It never asks the exchange.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
from attrs import field, frozen
from psycopg.rows import dict_row

from krakenbot.apps.rehearsal.books import (
    CANCELED,
    EXPIRED,
    FILLED,
    OPEN,
    FillLine,
    OrderLine,
    TradingBook,
    balance_changes,
)
from krakenbot.apps.rehearsal.protection import ProtectionChange

RAW_TABLES = ("ticker_samples", "trade_samples", "l2_snap_metrics", "l3_queue_metrics")
_STATUS = {"filled": FILLED, "canceled": CANCELED, "expired": EXPIRED}
_NEVER_THERE = ("rejected", "never_accepted")


@frozen(kw_only=True)
class Collected:
    """Figures of both databases; mappings are counts by name."""

    ledger: TradingBook
    rows: dict[str, int]
    generations: int
    epochs: dict[str, int]
    cycles: int
    blockers: dict[str, int]
    orders: dict[str, int]
    orders_by_role: dict[str, dict[str, int]]
    fills: int
    entries: list[dict[str, Any]]
    protection: list[ProtectionChange]
    processes: dict[str, dict[str, Any]] = field(factory=dict)


async def collect(ingest_url: str, decision_url: str) -> Collected:
    """Read everything that the report needs."""
    async with await psycopg.AsyncConnection.connect(ingest_url, row_factory=dict_row) as connection:
        rows = {
            table: (await _all(connection, f"SELECT count(*) AS n FROM krakenbot.{table}"))[0]["n"]
            for table in RAW_TABLES
        }
    async with await psycopg.AsyncConnection.connect(decision_url, row_factory=dict_row) as connection:
        orders = await _all(connection, "SELECT * FROM krakenbot.status_orders ORDER BY created_at, cl_ord_id")
        fills = await _all(
            connection,
            "SELECT f.*, i.base, i.quote FROM krakenbot.status_fills f"
            " LEFT JOIN krakenbot.status_instruments i USING (symbol) ORDER BY f.at, f.exec_id",
        )
        cycles = await _all(connection, "SELECT blockers FROM krakenbot.status_cycles")
        epochs = await _all(connection, "SELECT status, count(*) AS n FROM krakenbot.status_epochs GROUP BY status")
        protection = await _all(connection, "SELECT * FROM krakenbot.status_protection ORDER BY event_no")
        processes = await _all(connection, "SELECT process, body FROM krakenbot.status_processes")
        generations = await _all(connection, "SELECT count(DISTINCT generation_id) AS n FROM krakenbot.status_requests")
    blockers: Counter[str] = Counter()
    for cycle in cycles:
        blockers.update(cycle["blockers"])
    return Collected(
        ledger=ledger_book(orders, fills),
        rows=rows,
        generations=generations[0]["n"],
        epochs={row["status"]: row["n"] for row in epochs},
        cycles=len(cycles),
        blockers=dict(blockers.most_common()),
        orders=dict(Counter(row["state"] for row in orders)),
        orders_by_role={
            role: dict(Counter(row["state"] for row in orders if row["role"] == role))
            for role in sorted({row["role"] for row in orders})
        },
        fills=len(fills),
        entries=[_entry(row, orders) for row in orders if row["role"] == "entry"],
        protection=[
            ProtectionChange(
                symbol=row["symbol"], at=row["at"], protection=row["protection"], position_qty=row["position_qty"]
            )
            for row in protection
        ],
        processes={row["process"]: row["body"] for row in processes},
    )


def ledger_book(orders: list[dict[str, Any]], fills: list[dict[str, Any]]) -> TradingBook:
    """Make the ledger's book from rows; orders that never reached the venue are left out.

    An order whose outcome is unknown stays in, as "unknown": no exchange states that, so it shows as a difference.
    """
    lines = {}
    for row in orders:
        unsent = row["state"] == "pending_submit" and row["venue_order_id"] is None
        if unsent or row["state"] in _NEVER_THERE:
            continue
        status = "unknown" if row["state"] == "unknown" else _STATUS.get(row["state"], OPEN)
        lines[row["cl_ord_id"]] = OrderLine(cl_ord_id=row["cl_ord_id"], status=status, cum_qty=row["cum_qty"])
    return TradingBook(
        orders=lines,
        fills={
            row["exec_id"]: FillLine(
                exec_id=row["exec_id"],
                cl_ord_id=row["cl_ord_id"],
                price=row["price"],
                qty=row["qty"],
                fee=row["fee_qty"],
                fee_asset=row["fee_asset"],
            )
            for row in fills
        },
        balance_changes=balance_changes(
            (
                row["base"] or row["symbol"].split("/")[0],
                row["quote"] or row["symbol"].split("/")[1],
                row["side"],
                row["qty"],
                row["cost"],
                row["fee_qty"],
                row["fee_asset"],
            )
            for row in fills
        ),
    )


def _entry(row: dict[str, Any], orders: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what an entry was and what protected it."""
    children = [child for child in orders if child["parent_id"] == row["cl_ord_id"]]
    return {
        "cl_ord_id": row["cl_ord_id"],
        "symbol": row["symbol"],
        "at": _iso(row["created_at"]),
        "post_only": row["post_only"],
        "price": str(row["limit_price"]),
        "qty": str(row["qty"]),
        "notional_quote": str((row["limit_price"] or Decimal(0)) * row["qty"]),
        "filled_qty": str(row["cum_qty"]),
        "state": row["state"],
        "regime": row["regime"],
        "children": [{"role": child["role"], "state": child["state"], "qty": str(child["qty"])} for child in children],
    }


def _iso(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds")


async def _all(connection: psycopg.AsyncConnection[dict[str, Any]], query: str) -> list[dict[str, Any]]:
    cursor = await connection.execute(query.encode())
    return await cursor.fetchall()
