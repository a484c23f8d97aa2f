"""Execution's side of state: ask for a generation, read it whole with what it is bound to."""

from __future__ import annotations

from datetime import datetime, timedelta

import anyio
from psycopg import AsyncConnection

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.listener import GENERATION_CHANNEL, REQUEST_CHANNEL, Listener
from krakenbot.adapters.postgres.rows import (
    EPOCH_COLUMNS,
    INSTRUMENT_COLUMNS,
    STATE_COLUMNS,
    engine_state_of,
    epoch_of,
    instrument_of,
    safety_of,
    state_of,
    universe_of,
)
from krakenbot.domain.state.epoch import Epoch, UniverseSnapshot
from krakenbot.domain.values import GenerationId, LineageId
from krakenbot.ports.state_store import CycleInput

_RECHECK_S = 0.5

_REQUEST = "INSERT INTO refresh_requests (requested_at) VALUES (%s) RETURNING request_id"
_ANSWERED = "SELECT generation_id FROM refresh_requests WHERE request_id = %s"
_GENERATION = "SELECT lineage_id, symbols FROM state_generations WHERE generation_id = %s"
_STATES = f"SELECT {STATE_COLUMNS} FROM run_symbol_state WHERE generation_id = %s"
# A valid epoch within its age first, then a degraded one.
_EPOCH = f"""
SELECT {EPOCH_COLUMNS} FROM ingest_epochs
WHERE status IN ('valid', 'degraded') AND created_at >= %s
ORDER BY status = 'valid' DESC, epoch_id DESC LIMIT 1
"""
_UNIVERSE = "SELECT epoch_id, execution, l3, pinned FROM execution_universe_snapshots WHERE epoch_id = %s"


class PostgresStateStore:
    """StateStore on the decision database; `aclose` gives its listening connection back."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._listener = Listener(database, GENERATION_CHANNEL)

    async def request_refresh(self, at: datetime, wait_s: float) -> GenerationId | None:
        """Ask ingest and wait; None when no answer came in time."""
        await self._listener.ready()
        request_id = await self._database.write(lambda connection: _request(connection, at))
        deadline = anyio.current_time() + wait_s
        while True:
            answer = await self._database.read(lambda connection: _answer(connection, request_id))
            left_s = deadline - anyio.current_time()
            if answer is not None or left_s <= 0:
                return answer
            # Asked again now and then: a notification lost with its connection must not cost the whole wait.
            await self._listener.wait(min(left_s, _RECHECK_S))

    async def read_cycle(self, generation_id: GenerationId, at: datetime, max_epoch_age_s: float) -> CycleInput | None:
        """Read one generation in one REPEATABLE READ transaction; None when it is gone or not there yet."""

        async def body(connection: AsyncConnection) -> CycleInput | None:
            generation = await (await connection.execute(_GENERATION, [generation_id])).fetchone()
            states = [state_of(row) for row in await (await connection.execute(_STATES, [generation_id])).fetchall()]
            if generation is None or len(states) != generation[1]:
                return None
            instruments = await connection.execute(f"SELECT {INSTRUMENT_COLUMNS} FROM instruments")
            known = {item.symbol: item for item in map(instrument_of, await instruments.fetchall())}
            epoch, universe = await _bind_epoch(connection, at - timedelta(seconds=max_epoch_age_s))
            engine = await connection.execute("SELECT mode, reason, since, latch FROM engine_state")
            engine_state = engine_state_of(await engine.fetchone())
            safety = await connection.execute("SELECT symbol, mode, reason, since, until FROM symbol_safety_state")
            modes = {item.symbol: item for item in map(safety_of, await safety.fetchall())}
            return CycleInput(
                generation_id=generation_id,
                lineage_id=LineageId(generation[0]),
                states={state.symbol: state for state in states},
                instruments=known,
                epoch=epoch,
                universe=universe,
                engine_state=engine_state,
                safety=modes,
                read_at=at,
            )

        return await self._database.read(body)

    async def aclose(self) -> None:
        """Close the listening connection."""
        await self._listener.aclose()


async def _bind_epoch(connection: AsyncConnection, since: datetime) -> tuple[Epoch | None, UniverseSnapshot | None]:
    row = await (await connection.execute(_EPOCH, [since])).fetchone()
    if row is None:
        return None, None
    epoch = epoch_of(row)
    universe = await (await connection.execute(_UNIVERSE, [epoch.epoch_id])).fetchone()
    return epoch, universe_of(universe) if universe is not None else None


async def _request(connection: AsyncConnection, at: datetime) -> int:
    row = await (await connection.execute(_REQUEST, [at])).fetchone()
    await connection.execute("SELECT pg_notify(%s, '')", [REQUEST_CHANNEL])
    return int(row[0]) if row else 0


async def _answer(connection: AsyncConnection, request_id: int) -> GenerationId | None:
    row = await (await connection.execute(_ANSWERED, [request_id])).fetchone()
    return GenerationId(row[0]) if row is not None and row[0] is not None else None
