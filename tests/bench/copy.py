"""COPY rows per second: our writer against psql's \\copy, same rows, table and cluster, in turns.

Enters: nothing. Leaves: a dict for the report; `run` is called by `python -m tests.bench`. psql copies a binary file
that is encoded already, so what is held against it is the writer with its queue full of encoded rows. The whole way,
from samples in memory that are encoded while the writer works, is measured and reported beside it. Both sides commit
durably about every hundred thousand rows: psql copies a file of that size again and again in one session.
"""

from __future__ import annotations

import gc
import subprocess
import tempfile
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter

import anyio
import anyio.lowlevel
import psycopg
from tests.events import Events

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.postgres.binaries import find_psql
from krakenbot.adapters.postgres.copy_rows import BOOKS
from krakenbot.adapters.postgres.copy_writer import PostgresSampleSink
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.embedded import EmbeddedCluster
from krakenbot.adapters.postgres.lineage_store import PostgresLineageStore
from krakenbot.adapters.postgres.migrate import DatabasePart, migrate
from krakenbot.domain.market.samples import BookSample
from krakenbot.domain.values import RunId, Symbol

SAMPLES = 100_000
ROWS = 300_000
ROUNDS = 7
LEAST_RATIO = 0.9
CHUNK = 100


def run() -> dict[str, object]:
    """Measure both in alternation; return rows per second and the median of the rounds' ratios.

    Passes with a ratio of at least LEAST_RATIO, and where psql is not present.
    """
    with tempfile.TemporaryDirectory(prefix="kb-bench-") as folder:
        return anyio.run(_measure, Path(folder))


async def _measure(folder: Path) -> dict[str, object]:
    cluster = EmbeddedCluster(folder, "bench")
    await cluster.start()
    try:
        await migrate(cluster.url(), [DatabasePart.INGEST])
        database = Database(cluster.url(), name="bench", statement_timeout_s=60, unit_timeout_s=60)
        await database.open()
        _, run_id = await PostgresLineageStore(database, database).start_lineage(SystemClock().now())
        samples = [_sample(number) for number in range(SAMPLES)]
        # A living ingest holds no hundred thousand samples for the collector to walk over.
        gc.collect()
        gc.freeze()
        psql = find_psql(cluster.binaries)
        file = folder / "rows.bin"
        # The writer lives as long as ingest: its connection and first rows are not part of a sustained rate.
        sink = PostgresSampleSink(database, events=Events())
        ours, whole, theirs = [], [], []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sink.run)
            sink.put(run_id, samples)
            await sink.flush()
            await _export(cluster.url(), file)
            for _ in range(ROUNDS):
                ours.append(await _timed(cluster.url(), sink.flush, partial(_fill, sink, run_id, samples)))
                whole.append(await _timed(cluster.url(), partial(_ours, sink, run_id, samples)))
                if psql is not None:
                    command = _copy_command(psql, cluster.url(), file)
                    theirs.append(await _timed(cluster.url(), partial(_psql, command)))
            tasks.cancel_scope.cancel()
        await database.close()
    finally:
        gc.unfreeze()
        await cluster.stop()
    report: dict[str, object] = {
        "rows": ROWS,
        "rounds": ROUNDS,
        "table": BOOKS.name,
        "postgres": cluster.binaries.version,
        "rows_per_s": round(ROWS / median(ours)),
        "psql": "present" if psql else "not present",
        "passed": True,
    }
    if theirs:
        ratios = sorted(psql_s / our_s for psql_s, our_s in zip(theirs, ours, strict=True))
        report["psql_rows_per_s"] = round(ROWS / median(theirs))
        report["whole_way_rows_per_s"] = round(ROWS / median(whole))
        report["whole_way_over_psql"] = round(median(sorted(p / w for p, w in zip(theirs, whole, strict=True))), 3)
        report["ratio_over_psql"] = round(median(ratios), 3)
        report["ratio_range"] = [round(ratios[0], 3), round(ratios[-1], 3)]
        report["least_ratio"] = LEAST_RATIO
        report["passed"] = median(ratios) >= LEAST_RATIO
    return report


async def _timed(url: str, action: Callable[[], Awaitable[None]], prepare: Callable[[], None] = lambda: None) -> float:
    """Empty the table, prepare, and time one action."""
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute(f"TRUNCATE krakenbot.{BOOKS.name}".encode())
    prepare()
    started = perf_counter()
    await action()
    elapsed = perf_counter() - started
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        row = await (await connection.execute(f"SELECT count(*) FROM krakenbot.{BOOKS.name}".encode())).fetchone()
        if row is None or row[0] != ROWS:
            raise RuntimeError(f"{row} rows in place of {ROWS}")
    return elapsed


def _fill(sink: PostgresSampleSink, run_id: RunId, samples: list[BookSample]) -> None:
    """Queue everything at once: the writer cannot begin before this returns."""
    for _ in range(ROWS // SAMPLES):
        sink.put(run_id, samples)


async def _ours(sink: PostgresSampleSink, run_id: RunId, samples: list[BookSample]) -> None:
    # A few samples at a time while the writer works, and never more than it may queue.
    for _ in range(ROWS // len(samples)):
        while sink.stats().queued > len(samples):
            await anyio.sleep(0.005)
        for start in range(0, len(samples), CHUNK):
            sink.put(run_id, samples[start : start + CHUNK])
            await anyio.lowlevel.checkpoint()
    await sink.flush()


async def _psql(command: list[str]) -> None:
    await anyio.run_process(command, stdout=subprocess.DEVNULL)


def _copy_command(psql: str, url: str, file: Path) -> list[str]:
    columns = ", ".join(("run_id", *BOOKS.columns))
    copy = rf"\copy krakenbot.{BOOKS.name} ({columns}) FROM '{file}' (FORMAT BINARY)"
    return [psql, "-X", "-q", url, *(part for _ in range(ROWS // SAMPLES) for part in ("-c", copy))]


async def _export(url: str, file: Path) -> None:
    columns = ", ".join(("run_id", *BOOKS.columns))
    query = f"COPY (SELECT {columns} FROM krakenbot.{BOOKS.name}) TO STDOUT (FORMAT BINARY)"
    async with (
        await psycopg.AsyncConnection.connect(url) as connection,
        connection.cursor().copy(query.encode()) as copy,
    ):
        with file.open("wb") as out:
            async for chunk in copy:
                out.write(chunk)


def _sample(number: int) -> BookSample:
    return BookSample(
        symbol=Symbol(f"S{number % 600}/USD"),
        at_ns=1_770_000_000_000_000_000 + number // 600 * 1_000_000_000,
        bid=100.0 + number,
        ask=100.5 + number,
        bid_qty=1.25,
        ask_qty=2.5,
        mid=100.25 + number,
        spread_bps=49.9,
        microprice_dev_bps=0.3,
        imbalance_5=-0.1,
        bid_depth_10_quote=1e4,
        bid_depth_25_quote=2e4,
        bid_depth_50_quote=4e4,
        ask_depth_10_quote=1e4,
        ask_depth_25_quote=2e4,
        ask_depth_50_quote=4e4,
        ofi=float(number % 7),
        updates=number % 50,
        crossed_s=0.0,
        invalid_s=0.0,
    )
