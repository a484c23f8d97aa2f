"""Ingest's side of state: refresh in the ingest database, copy to the decision database, answer requests.

Enters: a lineage, a run and a time. Leaves: one generation, whole, in both databases, and the word of it. The
features are computed by the SQL function refresh_run_symbol_state.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from time import perf_counter
from typing import Any

from psycopg import AsyncConnection

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.listener import GENERATION_CHANNEL, REQUEST_CHANNEL, Listener
from krakenbot.adapters.postgres.rows import (
    INSTRUMENT_COLUMNS,
    STATE_COLUMNS,
    instrument_values,
    placeholders,
)
from krakenbot.domain.errors import StoreUnavailable
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.state.windows import Windows
from krakenbot.domain.values import GenerationId, LineageId, RunId
from krakenbot.ports.state_store import Refreshed

_KEPT_GENERATIONS = 10_000
_OPEN_REQUEST_MAX_AGE = "60 seconds"

_REFRESH = "SELECT generation, symbols FROM refresh_run_symbol_state(%s, %s, %s, %s, %s, %s, %s)"
_GENERATION = (
    "SELECT generation_id, lineage_id, run_id, computed_at, symbols FROM state_generations WHERE generation_id = %s"
)
_COPY_OUT = f"COPY (SELECT {STATE_COLUMNS} FROM run_symbol_state WHERE generation_id = %d) TO STDOUT (FORMAT BINARY)"
_COPY_IN = f"COPY run_symbol_state ({STATE_COLUMNS}) FROM STDIN (FORMAT BINARY)"
_PUT_GENERATION = """
INSERT INTO state_generations (generation_id, lineage_id, run_id, computed_at, symbols) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT DO NOTHING
"""
_PUT_INSTRUMENT = f"""
INSERT INTO instruments ({INSTRUMENT_COLUMNS}) VALUES ({placeholders(INSTRUMENT_COLUMNS)})
ON CONFLICT (symbol) DO UPDATE SET base = excluded.base, quote = excluded.quote, status = excluded.status,
    price_precision = excluded.price_precision, qty_precision = excluded.qty_precision,
    cost_precision = excluded.cost_precision, price_increment = excluded.price_increment,
    qty_increment = excluded.qty_increment, qty_min = excluded.qty_min, cost_min = excluded.cost_min,
    has_index = excluded.has_index, updated_at = now()
"""
_OPEN_REQUESTS = f"""
SELECT request_id FROM refresh_requests
WHERE generation_id IS NULL AND inserted_at > clock_timestamp() - interval '{_OPEN_REQUEST_MAX_AGE}'
ORDER BY request_id LIMIT 100
"""
_ANSWER = """
UPDATE refresh_requests SET generation_id = %s, answered_at = clock_timestamp()
WHERE request_id = ANY(%s) AND generation_id IS NULL
"""
_PRUNE_REQUESTS = """
DELETE FROM refresh_requests WHERE request_id < (SELECT max(request_id) FROM refresh_requests) - 10000
"""


class PostgresStateRefresher:
    """StateRefresher over both databases; give the same one twice when there is one, then nothing is copied."""

    def __init__(self, ingest: Database, publish: Database, *, windows: Windows | None = None) -> None:
        self._ingest = ingest
        self._publish = publish
        self._windows = windows or Windows()

    async def refresh(self, lineage_id: LineageId, run_id: RunId, at: datetime) -> Refreshed:
        """Compute one new generation in the ingest database, in one transaction under an advisory lock."""
        started = perf_counter()
        windows = self._windows

        async def body(connection: AsyncConnection) -> tuple[int, int]:
            lengths = [windows.short_s, windows.medium_s, windows.long_s, windows.complete_after_s]
            row = await (await connection.execute(_REFRESH, [lineage_id, run_id, at, *lengths])).fetchone()
            if row is None:
                raise StoreUnavailable("refresh_run_symbol_state gave no answer")
            return row[0], row[1]

        generation_id, symbols = await self._ingest.write(body)
        return Refreshed(
            generation_id=GenerationId(generation_id), symbols=symbols, duration_s=perf_counter() - started
        )

    async def sync(self, generation_id: GenerationId) -> None:
        """Copy a generation to the decision database in one transaction, and notify.

        Raises StoreUnavailable when either database has gone on to another generation.
        """
        if self._publish is self._ingest:
            await self._publish.write(lambda connection: _notify(connection, GENERATION_CHANNEL, generation_id))
            return

        async def read(connection: AsyncConnection) -> tuple[Any, list[bytes]]:
            generation = await (await connection.execute(_GENERATION, [generation_id])).fetchone()
            # The rows pass as the bytes that the server wrote: nothing here reads a value.
            cursor = connection.cursor()
            async with cursor.copy((_COPY_OUT % generation_id).encode()) as copy:
                rows = [bytes(chunk) async for chunk in copy]
            if generation is None or cursor.rowcount != generation[4]:
                raise StoreUnavailable(f"generation {generation_id} is not the one in the database")
            return generation, rows

        generation, rows = await self._ingest.read(read)

        async def write(connection: AsyncConnection) -> None:
            newest = await (await connection.execute("SELECT max(generation_id) FROM state_generations")).fetchone()
            if newest is not None and newest[0] is not None and newest[0] > generation_id:
                raise StoreUnavailable(f"generation {newest[0]} is newer than {generation_id}")
            await connection.execute("DELETE FROM run_symbol_state")
            async with connection.cursor().copy(_COPY_IN.encode()) as copy:
                await copy.write(b"".join(rows))
            await connection.execute(_PUT_GENERATION, generation)
            await connection.execute(
                "DELETE FROM state_generations WHERE generation_id < %s", [generation_id - _KEPT_GENERATIONS]
            )
            await _notify(connection, GENERATION_CHANNEL, generation_id)

        await self._publish.write(write)

    async def publish_instruments(self, instruments: Sequence[Instrument]) -> None:
        """Write instruments to the decision database."""

        async def body(connection: AsyncConnection) -> None:
            values = sorted((instrument_values(item) for item in instruments), key=lambda row: str(row[0]))
            await connection.cursor().executemany(_PUT_INSTRUMENT, values)

        if instruments:
            await self._publish.write(body)


class PostgresRefreshAnswers:
    """RefreshAnswers on the decision database; `aclose` gives its listening connection back."""

    def __init__(self, publish: Database) -> None:
        self._publish = publish
        self._listener = Listener(publish, REQUEST_CHANNEL)

    async def wait_for_requests(self, wait_s: float) -> list[int]:
        """Return ids of open requests, at once when there are some, else after at most `wait_s`."""
        await self._listener.ready()
        found = await self._open_requests()
        if not found:
            await self._listener.wait(wait_s)
            found = await self._open_requests()
        return found

    async def answer(self, request_ids: Sequence[int], generation_id: GenerationId) -> None:
        """Stamp requests with the generation that answers them, and notify."""

        async def body(connection: AsyncConnection) -> None:
            await connection.execute(_ANSWER, [generation_id, list(request_ids)])
            if any(request_id % 1000 == 0 for request_id in request_ids):
                await connection.execute(_PRUNE_REQUESTS)
            await _notify(connection, GENERATION_CHANNEL, generation_id)

        await self._publish.write(body)

    async def aclose(self) -> None:
        """Close the listening connection."""
        await self._listener.aclose()

    async def _open_requests(self) -> list[int]:
        async def body(connection: AsyncConnection) -> list[int]:
            return [row[0] for row in await (await connection.execute(_OPEN_REQUESTS)).fetchall()]

        return await self._publish.read(body)


async def _notify(connection: AsyncConnection, channel: str, value: int) -> None:
    await connection.execute("SELECT pg_notify(%s, %s)", [channel, str(value)])
