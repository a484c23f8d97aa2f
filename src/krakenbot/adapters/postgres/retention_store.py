"""Retention in PostgreSQL: partitions of old runs are dropped, epochs pruned in both databases.

Enters: decisions of the retention task. Leaves: space. Dropping is one short transaction per partition, so that a
refresh is never held up for long; a run that was dropped in part is found again and finished by the next check.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import LiteralString

from psycopg import AsyncConnection, sql

from krakenbot.adapters.postgres.database import Database
from krakenbot.domain.errors import StoreUnavailable
from krakenbot.domain.state.retention import StoredRun
from krakenbot.domain.state.windows import ns_of
from krakenbot.domain.values import LineageId, RunId, VenueId

_MAX_PARTITIONS = 64
_STORED_RUNS = """
WITH stored AS (
    SELECT substring(c.relname FROM '_r(\\d+)$')::bigint AS run_id, sum(pg_total_relation_size(c.oid))::bigint AS bytes
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
    WHERE c.relnamespace = 'krakenbot'::regnamespace AND c.relname ~ '_r\\d+$'
    GROUP BY 1
)
SELECT run_id, lineage_id, started_at, ended_at, coalesce(bytes, 0)
FROM stored FULL JOIN (SELECT * FROM observation_runs WHERE raw_dropped_at IS NULL) runs USING (run_id)
ORDER BY run_id
"""
_OPEN_SINCE = """
SELECT opened_at FROM positions WHERE qty <> 0 AND (%(venue_id)s::text IS NULL OR venue_id = %(venue_id)s)
UNION
SELECT created_at FROM execution_orders
WHERE state NOT IN ('filled', 'canceled', 'expired', 'rejected', 'never_accepted')
    AND (%(venue_id)s::text IS NULL OR venue_id = %(venue_id)s)
"""
_NOTE_DROP = """
UPDATE observation_runs SET raw_dropped_at = %(at)s, ended_at = coalesce(ended_at, %(at)s)
WHERE run_id = %(run_id)s AND raw_dropped_at IS NULL
"""
_OLD_EPOCHS = """
SELECT epoch_id FROM ingest_epochs
WHERE created_at < %(before)s AND epoch_id < (SELECT max(epoch_id) FROM ingest_epochs)
ORDER BY epoch_id LIMIT %(limit)s
"""

REFRESH_TABLES = (
    "feature_buckets",
    "flow_buckets",
    "queue_buckets",
    "markout_buckets",
    "feature_minutes",
    "queue_minutes",
    "markout_minutes",
    "minute_values",
    "symbol_latest",
    "symbol_norms",
    "refresh_watermarks",
)
"""Tables in which the refresh keeps rows of its lineage between two calls; a test compares them with the schema."""
RUN_TABLES = ("run_symbols", "trade_gaps", "sample_losses")
"""Tables whose rows describe the raw rows of a run, and go with them."""
# A newer lineage takes over from nothing: what the refresh kept for older ones is of no use to anybody.
_FORGET = """
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {table} WHERE lineage_id < (SELECT max(lineage_id) FROM ingest_lineage) LIMIT %s))
"""
# Late words about a run that was dropped: a gap that was filled, a loss that went through the spool.
_FORGET_RUNS = """
DELETE FROM {table} WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM {table} described
    WHERE to_regclass('krakenbot.trade_samples_r' || run_id) IS NULL AND NOT EXISTS (
        SELECT 1 FROM observation_runs run WHERE run.run_id = described.run_id AND run.raw_dropped_at IS NULL)
    LIMIT %s))
"""


class PostgresRetentionStore:
    """RetentionStore over the ingest database and the decision database; give the same one twice when there is one."""

    def __init__(self, ingest: Database, publish: Database, *, venue_id: VenueId | None = None) -> None:
        self._ingest = ingest
        self._publish = publish
        self._venue_id = venue_id

    async def stored_runs(self) -> list[StoredRun]:
        """Return every run that still has raw rows or partitions, by id."""

        async def body(connection: AsyncConnection) -> list[StoredRun]:
            rows = await (await connection.execute(_STORED_RUNS)).fetchall()
            return [
                StoredRun(
                    run_id=RunId(row[0]),
                    lineage_id=None if row[1] is None else LineageId(row[1]),
                    started_at=row[2],
                    ended_at=row[3],
                    size_bytes=row[4],
                )
                for row in rows
            ]

        return await self._ingest.read(body)

    async def open_since(self) -> list[datetime | None]:
        """Return when each open order was made and each open position began, from the decision database."""

        async def body(connection: AsyncConnection) -> list[datetime | None]:
            rows = await connection.execute(_OPEN_SINCE, {"venue_id": self._venue_id})
            return [row[0] for row in await rows.fetchall()]

        return await self._publish.read(body)

    async def drop_run(self, run_id: RunId, at: datetime) -> int:
        """Drop the partitions of a run, one transaction each, and note it in both databases.

        Raises StoreUnavailable when a lock was not to be had in time: what is left goes with the next call.
        """

        async def drop_one(connection: AsyncConnection) -> int | None:
            row = await (await connection.execute("SELECT drop_run_partition(%s)", [run_id])).fetchone()
            return None if row is None else row[0]

        freed_bytes = 0
        for _ in range(_MAX_PARTITIONS):
            size_bytes = await self._ingest.write(drop_one)
            if size_bytes is None:
                break
            freed_bytes += size_bytes
        else:
            raise StoreUnavailable(f"run {run_id} has more than {_MAX_PARTITIONS} partitions")

        async def note(connection: AsyncConnection) -> None:
            await connection.execute(_NOTE_DROP, {"run_id": run_id, "at": at})

        async def note_with_rows(connection: AsyncConnection) -> None:
            for table in RUN_TABLES:
                await connection.execute(
                    sql.SQL("DELETE FROM {} WHERE run_id = %s").format(sql.Identifier(table)), [run_id]
                )
            await note(connection)

        if self._publish is not self._ingest:
            # first there: a run without rows here would not be asked for again
            await self._publish.write(note)
        await self._ingest.write(note_with_rows)
        return freed_bytes

    async def delete_rows(self, run_id: RunId, before: datetime, limit: int) -> int:
        """Delete at most `limit` rows per raw table of a run that are older than `before`; return how many."""

        async def body(connection: AsyncConnection) -> int:
            cursor = await connection.execute("SELECT delete_run_rows(%s, %s, %s)", [run_id, ns_of(before), limit])
            row = await cursor.fetchone()
            return row[0] if row else 0

        return await self._ingest.write(body)

    async def prune_epochs(self, before: datetime, limit: int) -> int:
        """Delete at most `limit` of the oldest epochs made before an instant; the newest of all always stays."""

        async def body(connection: AsyncConnection) -> int:
            cursor = await connection.execute(_OLD_EPOCHS, {"before": before, "limit": limit})
            epoch_ids = [row[0] for row in await cursor.fetchall()]
            await connection.execute("DELETE FROM execution_universe_snapshots WHERE epoch_id = ANY(%s)", [epoch_ids])
            await connection.execute("DELETE FROM ingest_epochs WHERE epoch_id = ANY(%s)", [epoch_ids])
            return len(epoch_ids)

        pruned = await self._ingest.write(body)
        if self._publish is not self._ingest:
            pruned = max(pruned, await self._publish.write(body))
        return pruned

    async def forget_lineages(self, limit: int) -> int:
        """Delete at most `limit` rows per table of what refreshes keep for lineages that are over; return how many."""
        return await self._delete_from(REFRESH_TABLES, _FORGET, limit)

    async def forget_runs(self, limit: int) -> int:
        """Delete at most `limit` rows per table of what describes runs without raw rows; return how many."""
        return await self._delete_from(RUN_TABLES, _FORGET_RUNS, limit)

    async def _delete_from(self, tables: Sequence[str], text: LiteralString, limit: int) -> int:
        deleted = 0
        for table in tables:
            query = sql.SQL(text).format(table=sql.Identifier(table))

            async def body(connection: AsyncConnection, query: sql.Composed = query) -> int:
                return (await connection.execute(query, [limit])).rowcount

            deleted += await self._ingest.write(body)
        return deleted
