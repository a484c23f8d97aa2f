"""The COPY writer: each row once, whatever is lost on the way; what gives way is counted and named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import anyio
import psycopg
import pytest
from attrs import evolve, fields
from tests.events import Events

from krakenbot.adapters.postgres.copy_rows import BOOKS, QUEUES, TABLES, TICKERS, TRADES
from krakenbot.adapters.postgres.copy_session import CopySession
from krakenbot.adapters.postgres.copy_writer import PostgresSampleSink
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.embedded import EmbeddedCluster
from krakenbot.adapters.postgres.lineage_store import PostgresLineageStore
from krakenbot.adapters.postgres.migrate import DatabasePart, migrate
from krakenbot.domain.errors import StoreUnavailable
from krakenbot.domain.market.samples import BookSample, QueueSample, TickerSample, TradeSample
from krakenbot.domain.market.trade_ledger import TradeSource
from krakenbot.domain.values import NS_PER_S, RunId, Side, Symbol

pytestmark = pytest.mark.postgres
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BTC = Symbol("BTC/USD")


def make_trade(trade_id: int, symbol: Symbol = BTC) -> TradeSample:
    return TradeSample(
        symbol=symbol,
        trade_id=trade_id,
        side=Side.SELL,
        price=Decimal("50000.123456789012345"),
        qty=Decimal("0.00000001"),
        at_ns=trade_id,
        received_at_ns=trade_id + 1,
    )


def make_ticker(number: int) -> TickerSample:
    return TickerSample(symbol=BTC, at_ns=number, received_at_ns=number, bid=1.5, ask=2.5, last=2.0, volume_24h=1e9)


@pytest.fixture
async def database(database_urls) -> AsyncIterator[Database]:
    pool = Database(database_urls.ingest, name="ingest", role="krakenbot_ingest")
    await pool.open()
    yield pool
    await pool.close()


async def _rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    async def body(connection):
        return await (await connection.execute(query.encode())).fetchall()

    return await database.read(body)


async def _run(sink: PostgresSampleSink, *batches: tuple[int, list[Any]]) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sink.run)
        for run_id, samples in batches:
            sink.put(RunId(run_id), samples)
            with anyio.fail_after(10):
                await sink.flush()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("table", "sample"), [(TICKERS, TickerSample), (TRADES, TradeSample), (BOOKS, BookSample), (QUEUES, QueueSample)]
)
def test_columns_are_the_fields_of_the_sample_in_order(table, sample):
    assert tuple(field.name for field in fields(sample)) == table.columns
    assert len(table.columns) == len(table.types)


async def test_every_kind_comes_back_as_it_was_put(database):
    book: Any = BookSample.__new__(BookSample)
    for field in fields(BookSample):
        setattr(book, field.name, 7 if str(field.type) == "int" else 0.1)
    queue: Any = QueueSample.__new__(QueueSample)
    for field in fields(QueueSample):
        setattr(queue, field.name, 3 if str(field.type) == "int" else 0.2)
    book.symbol = queue.symbol = BTC
    samples = [make_ticker(1), make_trade(5), book, queue]

    await _run(PostgresSampleSink(database, batch_s=0.01, events=Events()), (3, samples))

    for table, sample in zip(TABLES, samples, strict=True):
        columns = ", ".join(table.columns)
        values = tuple(getattr(sample, name) for name in table.columns)
        assert [(3, *values)] == await _rows(database, f"SELECT run_id, {columns} FROM {table.name}")
    assert [(3, BTC)] == await _rows(database, "SELECT run_id, symbol FROM run_symbols")


async def test_repeated_trades_count_once_and_late_ones_fill_their_hole(database):
    sink = PostgresSampleSink(database, batch_s=0.01, events=Events())
    ids = [[50, 51, 54], [51, 54, 53], [48, 49, 50], [53, 52, 55], [47]]

    await _run(sink, *((1, [make_trade(i) for i in batch]) for batch in ids), (2, [make_trade(50)]))

    assert [(i,) for i in range(47, 56)] == await _rows(
        database, "SELECT trade_id FROM trade_samples WHERE run_id = 1 ORDER BY 1"
    )
    assert [(1,)] == await _rows(database, "SELECT run_id FROM trade_samples WHERE trade_id = 50")
    assert 9 == sink.stats().rows["trade_samples"]


async def test_what_is_queued_at_the_end_is_written_before_run_returns(database):
    sink = PostgresSampleSink(database, batch_rows=10, batch_s=30, events=Events())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sink.run)
        await anyio.sleep(0.05)
        sink.put(RunId(1), [make_trade(i) for i in range(95)])
        tasks.cancel_scope.cancel()

    assert [(95,)] == await _rows(database, "SELECT count(*) FROM trade_samples")
    assert 0 == sink.stats().queued


async def test_full_queue_coalesces_samples_first_and_names_dropped_trades(database):
    sink = PostgresSampleSink(database, queue_rows=10, events=Events())
    sink.put(RunId(1), [make_ticker(i) for i in range(15)])
    sink.put(RunId(1), [make_trade(i) for i in range(100, 115)])
    before = sink.stats()

    await _run(sink, (1, []))

    after = sink.stats()
    assert ({"ticker_samples": 4}, {"trade_samples": 5}, 20) == (before.coalesced, before.dropped, before.queued)
    assert (11, 10) == (after.rows["ticker_samples"], after.rows["trade_samples"])
    assert [(1, BTC, 110, 114, "queue_full")] == await _rows(
        database, "SELECT run_id, symbol, first_trade_id, last_trade_id, cause FROM trade_gaps"
    )
    assert [("ticker_samples", "coalesced", 10, 13, 4)] == await _rows(
        database, "SELECT kind, cause, first_at_ns, last_at_ns, samples FROM sample_losses"
    )


async def test_losses_less_than_a_minute_apart_are_one_row(database):
    minute_ns = 60 * NS_PER_S
    for first in (minute_ns, 2 * minute_ns, 5 * minute_ns, minute_ns // 2):
        sink = PostgresSampleSink(database, queue_rows=10, events=Events())
        sink.put(RunId(1), [make_ticker(first + i) for i in range(15)])
        await _run(sink, (1, []))

    assert [(minute_ns // 2 + 10, 2 * minute_ns + 13, 12), (5 * minute_ns + 10, 5 * minute_ns + 13, 4)] == await _rows(
        database, "SELECT first_at_ns, last_at_ns, samples FROM sample_losses ORDER BY first_at_ns"
    )


async def test_trade_that_is_there_already_does_not_block_the_others(database):
    await _run(PostgresSampleSink(database, batch_s=0.01, events=Events()), (1, [make_trade(1)]))

    second = PostgresSampleSink(database, batch_s=0.01, events=Events())
    await _run(second, (1, [make_trade(1), make_trade(2)]))

    assert [(1,), (2,)] == await _rows(database, "SELECT trade_id FROM trade_samples ORDER BY 1")
    assert {} == second.stats().dropped


async def test_row_that_can_never_be_written_is_dropped_by_name_and_the_rest_goes_on(database):
    sink = PostgresSampleSink(database, batch_s=0.01, events=Events())

    await _run(sink, (1, [evolve(make_trade(7), at_ns=1 << 70)]), (1, [make_trade(8)]))

    assert [(8,)] == await _rows(database, "SELECT trade_id FROM trade_samples")
    assert {"trade_samples": 1} == sink.stats().dropped
    assert [(7, 7)] == await _rows(database, "SELECT first_trade_id, last_trade_id FROM trade_gaps")


async def test_partition_that_went_away_beneath_the_writer_is_made_again(database):
    sink = PostgresSampleSink(database, batch_s=0.01, events=Events())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sink.run)
        sink.put(RunId(1), [make_trade(1)])
        with anyio.fail_after(10):
            await sink.flush()
        while await database.write(_drop_one):
            pass
        sink.put(RunId(1), [make_trade(2), make_ticker(3)])
        with anyio.fail_after(10):
            await sink.flush()
        tasks.cancel_scope.cancel()

    assert [(2,)] == await _rows(database, "SELECT trade_id FROM trade_samples")
    assert [(3,)] == await _rows(database, "SELECT at_ns FROM ticker_samples")
    assert {} == sink.stats().dropped


async def test_batch_ids_of_writers_that_are_long_gone_are_forgotten(database):
    await database.write(
        lambda connection: connection.execute(
            "INSERT INTO copy_batches VALUES (1, 5, now() - interval '31 days'), (2, 7, now() - interval '29 days')"
        )
    )

    await _run(
        PostgresSampleSink(database, batch_s=0.01, events=Events()), (1, [make_ticker(1)]), (1, [make_ticker(2)])
    )

    assert [(2, 7, False), (None, 2, True)] == await _rows(
        database,
        "SELECT CASE WHEN writer_id < 9 THEN writer_id END, batch_no, written_at > now() - interval '1 minute' "
        "FROM copy_batches ORDER BY writer_id",
    )


async def test_trades_of_a_venue_that_counts_anew_within_a_run_are_left_out_counted_and_said(database):
    events = Events()
    sink = PostgresSampleSink(database, batch_s=0.01, events=events)
    anew = [evolve(make_trade(i), at_ns=100 + i) for i in (1, 2, 3)]

    await _run(sink, (1, [make_trade(1), make_trade(2)]), (1, anew))

    assert [(1, 1), (2, 2), (3, 103)] == await _rows(database, "SELECT trade_id, at_ns FROM trade_samples ORDER BY 1")
    assert (3, {"repeated trade_id": 2}) == (sink.stats().rows["trade_samples"], sink.stats().dropped)
    assert [2] == [said["rows"] for said in events.of("trades_repeated")]


async def _drop_one(connection):
    return (await (await connection.execute("SELECT drop_run_partition(1)")).fetchone())[0] is not None


async def test_periodic_sample_that_its_table_cannot_hold_is_refused_alone(database):
    sink = PostgresSampleSink(database, batch_s=0.01, events=Events())

    await _run(sink, (1, [evolve(make_ticker(1), at_ns=1 << 70), make_ticker(2)]))

    assert [(make_ticker(2).at_ns,)] == await _rows(database, "SELECT at_ns FROM ticker_samples")
    assert {"ticker_samples": 1} == sink.stats().dropped


async def test_outage_keeps_rows_in_order_and_each_once(tmp_path):
    """Kill the server in the middle of a stream of batches; everything is there once in the end."""
    cluster = EmbeddedCluster(tmp_path, "ingest")
    await cluster.start()
    try:
        await migrate(cluster.url(), [DatabasePart.INGEST])
        database = Database(cluster.url(), name="ingest", unit_timeout_s=5)
        await database.open()
        _, run_id = await PostgresLineageStore(database, database).start_lineage(AT)
        sink = PostgresSampleSink(database, batch_rows=50, batch_s=0.005, events=Events())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sink.run)
            for start in range(0, 1500, 100):
                sink.put(run_id, [make_ticker(i) for i in range(start, start + 100)])
                await anyio.sleep(0.01)
                if start == 500:
                    cluster.kill()
                if start == 1000:
                    assert sink.stats().queued > 0
                    await cluster.start()
            with anyio.fail_after(10):
                await sink.flush()
            tasks.cancel_scope.cancel()
        numbers = [row[0] for row in await _rows(database, "SELECT at_ns FROM ticker_samples ORDER BY ctid")]
        await database.close()

        assert list(range(1500)) == numbers
        assert sink.stats().failures > 0
    finally:
        await cluster.stop()


@pytest.mark.parametrize("how", ["before", "after"])
async def test_batch_whose_commit_is_in_doubt_is_written_once(database, database_urls, make_cutter, how):
    """The connection is lost around COMMIT: the batch is found by its number, or written, but never twice."""
    async with make_cutter(database_urls.ingest) as cutter, anyio.create_task_group() as tasks:
        behind = Database(cutter.url, name="cut", role="krakenbot_ingest")
        sink = PostgresSampleSink(behind, batch_s=0.01, events=Events())
        tasks.start_soon(sink.run)
        sink.put(RunId(1), [make_ticker(1)])
        with anyio.fail_after(10):
            await sink.flush()
        cutter.cut = how
        sink.put(RunId(1), [make_ticker(2), make_ticker(3), make_trade(4)])
        with anyio.fail_after(10):
            await sink.flush()
        tasks.cancel_scope.cancel()

    assert (1, 1) == (cutter.cuts, sink.stats().failures)
    assert [(1,), (2,), (3,)] == await _rows(database, "SELECT at_ns FROM ticker_samples ORDER BY 1")
    assert [(4,)] == await _rows(database, "SELECT trade_id FROM trade_samples")
    assert {"ticker_samples": 3, "trade_samples": 1} == {k: v for k, v in sink.stats().rows.items() if v}


async def test_next_start_knows_what_is_stored_and_names_what_came_between(database):
    await _run(PostgresSampleSink(database, batch_s=0.01, events=Events()), (1, [make_trade(i) for i in (10, 11, 12)]))

    sink = PostgresSampleSink(database, batch_s=0.01, events=Events())
    sink.put(RunId(2), [make_trade(i) for i in (11, 12)])
    await _run(sink, (2, [make_trade(i) for i in (12, 20)]))

    assert [(10,), (11,), (12,), (20,)] == await _rows(database, "SELECT trade_id FROM trade_samples ORDER BY 1")
    assert [(2, 13, 19, "restart", 12)] == await _rows(
        database, "SELECT run_id, first_trade_id, last_trade_id, cause, since_ns FROM trade_gaps"
    )


async def test_gap_says_when_and_from_where_it_was_refilled_also_after_a_restart(database):
    sink = PostgresSampleSink(database, batch_s=0.01, events=Events())
    await _run(sink, (1, [make_trade(i) for i in (1, 6)]))
    later = PostgresSampleSink(database, batch_s=0.01, events=Events())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(later.run)
        later.put(RunId(2), [make_ticker(1)])
        await later.flush()
        gaps = [(gap.first_id, gap.last_id, list(gap.missing)) for gap in later.gaps()]
        later.put(RunId(2), [make_trade(2)], source=TradeSource.SNAPSHOT)
        await later.flush()
        partly = await _rows(database, "SELECT still_missing::text, refilled_at, refilled_from FROM trade_gaps")
        taken = later.refill([make_trade(i) for i in (1, 2, 3, 4, 5, 6)])
        await later.flush()
        tasks.cancel_scope.cancel()

    assert [(2, 5, [(2, 5)])] == gaps
    assert [("{[3,6)}", None, "snapshot")] == partly
    assert 3 == taken
    assert [("{}", True, "rest+snapshot")] == await _rows(
        database, "SELECT still_missing::text, refilled_at IS NOT NULL, refilled_from FROM trade_gaps"
    )
    assert [(i,) for i in range(1, 7)] == await _rows(database, "SELECT trade_id FROM trade_samples ORDER BY 1")


async def test_batch_that_can_never_be_written_is_given_up_by_name_and_the_rest_goes_on(database, database_urls):
    await _refuse_ticker_at(database_urls.ingest, 666)
    events = Events()
    sink = PostgresSampleSink(database, batch_s=0.01, events=events)

    await _run(sink, (1, [make_trade(1)]), (1, [make_trade(2), make_ticker(666), make_trade(5)]), (1, [make_trade(6)]))

    assert [(1,), (6,)] == await _rows(database, "SELECT trade_id FROM trade_samples ORDER BY 1")
    assert {"trade_samples": 2, "ticker_samples": 1} == sink.stats().dropped
    missing = await _rows(
        database,
        "SELECT i, cause FROM trade_gaps, unnest(still_missing) r, generate_series(lower(r), upper(r) - 1) i"
        " ORDER BY i",
    )
    assert [(2, "refused"), (3, "jump"), (4, "jump"), (5, "refused")] == missing


async def _refuse_ticker_at(url: str, at_ns: int) -> None:
    """Have the table refuse one row for ever, as a constraint that only the server knows would."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(
            "CREATE FUNCTION krakenbot.refuse() RETURNS trigger LANGUAGE plpgsql AS"
            " $$BEGIN RAISE unique_violation USING MESSAGE = 'not this one'; END$$"
        )
        await connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON krakenbot.ticker_samples FOR EACH ROW"
            f" WHEN (NEW.at_ns = {at_ns}) EXECUTE FUNCTION krakenbot.refuse()".encode()
        )


async def test_head_follows_the_newest_trade_so_the_next_start_names_no_more_than_is_missing(database):
    await _run(
        PostgresSampleSink(database, batch_s=0.01, events=Events()), (1, [make_trade(10)]), (1, [make_trade(11)])
    )
    await _run(PostgresSampleSink(database, batch_s=0.01, events=Events()), (2, [make_trade(15)]))

    assert [(12, 14, 11)] == await _rows(database, "SELECT first_trade_id, last_trade_id, since_ns FROM trade_gaps")


async def test_what_could_neither_be_written_nor_spooled_at_the_end_is_said(database, monkeypatch):
    events = Events()
    sink = PostgresSampleSink(database, batch_s=0.01, events=events)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sink.run)
        sink.put(RunId(1), [make_trade(1)])
        with anyio.fail_after(10):
            await sink.flush()
        monkeypatch.setattr(CopySession, "write", _fails)
        sink.put(RunId(1), [make_trade(2), make_ticker(3)])
        tasks.cancel_scope.cancel()

    assert [{"rows": 2, "reason": "gone"}] == events.of("samples_lost")
    assert [(1,)] == await _rows(database, "SELECT trade_id FROM trade_samples")


async def _fails(_self, _batch):
    raise StoreUnavailable("gone")
