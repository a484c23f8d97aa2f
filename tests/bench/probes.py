"""What queue probes cost the process that holds the L3 books.

The same random stream of level3 messages and trades goes through the same books twice a turn, without probes and with
them; 200 symbols at 3,500 messages/s (of the 5,000/s of a full ingest the rest is not level3), the default budget of
100 probes. CPU time, the median of the turns; everything counts: following, ends, starts, markouts, rows. A second
pair puts 1 and 16 probes at the levels of one symbol that has all the traffic.
"""

from __future__ import annotations

import gc
import time
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from statistics import median
from typing import Any, cast

from attrs import define, field

from krakenbot.adapters.memory.probe_store import MemoryProbeStore
from krakenbot.domain.engine.probes import STEP_S, ProbeSettings, QueueProbes
from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.market.trade import PublicTrade
from krakenbot.domain.values import NS_PER_S, Asset, Side, Symbol, VenueId
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.market_feed import MarketFeed

SYMBOLS, MESSAGES_PER_S, SECONDS, TURNS = 200, 3_500, 10, 5
MOST_CORE_SHARE = 0.05
START_NS = 1_795_341_600 * NS_PER_S


@define(slots=True)
class Change:
    order_id: str
    limit_price: float
    order_qty: float
    timestamp: str
    event: str


@define(slots=True)
class Message:
    symbol: Symbol
    sides: tuple[list[Change], list[Change]]
    checksum: int
    at: str
    at_s: float
    trade: PublicTrade | None


@define
class Clock:
    mono_s: float = 0.0

    def mono(self) -> float:
        return self.mono_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(START_NS / NS_PER_S + self.mono_s, UTC)

    def now_ns(self) -> int:
        return START_NS + round(self.mono_s * NS_PER_S)

    async def sleep(self, duration_s: float) -> None:
        self.mono_s += duration_s


@define
class Market:
    """One symbol at the venue: both sides' queues, ten levels each at most."""

    symbol: Symbol
    random: Random
    # signed price -> order id -> lots; bids are negative
    queues: tuple[dict[int, dict[str, int]], dict[int, dict[str, int]]] = field(factory=lambda: ({}, {}))
    names: int = 0
    trades: int = 0

    def checksum(self) -> int:
        bids, asks = (sorted(side.items())[:10] for side in self.queues)
        return zlib.crc32("".join(f"{abs(k)}{q}" for k, line in [*asks, *bids] for q in line.values()).encode())

    def add(self, side: int, key: int, at: str) -> Change:
        self.names += 1
        name, lots = f"{self.symbol}{self.names}", self.random.randint(1, 10_000)
        self.queues[side].setdefault(key, {})[name] = lots
        return Change(name, float(abs(key)), float(lots), at, "add")

    def take(self, side: int, key: int, name: str, lots: int, at: str) -> Change:
        line = self.queues[side][key]
        line[name] -= lots
        left = line[name]
        if not left:
            del line[name]
            if not line:
                del self.queues[side][key]
        return Change(name, float(abs(key)), float(left or lots), at, "modify" if left else "delete")

    def step(self, at: str, at_ns: int) -> tuple[int, Change, PublicTrade | None]:
        """Half adds, half departures from near the touch, one in twelve of these by a taker."""
        side, random = random_side(self.random), self.random
        queues = self.queues[side]
        best = min(queues)
        if random.random() < 0.5 or sum(map(len, queues.values())) < 20:
            key = best + min(int(random.expovariate(0.7)), 9)
            return side, self.add(side, key if key in queues or len(queues) < 10 else best, at), None
        keys = sorted(queues)
        is_trade = random.random() < 1 / 12
        key = best if is_trade else keys[min(int(random.expovariate(0.7)), len(keys) - 1)]
        line = list(queues[key])
        name = line[0] if is_trade else random.choice(line)
        lots = queues[key][name]
        if is_trade:
            lots = random.randint(1, lots)
        change = self.take(side, key, name, lots, at)
        if not is_trade:
            return side, change, None
        self.trades += 1
        trade = PublicTrade(
            symbol=self.symbol,
            trade_id=self.trades,
            side=Side.BUY if side else Side.SELL,
            price_ticks=abs(key),
            size_lots=lots,
            at_ns=at_ns,
        )
        return side, change, trade


def random_side(random: Random) -> int:
    return int(random.random() < 0.5)


@define
class Feed:
    """Books of the stream, as the feed would hold them."""

    books: dict[Symbol, L3Book]
    listed: dict[Symbol, Instrument]

    def queue(self, symbol: Symbol) -> L3Book | None:
        return self.books.get(symbol)

    def instruments(self) -> dict[Symbol, Instrument]:
        return self.listed


class Quiet:
    def emit(self, name: str, **fields: object) -> None:
        pass


def instrument(symbol: Symbol) -> Instrument:
    return Instrument(
        symbol=symbol,
        base=Asset("ABC"),
        quote=Asset("USD"),
        status=InstrumentStatus.ONLINE,
        price_precision=2,
        qty_precision=2,
        cost_precision=5,
        price_increment=Decimal("0.01"),
        qty_increment=Decimal("0.01"),
        qty_min=Decimal("0.01"),
        cost_min=Decimal("0.5"),
    )


def draw(symbols: int, messages: int, seed: int) -> tuple[list[Message], list[Message]]:
    """Return a snapshot of every symbol, and the stream."""
    random = Random(seed)
    markets = [Market(Symbol(f"S{n}/USD"), random) for n in range(symbols)]
    snapshots = []
    at = stamp(0.0)
    for market in markets:
        sides = [
            [market.add(side, key + i, at) for i in range(10) for _ in range(4)]
            for side, key in ((0, -10_000), (1, 10_003))
        ]
        for change in (*sides[0], *sides[1]):
            change.event = ""
        snapshots.append(Message(market.symbol, (sides[0], sides[1]), market.checksum(), at, 0.0, None))
    stream = []
    for number in range(messages):
        market = random.choice(markets)
        at_s = (number + 1) / MESSAGES_PER_S
        side, change, trade = market.step(stamp(at_s), START_NS + round(at_s * NS_PER_S))
        changes: tuple[list[Change], list[Change]] = ([], [change]) if side else ([change], [])
        stream.append(Message(market.symbol, changes, market.checksum(), stamp(at_s), at_s, trade))
    return snapshots, stream


def stamp(at_s: float) -> str:
    return datetime.fromtimestamp(START_NS / NS_PER_S, UTC).strftime("%Y-%m-%dT%H:%M:") + f"{at_s:012.9f}Z"


def play(
    snapshots: Sequence[Message], stream: Sequence[Message], settings: ProbeSettings | None, *, warm_steps: int
) -> tuple[float, float, QueueProbes | None]:
    """Return the CPU seconds of a stream, the mean number of probes followed, and the probes."""
    clock = Clock()
    books = {each.symbol: L3Book(price_precision=0, qty_precision=0, depth=10) for each in snapshots}
    for each in snapshots:
        books[each.symbol].load(*each.sides, each.checksum, each.at, 0.0)
    feed = Feed(books, {symbol: instrument(symbol) for symbol in books})
    probes = None
    symbols = list(books)
    if settings is not None:
        probes = QueueProbes(
            clock=clock,
            feed=cast("MarketFeed", feed),
            store=MemoryProbeStore(),
            events=cast("EventSink", Quiet()),
            settings=settings,
            venue_id=VenueId("bench"),
        )
        for _ in range(warm_steps):
            probes.step(symbols)
    due_s, active, steps = STEP_S, 0, 0
    gc.collect()
    started = time.process_time()
    for message in stream:
        clock.mono_s = message.at_s
        symbol = message.symbol
        books[symbol].apply(*message.sides, message.checksum, message.at, message.at_s)
        if probes is not None:
            probes.on_queue(symbol)
            if message.trade is not None:
                probes.on_trades([message.trade], is_snapshot=False)
            if message.at_s >= due_s:
                due_s += STEP_S
                probes.step(symbols)
                steps += 1
                active += cast("int", probes.status()["active"])
    seconds = time.process_time() - started
    if not all(book.is_valid for book in books.values()):
        raise AssertionError("a book of the stream was not valid")
    return seconds, active / steps if steps else 0.0, probes


def run() -> dict[str, Any]:
    snapshots, stream = draw(SYMBOLS, MESSAGES_PER_S * SECONDS, seed=1)
    settings = ProbeSettings(starts_per_s=100.0, match_s=2.0)
    without, having, active = [], [], 0.0
    ends: dict[str, int] = {}
    for _ in range(TURNS):
        without.append(play(snapshots, stream, None, warm_steps=0)[0])
        seconds, active, probes = play(snapshots, stream, settings, warm_steps=10)
        having.append(seconds)
        ends = {} if probes is None else {str(end): count for end, count in probes.ends.items()}
    added_s = median(having) - median(without)
    single = draw(1, 10_000, seed=2)
    one, many = (
        median(
            play(*single, ProbeSettings(starts_per_s=100.0, max_per_symbol=n), warm_steps=10)[0] for _ in range(TURNS)
        )
        for n in (1, 16)
    )
    alone = median(play(*single, None, warm_steps=0)[0] for _ in range(TURNS))
    share = added_s / SECONDS
    return {
        "passed": share <= MOST_CORE_SHARE and active >= 50,
        "core_share_percent": round(100 * share, 2),
        "most_core_share_percent": 100 * MOST_CORE_SHARE,
        "added_to_the_book_path_percent": round(100 * added_s / median(without), 1),
        "cpu_us_per_probe_second": round(1e6 * added_s / SECONDS / active, 1),
        "probes_followed_mean": round(active, 1),
        "ends": ends,
        "book_us_per_message": round(1e6 * median(without) / len(stream), 2),
        "added_us_per_message": round(1e6 * added_s / len(stream), 2),
        "busy_symbol_added_us_per_message_1_probe": round(1e6 * (one - alone) / 10_000, 2),
        "busy_symbol_added_us_per_message_16_probes": round(1e6 * (many - alone) / 10_000, 2),
    }
