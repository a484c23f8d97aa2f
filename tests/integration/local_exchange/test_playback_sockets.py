"""Recordings played back over real sockets: captures of the live venue, and our own exchange recorded raw."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve

from krakenbot.adapters.local_exchange.flow.instruments import load_instruments
from krakenbot.adapters.local_exchange.flow.recording import find_recordings
from krakenbot.adapters.local_exchange.keys import parse_accounts
from krakenbot.adapters.local_exchange.latency import LatencySettings
from krakenbot.adapters.local_exchange.matching.venue import Venue, VenueSettings
from krakenbot.adapters.local_exchange.playback.recording_format import SocketPath
from krakenbot.adapters.local_exchange.playback.writer import RecordingWriter
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.instruments import instrument_frame
from krakenbot.adapters.local_exchange.server import serving
from krakenbot.adapters.local_exchange.venue_clock import RunningClock
from krakenbot.apps.exchange_building import build
from krakenbot.apps.exchange_options import ExchangeOptions

pytestmark = pytest.mark.anyio

STEP_NS = 5_000_000
CAPTURES = [
    ("book-d10-btcusd-wo008b.jsonl", "book", "BTC/USD", 10),
    ("book-d10-btcusd-gctfork.jsonl", "book", "BTC/USD", 10),
    ("book-d25-btcusd-k2-head.jsonl", "book", "BTC/USD", 25),
    ("book-d25-minagbp-resync-depthcharge.jsonl", "book", "MINA/GBP", 25),
    ("level3-d10-btcusd-gctfork.jsonl", "level3", "BTC/USD", 10),
]
UPDATED = ("book", "trade", "ticker", "level3")


def capture_file(name: str) -> Path:
    try:
        file = find_recordings().parent / "payloads/captures" / name
    except FileNotFoundError as error:
        pytest.skip(str(error))
    if not file.is_file():
        pytest.skip(f"no {file}")
    return file


class StartedClock(RunningClock):
    """Time that stands still until `start`: everybody subscribes before the playback starts."""

    def __init__(self, speed: float = 1.0) -> None:
        self._still_ns: int | None = time.time_ns()
        self._offset_ns = 0
        super().__init__(speed, self._read)

    def start(self) -> None:
        self._offset_ns = (self._still_ns or 0) - time.monotonic_ns()
        self._still_ns = None

    def _read(self) -> int:
        return self._still_ns if self._still_ns is not None else self._offset_ns + time.monotonic_ns()


@pytest.fixture
def serve(make_api: Any, accounts_file: Path) -> Any:
    accounts = accounts_file.read_text()

    @asynccontextmanager
    async def served(clock: RunningClock, **options: Any) -> AsyncIterator[tuple[Any, Exchange]]:
        entries = parse_accounts(accounts)
        exchange, flow = build(ExchangeOptions(**options), entries, clock, None)
        latency = LatencySettings(median_ms=0.0, p99_ms=0.0)
        async with serving(exchange, flow, latency, host="127.0.0.1", port=0, seed=1) as endpoints:
            api = make_api(endpoints)
            try:
                yield api, exchange
            finally:
                await api.close()

    return served


async def receive(socket: Any, count: int, channels: tuple[str, ...], timeout_s: float = 15) -> list[str]:
    """Return the next `count` texts of these channels, as they came."""
    texts: list[str] = []
    with anyio.fail_after(timeout_s):
        while len(texts) < count:
            text = await socket.recv()
            if json.loads(text).get("channel") in channels:
                texts.append(text)
    return texts


async def subscribe(socket: Any, channel: str, symbols: list[str], **more: Any) -> None:
    params = {"channel": channel, "symbol": symbols, **more}
    await socket.send(json.dumps({"method": "subscribe", "params": params}))


@pytest.mark.parametrize(("name", "channel", "symbol", "depth"), CAPTURES)
async def test_a_capture_of_the_live_venue_is_played_byte_for_byte(
    serve: Any, tmp_path: Path, *, name: str, channel: str, symbol: str, depth: int
) -> None:
    lines = capture_file(name).read_text().splitlines()
    received = [line for line in lines if not line.startswith('{"dir":"tx"')]
    texts = [line[len('{"dir":"rx","frame":') : -1] if line.startswith('{"dir":"rx"') else line for line in received]
    path: SocketPath = "level3" if channel == "level3" else "public"
    # The listed instruments are of another day; the capture was made with these digits.
    rules = evolve(load_instruments()[symbol], price_precision={"BTC/USD": 1, "MINA/GBP": 4}[symbol])
    listed = instrument_frame(Venue({symbol: rules}, VenueSettings()))
    instruments = json.dumps(json.loads(listed)["data"]).encode()
    with RecordingWriter(tmp_path / "recording", symbols=[symbol], instruments=instruments) as writer:
        for number, text in enumerate(texts):
            writer.write(1_700_000_000_000_000_000 + number * STEP_NS, "1", path, "in", text)
    wanted = [text for text in texts if json.loads(text).get("channel") == channel]
    clock = StartedClock()

    async with serve(clock, flow="playback", recording=tmp_path / "recording", at_end="stop") as (api, exchange):
        token = await api.token()
        async with api.connect(path) as socket:
            more = {"token": token} if channel == "level3" else {}
            await subscribe(socket, channel, [symbol], depth=depth, **more)
            played = await receive(socket, 1, (channel,))
            clock.start()
            played += await receive(socket, len(wanted) - 1, (channel,))
        counts = exchange.venue.flow.parameters()["counts"] if exchange.venue.flow else {}

    assert wanted == played
    if channel == "book":
        # The state behind the frames is right too: the live venue's own checksums say so.
        assert "checksum_mismatches" not in counts
        assert len(wanted) == counts["frames_played"]


async def record(api: Any, exchange: Exchange, folder: Path, for_s: float) -> dict[str, list[str]]:
    """Record an exchange as a raw client does: book, level3, trades and tickers of every symbol."""
    symbols = list(exchange.venue.markets)
    texts: dict[str, list[str]] = {"public": [], "level3": []}
    token = await api.token()
    with RecordingWriter(folder, symbols=symbols, part_bytes=30_000) as writer:

        async def keep(path: SocketPath) -> None:
            async with api.connect(path) as socket:
                if path == "level3":
                    await subscribe(socket, "level3", symbols, depth=10, token=token)
                else:
                    await socket.send('{"method":"subscribe","params":{"channel":"instrument"}}')
                    await subscribe(socket, "book", symbols, depth=10)
                    await subscribe(socket, "trade", symbols, snapshot=True)
                    await subscribe(socket, "ticker", symbols, event_trigger="bbo")
                while True:
                    text = await socket.recv()
                    writer.write(time.time_ns(), f"{path}-1", path, "in", text)
                    texts[path].append(text)

        with anyio.move_on_after(for_s):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(keep, "public")
                tasks.start_soon(keep, "level3")
    return texts


def snapshots_and_updates(texts: list[str]) -> tuple[Counter[str], list[str]]:
    frames = [(text, json.loads(text)) for text in texts]
    data = [(text, frame["type"]) for text, frame in frames if frame.get("channel") in UPDATED]
    return Counter(text for text, kind in data if kind == "snapshot"), [text for text, kind in data if kind == "update"]


async def test_our_own_exchange_recorded_raw_plays_back_byte_for_byte_and_fills_by_the_rules(
    serve: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "recording"
    async with serve(RunningClock(), symbols=3, profile="toxic") as (api, exchange):
        texts = await record(api, exchange, folder, for_s=3)
    clock = StartedClock(2.0)
    wanted = {path: snapshots_and_updates(kept) for path, kept in texts.items()}
    played: dict[str, list[str]] = {}

    async with serve(clock, flow="playback", recording=folder, at_end="stop") as (api, exchange):
        symbols = list(exchange.venue.markets)
        token = await api.token()
        async with api.connect("public") as public, api.connect("level3") as level3:
            await subscribe(level3, "level3", symbols, depth=10, token=token)
            await subscribe(public, "book", symbols, depth=10)
            await subscribe(public, "trade", symbols, snapshot=True)
            await subscribe(public, "ticker", symbols, event_trigger="bbo")
            sockets = {"public": public, "level3": level3}
            for path, socket in sockets.items():
                played[path] = await receive(socket, sum(wanted[path][0].values()), UPDATED)
            market = exchange.venue.markets[symbols[0]]
            bid, ask = market.levels("buy", 1)[0], market.levels("sell", 1)[0]
            places = exchange.venue.accounts["trader"]
            digits = market.rules.price_precision, market.rules.qty_precision
            resting = await api.post(
                "AddOrder", pair=symbols[0], type="buy", ordertype="limit", volume="0.01",
                price=str(Decimal(bid[0]).scaleb(-digits[0])), oflags="post",
            )  # fmt: skip
            taking = await api.post(
                "AddOrder", pair=symbols[0], type="buy", ordertype="limit", volume="0.0001",
                price=str(Decimal(ask[0]).scaleb(-digits[0])),
            )  # fmt: skip
            clock.start()
            for path, socket in sockets.items():
                played[path] += await receive(socket, len(wanted[path][1]), UPDATED, timeout_s=18)
        counts = exchange.venue.flow.parameters()["counts"] if exchange.venue.flow else {}
        orders = [places.orders[answer["result"]["txid"][0]] for answer in (resting, taking)]

    for path, (snapshots, updates) in wanted.items():
        assert (snapshots, updates) == snapshots_and_updates(played[path])
        assert len(updates) > 50
    assert "checksum_mismatches" not in counts
    assert len(list(folder.iterdir())) > 1
    assert "filled" == orders[1].status
    assert ask[0] * orders[1].filled_lots == orders[1].cost_raw
    assert orders[0].filled_lots <= max(0, sold_at_or_below(texts["public"], symbols[0], bid[0], digits) - bid[1])


def sold_at_or_below(texts: list[str], symbol: str, price_ticks: int, digits: tuple[int, int]) -> int:
    """Return the recorded volume that could reach a bid: through it, and at it by sellers."""
    total = 0
    for text in texts:
        frame = json.loads(text, parse_float=Decimal, parse_int=Decimal)
        if frame.get("channel") == "trade" and frame["type"] == "update":
            for row in frame["data"]:
                ticks, lots = int(row["price"].scaleb(digits[0])), int(row["qty"].scaleb(digits[1]))
                if row["symbol"] == symbol and (
                    ticks < price_ticks or (ticks == price_ticks and row["side"] == "sell")
                ):
                    # A print through the price leaves nothing ahead.
                    total += lots if ticks == price_ticks else 10**18
    return total
