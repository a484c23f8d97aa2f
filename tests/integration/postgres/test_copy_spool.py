"""The ingest cluster goes away: the writer buffers, spools, replays, each row once, across processes and full disks."""

from __future__ import annotations

import itertools
import resource
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from time import perf_counter
from typing import Any

import anyio
import psycopg
import pytest
from anyio.abc import Process
from tests.events import Events

from krakenbot.adapters.postgres.copy_session import CopySession
from krakenbot.adapters.postgres.copy_writer import PostgresSampleSink, SpoolPlace
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.embedded import EmbeddedCluster, Login
from krakenbot.adapters.postgres.lineage_store import PostgresLineageStore
from krakenbot.adapters.postgres.migrate import DatabasePart, migrate
from krakenbot.adapters.postgres.spool import SampleSpool, SpoolFull, SpoolLimits
from krakenbot.domain.errors import StoreConflict, StoreUnavailable
from krakenbot.domain.market.samples import TickerSample, TradeSample
from krakenbot.domain.values import RunId, Side, Symbol

pytestmark = pytest.mark.postgres
AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BTC = Symbol("BTC/USD")
_numbers = itertools.count(1)
WRITER = Path(__file__).parent / "_spool_writer.py"


def make_trade(trade_id: int) -> TradeSample:
    return TradeSample(
        symbol=BTC,
        trade_id=trade_id,
        side=Side.BUY,
        price=Decimal("1.50"),
        qty=Decimal("0.001"),
        at_ns=trade_id,
        received_at_ns=trade_id,
    )


def make_ticker(number: int) -> TickerSample:
    return TickerSample(symbol=BTC, at_ns=number, received_at_ns=number, bid=1.5, ask=2.5, last=2.0, volume_24h=1e9)


class World:
    """A cluster of its own, a spool, and writers over them."""

    def __init__(self, folder: Path, cluster: EmbeddedCluster, url: str) -> None:
        self.place = folder / "spool"
        self.cluster = cluster
        self.url = url
        self.run_id = RunId(0)
        self.events = Events()

    @asynccontextmanager
    async def writing(self, **options: Any) -> AsyncIterator[PostgresSampleSink]:
        database = Database(options.pop("url", self.url), name="ingest", unit_timeout_s=5)
        limits = options.pop("limits", SpoolLimits())
        sink = PostgresSampleSink(
            database,
            spool=SpoolPlace(folder=self.place, limits=limits),
            events=self.events,
            **{"batch_s": 0.01, "batch_rows": 100, "spool_after_s": 0.0, **options},
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sink.run)
            yield sink
            tasks.cancel_scope.cancel()

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, options="-c search_path=krakenbot") as connection:
            return connection.execute(query.encode()).fetchall()

    def trade_ids(self) -> list[int]:
        return [row[0] for row in self.rows("SELECT trade_id FROM trade_samples ORDER BY ctid")]

    def spool_files(self) -> list[Path]:
        return sorted(self.place.glob("*/*.spool"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedCluster]:
    """A cluster that these tests may kill."""
    cluster = EmbeddedCluster(tmp_path_factory.mktemp("cluster"), "ingest")
    anyio.run(cluster.start)
    yield cluster
    anyio.run(cluster.stop)


@pytest.fixture
async def world(tmp_path: Path, cluster: EmbeddedCluster) -> AsyncIterator[World]:
    name = f"t{next(_numbers)}"
    with psycopg.connect(cluster.superuser_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} OWNER {Login.OWNER}".encode())
    world = World(tmp_path, cluster, cluster.url(Login.OWNER, name))
    await migrate(world.url, [DatabasePart.INGEST])
    database = Database(world.url, name="start", unit_timeout_s=5)
    await database.open()
    _, world.run_id = await PostgresLineageStore(database, database).start_lineage(AT)
    await database.close()
    yield world
    if cluster.pid is None:
        await cluster.start()


async def until(condition: Any) -> None:
    with anyio.fail_after(10):
        while not condition():
            await anyio.sleep(0.01)


async def test_outage_goes_to_disk_and_comes_back_in_order_each_row_once(world: World) -> None:
    """Kill the server with -9 in mid-stream, write on, bring it back, write on: all is there once, in order."""
    async with world.writing() as sink:
        for start in range(0, 3000, 100):
            sink.put(world.run_id, [make_trade(i) for i in range(start + 1, start + 101)])
            sink.put(world.run_id, [make_ticker(i) for i in range(start, start + 100)])
            await anyio.sleep(0.005)
            if start == 1000:
                world.cluster.kill()
            if start == 2000:
                await until(lambda: sink.stats().spooled > 0)
                assert sink.stats().lag_s > 0
                await world.cluster.start()
        with anyio.fail_after(15):
            await sink.flush()
        stats = sink.stats()

    assert list(range(1, 3001)) == world.trade_ids()
    assert [(3000, 0)] == world.rows("SELECT count(DISTINCT at_ns), count(*) - 3000 FROM ticker_samples")
    assert ({}, {}, 0, 0) == (stats.dropped, stats.coalesced, stats.spooled, stats.spool_bytes)
    assert stats.replayed > 0
    assert [] == world.spool_files()
    assert {"sample_writer_away", "spool_started", "spool_replayed", "sample_writer_back"} <= set(world.events.names())
    assert [] == world.rows("SELECT 1 FROM trade_gaps")


async def test_next_process_replays_what_one_that_ended_in_an_outage_left(world: World) -> None:
    async with world.writing() as sink:
        sink.put(world.run_id, [make_trade(1)])
        await sink.flush()
        world.cluster.kill()
        sink.put(world.run_id, [make_trade(i) for i in range(2, 500)])
    left = world.spool_files()
    await world.cluster.start()

    async with world.writing() as sink:
        sink.put(RunId(world.run_id + 1), [make_trade(i) for i in (498, 499, 500, 501)])
        await sink.flush()

    assert left
    assert list(range(1, 502)) == sorted(world.trade_ids())
    assert [(world.run_id, 499), (world.run_id + 1, 2)] == world.rows(
        "SELECT run_id, count(*) FROM trade_samples GROUP BY run_id ORDER BY run_id"
    )
    assert [] == world.rows("SELECT 1 FROM trade_gaps")
    assert "spool_left" in world.events.names()


async def test_batch_committed_before_it_was_spooled_is_not_written_again(world: World, make_cutter: Any) -> None:
    """The connection is lost after COMMIT and the server stays away: the batch goes to disk, its id tells later."""
    async with make_cutter(world.url) as cutter, world.writing(url=cutter.url) as sink:
        sink.put(world.run_id, [make_ticker(100)])
        with anyio.fail_after(10):
            await sink.flush()
        cutter.cut = "after, and away"
        sink.put(world.run_id, [make_ticker(i) for i in range(10)])
        await until(lambda: sink.stats().spooled)
        cutter.refuse = False
        with anyio.fail_after(10):
            await sink.flush()
        replayed = sink.stats().replayed

    assert (1, 10) == (cutter.cuts, replayed)
    assert [(11,)] == world.rows("SELECT count(*) FROM ticker_samples")


async def test_lag_shows_as_long_as_the_spool_is_replayed(world: World) -> None:
    """The server is back and the replay is under way: the oldest row on disk counts, not the newest in memory."""
    with psycopg.connect(world.url, autocommit=True, options="-c search_path=krakenbot") as other:
        other.execute(
            "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "PERFORM pg_sleep(0.05); RETURN NEW; END $$"
        )
        other.execute("SET synchronous_commit = on")
        other.execute("CREATE TRIGGER slow BEFORE INSERT ON copy_batches FOR EACH ROW EXECUTE FUNCTION slow()")
    async with world.writing() as sink:
        await until(lambda: sink._queue.is_started)
        world.cluster.kill()
        sink.put(world.run_id, [make_trade(1)])
        put_mono = perf_counter()
        await until(lambda: sink.stats().spooled == 1)
        sink.put(world.run_id, [make_trade(i) for i in range(2, 1001)])
        await until(lambda: sink.stats().spooled == 1000)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.cluster.start)
            await until(lambda: sink.stats().replayed)
            sink.put(world.run_id, [make_ticker(1)])
            midway, midway_s = sink.stats(), perf_counter() - put_mono
        with anyio.fail_after(10):
            await sink.flush()
        after = sink.stats()

    assert 0 < midway.spooled < 1000
    assert midway_s - 0.5 < midway.lag_s < midway_s + 0.5
    assert midway.lag_s > 0.1
    assert (0.0, 1000) == (after.lag_s, after.replayed)


async def test_full_disk_is_said_the_loss_is_a_range_and_ingest_goes_on(world: World) -> None:
    """No file may grow beyond 20 kB: memory fills, periodic samples coalesce, trades are dropped by name."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    async with world.writing(queue_rows=200) as sink:
        await until(lambda: sink._queue.is_started)
        world.cluster.kill()
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            for start in range(0, 3000, 50):
                sink.put(world.run_id, [make_trade(i) for i in range(start + 1, start + 51)])
                sink.put(world.run_id, [make_ticker(i) for i in range(start, start + 50)])
                await anyio.sleep(0.01)
            full = sink.stats()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        await world.cluster.start()
        with anyio.fail_after(15):
            await sink.flush()
        sink.put(world.run_id, [make_trade(3001)])
        with anyio.fail_after(15):
            await sink.flush()
        gaps = sink.gaps()
        stats = sink.stats()

    named = {
        i
        for first, last in world.rows("SELECT lower(r), upper(r) FROM trade_gaps, unnest(still_missing) r")
        for i in range(first, last)
    }
    stored = world.trade_ids()
    assert full.spool_full
    assert full.queued <= 400
    assert stats.dropped["trade_samples"] == len(named) > 0
    assert len(set(stored)) == len(stored)
    assert set(range(1, 3002)) - set(stored) == named
    assert {"queue_full"} == {gap.cause for gap in gaps}
    (losses,) = world.rows(
        "SELECT sum(samples), min(first_at_ns) >= 0, max(last_at_ns) < 3000 FROM sample_losses"
        " WHERE cause = 'coalesced'"
    )
    (count,) = world.rows("SELECT count(*) FROM ticker_samples")[0]
    assert (stats.coalesced["ticker_samples"], True, True) == losses
    assert 3000 == count + stats.coalesced["ticker_samples"]
    assert "spool_full" in world.events.names()


async def test_disk_that_has_room_again_takes_what_is_queued_at_the_end(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SampleSpool.append
    refusals: list[int] = []

    def refuse_once(self: SampleSpool, head: bytes, body: bytes) -> None:
        if not refusals:
            refusals.append(len(body))
            raise SpoolFull("no space left")
        original(self, head, body)

    monkeypatch.setattr(SampleSpool, "append", refuse_once)
    async with world.writing() as sink:
        await until(lambda: sink._queue.is_started)
        world.cluster.kill()
        sink.put(world.run_id, [make_trade(i) for i in range(1, 31)])
        await until(lambda: sink.stats().spool_full)
    left = world.spool_files()
    await world.cluster.start()
    async with world.writing() as sink:
        sink.put(world.run_id, [make_trade(31)])
        with anyio.fail_after(10):
            await sink.flush()

    assert refusals
    assert left
    assert "samples_lost" not in world.events.names()
    assert list(range(1, 32)) == sorted(world.trade_ids())


async def test_size_limit_of_the_spool_holds(world: World) -> None:
    async with world.writing(limits=SpoolLimits(bytes_max=5_000)) as sink:
        await until(lambda: sink._queue.is_started)
        world.cluster.kill()
        sink.put(world.run_id, [make_trade(i) for i in range(1, 1001)])
        await until(lambda: sink.stats().spool_full)
        assert sink.stats().spool_bytes <= 5_000
        await world.cluster.start()
        with anyio.fail_after(10):
            await sink.flush()

    assert list(range(1, 1001)) == world.trade_ids()


async def test_half_a_full_queue_goes_behind_what_is_on_disk_already(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spool that is replayed more slowly than new rows come must not fill the memory."""
    async with world.writing() as sink:
        await until(lambda: sink._queue.is_started)
        world.cluster.kill()
        sink.put(world.run_id, [make_trade(i) for i in range(1, 101)])
    await world.cluster.start()
    write = CopySession.write

    async def fails(_self: CopySession, _batch: Any) -> bool:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(CopySession, "write", fails)
    async with world.writing(queue_rows=1000, spool_after_s=60.0) as sink:
        await until(lambda: sink._queue.is_started)
        sink.put(world.run_id, [make_trade(i) for i in range(101, 501)])
        await anyio.sleep(0.6)
        before = sink.stats()
        sink.put(world.run_id, [make_trade(i) for i in range(501, 701)])
        await until(lambda: sink.stats().queued == 0)
        spooled = sink.stats().spooled
        monkeypatch.setattr(CopySession, "write", write)
        with anyio.fail_after(10):
            await sink.flush()

    assert (100, 400) == (before.spooled, before.queued)
    assert 700 == spooled
    assert list(range(1, 701)) == world.trade_ids()


async def test_damaged_record_is_named_and_the_rest_replayed(world: World) -> None:
    async with world.writing() as sink:
        sink.put(world.run_id, [make_trade(1)])
        await sink.flush()
        world.cluster.kill()
        sink.put(world.run_id, [make_trade(i) for i in range(2, 302)])
    (path,) = world.spool_files()
    content = bytearray(path.read_bytes())
    content[content.index(b"BTC/USD", len(content) // 2) + 1] ^= 4
    path.write_bytes(content)
    await world.cluster.start()

    async with world.writing() as sink:
        await until(lambda: sink.stats().spooled == 0 and sink._queue.is_started)
        sink.put(world.run_id, [make_trade(302)])
        await sink.flush()

    (first, last, cause) = world.rows("SELECT first_trade_id, last_trade_id, cause FROM trade_gaps")[0]
    assert "spool_damaged" == cause
    assert sorted({*range(1, 303)} - {*range(first, last + 1)}) == sorted(world.trade_ids())


async def test_record_whose_head_is_damaged_is_named_by_what_follows_it(world: World) -> None:
    """Nothing of the record can be read, and the segments after it are whole: the hole is seen in their ids."""
    limits = SpoolLimits(segment_bytes=1)
    async with world.writing(limits=limits) as sink:
        sink.put(world.run_id, [make_trade(1)])
        await sink.flush()
        world.cluster.kill()
        for start in (2, 12, 22):
            sink.put(world.run_id, [make_trade(i) for i in range(start, start + 10)])
            await until(lambda upto=start + 8: sink.stats().spooled >= upto)
    files = world.spool_files()
    content = bytearray(files[1].read_bytes())
    content[content.index(b"BTC/USD") + 1] ^= 4
    files[1].write_bytes(content)
    await world.cluster.start()

    async with world.writing(limits=limits) as sink:
        sink.put(world.run_id, [make_trade(32)])
        with anyio.fail_after(10):
            await sink.flush()

    assert 3 == len(files)
    assert [*range(1, 12), *range(22, 33)] == sorted(world.trade_ids())
    assert [(12, 21, "spool_damaged")] == world.rows("SELECT first_trade_id, last_trade_id, cause FROM trade_gaps")


async def test_outage_after_a_conflict_in_a_replay_keeps_the_record(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that was refused once is tried again after whatever outage; it is never taken for written."""
    async with world.writing() as sink:
        sink.put(world.run_id, [make_trade(1)])
        await sink.flush()
        world.cluster.kill()
        sink.put(world.run_id, [make_trade(i) for i in range(2, 40)])
    await world.cluster.start()
    original = CopySession.write
    failures = [StoreConflict("trade_samples", "there already"), StoreUnavailable("away"), StoreUnavailable("away")]

    async def fail_first(self: CopySession, batch: Any) -> bool:
        if failures:
            raise failures.pop(0)
        return await original(self, batch)

    monkeypatch.setattr(CopySession, "write", fail_first)
    async with world.writing() as sink:
        sink.put(world.run_id, [make_trade(40)])
        with anyio.fail_after(10):
            await sink.flush()

    assert [] == failures
    assert list(range(1, 41)) == world.trade_ids()


@pytest.mark.timeout(60)
async def test_writer_killed_in_an_outage_leaves_each_trade_stored_once_or_named(world: World) -> None:
    """Kill -9 a real writing process while the server is away; the next one ends with everything in place."""
    async with writing_process(world, "goes on") as process:
        async for word in words(process):
            if word == "started":
                world.cluster.kill()
            elif word.startswith("spooled"):
                break
        process.send_signal(signal.SIGKILL)
    await world.cluster.start()

    await assert_each_once_or_named(world)


@pytest.mark.timeout(60)
async def test_writer_killed_in_its_replay_leaves_each_trade_stored_once_or_named(world: World) -> None:
    """The process kills itself with -9 after the first record that it replayed, before the last one."""
    async with writing_process(world, "dies in the replay") as process:
        async for word in words(process):
            if word == "started":
                world.cluster.kill()
            elif word.startswith("spooled") and int(word.removeprefix("spooled")) >= 150 and world.cluster.pid is None:
                await world.cluster.start()
        returncode = await process.wait()
    left, stored = world.spool_files(), len(world.trade_ids())

    assert -signal.SIGKILL == returncode
    assert left
    assert stored > 210
    await assert_each_once_or_named(world)
    assert "spool_left" in world.events.names()
    assert len(world.trade_ids()) - stored > 20


@asynccontextmanager
async def writing_process(world: World, end: str) -> AsyncIterator[Process]:
    command = [sys.executable, str(WRITER), world.url, str(world.place), str(world.run_id), end]
    async with await anyio.open_process(command, stderr=None) as process:
        with anyio.fail_after(30):
            yield process


async def words(process: Process) -> AsyncIterator[str]:
    assert process.stdout is not None
    async for chunk in process.stdout:
        for word in chunk.decode().split():
            yield word


async def assert_each_once_or_named(world: World) -> None:
    async with world.writing() as sink:
        sink.put(RunId(world.run_id + 1), [make_trade(1_000_000)])
        with anyio.fail_after(10):
            await sink.flush()
    stored = world.trade_ids()
    (named,) = world.rows("SELECT first_trade_id, last_trade_id FROM trade_gaps WHERE cause = 'restart'")
    assert len(set(stored)) == len(stored)
    assert list(range(1, named[0])) == sorted(stored)[:-1]
    assert 999_999 == named[1]
