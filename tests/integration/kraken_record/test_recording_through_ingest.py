"""The same recording, twice through ingest, gives the same rows and the same state.

Goal: what `krakenbot record` wrote decides everything that ingest makes of it. Method: a local exchange is recorded
over real sockets. Then feed, sessions, market recorder, writer and refresh are wired as in ingest, on a fresh pair of
databases for each play; only sockets and clock are replaced: frames come from the file, and the clock is the
recording's, so that times of receipt and sampling instants are those of the recording. Compared are all columns of
all raw rows, times of receipt included, and all columns of the state; left out are the database's own numbers of
generation and transaction, and its own time of the refresh.
"""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import psycopg
import pytest
from attrs import define, field
from tests.events import Events

from krakenbot.adapters.kraken.market_feed import KrakenMarketFeed, MarketFeedSettings
from krakenbot.adapters.kraken.protocol.market_session import SessionSettings
from krakenbot.adapters.kraken.ws import Connection
from krakenbot.adapters.local_exchange.keys import parse_accounts
from krakenbot.adapters.local_exchange.latency import LatencySettings
from krakenbot.adapters.local_exchange.playback.reader import Recording
from krakenbot.adapters.local_exchange.playback.recording_format import FrameLine
from krakenbot.adapters.local_exchange.server import serving
from krakenbot.adapters.local_exchange.venue_clock import RunningClock
from krakenbot.adapters.postgres.copy_writer import PostgresSampleSink
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.lineage_store import PostgresLineageStore
from krakenbot.adapters.postgres.state_refresher import PostgresStateRefresher
from krakenbot.apps.exchange_building import build
from krakenbot.apps.exchange_options import ExchangeOptions
from krakenbot.apps.record import RecordOptions, record
from krakenbot.apps.settings import load_settings
from krakenbot.domain.engine.market_recorder import MarketRecorder
from krakenbot.domain.market.sampler import DEPTH_LEVELS
from krakenbot.domain.values import NS_PER_S, Symbol

pytestmark = pytest.mark.postgres
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SAMPLE_NS = NS_PER_S // 4
RAW = ("ticker_samples", "trade_samples", "l2_snap_metrics", "l3_queue_metrics")
PATIENCE_S = 10.0
SECRET = "YSBzZWNyZXQgb2YgdGhlIHRlc3Rz"
ACCOUNTS = [{"name": "reader", "keys": [{"api_key": "reader", "api_secret": SECRET}], "balances": {"USD": "1000"}}]


@define
class RecordedClock:
    """Stands at the time of receipt of the frame that is played; who sleeps on it looks again at once."""

    at_ns: int = 0

    def now(self) -> datetime:
        return EPOCH + timedelta(microseconds=self.at_ns // 1000)

    def now_ns(self) -> int:
        return self.at_ns

    def mono(self) -> float:
        return self.at_ns / NS_PER_S

    async def sleep(self, duration_s: float) -> None:
        await anyio.sleep(0.001)


class Carrier(Connection):
    """Stands where a socket stands: keeps a session until it is cancelled."""

    async def run(self) -> str:
        await anyio.sleep_forever()
        return ""


@define
class Play:
    """Hands the frames of a recording to the sessions that the feed opens, in the order in which they came."""

    clock: RecordedClock
    opened: dict[str, list[Any]] = field(factory=lambda: {"public": [], "level3": []})
    sessions: dict[str, Any] = field(factory=dict)

    def carrier(self, *, session: Any, **more: Any) -> Connection:
        self.opened[session.stream].append(session)
        return Carrier(session=session, **more)

    async def session_of(self, frame: FrameLine) -> Any:
        if frame.c not in self.sessions:
            with anyio.fail_after(PATIENCE_S):
                while not self.opened[frame.p]:
                    await anyio.sleep(0.001)
            self.sessions[frame.c] = self.opened[frame.p].pop(0)
        return self.sessions[frame.c]

    async def run(self, recording: Path, recorder: MarketRecorder, symbols: list[Symbol]) -> int:
        played, sampled_ns = 0, 0
        for frame in Recording(recording).frames():
            if frame.d == "close":
                continue
            sampled_ns = sampled_ns or frame.t
            while frame.t - sampled_ns >= SAMPLE_NS:
                sampled_ns += SAMPLE_NS
                self.clock.at_ns = sampled_ns
                recorder.sample(symbols)
                await anyio.lowlevel.checkpoint()
            self.clock.at_ns = frame.t
            session = await self.session_of(frame)
            for each in self.sessions.values():
                if (due := each.next_deadline()) is not None and due <= self.clock.mono():
                    each.on_deadline(self.clock.mono())
                each.to_send()
            if frame.d == "in":
                session.receive(frame.f.encode(), self.clock.mono())
                played += 1
        return played


class Asking(MarketRecorder):
    """Asks for the symbols as soon as the venue has listed them, as the command did that recorded."""

    def __init__(self, *, symbols: list[Symbol], feed: KrakenMarketFeed, **more: Any) -> None:
        super().__init__(feed=feed, **more)
        self._ask = lambda: feed.set_symbols(symbols, symbols)

    def on_instruments(self, instruments: Any) -> None:
        super().on_instruments(instruments)
        self._ask()


async def token() -> str:
    return "a token"


async def play_through(recording: Path, ingest_url: str, decision_url: str) -> dict[str, Any]:
    clock = RecordedClock()
    play = Play(clock=clock)
    symbols = [Symbol(symbol) for symbol in Recording(recording).header.symbols]
    clock.at_ns = next(Recording(recording).frames()).t
    feed = KrakenMarketFeed(
        public_url="",
        level3_url="",
        clock=clock,
        settings=MarketFeedSettings(session=SessionSettings(book_depth=DEPTH_LEVELS)),
        token_source=token,
        carrier=play.carrier,
    )
    ingest, decision = (Database(url, name="play") for url in (ingest_url, decision_url))
    await ingest.open()
    await decision.open()
    try:
        lineage_id, run_id = await PostgresLineageStore(ingest, decision).start_lineage(clock.now())
        sink = PostgresSampleSink(ingest, events=Events())
        recorder = Asking(symbols=symbols, clock=clock, feed=feed, sink=sink, events=Events(), run_id=run_id)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sink.run)
            tasks.start_soon(feed.run, recorder)
            played = await play.run(recording, recorder, symbols)
            health = feed.health()
            await sink.flush()
            tasks.cancel_scope.cancel()
        refresher = PostgresStateRefresher(ingest, decision)
        refreshed = await refresher.refresh(lineage_id, run_id, clock.now())
        await refresher.sync(refreshed.generation_id)
    finally:
        await ingest.close()
        await decision.close()
    return {
        "rows": {table: rows(ingest_url, table) for table in RAW},
        "state": rows(decision_url, "run_symbol_state"),
        "played": played,
        "health": health,
    }


def rows(url: str, table: str) -> list[str]:
    """Return the rows of a table as JSON, in an order of their own, without what the database makes up."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            f"SELECT to_jsonb(t) - 'generation_id' - 'txid' - 'updated_at' FROM krakenbot.{table} t".encode()
        )
        return sorted(json.dumps(row, sort_keys=True) for (row,) in found)


def differing(once: list[str], again: list[str]) -> dict[str, tuple[Any, Any]]:
    """Return the columns that differ between two lists of rows, with a pair of their values."""
    found: dict[str, tuple[Any, Any]] = {} if len(once) == len(again) else {"rows": (len(once), len(again))}
    for left, right in zip(map(json.loads, once), map(json.loads, again), strict=False):
        found |= {name: (value, right.get(name)) for name, value in left.items() if value != right.get(name)}
    return found


@pytest.fixture
def two_pairs(clusters: Any) -> list[tuple[str, str]]:
    """Two pairs of fresh databases: ingest's and the decision's."""
    parts = ((clusters.ingest, "kb_ingest"), (clusters.decision, "kb_decision"))
    return [tuple(clusters.migrated(cluster, template) for cluster, template in parts) for _ in range(2)]


async def recorded(folder: Path) -> Path:
    """Record a local exchange as the command does, over real sockets, in this process."""
    entries = parse_accounts(json.dumps(ACCOUNTS))
    exchange, flow = build(ExchangeOptions(symbols=2, profile="toxic"), entries, RunningClock(), None)
    async with serving(exchange, flow, LatencySettings(median_ms=0), host="127.0.0.1", port=0, seed=1) as endpoints:
        environment = {f"KRAKENBOT_VENUE__{name.upper()}": url for name, url in endpoints.urls().items()}
        environment |= {"KRAKENBOT_KEYS__INGEST_API_KEY": "reader", "KRAKENBOT_KEYS__INGEST_API_SECRET": SECRET}
        settings, _ = load_settings(environment=environment | {"KRAKENBOT_PROCESS__DATA_DIR": str(folder / "data")})
        symbols = tuple(map(Symbol, exchange.venue.markets))
        await record(settings, RecordOptions(folder=folder / "recording", symbols=symbols, duration_s=2.0))
    return folder / "recording"


async def test_a_recording_played_twice_through_ingest_gives_the_same_rows_and_state(
    two_pairs: list[tuple[str, str]], tmp_path: Path
) -> None:
    recording = await recorded(tmp_path)

    once, again = [await play_through(recording, *pair) for pair in two_pairs]
    kinds = Counter(json.loads(frame.f).get("channel") for frame in Recording(recording).frames() if frame.d == "in")

    assert once["rows"] == again["rows"]
    assert {} == differing(once["state"], again["state"])
    # and it is no equality of nothing
    health = once["health"]
    assert (kinds["book"], 0) == (health.book_ok, health.book_bad)
    assert (kinds["level3"], 0) == (health.level3_ok, health.level3_bad)
    assert all(len(found) >= 2 for found in once["rows"].values())
    assert 2 == len(once["state"])
