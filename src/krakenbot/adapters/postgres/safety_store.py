"""Engine mode and symbol safety in the decision database."""

from __future__ import annotations

from psycopg import AsyncConnection

from krakenbot.adapters.postgres.database import Database
from krakenbot.domain.state.safety import EngineState, SymbolSafety

_PUT_ENGINE = """
INSERT INTO engine_state (one, mode, reason, since, latch) VALUES (true, %s, %s, %s, %s)
ON CONFLICT (one) DO UPDATE SET mode = excluded.mode, reason = excluded.reason, since = excluded.since,
    latch = excluded.latch
"""
_PUT_SYMBOL = """
INSERT INTO symbol_safety_state (symbol, mode, reason, since, until) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (symbol) DO UPDATE SET mode = excluded.mode, reason = excluded.reason, since = excluded.since,
    until = excluded.until
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

    async def set_symbol_safety(self, safety: SymbolSafety) -> None:
        """Replace a symbol's mode."""

        async def body(connection: AsyncConnection) -> None:
            await connection.execute(
                _PUT_SYMBOL, [safety.symbol, safety.mode.value, safety.reason, safety.since, safety.until]
            )

        await self._database.write(body)
