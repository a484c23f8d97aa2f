"""What a start reads of a database that is years old: by index only what it needs, counted by PostgreSQL itself."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from tests.decision_rows import VENUE

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.order_store import _LAST_CHANGES, PostgresOrderStore

pytestmark = pytest.mark.postgres
SYMBOLS, OLD_ORDERS = 20, 20_000
FILL = f"""
INSERT INTO krakenbot.execution_orders (cl_ord_id, venue_id, symbol, side, role, order_type, qty, post_only, state,
    created_at, state_at, cum_qty, reason, record, lease_epoch)
SELECT 'kbm' || n, %s, 'S' || n %% {SYMBOLS}, 'sell', 'market_exit', 'market', 1, false, 'filled',
    '2026-01-01'::timestamptz + n * interval '1 s', '2026-01-01'::timestamptz + n * interval '2 s', 1, '', '{{}}', 0
FROM generate_series(1, {OLD_ORDERS}) n
"""


def rows_read(node: dict[str, Any]) -> float:
    """Return how many rows the scans of a plan read, those that were filtered out among them."""
    own = 0.0
    if "Scan" in node["Node Type"] and node.get("Relation Name") == "execution_orders":
        own = (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
    return own + sum(rows_read(child) for child in node.get("Plans", []))


async def test_last_changes_cost_two_rows_a_symbol_however_many_orders_there_were(database_urls):
    async with await psycopg.AsyncConnection.connect(database_urls.decision, autocommit=True) as connection:
        await connection.execute(FILL.encode(), [VENUE])
        await connection.execute("ANALYZE krakenbot.execution_orders")
        await connection.execute("SET search_path = krakenbot")
        cursor = await connection.execute(
            f"EXPLAIN (ANALYZE, FORMAT JSON) {_LAST_CHANGES}".encode(), {"venue_id": VENUE}
        )
        row = await cursor.fetchone()
    assert row is not None
    database = Database(database_urls.decision, name="decision", max_size=1)
    await database.open()
    found = await PostgresOrderStore(database, venue_id=VENUE).load_live(VENUE)
    await database.close()

    assert 2 * SYMBOLS == rows_read(row[0][0]["Plan"])
    assert SYMBOLS == len(found.changed_at)
    assert "2026-01-01T11:06:40+00:00" == max(found.changed_at.values()).isoformat()
