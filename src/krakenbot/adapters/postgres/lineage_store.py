"""Runs, lineages and epochs: ids from the ingest database, rows in both.

Enters: what ingest decided. Leaves: rows, run and lineage first. With one database for both the second write falls
away. The second write always brings over all that the decision database lacks, so that one that failed is made up for
by the next, also after a restart. Ids never fall behind the decision database's, so that a lost ingest cluster cannot
bring old ids back.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from attrs import frozen
from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.rows import EPOCH_COLUMNS, epoch_values, placeholders
from krakenbot.domain.errors import SecondWriteFailed, StoreConflict, StoreUnavailable
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
_RUN_COLUMNS = "run_id, lineage_id, started_at, ended_at, raw_dropped_at"
_PUT_RUN = f"""
INSERT INTO observation_runs AS run ({_RUN_COLUMNS}) VALUES ({placeholders(_RUN_COLUMNS)})
ON CONFLICT (run_id) DO UPDATE SET ended_at = coalesce(run.ended_at, excluded.ended_at),
    raw_dropped_at = coalesce(run.raw_dropped_at, excluded.raw_dropped_at)
"""
_END_OPEN_RUNS = "UPDATE observation_runs SET ended_at = greatest(%s, started_at) WHERE ended_at IS NULL"
_SNAPSHOT_COLUMNS = "epoch_id, execution, l3, pinned"
_PUT_EPOCH = f"""
INSERT INTO ingest_epochs ({EPOCH_COLUMNS}) VALUES ({placeholders(EPOCH_COLUMNS)}) ON CONFLICT DO NOTHING
"""
_PUT_SNAPSHOT = f"""
INSERT INTO execution_universe_snapshots ({_SNAPSHOT_COLUMNS}) VALUES ({placeholders(_SNAPSHOT_COLUMNS)})
ON CONFLICT DO NOTHING
"""
_KNOWN = """
SELECT (SELECT coalesce(max(epoch_id), 0) FROM ingest_epochs),
    (SELECT coalesce(array_agg(run_id), '{}') FROM observation_runs WHERE ended_at IS NOT NULL),
    (SELECT coalesce(array_agg(run_id), '{}') FROM observation_runs WHERE ended_at IS NULL)
"""
_LACKING_EPOCHS = f"""
SELECT {EPOCH_COLUMNS} FROM ingest_epochs WHERE epoch_id > %(epoch_id)s ORDER BY epoch_id LIMIT %(limit)s
"""
_LACKING_SNAPSHOTS = f"SELECT {_SNAPSHOT_COLUMNS} FROM execution_universe_snapshots WHERE epoch_id = ANY(%s)"
_LACKING_RUNS = f"""
SELECT {_RUN_COLUMNS} FROM observation_runs
WHERE run_id <> ALL(%(whole)s) AND (run_id <> ALL(%(open)s) OR ended_at IS NOT NULL) ORDER BY run_id
"""
_LINEAGES = "SELECT lineage_id, created_at FROM ingest_lineage WHERE lineage_id = ANY(%s) ORDER BY lineage_id"
_EPOCHS_AT_ONCE = 500
_MAX_PORTIONS = 200
_PINNED = """
SELECT symbol FROM positions WHERE qty <> 0 AND (%(venue_id)s::text IS NULL OR venue_id = %(venue_id)s)
UNION
SELECT symbol FROM execution_orders
WHERE state NOT IN ('filled', 'canceled', 'expired', 'rejected', 'never_accepted')
    AND (%(venue_id)s::text IS NULL OR venue_id = %(venue_id)s)
"""


@frozen(kw_only=True)
class _Lacking:
    """Rows of the ingest database that the decision database does not have, in the order in which they are written."""

    lineages: list[Any]
    runs: list[Any]
    epochs: list[Any]
    snapshots: list[Any]


class PostgresLineageStore:
    """LineageStore over the ingest database and the decision database; give the same one twice when there is one.

    `venue_id` limits the pinned symbols to one venue account; None takes all.
    """

    def __init__(self, ingest: Database, publish: Database, *, venue_id: VenueId | None = None) -> None:
        self._ingest = ingest
        self._publish = publish
        self._venue_id = venue_id

    async def start_lineage(self, at: datetime) -> tuple[LineageId, RunId]:
        """Create a lineage with its first run and partitions in both databases; end what a crash left open.

        After SecondWriteFailed a repeated call begins another lineage.
        """
        least = await self._publish.read(_newest_ids)

        async def create(connection: AsyncConnection) -> tuple[LineageId, RunId]:
            for name, value in zip(_SEQUENCES, least, strict=True):
                if value:
                    await connection.execute(_RAISE_SEQUENCE, {"name": name, "least": value})
            await connection.execute(_END_OPEN_RUNS, [at])
            lineage_id = LineageId(await _next(connection, "lineage_id_seq"))
            await connection.execute(_PUT_LINEAGE, [lineage_id, at])
            run_id = await _prepare_run(connection)
            await connection.execute(_PUT_RUN, [run_id, lineage_id, at, None, None])
            return lineage_id, run_id

        lineage_id, run_id = await self._ingest.write(create)
        await self.publish_pending()
        if self._publish is not self._ingest:
            # What is still open there was left so by an ingest cluster that is lost by now.
            lost = f"{_END_OPEN_RUNS} AND run_id < %s"
            await self._publish.write(lambda connection: connection.execute(lost, [at, run_id]))
        return lineage_id, run_id

    async def prepare_run(self) -> RunId:
        """Reserve the next run id and make its partitions; no run row exists until it begins."""
        return await self._ingest.write(_prepare_run)

    async def start_run(self, lineage_id: LineageId, at: datetime, prepared: RunId | None = None) -> RunId:
        """Begin a run, prepared or not, and end the one before it at the same instant.

        May be repeated with the same `prepared` run when the outcome is unknown.
        """

        async def begin(connection: AsyncConnection) -> RunId:
            run_id = await _prepare_run(connection) if prepared is None else prepared
            await connection.execute(
                f"{_END_OPEN_RUNS} AND lineage_id = %s AND run_id <> %s",
                [at, lineage_id, run_id],
            )
            await connection.execute(_PUT_RUN, [run_id, lineage_id, at, None, None])
            return run_id

        run_id = await self._ingest.write(begin)
        await self.publish_pending()
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

        After SecondWriteFailed it exists in the ingest database and waits: a repeated call would make the next one.
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
        await self.publish_pending()
        return epoch, universe

    async def publish_pending(self) -> int:
        """Bring to the decision database the lineages, runs and epochs that it lacks; return how many epochs."""
        if self._publish is self._ingest:
            return 0
        try:
            copied = 0
            for _ in range(_MAX_PORTIONS):
                lacking = await self._lacking()
                if lacking.runs or lacking.epochs:
                    await self._publish.write(lambda connection, rows=lacking: _put_all(connection, rows))  # type: ignore[misc]
                copied += len(lacking.epochs)
                if len(lacking.epochs) < _EPOCHS_AT_ONCE:
                    break
        except (StoreUnavailable, StoreConflict) as error:
            raise SecondWriteFailed(f"the decision database lacks runs or epochs: {error}") from error
        return copied

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
                f"{_END_OPEN_RUNS} AND run_id = %s",
                [at, run_id],
            )

        await self._ingest.write(end)
        await self.publish_pending()

    async def _lacking(self) -> _Lacking:
        async def known(connection: AsyncConnection) -> Any:
            return await (await connection.execute(_KNOWN)).fetchone()

        epoch_id, whole, still_open = await self._publish.read(known)

        async def find(connection: AsyncConnection) -> _Lacking:
            wanted = {"epoch_id": epoch_id, "limit": _EPOCHS_AT_ONCE}
            epochs = await (await connection.execute(_LACKING_EPOCHS, wanted)).fetchall()
            snapshots = await (await connection.execute(_LACKING_SNAPSHOTS, [[row[0] for row in epochs]])).fetchall()
            runs = await (await connection.execute(_LACKING_RUNS, {"whole": whole, "open": still_open})).fetchall()
            lineages = await (await connection.execute(_LINEAGES, [[row[1] for row in runs]])).fetchall()
            return _Lacking(lineages=lineages, runs=runs, epochs=epochs, snapshots=snapshots)

        return await self._ingest.read(find)


async def _newest_ids(connection: AsyncConnection) -> tuple[int, ...]:
    row = await (await connection.execute(_NEWEST_IDS)).fetchone()
    return tuple(row) if row else (0,) * len(_SEQUENCES)


async def _next(connection: AsyncConnection, sequence: str) -> int:
    row = await (await connection.execute("SELECT nextval(%s::regclass)", [sequence])).fetchone()
    return int(row[0]) if row else 0


async def _prepare_run(connection: AsyncConnection) -> RunId:
    run_id = RunId(await _next(connection, "run_id_seq"))
    await connection.execute("SELECT ensure_run_partitions(%s)", [run_id])
    return run_id


async def _put_all(connection: AsyncConnection, rows: _Lacking) -> None:
    """Write rows in the order of their references; what is there already stays as it is."""
    cursor = connection.cursor()
    await cursor.executemany(_PUT_LINEAGE, rows.lineages)
    await cursor.executemany(_PUT_RUN, rows.runs)
    await cursor.executemany(_PUT_EPOCH, [[*row[:5], Jsonb(row[5]), row[6]] for row in rows.epochs])
    await cursor.executemany(_PUT_SNAPSHOT, rows.snapshots)


async def _put_epoch(connection: AsyncConnection, epoch: Epoch, universe: UniverseSnapshot) -> None:
    await connection.execute(_PUT_EPOCH, epoch_values(epoch))
    await connection.execute(
        _PUT_SNAPSHOT,
        [universe.epoch_id, list(universe.execution), list(universe.l3), list(universe.pinned)],
    )
