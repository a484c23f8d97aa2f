"""Engine mode and symbol safety in the decision database."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

from psycopg import AsyncConnection

from krakenbot.adapters.postgres.database import Database
from krakenbot.domain.state.safety import EngineMode, EngineState, SymbolSafety
from krakenbot.domain.values import VenueId

_PUT_ENGINE = """
INSERT INTO engine_state (one, mode, reason, since, latch) VALUES (true, %s, %s, %s, %s)
ON CONFLICT (one) DO UPDATE SET mode = excluded.mode, reason = excluded.reason, since = excluded.since,
    latch = excluded.latch
"""
_ADD_LATCHES = """
INSERT INTO engine_state (one, mode, reason, since, latch) VALUES (true, %s, '', NULL, %s)
ON CONFLICT (one) DO UPDATE SET latch = (
    SELECT string_agg(DISTINCT code, ',' ORDER BY code)
    FROM unnest(string_to_array(engine_state.latch, ',') || string_to_array(excluded.latch, ',')) code WHERE code <> '')
"""
_PUT_SYMBOL = """
INSERT INTO symbol_safety_state (symbol, mode, reason, since, until) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (symbol) DO UPDATE SET mode = excluded.mode, reason = excluded.reason, since = excluded.since,
    until = excluded.until
"""
_RAISE_PEAK = """
INSERT INTO pnl_peaks AS p (venue_id, peak_quote) VALUES (%s, %s)
ON CONFLICT (venue_id) DO UPDATE SET peak_quote = excluded.peak_quote, at = clock_timestamp()
WHERE p.peak_quote < excluded.peak_quote
"""


class PostgresSafetyStore:
    """SafetyStore on the decision database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_engine_state(self, state: EngineState) -> None:
        """Replace the engine's mode."""

        async def body(connection: AsyncConnection) -> None:
            await connection.execute(_PUT_ENGINE, [state.mode.value, state.reason, state.since, state.latch])

        await self._database.write(body)

    async def add_latches(self, latches: Collection[str]) -> None:
        """Add to the latch in one statement: a halt that is written at the same moment is not written over."""

        async def body(connection: AsyncConnection) -> None:
            await connection.execute(_ADD_LATCHES, [EngineMode.NORMAL.value, ",".join(sorted(latches))])

        await self._database.write(body)

    async def set_symbol_safety(self, safety: SymbolSafety) -> None:
        """Replace a symbol's mode."""

        async def body(connection: AsyncConnection) -> None:
            await connection.execute(
                _PUT_SYMBOL, [safety.symbol, safety.mode.value, safety.reason, safety.since, safety.until]
            )

        await self._database.write(body)

    async def raise_peak(self, venue_id: VenueId, pnl_quote: Decimal) -> Decimal:
        """Store a profit and loss if it is the highest so far, and return the highest; a lower one writes nothing."""

        async def body(connection: AsyncConnection) -> Decimal:
            await connection.execute(_RAISE_PEAK, [venue_id, pnl_quote])
            rows = await connection.execute("SELECT peak_quote FROM pnl_peaks WHERE venue_id = %s", [venue_id])
            row = await rows.fetchone()
            return pnl_quote if row is None else Decimal(row[0])

        return await self._database.write(body)
