"""Our side: what the two databases hold. Every figure of the report that is ours comes from here.

Enters: URLs of both clusters; a cluster may be away, and then a question waits for it. Leaves: rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import psycopg
from attrs import frozen
from psycopg.rows import dict_row

RETRY_S = 0.25
ANSWER_WAIT_S = 90.0
Row = dict[str, Any]
_SETS = (
    "SELECT e.status, u.execution, u.l3 FROM krakenbot.execution_universe_snapshots u"
    " JOIN krakenbot.ingest_epochs e USING (epoch_id) ORDER BY epoch_id DESC LIMIT 2"
)


@frozen(kw_only=True)
class Sets:
    """The symbols that the newest epoch says to be held."""

    execution: tuple[str, ...]
    l3: tuple[str, ...]


class Held:
    """Questions to the databases, each on a connection of its own."""

    def __init__(self, ingest_url: str, decision_url: str) -> None:
        self._ingest_url = ingest_url
        self._decision_url = decision_url

    async def sets(self) -> Sets | None:
        """Return the universe of the newest epoch; None before the first."""
        rows = await self._decision(_SETS)
        return Sets(execution=tuple(rows[0]["execution"]), l3=tuple(rows[0]["l3"])) if rows else None

    async def settled_sets(self, symbols: int) -> Sets | None:
        """Return the universe of the newest epoch; None unless it is valid and settled.

        It is settled with all `symbols`, or when it is that of the epoch before: the universe leaves symbols out.
        """
        rows = await self._decision(_SETS)
        if not rows or rows[0]["status"] != "valid":
            return None
        is_whole = len(rows[0]["execution"]) == symbols
        if not is_whole and (len(rows) < 2 or rows[0]["execution"] != rows[1]["execution"]):
            return None
        return Sets(execution=tuple(rows[0]["execution"]), l3=tuple(rows[0]["l3"]))

    async def sample_counts(self, since_ns: int) -> dict[int, tuple[int, int]]:
        """Return, for each sampling instant after `since_ns`, how many symbols had an L2 and an L3 row.

        Ingest samples in the middle of each second, slice by slice: the rows of one second are one instant.
        """
        rows = await self._ingest(
            "SELECT min(at_ns) AS at_ns, sum(l2)::int AS l2, sum(l3)::int AS l3 FROM ("
            "SELECT at_ns, 1 AS l2, 0 AS l3 FROM krakenbot.l2_snap_metrics WHERE at_ns > %(since)s "
            "UNION ALL SELECT at_ns, 0, 1 FROM krakenbot.l3_queue_metrics WHERE at_ns > %(since)s) both_tables "
            "GROUP BY at_ns / 1000000000 ORDER BY at_ns",
            {"since": since_ns},
        )
        return {row["at_ns"]: (row["l2"], row["l3"]) for row in rows}

    async def newest_books(self, since_ns: int) -> dict[str, Row]:
        """Return each symbol's newest L2 row after `since_ns`."""
        rows = await self._ingest(
            "SELECT DISTINCT ON (symbol) * FROM krakenbot.l2_snap_metrics WHERE at_ns > %(since)s"
            " ORDER BY symbol, at_ns DESC",
            {"since": since_ns},
        )
        return {row["symbol"]: row for row in rows}

    async def newest_queues(self, since_ns: int) -> dict[str, Row]:
        """Return each symbol's newest L3 row after `since_ns`."""
        rows = await self._ingest(
            "SELECT DISTINCT ON (symbol) * FROM krakenbot.l3_queue_metrics WHERE at_ns > %(since)s"
            " ORDER BY symbol, at_ns DESC",
            {"since": since_ns},
        )
        return {row["symbol"]: row for row in rows}

    async def trades(self, since_ns: int) -> list[Row]:
        """Return the stored trades since a time of the venue, with the lineage that holds them."""
        return await self._ingest(
            "SELECT t.symbol, t.trade_id, t.side, t.price, t.qty, r.lineage_id FROM krakenbot.trade_samples t"
            " JOIN krakenbot.observation_runs r USING (run_id) WHERE t.at_ns > %(since)s",
            {"since": since_ns},
        )

    async def open_gaps(self) -> list[Row]:
        """Return the ranges of trades that are named as missing and did not come since."""
        return await self._ingest(
            "SELECT symbol, lower(missing) AS first_trade_id, upper(missing) - 1 AS last_trade_id, cause"
            " FROM krakenbot.trade_gaps, unnest(still_missing) AS missing"
        )

    async def quarantine(self) -> dict[tuple[str, str], str]:
        """Return what ingest says not to work, by channel and symbol, with its reason, from its newest status."""
        rows = await self._decision("SELECT body FROM krakenbot.process_status WHERE process = 'ingest'")
        said = rows[0]["body"]["feed"]["quarantined"] if rows else []
        return {(each["channel"], each["symbol"]): f"{each['reason']}, {each['age_s']:.0f} s" for each in said}

    async def is_spool_full(self) -> bool:
        """Tell whether ingest's newest status says that its disk takes no more."""
        rows = await self._decision("SELECT body FROM krakenbot.process_status WHERE process = 'ingest'")
        return bool(rows and rows[0]["body"]["sink"]["spool_full"])

    async def epochs(self, since: datetime, until: datetime) -> list[Row]:
        """Return status and reasons of the epochs that were made within a time, in order."""
        return await self._decision(
            "SELECT status, reasons, created_at FROM krakenbot.ingest_epochs"
            " WHERE created_at BETWEEN %(since)s AND %(until)s ORDER BY epoch_id",
            {"since": since, "until": until},
        )

    async def cycles(self, since: datetime, until: datetime) -> list[Row]:
        """Return the decision cycles that began within a time."""
        return await self._decision(
            "SELECT at, generation_id, epoch_id, blockers FROM krakenbot.decision_cycles"
            " WHERE at BETWEEN %(since)s AND %(until)s ORDER BY at",
            {"since": since, "until": until},
        )

    async def entries(self, since: datetime, until: datetime) -> list[str]:
        """Return the symbols of the entry orders that were made within a time."""
        rows = await self._decision(
            "SELECT symbol FROM krakenbot.execution_orders"
            " WHERE role = 'entry' AND created_at BETWEEN %(since)s AND %(until)s",
            {"since": since, "until": until},
        )
        return [str(row["symbol"]) for row in rows]

    async def _ingest(self, query: str, values: Any = None) -> list[Row]:
        return await _rows(self._ingest_url, query, values)

    async def _decision(self, query: str, values: Any = None) -> list[Row]:
        return await _rows(self._decision_url, query, values)


def covered(gaps: Sequence[Row], symbol: str, trade_id: int) -> bool:
    """Tell whether a trade lies in a range that is named as missing."""
    return any(gap["symbol"] == symbol and gap["first_trade_id"] <= trade_id <= gap["last_trade_id"] for gap in gaps)


def utc(at_ns: int) -> datetime:
    """Return a time in ns as a datetime."""
    return datetime.fromtimestamp(at_ns / 1e9, UTC)


async def _rows(url: str, query: str, values: Any) -> list[Row]:
    with anyio.fail_after(ANSWER_WAIT_S):
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
                    return await (await connection.execute(query.encode(), values)).fetchall()
            except psycopg.OperationalError:
                await anyio.sleep(RETRY_S)
