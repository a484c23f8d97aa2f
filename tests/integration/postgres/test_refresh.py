"""The SQL refresh equals the domain's features on random raw data; its cost does not grow with the run's age."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import perf_counter

import anyio
import psycopg
import pytest
from attrs import asdict, evolve, fields
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.events import Events

from krakenbot.adapters.postgres.copy_writer import PostgresSampleSink
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.lineage_store import PostgresLineageStore
from krakenbot.adapters.postgres.state_refresher import PostgresStateRefresher
from krakenbot.adapters.postgres.state_store import PostgresStateStore
from krakenbot.domain.market.samples import BookSample, QueueSample, Sample, TickerSample, TradeSample
from krakenbot.domain.state.features import SymbolRows, compute_state, minute_values
from krakenbot.domain.state.movement import QUANTILE_BOUND
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.state.windows import Windows, ns_of
from krakenbot.domain.values import NS_PER_S, GenerationId, LineageId, RunId, Side, Symbol

pytestmark = pytest.mark.postgres
AT = datetime(2026, 3, 1, 12, 0, 33, 250_000, tzinfo=UTC)
SHORT = Windows(short_s=20, medium_s=90, long_s=400, complete_after_s=60)
# Sums are added in another order and without compensation; drift_t divides by a small variance.
REL, ABS = 1e-8, 1e-9
TABLES = {
    TickerSample: "ticker_samples",
    TradeSample: "trade_samples",
    BookSample: "l2_snap_metrics",
    QueueSample: "l3_queue_metrics",
}
FROM_HISTOGRAM = {"spread_p50_bps", "spread_p90_bps", "spread_norm_bps", "spread_mad_bps"}


def make_rows(seed: int, symbol: Symbol, *, seconds: int, quiet: bool) -> list[Sample]:
    """Random walks with gaps, silences, ties, crossed and one-sided rows, jumps, late trades and sweeps."""
    rng = random.Random(f"{seed} {symbol}")
    mid, tick = rng.choice([0.5, 3.0, 64000.0]), 0.0
    end_ns = ns_of(AT) + 3 * NS_PER_S
    rows: list[Sample] = []
    gap = rng.random() * 0.2
    trade_id = rng.randrange(1000)
    silent_from = rng.randrange(seconds) if rng.random() < 0.5 else seconds
    silent_to = silent_from + rng.randrange(5, 60)
    for second in range(seconds):
        at_ns = end_ns - (seconds - second) * NS_PER_S + rng.choice([0, 0, 1, 400_000_000])
        if not quiet or rng.random() < 0.1:
            mid *= math.exp(rng.gauss(0, 2e-4) + (rng.random() < 0.01) * rng.choice([-1, 1]) * 4e-3)
        tick = mid * rng.choice([1e-5, 2e-4, 1e-3])
        silent = silent_from <= second < silent_to
        if rng.random() > gap and not silent:
            kind = rng.random()
            bid, ask = mid - tick, mid + tick
            if kind < 0.02:
                bid, ask = ask, bid
            elif kind < 0.03:
                bid = 0.0
            copies = 2 if rng.random() < 0.05 else 1
            rows.extend(make_book(rng, symbol, at_ns, bid=bid, ask=ask, mid=mid) for _ in range(copies))
        if rng.random() > gap and not silent and symbol != Symbol("NOQUEUE"):
            rows.append(make_queue(rng, symbol, at_ns, mid))
        for _ in range(rng.choice([0, 0, 0, 1, 2]) if not quiet else 0):
            trade_id += 1
            side = rng.choice([Side.BUY, Side.SELL])
            price = mid + rng.choice([-3, -1, 0, 1, 3]) * tick
            rows.append(
                TradeSample(
                    symbol=symbol,
                    trade_id=trade_id,
                    side=side,
                    price=Decimal(f"{price:.6f}"),
                    qty=Decimal(f"{rng.random() + 0.01:.5f}"),
                    at_ns=at_ns + rng.randrange(-(10**9), 10**9),
                    received_at_ns=at_ns,
                )
            )
        if rng.random() < 0.1:
            rows.append(
                TickerSample(
                    symbol=symbol,
                    at_ns=at_ns,
                    received_at_ns=at_ns + rng.randrange(10**6),
                    bid=mid - tick,
                    ask=mid + tick,
                    last=mid,
                    volume_24h=rng.random() * 1e4,
                )
            )
    return rows


def make_book(rng: random.Random, symbol: Symbol, at_ns: int, *, bid: float, ask: float, mid: float) -> BookSample:
    return BookSample(
        symbol=symbol,
        at_ns=at_ns,
        bid=bid,
        ask=ask,
        bid_qty=rng.random(),
        ask_qty=rng.random(),
        mid=mid,
        spread_bps=(ask - bid) / mid * 1e4,
        microprice_dev_bps=rng.gauss(0, 1),
        imbalance_5=rng.uniform(-1, 1),
        bid_depth_10_quote=rng.random() * 1e5,
        bid_depth_25_quote=rng.random() * 1e5,
        bid_depth_50_quote=rng.random() * 1e5,
        ask_depth_10_quote=rng.random() * 1e5,
        ask_depth_25_quote=rng.random() * 1e5,
        ask_depth_50_quote=rng.random() * 1e5,
        ofi=rng.choice([0.0, rng.gauss(0, 3)]),
        updates=rng.randrange(50),
        crossed_s=rng.choice([0.0, 0.25]),
        invalid_s=rng.choice([0.0, 0.0, 1.0]),
    )


def make_queue(rng: random.Random, symbol: Symbol, at_ns: int, mid: float) -> QueueSample:
    return QueueSample(
        symbol=symbol,
        at_ns=at_ns,
        bid_volume=rng.random(),
        bid_orders=rng.randrange(1, 9),
        bid_notional=rng.random() * mid,
        ask_volume=rng.random(),
        ask_orders=rng.randrange(1, 9),
        ask_notional=rng.random() * mid,
        bid_added=rng.random(),
        bid_removed=rng.random() * 2,
        ask_added=rng.random(),
        ask_removed=rng.random() * 2,
        bid_mean_age_s=rng.random() * 60,
        ask_mean_age_s=rng.random() * 60,
        bid_largest_share=rng.random(),
        ask_largest_share=rng.random(),
    )


def expected_state(
    rows: list[Sample], symbol: Symbol, windows: Windows, generation_id: GenerationId, ids: tuple[LineageId, RunId]
) -> SymbolState:
    at_ns = ns_of(AT)
    books = [row for row in rows if isinstance(row, BookSample)]
    return compute_state(
        lineage_id=ids[0],
        run_id=ids[1],
        generation_id=generation_id,
        symbol=symbol,
        at=AT,
        windows=windows,
        rows=SymbolRows(
            books=books,
            queues=[row for row in rows if isinstance(row, QueueSample)],
            trades=[row for row in rows if isinstance(row, TradeSample)],
            tickers=[row for row in rows if isinstance(row, TickerSample)],
            minutes=minute_values(books, at_ns),
        ),
    )


def differences(expected: SymbolState, actual: SymbolState) -> dict[str, tuple[object, object]]:
    """Return what differs by more than sums may; quantiles of spreads have the bound of their histogram."""
    found = {}
    was, now = asdict(expected), asdict(actual)
    for name, value in was.items():
        same = value == now[name]
        if isinstance(value, float) and isinstance(now[name], float):
            rel = QUANTILE_BOUND if name in FROM_HISTOGRAM else REL
            # A deviation from a median is off by what both of its ends are off.
            slack = 2 * QUANTILE_BOUND * (expected.spread_norm_bps or 0.0) if name == "spread_mad_bps" else ABS
            same = math.isclose(value, now[name], rel_tol=rel, abs_tol=slack)
        if not same:
            found[name] = (value, now[name])
    return found


class Rig:
    """One fresh ingest database with a lineage, a writer and a refresher."""

    def __init__(self, database: Database, windows: Windows) -> None:
        self.database = database
        self.lineage = PostgresLineageStore(database, database)
        self.sink = PostgresSampleSink(database, batch_s=0.02, events=Events())
        self.refresher = PostgresStateRefresher(database, database, windows=windows)

    async def write(self, run_id: RunId, rows: list[Sample]) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.sink.run)
            self.sink.put(run_id, rows)
            await self.sink.flush()
            tasks.cancel_scope.cancel()

    async def states(self, generation_id: GenerationId) -> dict[Symbol, SymbolState]:
        cycle = await PostgresStateStore(self.database).read_cycle(generation_id, AT, 120)
        assert cycle is not None
        return cycle.states


@pytest.fixture
async def database(single_url: str) -> AsyncIterator[Database]:
    pool = Database(single_url, name="both", max_size=3, statement_timeout_s=15)
    await pool.open()
    yield pool
    await pool.close()


@given(
    seed=st.integers(0, 2**32),
    seconds=st.integers(1, 420),
    windows=st.sampled_from([SHORT, Windows(), Windows(short_s=7, medium_s=145, long_s=145, complete_after_s=200)]),
    late_share=st.sampled_from([0.0, 0.1, 1.0]),
    backs_s=st.lists(st.integers(0, 430), max_size=4),
)
# Every example has a lineage of its own, so that they can share a database. An example that fails is not made smaller:
# that takes minutes, and the seed is enough to see it again.
@settings(
    max_examples=8,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_refresh_equals_the_oracle_at_any_times_and_for_any_late_rows(
    database: Database, *, seed: int, seconds: int, windows: Windows, late_share: float, backs_s: list[int]
) -> None:
    """Rows come before or after refreshes, at times that go forth and back."""
    rng = random.Random(seed)
    rig = Rig(database, windows)
    lineage_id, run_id = await rig.lineage.start_lineage(AT - timedelta(hours=1))
    names = [Symbol(name) for name in ("A/USD", "NOQUEUE", "QUIET")]
    rows = {s: make_rows(seed, s, seconds=seconds, quiet=s == Symbol("QUIET")) for s in names}
    batches: list[list[Sample]] = [[] for _ in range(len(backs_s) + 1)]
    for row in (row for own in rows.values() for row in own):
        batches[rng.randrange(len(batches)) if rng.random() < late_share else 0].append(row)
    for batch, back_s in zip(batches, [*backs_s, 0], strict=True):
        async with await database.connect() as connection:
            await insert(connection, run_id, batch)
        refreshed = await rig.refresher.refresh(lineage_id, run_id, AT - timedelta(seconds=back_s))

    states = await rig.states(refreshed.generation_id)
    for symbol in names:
        # In the order of writing, which decides between rows of one time.
        own = [row for batch in batches for row in batch if row.symbol == symbol]
        oracle = expected_state(own, symbol, windows, refreshed.generation_id, (lineage_id, run_id))
        if symbol in states:
            assert {} == differences(oracle, states[symbol])
        else:
            assert [] == own


@pytest.mark.parametrize("seed", range(2))
async def test_refresh_over_two_runs_equals_the_oracle(database: Database, seed: int) -> None:
    rig = Rig(database, SHORT)
    lineage_id, first_run = await rig.lineage.start_lineage(AT - timedelta(hours=2))
    symbols = [Symbol(name) for name in ("A/USD", "B/USD", "NOQUEUE", "QUIET")]
    rows = {s: make_rows(seed, s, seconds=700, quiet=s == Symbol("QUIET")) for s in symbols}
    # Runs of one lineage are one history; a snapshot after the rotation repeats trades.
    cut_ns = ns_of(AT) - 45 * NS_PER_S
    for symbol in symbols:
        await rig.write(first_run, [row for row in rows[symbol] if row.at_ns < cut_ns])
    await rig.lineage.end_run(first_run, AT - timedelta(seconds=45))
    run_id = await rig.lineage.start_run(lineage_id, AT - timedelta(seconds=45))
    for symbol in symbols:
        late = [row for row in rows[symbol] if row.at_ns >= cut_ns]
        repeated = [row for row in rows[symbol] if isinstance(row, TradeSample) and row.at_ns < cut_ns][-50:]
        # Past the writer, which would leave the repeated ones out.
        async with await database.connect() as connection:
            await insert(connection, run_id, [*repeated, *late])

    refreshed = await rig.refresher.refresh(lineage_id, run_id, AT)
    states = await rig.states(refreshed.generation_id)

    assert set(symbols) == set(states)
    for symbol in symbols:
        oracle = expected_state(rows[symbol], symbol, SHORT, refreshed.generation_id, (lineage_id, run_id))
        assert {} == differences(oracle, states[symbol])
    assert any(state.bid_markout_count > 5 for state in states.values())
    assert any(state.jumps for state in states.values())


@pytest.mark.parametrize("seed", range(2))
async def test_rows_in_any_order_of_commit_between_refreshes_equal_the_oracle(database: Database, seed: int) -> None:
    """Rows come in batches of random lateness; some batches stay open while later ones commit and are refreshed."""
    rng = random.Random(f"commits {seed}")
    rig = Rig(database, SHORT)
    lineage_id, run_id = await rig.lineage.start_lineage(AT - timedelta(hours=1))
    symbols = [Symbol(name) for name in ("A/USD", "B/USD")]
    rows = {s: make_rows(40 + seed, s, seconds=600, quiet=False) for s in symbols}
    batches: list[list[Sample]] = [[] for _ in range(12)]
    for row in (row for own in rows.values() for row in own):
        age = (ns_of(AT) - row.at_ns) / (600 * NS_PER_S)
        late = 0 if rng.random() < 0.9 else rng.randrange(5)
        batches[min(11, max(0, round((1 - age) * 10) + late))].append(row)
    held: list[tuple[int, psycopg.AsyncConnection]] = []
    refreshed = None
    for number, batch in enumerate(batches):
        connection = await database.connect()
        await connection.set_autocommit(False)
        await insert(connection, run_id, batch)
        if rng.random() < 0.4:
            held.append((number + rng.randrange(1, 4), connection))
        else:
            await connection.commit()
            await connection.close()
        for due, other in list(held):
            if due <= number or number == 11:
                await other.commit()
                await other.close()
                held.remove((due, other))
        at = AT - timedelta(seconds=(11 - number) * 53.5)
        refreshed = await rig.refresher.refresh(lineage_id, run_id, at)

    assert refreshed is not None
    states = await rig.states(refreshed.generation_id)
    for symbol in symbols:
        oracle = expected_state(rows[symbol], symbol, SHORT, refreshed.generation_id, (lineage_id, run_id))
        assert {} == differences(oracle, states[symbol])


async def test_refreshes_of_every_second_equal_the_oracle(database: Database) -> None:
    """A markout comes due in one refresh and finds its row in a later one, also across the end of a bucket."""
    rng = random.Random(7)
    rig = Rig(database, SHORT)
    lineage_id, run_id = await rig.lineage.start_lineage(AT - timedelta(hours=1))
    symbols = [Symbol(f"S{number}/USD") for number in range(5)]
    rows = [row for s in symbols for row in make_rows(11, s, seconds=48, quiet=False) if row.at_ns <= ns_of(AT)]
    # Sparse books, so that many a trade waits for its row.
    rows = [row for row in rows if not isinstance(row, BookSample) or rng.random() < 0.6]
    rows.sort(key=lambda row: row.at_ns)
    waiting = rows
    for back_s in range(45, -1, -1):
        new = [row for row in waiting if row.at_ns <= ns_of(AT) - back_s * NS_PER_S]
        waiting = waiting[len(new) :]
        async with await database.connect() as connection:
            await insert(connection, run_id, new)
        refreshed = await rig.refresher.refresh(lineage_id, run_id, AT - timedelta(seconds=back_s))

    states = await rig.states(refreshed.generation_id)
    for symbol in symbols:
        own = [row for row in rows if row.symbol == symbol]
        oracle = expected_state(own, symbol, SHORT, refreshed.generation_id, (lineage_id, run_id))
        assert {} == differences(oracle, states[symbol])
    assert sum(states[symbol].bid_markout_count for symbol in symbols) > 20


async def insert(connection: psycopg.AsyncConnection, run_id: RunId, rows: list[Sample]) -> None:
    """Write rows in the open transaction of a connection."""
    # On a busy machine a transaction that is held open waits for long.
    await connection.execute("SET idle_in_transaction_session_timeout = 0")
    for kind, table in TABLES.items():
        columns = [field.name for field in fields(kind)]
        values = [[run_id, *(getattr(row, column) for column in columns)] for row in rows if type(row) is kind]
        await connection.cursor().executemany(
            f"INSERT INTO {table} (run_id, {', '.join(columns)}) VALUES (%s{', %s' * len(columns)})".encode(),
            [[value.value if isinstance(value, Side) else value for value in row] for row in values],
        )


async def test_rotation_in_mid_session_changes_no_feature(database: Database) -> None:
    symbol = Symbol("A/USD")
    rows = make_rows(5, symbol, seconds=500, quiet=False)
    states = []
    for runs in (1, 5):
        rig = Rig(database, SHORT)
        lineage_id, run_id = await rig.lineage.start_lineage(AT - timedelta(hours=1))
        for part in range(5):
            ends_s = 400 - part * 100
            at = AT - timedelta(seconds=ends_s)
            own = [row for row in rows if part == min(4, max(0, 5 - math.ceil((ns_of(AT) - row.at_ns) / 1e11)))]
            async with await database.connect() as connection:
                await insert(connection, run_id, own)
            refreshed = await rig.refresher.refresh(lineage_id, run_id, at)
            if part + 1 < runs:
                await rig.lineage.end_run(run_id, at)
                run_id = await rig.lineage.start_run(lineage_id, at)
        states.append((await rig.states(refreshed.generation_id))[symbol])

    assert {"lineage_id", "run_id", "generation_id"} == set(differences(*states))
    assert states[0].bid_markout_count > 5


@pytest.mark.parametrize(
    ("silent_s", "flat", "base_known", "z_known"),
    [
        (15, False, True, True),
        (21, False, True, False),
        (30, False, False, False),
        (15, True, True, True),
        (30, True, False, False),
    ],
)
async def test_ofi_z_is_unknown_without_rows_in_the_short_window(
    database: Database, *, silent_s: int, flat: bool, base_known: bool, z_known: bool
) -> None:
    """The short window begins 23.25 s before, at the start of a bucket; z needs five rows in it."""
    symbol = Symbol("A/USD")
    rng = random.Random(3)
    rows: list[Sample] = []
    for age_s in range(100, silent_s - 1, -1):
        book = make_book(rng, symbol, ns_of(AT) - age_s * NS_PER_S, bid=9.0, ask=11.0, mid=10.0)
        rows.append(evolve(book, ofi=0.0) if flat else book)
    rig = Rig(database, SHORT)
    lineage_id, run_id = await rig.lineage.start_lineage(AT - timedelta(hours=1))
    async with await database.connect() as connection:
        await insert(connection, run_id, rows)

    refreshed = await rig.refresher.refresh(lineage_id, run_id, AT)
    state = (await rig.states(refreshed.generation_id))[symbol]

    assert base_known == (state.ofi_base is not None)
    assert z_known == (state.ofi_z is not None)
    oracle = expected_state(rows, symbol, SHORT, refreshed.generation_id, (lineage_id, run_id))
    assert {} == differences(oracle, state)


async def test_clock_set_back_and_forth_equals_the_oracle(database: Database) -> None:
    symbol = Symbol("A/USD")
    rows = make_rows(6, symbol, seconds=300, quiet=False)
    rig = Rig(database, SHORT)
    lineage_id, run_id = await rig.lineage.start_lineage(AT - timedelta(hours=1))
    await rig.write(run_id, rows)
    for back_s in (0, 77, 31, 0):
        refreshed = await rig.refresher.refresh(lineage_id, run_id, AT - timedelta(seconds=back_s))

    state = (await rig.states(refreshed.generation_id))[symbol]
    oracle = expected_state(rows, symbol, SHORT, refreshed.generation_id, (lineage_id, run_id))
    assert {} == differences(oracle, state)


@pytest.mark.slow
async def test_norms_over_hours_equal_the_oracle_and_fold_once(database: Database) -> None:
    rig = Rig(database, SHORT)
    symbol = Symbol("A/USD")
    lineage_id, run_id = await rig.lineage.start_lineage(AT - timedelta(hours=3))
    rows = make_rows(9, symbol, seconds=80 * 60, quiet=False)
    await rig.write(run_id, rows)
    # As a living ingest does: minutes are folded as they close.
    for minutes in range(70, 0, -11):
        await rig.refresher.refresh(lineage_id, run_id, AT - timedelta(minutes=minutes))

    refreshed = await rig.refresher.refresh(lineage_id, run_id, AT)
    state = (await rig.states(refreshed.generation_id))[symbol]

    oracle = expected_state(rows, symbol, SHORT, refreshed.generation_id, (lineage_id, run_id))
    assert {} == differences(oracle, state)
    assert state.norm_minutes > 60
    assert state.sigma_norm_bps is not None


async def test_other_lineage_leaves_no_trace(database: Database) -> None:
    rig = Rig(database, SHORT)
    symbol = Symbol("A/USD")
    _, old_run = await rig.lineage.start_lineage(AT - timedelta(hours=1))
    await rig.write(old_run, make_rows(1, symbol, seconds=300, quiet=False))
    lineage_id, run_id = await rig.lineage.start_lineage(AT)

    refreshed = await rig.refresher.refresh(lineage_id, run_id, AT)

    assert 0 == refreshed.symbols
    assert {} == await rig.states(refreshed.generation_id)


@pytest.mark.slow
async def test_cost_does_not_grow_with_the_age_of_the_run(database: Database) -> None:
    """Refresh with the same recent rows after little and after much history; the median of five may not double."""
    rig = Rig(database, SHORT)
    lineage_id, run_id = await rig.lineage.start_lineage(AT - timedelta(days=1))
    symbols = [Symbol(f"S{number}/USD") for number in range(12)]
    recent = [row for symbol in symbols for row in make_rows(2, symbol, seconds=400, quiet=False)]
    await rig.write(run_id, recent)
    young_s = await _median_refresh_s(rig, lineage_id, run_id)
    async with await database.connect() as connection:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(
            "INSERT INTO l2_snap_metrics SELECT run_id, symbol, at_ns - step * 1000000000000, bid, ask, bid_qty, "
            "ask_qty, mid, spread_bps, microprice_dev_bps, imbalance_5, bid_depth_10_quote, bid_depth_25_quote, "
            "bid_depth_50_quote, ask_depth_10_quote, ask_depth_25_quote, ask_depth_50_quote, ofi, updates, crossed_s, "
            "invalid_s FROM l2_snap_metrics CROSS JOIN generate_series(1, 60) step"
        )
        await connection.execute("ANALYZE l2_snap_metrics")

    old_s = await _median_refresh_s(rig, lineage_id, run_id)

    assert old_s < 2 * young_s + 0.02


async def _median_refresh_s(rig: Rig, lineage_id: LineageId, run_id: RunId) -> float:
    times = []
    for _ in range(5):
        started = perf_counter()
        await rig.refresher.refresh(lineage_id, run_id, AT)
        times.append(perf_counter() - started)
    return sorted(times)[2]
