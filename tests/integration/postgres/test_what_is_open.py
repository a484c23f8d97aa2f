"""What keeps its symbol pinned and its run stored: every order that may still live, every position, of one venue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.lineage_store import PostgresLineageStore
from krakenbot.adapters.postgres.retention_store import PostgresRetentionStore
from krakenbot.domain.execution.order import OrderState
from krakenbot.domain.values import VenueId

pytestmark = pytest.mark.postgres
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINE, OTHER = VenueId("mine"), VenueId("other")
ALIVE = [state for state in OrderState if not state.is_terminal]
_ORDER = """
INSERT INTO krakenbot.execution_orders (cl_ord_id, venue_id, symbol, side, role, order_type, qty, post_only, state,
    created_at, cum_qty, reason, record, lease_epoch)
VALUES (%(symbol)s, %(venue_id)s, %(symbol)s, 'sell', 'market_exit', 'market', 1, false, %(state)s, %(at)s, 0, '',
    '{}', 1)
"""
_POSITION = """
INSERT INTO krakenbot.positions (venue_id, symbol, qty, cost_quote, realized_quote, opened_at)
VALUES (%(venue_id)s, %(symbol)s, %(qty)s, 1, 0, %(at)s)
"""


@pytest.fixture
async def database(single_url: str) -> AsyncIterator[Database]:
    pool = Database(single_url, name="both", max_size=2)
    await pool.open()
    yield pool
    await pool.close()


async def put(url: str, query: str, **values: Any) -> None:
    async with await psycopg.AsyncConnection.connect(url) as connection:
        await connection.execute(query.encode(), values)


async def test_an_order_counts_as_open_in_every_state_that_it_may_leave(single_url: str, database: Database) -> None:
    for number, state in enumerate(OrderState):
        at = AT + timedelta(seconds=number)
        await put(single_url, _ORDER, symbol=f"{state.upper()}/USD", venue_id=MINE, state=str(state), at=at)
    pinned = await PostgresLineageStore(database, database, venue_id=MINE).pinned_symbols()
    since = await PostgresRetentionStore(database, database, venue_id=MINE).open_since()

    assert sorted(f"{state.upper()}/USD" for state in ALIVE) == list(pinned)
    assert {AT + timedelta(seconds=number) for number, state in enumerate(OrderState) if state in ALIVE} == set(since)


@pytest.mark.parametrize(("venue_id", "named"), [(MINE, "A B"), (OTHER, "C D"), (None, "A B C D")])
async def test_what_another_venue_holds_pins_nothing_here(
    single_url: str, database: Database, venue_id: VenueId | None, named: str
) -> None:
    for number, (venue, order, position, flat) in enumerate(((MINE, "A", "B", "E"), (OTHER, "C", "D", "F"))):
        at = AT + timedelta(hours=number)
        await put(single_url, _ORDER, symbol=order, venue_id=venue, state="open", at=at)
        await put(single_url, _POSITION, symbol=position, venue_id=venue, qty=1, at=at + timedelta(minutes=1))
        await put(single_url, _POSITION, symbol=flat, venue_id=venue, qty=0, at=at + timedelta(minutes=2))
    pinned = await PostgresLineageStore(database, database, venue_id=venue_id).pinned_symbols()
    since = await PostgresRetentionStore(database, database, venue_id=venue_id).open_since()

    assert tuple(named.split()) == pinned
    minutes = {"A": 0, "B": 1, "C": 60, "D": 61}
    assert {AT + timedelta(minutes=minutes[name]) for name in pinned} == set(since)
