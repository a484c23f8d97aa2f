"""The tie-out's cursor and what was named, in the decision database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from krakenbot.adapters.postgres.database import Database
from krakenbot.domain.execution.ledger import Acceptance, Cursor, Named
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
_SETTLE = """
UPDATE ledger_acceptances SET is_applied = %s, settled_at = clock_timestamp()
WHERE venue_id = %s AND acceptance_no = %s AND is_applied IS NULL
"""
_ACCEPT = """
INSERT INTO ledger_acceptances (venue_id, asset, amount, who, reason) VALUES (%s, %s, %s, %s, %s)
RETURNING acceptance_no
"""
_OPEN = """
SELECT acceptance_no, asset, amount, who, reason FROM ledger_acceptances
WHERE venue_id = %s AND is_applied IS NULL ORDER BY acceptance_no
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

    async def save_cursor(
        self, venue_id: VenueId, cursor: Cursor, named: Sequence[Named], settled: Mapping[int, bool] | None = None
    ) -> None:
        """Move the cursor on, append what was named, and settle acceptances."""
        balances = {str(asset): str(qty) for asset, qty in sorted(cursor.balances.items())}

        async def body(connection: AsyncConnection) -> None:
            values = [venue_id, cursor.at, Jsonb(balances), Jsonb(sorted(cursor.counted))]
            await connection.execute(_SAVE, values)
            for one in named:
                await connection.execute(
                    _NAME, [venue_id, cursor.at, one.cause.value, one.asset, one.amount, one.count, one.detail]
                )
            for number, is_applied in (settled or {}).items():
                await connection.execute(_SETTLE, [is_applied, venue_id, number])

        await self._database.write(body)

    async def accept(self, venue_id: VenueId, asset: Asset, amount: Decimal, who: str, reason: str) -> Acceptance:
        """Write down that a person accepts a difference of this amount."""

        async def body(connection: AsyncConnection) -> int:
            rows = await connection.execute(_ACCEPT, [venue_id, asset, amount, who, reason])
            row = await rows.fetchone()
            return int(row[0]) if row else 0

        number = await self._database.write(body)
        return Acceptance(number=number, asset=asset, amount=amount, who=who, reason=reason)

    async def open_acceptances(self, venue_id: VenueId) -> Sequence[Acceptance]:
        """Return the acceptances that were not looked at yet."""

        async def body(connection: AsyncConnection) -> list[Acceptance]:
            rows = await connection.execute(_OPEN, [venue_id])
            return [
                Acceptance(number=row[0], asset=Asset(row[1]), amount=row[2], who=row[3], reason=row[4])
                for row in await rows.fetchall()
            ]

        return await self._database.read(body)
