"""The probe store: labels per venue and class, append-only, apart from orders; in memory and on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from attrs import frozen

from krakenbot.adapters.memory.probe_store import MemoryProbeStore
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import EXECUTION_ROLE, INGEST_ROLE
from krakenbot.adapters.postgres.probe_store import PostgresProbeStore
from krakenbot.domain.errors import StoreError
from krakenbot.domain.market.place import Amount, Place
from krakenbot.domain.market.probe import Causes, Probe, ProbeEnd, ProbeKind
from krakenbot.domain.values import NS_PER_S, LineageId, Side, Symbol, VenueId
from krakenbot.ports.probe_store import ProbeStore

VENUE, OTHER, LINEAGE = VenueId("loopback/a"), VenueId("loopback/b"), LineageId(7)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
ORDER_TABLES = ("execution_orders", "execution_order_events", "fills", "positions", "realized_pnl", "markouts")

IN_POSTGRESQL = pytest.mark.parametrize(
    "store_urls", [pytest.param(name, marks=pytest.mark.postgres) for name in ("two", "one")], indirect=True
)


def probe(number: int, end: ProbeEnd = ProbeEnd.CONSUMED, **changes: Any) -> Probe:
    """A buy that joined behind 30 lots of 100 quote units at noon and ended after 10 s."""
    started_at_ns = changes.pop("started_at_ns", round(NOON.timestamp()) * NS_PER_S)
    place = Place(
        side=changes.pop("side", Side.BUY),
        price_ticks=100,
        size_lots=5,
        joined_at_ns=started_at_ns,
        joined=Amount(3, changes.pop("ahead_lots", 30)),
        ahead=Amount(0, 0),
        rank=3,
        quote_per_lot=100.0,
    )
    fields: dict[str, Any] = {
        "symbol": Symbol("ABC/USD"),
        "symbol_group": "USD/2+bps",
        "kind": ProbeKind.JOIN,
        "touch_ticks": 100,
        "away_ticks": 101,
        "price": 100.0,
        "spread_bps": 5.0,
        "started_at_ns": started_at_ns,
        "deadline_at_ns": started_at_ns + 120 * NS_PER_S,
        "ended_at_ns": started_at_ns + 10 * NS_PER_S,
        "causes_lots": Causes(traded=20, cancelled=12, amended=-2, unexplained=0),
        "first_fill_at_ns": started_at_ns + 9 * NS_PER_S if end.is_fill else None,
    }
    return Probe(probe_no=number, place=place, end=end, **{**fields, **changes})


@frozen(kw_only=True)
class Opened:
    """A probe store and, with PostgreSQL, the owner's URL of its database."""

    store: ProbeStore
    url: str | None


@pytest.fixture
async def opened(store_urls: tuple[str, ...]) -> AsyncIterator[Opened]:
    if not store_urls:
        yield Opened(store=MemoryProbeStore(), url=None)
        return
    role = INGEST_ROLE if len(store_urls) == 2 else None
    database = Database(store_urls[-1], name="publish", role=role, max_size=2)
    await database.open()
    yield Opened(store=PostgresProbeStore(database), url=store_urls[-1])
    await database.close()


async def test_labels_count_ends_and_average_markouts_of_fills(opened):
    ends = [ProbeEnd.CONSUMED, ProbeEnd.SWEPT, ProbeEnd.AWAY, ProbeEnd.TIMEOUT, ProbeEnd.CENSORED]
    markouts: list[list[float | None]] = [[2.0, 1.0, None, None, None], [-4.0, None, None, None, None]]
    await opened.store.record(
        VENUE,
        LINEAGE,
        [
            probe(number, end, markouts_bps=[*markouts, [None] * 5, [None] * 5, [None] * 5][number])
            for number, end in enumerate(ends)
        ],
    )
    labels = await opened.store.labels(VENUE, NOON)

    assert 1 == len(labels)
    assert dict.fromkeys(ends, 1) == labels[0].ends
    assert ("USD/2+bps", ProbeKind.JOIN, Side.BUY, "1000+") == (
        labels[0].symbol_group,
        labels[0].kind,
        labels[0].side,
        labels[0].queue_bucket,
    )
    assert (4, 0.5, 0.25, None) == (
        labels[0].count,
        labels[0].p_fill,
        labels[0].share(ProbeEnd.SWEPT),
        labels[0].share(ProbeEnd.CENSORED),
    )
    assert labels[0].markouts_bps[1.0] == (pytest.approx(-1.0), pytest.approx(3.0), 2)
    assert labels[0].markouts_bps[5.0] == (pytest.approx(1.0), None, 1)
    assert (None, None, 0) == labels[0].markouts_bps[30.0]
    assert labels[0].rest_s == pytest.approx(10.0)


async def test_labels_are_apart_by_venue_group_kind_side_bucket_and_time(opened):
    await opened.store.record(
        VENUE,
        LINEAGE,
        [
            probe(1),
            probe(2, symbol_group="EUR/2+bps"),
            probe(3, kind=ProbeKind.IMPROVE, ahead_lots=0),
            probe(4, side=Side.SELL),
            probe(5, ahead_lots=200),
        ],
    )
    await opened.store.record(OTHER, LINEAGE, [probe(1)])
    found = [
        (each.symbol_group, each.kind.value, each.side.value, each.queue_bucket)
        for each in await opened.store.labels(VENUE, NOON)
    ]

    assert [
        ("EUR/2+bps", "join", "buy", "1000+"),
        ("USD/2+bps", "improve", "buy", "0"),
        ("USD/2+bps", "join", "buy", "1000+"),
        ("USD/2+bps", "join", "buy", "10000+"),
        ("USD/2+bps", "join", "sell", "1000+"),
    ] == found
    assert 1 == len(await opened.store.labels(OTHER, NOON))
    assert 1 == len(await opened.store.labels(OTHER, NOON + timedelta(seconds=10)))
    assert [] == await opened.store.labels(OTHER, NOON + timedelta(seconds=11))
    assert [] == await opened.store.labels(VenueId("elsewhere"), NOON)


async def test_repeated_probe_counts_once_and_one_that_has_not_ended_is_refused(opened):
    followed = probe(3)
    followed.end = None
    with pytest.raises(ValueError, match="has not ended"):
        await opened.store.record(VENUE, LINEAGE, [followed])
    await opened.store.record(VENUE, LINEAGE, [])
    await opened.store.record(VENUE, LINEAGE, [probe(1)])
    await opened.store.record(VENUE, LINEAGE, [probe(1, ProbeEnd.AWAY), probe(2)])
    labels = await opened.store.labels(VENUE, NOON)

    assert [{ProbeEnd.CONSUMED: 2}] == [each.ends for each in labels]


async def test_old_days_are_dropped_whole_and_the_day_of_the_limit_stays(opened):
    starts = [NOON - timedelta(days=days) for days in (3, 2, 1, 0)]
    await opened.store.record(
        VENUE,
        LINEAGE,
        [probe(number, started_at_ns=round(at.timestamp()) * NS_PER_S) for number, at in enumerate(starts)],
    )

    assert 2 == await opened.store.drop_before(NOON - timedelta(days=1))
    assert 0 == await opened.store.drop_before(NOON - timedelta(days=1))
    assert [2] == [each.count for each in await opened.store.labels(VENUE, starts[0])]


@IN_POSTGRESQL
async def test_rows_tell_the_whole_story_and_no_order_table_is_touched(opened):
    await opened.store.record(VENUE, LINEAGE, [probe(1, markouts_bps=[1.5, None, None, None, None])])
    with psycopg.connect(opened.url) as connection:
        row = connection.execute(
            "SELECT venue_id, symbol, ahead_orders, ahead_quote, traded_quote, cancelled_quote, amended_quote,"
            " unexplained_quote, size_quote, rest_s, first_fill_s, filled_share, end_cause, markout_1s_bps"
            " FROM krakenbot.queue_probes"
        ).fetchone()
        counts = [connection.execute(f"SELECT count(*) FROM krakenbot.{table}").fetchone() for table in ORDER_TABLES]

    assert (VENUE, "ABC/USD", 3, 3000, 2000, 1200, -200, 0, 500, 10, 9, 1, "consumed", 1.5) == row
    assert [(0,)] * len(ORDER_TABLES) == counts


@IN_POSTGRESQL
async def test_rows_are_append_only_and_only_ingest_writes_them_and_no_order_table(opened):
    await opened.store.record(VENUE, LINEAGE, [probe(1)])
    with psycopg.connect(opened.url, autocommit=True) as connection:
        for statement in ("UPDATE krakenbot.queue_probes SET price = 1", "DELETE FROM krakenbot.queue_probes"):
            with pytest.raises(psycopg.errors.CheckViolation, match="append-only"):
                connection.execute(statement.encode())
        rights = [
            connection.execute(
                "SELECT has_table_privilege(%s, %s, %s)", [INGEST_ROLE, f"krakenbot.{table}", right]
            ).fetchone()
            for table in ORDER_TABLES
            for right in ("INSERT", "UPDATE", "DELETE")
        ]
    execution = Database(opened.url, name="decision", role=EXECUTION_ROLE, max_size=1)
    await execution.open()
    try:
        assert {(False,)} == set(rights)
        assert 1 == len(await PostgresProbeStore(execution).labels(VENUE, NOON))
        with pytest.raises(StoreError):
            await PostgresProbeStore(execution).record(VENUE, LINEAGE, [probe(2)])
    finally:
        await execution.close()
