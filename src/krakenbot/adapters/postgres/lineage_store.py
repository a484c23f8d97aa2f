"""Runs, lineages and epochs: ids from the ingest database, rows in both.

Enters: what ingest decided. Leaves: rows, run and lineage first. With one database for both the second write falls
away. Ids never fall behind the decision database's, so that a lost ingest cluster cannot bring old ids back.
"""

from __future__ import annotations

from datetime import datetime

from psycopg import AsyncConnection

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.rows import EPOCH_COLUMNS, epoch_values, placeholders
from krakenbot.domain.state.epoch import Epoch, EpochCriteria, EpochStatus, UniverseSnapshot
from krakenbot.domain.values import EpochId, LineageId, RunId, Symbol, VenueId

_NEWEST_IDS = """
SELECT (SELECT coalesce(max(lineage_id), 0) FROM ingest_lineage),
    (SELECT coalesce(max(run_id), 0) FROM observation_runs),
    (SELECT coalesce(max(epoch_id), 0) FROM ingest_epochs),
    (SELECT coalesce(max(generation_id), 0) FROM state_generations)
"""
_SEQUENCES = ("lineage_id_seq", "run_id_seq", "epoch_id_seq", "generation_id_seq")
_RAISE_SEQUENCE = """
SELECT setval(%(name)s::regclass, %(least)s)
WHERE %(least)s > coalesce(pg_sequence_last_value(%(name)s::regclass), 0)
"""
_PUT_LINEAGE = "INSERT INTO ingest_lineage (lineage_id, created_at) VALUES (%s, %s) ON CONFLICT DO NOTHING"
_PUT_RUN = """
INSERT INTO observation_runs (run_id, lineage_id, started_at) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING
"""
_PUT_EPOCH = f"INSERT INTO ingest_epochs ({EPOCH_COLUMNS}) VALUES ({placeholders(EPOCH_COLUMNS)})"
_PUT_SNAPSHOT = "INSERT INTO execution_universe_snapshots (epoch_id, execution, l3, pinned) VALUES (%s, %s, %s, %s)"
_PINNED = """
SELECT symbol FROM positions WHERE qty <> 0 AND (%(venue_id)s::text IS NULL OR venue_id = %(venue_id)s)
UNION
SELECT symbol FROM execution_orders
WHERE state NOT IN ('filled', 'canceled', 'expired', 'rejected', 'never_accepted')
    AND (%(venue_id)s::text IS NULL OR venue_id = %(venue_id)s)
"""
_FIND_RUN = """
SELECT l.created_at, r.started_at FROM observation_runs r JOIN ingest_lineage l USING (lineage_id) WHERE run_id = %s
"""


class PostgresLineageStore:
    """LineageStore over the ingest database and the decision database; give the same one twice when there is one.

    `venue_id` limits the pinned symbols to one venue account; None takes all.
    """

    def __init__(self, ingest: Database, publish: Database, *, venue_id: VenueId | None = None) -> None:
        self._ingest = ingest
        self._publish = publish
        self._venue_id = venue_id

    async def start_lineage(self, at: datetime) -> tuple[LineageId, RunId]:
        """Create a lineage with its first run and partitions in both databases."""
        least = await self._publish.read(_newest_ids)

        async def create(connection: AsyncConnection) -> tuple[LineageId, RunId]:
            for name, value in zip(_SEQUENCES, least, strict=True):
                if value:
                    await connection.execute(_RAISE_SEQUENCE, {"name": name, "least": value})
            lineage_id = LineageId(await _next(connection, "lineage_id_seq"))
            await connection.execute(_PUT_LINEAGE, [lineage_id, at])
            return lineage_id, await _create_run(connection, lineage_id, at)

        lineage_id, run_id = await self._ingest.write(create)
        if self._publish is not self._ingest:
            await self._publish.write(lambda connection: _put_run(connection, lineage_id, at, run_id, at))
        return lineage_id, run_id

    async def start_run(self, lineage_id: LineageId, at: datetime) -> RunId:
        """Create the next run of a lineage with its partitions in both databases (rotation)."""
        run_id = await self._ingest.write(lambda connection: _create_run(connection, lineage_id, at))
        if self._publish is not self._ingest:
            await self._copy_run(lineage_id, run_id)
        return run_id

    async def publish_epoch(
        self,
        *,
        lineage_id: LineageId,
        run_id: RunId,
        status: EpochStatus,
        criteria: EpochCriteria,
        reasons: tuple[str, ...],
        execution: tuple[Symbol, ...],
        l3: tuple[Symbol, ...],
        pinned: tuple[Symbol, ...],
        at: datetime,
    ) -> tuple[Epoch, UniverseSnapshot]:
        """Create the next epoch with its snapshot, whole, in both databases.

        When the second write fails the epoch exists in the ingest database only, and a repeated call makes the next.
        """

        async def create(connection: AsyncConnection) -> tuple[Epoch, UniverseSnapshot]:
            epoch = Epoch(
                epoch_id=EpochId(await _next(connection, "epoch_id_seq")),
                lineage_id=lineage_id,
                run_id=run_id,
                status=status,
                created_at=at,
                criteria=criteria,
                reasons=reasons,
            )
            universe = UniverseSnapshot(epoch_id=epoch.epoch_id, execution=execution, l3=l3, pinned=pinned)
            await _put_epoch(connection, epoch, universe)
            return epoch, universe

        epoch, universe = await self._ingest.write(create)
        if self._publish is not self._ingest:
            # Heals a lineage whose own second write had failed.
            await self._copy_run(lineage_id, run_id)
            await self._publish.write(lambda connection: _put_epoch(connection, epoch, universe))
        return epoch, universe

    async def pinned_symbols(self) -> tuple[Symbol, ...]:
        """Return the symbols with an open position or a live order in the decision database, sorted."""

        async def body(connection: AsyncConnection) -> tuple[Symbol, ...]:
            rows = await connection.execute(_PINNED, {"venue_id": self._venue_id})
            return tuple(sorted(Symbol(row[0]) for row in await rows.fetchall()))

        return await self._publish.read(body)

    async def end_run(self, run_id: RunId, at: datetime) -> None:
        """Mark a run as ended in both databases."""

        async def end(connection: AsyncConnection) -> None:
            await connection.execute(
                "UPDATE observation_runs SET ended_at = %s WHERE run_id = %s AND ended_at IS NULL", [at, run_id]
            )

        await self._ingest.write(end)
        if self._publish is not self._ingest:
            await self._publish.write(end)

    async def _copy_run(self, lineage_id: LineageId, run_id: RunId) -> None:
        async def find(connection: AsyncConnection) -> tuple[datetime, datetime]:
            row = await (await connection.execute(_FIND_RUN, [run_id])).fetchone()
            if row is None:
                raise LookupError(f"run {run_id} was never started")
            return row[0], row[1]

        created_at, started_at = await self._ingest.read(find)
        await self._publish.write(lambda connection: _put_run(connection, lineage_id, created_at, run_id, started_at))


async def _newest_ids(connection: AsyncConnection) -> tuple[int, ...]:
    row = await (await connection.execute(_NEWEST_IDS)).fetchone()
    return tuple(row) if row else (0,) * len(_SEQUENCES)


async def _next(connection: AsyncConnection, sequence: str) -> int:
    row = await (await connection.execute("SELECT nextval(%s::regclass)", [sequence])).fetchone()
    return int(row[0]) if row else 0


async def _create_run(connection: AsyncConnection, lineage_id: LineageId, at: datetime) -> RunId:
    run_id = RunId(await _next(connection, "run_id_seq"))
    await connection.execute(_PUT_RUN, [run_id, lineage_id, at])
    await connection.execute("SELECT ensure_run_partitions(%s)", [run_id])
    return run_id


async def _put_run(
    connection: AsyncConnection, lineage_id: LineageId, created_at: datetime, run_id: RunId, started_at: datetime
) -> None:
    await connection.execute(_PUT_LINEAGE, [lineage_id, created_at])
    await connection.execute(_PUT_RUN, [run_id, lineage_id, started_at])


async def _put_epoch(connection: AsyncConnection, epoch: Epoch, universe: UniverseSnapshot) -> None:
    await connection.execute(_PUT_EPOCH, epoch_values(epoch))
    await connection.execute(
        _PUT_SNAPSHOT,
        [universe.epoch_id, list(universe.execution), list(universe.l3), list(universe.pinned)],
    )
