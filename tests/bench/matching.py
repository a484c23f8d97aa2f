"""Order events per second of the local exchange on one core, matched and published.

A fixed script (47 % adds, 45 % cancels, 3 % amends, 5 % market orders, 20 symbols, one event in fifty a client's) is
replayed; every symbol's book and level3 of depth 10 are encoded for one reader each, the private feed and the record
of truth run too. What each costs is measured by leaving it out. The seeded flow, which also thinks, is measured on
its own. CPU time, the median of the turns; before it counts, readers that share nothing with the encoder check the
checksum of every frame.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, BinaryIO

from tests.bench._order_script import GAP_NS, START_NS, Event, Player, draw_script, make_exchange
from tests.unit.local_exchange.conftest import NaiveBook, NaiveLevel3

from krakenbot.adapters.local_exchange.flow.instruments import choose_symbols, load_instruments
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.keys import KeyRing
from krakenbot.adapters.local_exchange.matching.venue import Venue, VenueSettings
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.record import RecordOfTruth
from krakenbot.adapters.local_exchange.venue_clock import SteppedClock

LEAST_EVENTS_PER_S = 20_000
SYMBOLS = 20
EVENTS = 30_000
CHECKED_EVENTS = 3_000
TURNS = 5
SEEDED_SECONDS = 30
DEPTH = 10


class Counting:
    """A reader that counts."""

    def __init__(self) -> None:
        self.frames = 0
        self.chars = 0

    def push(self, text: str) -> None:
        self.frames += 1
        self.chars += len(text)


class Checking:
    """A reader that rebuilds one book from its frames and fails on a wrong checksum."""

    def __init__(self, book: NaiveBook | NaiveLevel3) -> None:
        self.book = book

    def push(self, text: str) -> None:
        self.book.feed(text)


def run() -> dict[str, Any]:
    script = draw_script(SYMBOLS, EVENTS)
    checked = check_frames(script[:CHECKED_EVENTS])
    seconds: dict[str, list[float]] = {"all": [], "books": [], "unread": []}
    frames = 0
    with tempfile.TemporaryDirectory(prefix="kb-bench-") as folder:
        for turn in range(TURNS):
            with Path(folder, f"{turn}.jsonl").open("wb") as file:
                whole, frames = replay(script, file=file)
            seconds["all"].append(whole)
            seconds["books"].append(replay(script)[0])
            seconds["unread"].append(replay(script, read=False)[0])
    took = {name: median(found) for name, found in seconds.items()}
    seeded_rate, seeded_events = seeded()
    rate = EVENTS / took["all"]
    return {
        "passed": rate >= LEAST_EVENTS_PER_S,
        "events_per_s": round(rate),
        "least_events_per_s": LEAST_EVENTS_PER_S,
        "range_events_per_s": [round(EVENTS / max(seconds["all"])), round(EVENTS / min(seconds["all"]))],
        "events": EVENTS,
        "symbols": SYMBOLS,
        "frames": frames,
        "frames_checked": checked,
        "us_per_event": round(1e6 * took["all"] / EVENTS, 1),
        "us_per_event_of_matching": round(1e6 * took["unread"] / EVENTS, 1),
        "us_per_event_of_encoding": round(1e6 * (took["books"] - took["unread"]) / EVENTS, 1),
        "us_per_event_of_writing_the_record": round(1e6 * (took["all"] - took["books"]) / EVENTS, 1),
        "seeded_flow_events_per_s": round(seeded_rate),
        "seeded_flow_events": seeded_events,
    }


def replay(script: list[Event], *, file: BinaryIO | None = None, read: bool = True) -> tuple[float, int]:
    """Return the CPU seconds of a script on a fresh exchange, and how many frames were read."""
    exchange = make_exchange(SYMBOLS, file)
    readers = subscribe(exchange, Counting) if read else []
    player = Player(exchange)

    def play() -> None:
        player.play(script)
        exchange.record.flush()

    seconds = timed(play)
    return seconds, sum(reader.frames for reader in readers)


def seeded() -> tuple[float, int]:
    """Return book operations per CPU second of the seeded flow in as many symbols, and their number."""
    listed = load_instruments()
    venue = Venue({symbol: listed[symbol] for symbol in choose_symbols(SYMBOLS)}, VenueSettings(seed=7))
    exchange = Exchange(venue, KeyRing(1), RecordOfTruth(venue, None), SteppedClock(START_NS))
    flow = SeededFlow(dict(venue.markets), profile="edge", seed=7)
    venue.open(flow, START_NS)
    subscribe(exchange, Counting)
    before = operations(flow)
    seconds = timed(lambda: venue.advance(START_NS + SEEDED_SECONDS * 1_000_000_000))
    return (operations(flow) - before) / seconds, operations(flow) - before


def operations(flow: SeededFlow) -> int:
    """Return how many orders were placed, cancelled or sent as takers."""
    return sum(sum(one.counts.values()) for one in flow.symbols.values())


def timed(action: Callable[[], object]) -> float:
    """Return the CPU seconds of an action, without those of collecting what came before it."""
    gc.collect()
    started = time.process_time()
    action()
    return time.process_time() - started


def subscribe(exchange: Exchange, make_reader: Callable[[], Counting]) -> list[Counting]:
    """Read the book and level3 of every symbol."""
    readers = []
    for feed in exchange.public.symbols.values():
        book, level3 = make_reader(), make_reader()
        feed.read_book(book, DEPTH, START_NS)
        feed.read_level3(level3, DEPTH, START_NS)
        readers += [book, level3]
    return readers


def check_frames(script: list[Event]) -> int:
    """Let naive readers follow the script's first events; return how many frames had a right checksum."""
    exchange = make_exchange(SYMBOLS)
    readers = []
    for feed in exchange.public.symbols.values():
        book, level3 = Checking(NaiveBook(DEPTH)), Checking(NaiveLevel3(DEPTH))
        book.push(feed.read_book(book, DEPTH, START_NS))
        level3.push(feed.read_level3(level3, DEPTH, START_NS))
        readers += [book, level3]
    Player(exchange).play(script)
    if exchange.venue.now_ns != START_NS + GAP_NS * len(script):
        raise AssertionError("the script was not played to its end")
    return sum(reader.book.checked for reader in readers)
