"""Cycles, outcomes and process status, on a pool apart from orders; partitions by UTC day."""

from __future__ import annotations

from datetime import UTC, date, datetime

from psycopg import AsyncConnection

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.rows import json_value
from krakenbot.ports.cycle_store import CycleRow

_INSERT_CYCLE = """
INSERT INTO decision_cycles (at, generation_id, epoch_id, funnel, blockers, duration_s) VALUES (%s, %s, %s, %s, %s, %s)
"""
_INSERT_OUTCOME = """
INSERT INTO decision_outcomes (at, symbol, code, value, limit_value, unit, detail, clears_when, since, record)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""
_PUT_STATUS = """
INSERT INTO process_status (process, at, body) VALUES (%s, %s, %s)
ON CONFLICT (process) DO UPDATE SET at = excluded.at, body = excluded.body
"""


class PostgresCycleStore:
    """CycleStore on the decision database's records pool."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._ready_day: date | None = None

    async def record_cycle(self, row: CycleRow) -> None:
        """Append a cycle and its outcome rows in one transaction."""
        day = row.at.astimezone(UTC).date()

        async def body(connection: AsyncConnection) -> None:
            if day != self._ready_day:
                await connection.execute("SELECT ensure_day_partitions(%s)", [day])
            await connection.execute(
                _INSERT_CYCLE,
                [
                    row.at,
                    row.generation_id,
                    row.epoch_id,
                    json_value(row.funnel),
                    json_value(row.blockers),
                    row.duration_s,
                ],
            )
            outcomes = [
                (
                    row.at,
                    outcome.symbol,
                    outcome.code,
                    outcome.value,
                    outcome.limit,
                    outcome.unit,
                    outcome.detail,
                    outcome.clears_when,
                    outcome.since,
                    json_value(outcome.record) if outcome.record is not None else None,
                )
                for outcome in row.outcomes
            ]
            if outcomes:
                await connection.cursor().executemany(_INSERT_OUTCOME, outcomes)

        await self._database.write(body)
        self._ready_day = day

    async def publish_status(self, process: str, at: datetime, body: dict[str, object]) -> None:
        """Replace the status of a process."""

        async def unit(connection: AsyncConnection) -> None:
            await connection.execute(_PUT_STATUS, [process, at, json_value(body)])

        await self._database.write(unit)
