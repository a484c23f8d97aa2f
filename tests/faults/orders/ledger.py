"""Our side of a case: what the decision database holds for one account, read past the proxy in one snapshot.

Enters: the owner's URL and a venue id. Leaves: rows. Times of commits come from PostgreSQL itself
(`track_commit_timestamp`), by rows that are never changed after they were inserted.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import anyio
import psycopg
from attrs import field, frozen
from psycopg.rows import dict_row
from tests.faults.orders.world import Account

ANSWER_WAIT_S = 20.0
Row = dict[str, Any]


@frozen(kw_only=True)
class Ledger:
    """What is committed. `births` and `steps` say when an order's row came, and each change of it, oldest first."""

    orders: dict[str, Row] = field(factory=dict)
    fills: dict[str, Row] = field(factory=dict)
    positions: dict[str, Row] = field(factory=dict)
    births: dict[str, Row] = field(factory=dict)
    steps: tuple[Row, ...] = ()
    events: tuple[Row, ...] = ()
    generations: tuple[int, ...] = ()
    """Those of the decision cycles of all accounts, in the order of their times."""

    def balance_changes(self) -> dict[str, Decimal]:
        """Return what the fills say of each asset."""
        changes: dict[str, Decimal] = {}

        def add(asset: str, amount: Decimal) -> None:
            changes[asset] = changes.get(asset, Decimal(0)) + amount

        for fill in self.fills.values():
            base, quote = fill["symbol"].split("/")
            sign = 1 if fill["side"] == "buy" else -1
            add(base, sign * fill["qty"])
            add(quote, -sign * fill["cost"])
            add(fill["fee_asset"], -fill["fee_qty"])
        return {asset: amount for asset, amount in changes.items() if amount}


def venue_id(account: Account, rest_url: str) -> str:
    """Return the venue id of an account as docs/settings.md has it: host and account hash."""
    digest = hashlib.sha256(b"krakenbot venue " + account.key.key.encode()).hexdigest()
    return f"{urlsplit(rest_url).netloc}/{digest[:12]}"


async def read_ledger(url: str, venue: str, since: datetime) -> Ledger:
    """Read it; waits for a database that is away, and raises TimeoutError when that takes too long."""
    with anyio.fail_after(ANSWER_WAIT_S):
        while True:
            try:
                return await _read(url, venue, since)
            except psycopg.OperationalError:
                await anyio.sleep(0.1)


async def _read(url: str, venue: str, since: datetime) -> Ledger:
    async with await psycopg.AsyncConnection.connect(
        url, row_factory=dict_row, autocommit=True, options="-c search_path=krakenbot"
    ) as connection:

        async def rows(query: str, *values: Any) -> list[Row]:
            return await (await connection.execute(query.encode(), values)).fetchall()

        await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        orders = await rows("SELECT * FROM execution_orders WHERE venue_id = %s", venue)
        fills = await rows(
            "SELECT *, pg_xact_commit_timestamp(xmin) AS committed_at FROM fills WHERE venue_id = %s"
            " ORDER BY pg_xact_commit_timestamp(xmin), ctid",
            venue,
        )
        positions = await rows("SELECT * FROM positions WHERE venue_id = %s", venue)
        steps = await rows(
            "SELECT *, pg_xact_commit_timestamp(xmin) AS committed_at FROM suite.changes WHERE venue_id = %s"
            " ORDER BY change_no",
            venue,
        )
        events = await rows(
            "SELECT e.* FROM execution_order_events e JOIN execution_orders o USING (cl_ord_id)"
            " WHERE o.venue_id = %s ORDER BY e.event_no",
            venue,
        )
        cycles = await rows(
            # A leader that stood still commits its cycle late; one whose clock the suite stepped tells a wrong time.
            "SELECT generation_id FROM decision_cycles WHERE generation_id IS NOT NULL AND at >= %s"
            " AND abs(extract(epoch FROM pg_xact_commit_timestamp(xmin) - at)) < 1800 ORDER BY at",
            since,
        )
    return Ledger(
        orders={row["cl_ord_id"]: row for row in orders},
        fills={row["exec_id"]: row for row in fills},
        positions={row["symbol"]: row for row in positions},
        births={row["cl_ord_id"]: row for row in steps if row["is_birth"]},
        steps=tuple(steps),
        events=tuple(events),
        generations=tuple(row["generation_id"] for row in cycles),
    )
