"""The tie-out's cursor and what was named, in the decision database."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from krakenbot.adapters.postgres.database import Database
from krakenbot.domain.execution.tie_out import Cursor, Named
from krakenbot.domain.values import Asset, VenueId

_SAVE = """
INSERT INTO ledger_cursors AS c (venue_id, at, balances, counted) VALUES (%s, %s, %s, %s)
ON CONFLICT (venue_id) DO UPDATE
SET at = excluded.at, balances = excluded.balances, counted = excluded.counted, written_at = clock_timestamp()
WHERE c.at <= excluded.at
"""
_NAME = """
INSERT INTO ledger_differences (venue_id, at, cause, asset, amount, entries, detail) VALUES (%s, %s, %s, %s, %s, %s, %s)
"""


class PostgresLedgerStore:
    """LedgerStore on the decision database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load_cursor(self, venue_id: VenueId) -> Cursor | None:
        """Return the cursor of a venue."""

        async def body(connection: AsyncConnection) -> Cursor | None:
            rows = await connection.execute(
                "SELECT at, balances, counted FROM ledger_cursors WHERE venue_id = %s", [venue_id]
            )
            row = await rows.fetchone()
            if row is None:
                return None
            return Cursor(
                at=row[0],
                balances={Asset(asset): Decimal(qty) for asset, qty in row[1].items()},
                counted=frozenset(row[2]),
            )

        return await self._database.read(body)

    async def save_cursor(self, venue_id: VenueId, cursor: Cursor, named: Sequence[Named]) -> None:
        """Move the cursor on and append what was named."""
        balances = {str(asset): str(qty) for asset, qty in sorted(cursor.balances.items())}

        async def body(connection: AsyncConnection) -> None:
            values = [venue_id, cursor.at, Jsonb(balances), Jsonb(sorted(cursor.counted))]
            await connection.execute(_SAVE, values)
            for one in named:
                await connection.execute(
                    _NAME, [venue_id, cursor.at, one.cause.value, one.asset, one.amount, one.count, one.detail]
                )

        await self._database.write(body)
