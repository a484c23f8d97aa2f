"""Queue probes in the decision database, a partition a UTC day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import AsyncConnection

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.rows import Row, placeholders
from krakenbot.domain.market.probe import MARKOUT_HORIZONS_S, Probe, ProbeEnd, ProbeKind, ProbeLabels
from krakenbot.domain.values import NS_PER_S, LineageId, Side, VenueId

_MARKOUTS = tuple(f"markout_{horizon_s:.0f}s_bps" for horizon_s in MARKOUT_HORIZONS_S)
_COLUMNS = (
    "venue_id, lineage_id, probe_no, symbol, symbol_group, kind, side, price, size_quote, spread_bps, queue_bucket, "
    "started_at, ended_at, rest_s, end_cause, end_reason, first_fill_s, filled_share, ahead_orders, ahead_quote, "
    "traded_quote, cancelled_quote, amended_quote, unexplained_quote, " + ", ".join(_MARKOUTS)
)
_INSERT = f"INSERT INTO queue_probes ({_COLUMNS}) VALUES ({placeholders(_COLUMNS)}) ON CONFLICT DO NOTHING"
_ENDS = ", ".join(f"count(*) FILTER (WHERE end_cause = '{end}')" for end in ProbeEnd)
_FILLED = "FILTER (WHERE end_cause IN ('consumed', 'swept'))"
_MEANS = ", ".join(
    f"avg({column}) {_FILLED}, stddev_samp({column}) {_FILLED} / sqrt(count({column}) {_FILLED}), "
    f"count({column}) {_FILLED}"
    for column in _MARKOUTS
)
_LABELS = f"""
SELECT symbol_group, kind, side, queue_bucket, {_ENDS}, avg(rest_s) FILTER (WHERE end_cause <> 'censored'), {_MEANS}
FROM queue_probes WHERE venue_id = %s AND ended_at >= %s
GROUP BY symbol_group, kind, side, queue_bucket
ORDER BY symbol_group COLLATE "C", kind COLLATE "C", side COLLATE "C", queue_bucket COLLATE "C"
"""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class PostgresProbeStore:
    """ProbeStore on the decision database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, venue_id: VenueId, lineage_id: LineageId, probes: Sequence[Probe]) -> None:
        """Append ended probes in one transaction; one that is there already is left as it is."""
        rows = [_values(venue_id, lineage_id, probe) for probe in probes]
        days = sorted({_at(probe.ended_at_ns).date() for probe in probes})

        async def body(connection: AsyncConnection) -> None:
            for day in days:
                await connection.execute("SELECT ensure_probe_partition(%s)", [day])
            if rows:
                await connection.cursor().executemany(_INSERT, rows)

        await self._database.write(body)

    async def labels(self, venue_id: VenueId, since: datetime) -> Sequence[ProbeLabels]:
        """Return the labels of one venue by symbol group, kind, side and queue bucket."""

        async def body(connection: AsyncConnection) -> list[ProbeLabels]:
            found = await connection.execute(_LABELS, [venue_id, since])
            return [_labels(venue_id, row) for row in await found.fetchall()]

        return await self._database.read(body)

    async def drop_before(self, at: datetime) -> int:
        """Drop the whole UTC days that lie before a time; return how many."""

        async def body(connection: AsyncConnection) -> int:
            day = at.astimezone(UTC).date()
            row = await (await connection.execute("SELECT drop_probe_partitions(%s)", [day])).fetchone()
            return int(row[0]) if row else 0

        return await self._database.write(body)


def _values(venue_id: VenueId, lineage_id: LineageId, probe: Probe) -> list[Any]:
    if probe.end is None or probe.causes_lots is None:
        raise ValueError(f"probe {probe.probe_no} has not ended")
    first_at_ns, causes, place = probe.first_fill_at_ns, probe.causes_lots, probe.place
    return [
        venue_id,
        lineage_id,
        probe.probe_no,
        probe.symbol,
        probe.symbol_group,
        probe.kind.value,
        probe.side.value,
        probe.price,
        probe.size_quote,
        probe.spread_bps,
        probe.queue_bucket,
        _at(probe.started_at_ns),
        _at(probe.ended_at_ns),
        probe.rest_s,
        probe.end.value,
        probe.end_reason,
        None if first_at_ns is None else (first_at_ns - probe.started_at_ns) / NS_PER_S,
        probe.filled_share,
        place.joined.orders,
        probe.ahead_start_quote,
        causes.traded * place.quote_per_lot,
        causes.cancelled * place.quote_per_lot,
        causes.amended * place.quote_per_lot,
        causes.unexplained * place.quote_per_lot,
        *probe.markouts_bps,
    ]


def _labels(venue_id: VenueId, row: Row) -> ProbeLabels:
    ends, means = row[4 : 4 + len(ProbeEnd)], row[5 + len(ProbeEnd) :]
    return ProbeLabels(
        venue_id=venue_id,
        symbol_group=row[0],
        kind=ProbeKind(row[1]),
        side=Side(row[2]),
        queue_bucket=row[3],
        ends={end: count for end, count in zip(ProbeEnd, ends, strict=True) if count},
        rest_s=row[4 + len(ProbeEnd)],
        markouts_bps={
            horizon_s: (means[3 * index], means[3 * index + 1], means[3 * index + 2])
            for index, horizon_s in enumerate(MARKOUT_HORIZONS_S)
        },
    )


def _at(at_ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at_ns // 1000)
