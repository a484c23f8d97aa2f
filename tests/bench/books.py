"""Book frames per second on one core: ours, and those of other people's clients on the same frames.

Ours is the whole public or level3 session (decode, update, verify, count, tell a listener), beside it the bare path of
decoding, updating and verifying. The others are cryptofeed, ccxt pro and python-kraken-sdk, each as a process with a
locked environment of its own, through its own message handler, verifying as it ships (cryptofeed always, the sdk
updates, ccxt nothing). None of the three keeps an L3 book: level3 is held against `json.loads` of the same frames,
and measured once more while 20 places in the queues of every symbol are followed.
Frames: seeded ones of 50 symbols, their snapshots before the clock starts, and at L2 depth 10 recorded sequences,
snapshots included. All run in turns, measured in CPU time; of every slice of frames the best turn counts, since a
shared machine only ever adds time. At the end every client must have the same best prices in every book, or its speed
would say nothing.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench._book_clients import NAMES, clients
from tests.bench._book_frames import PRICE_DIGITS, QTY_DIGITS, SYMBOLS, recorded_frames, seeded_frames
from tests.contract.kraken_market.conftest import instrument_text

from krakenbot.adapters.kraken.codec.market import BookFrame, QueueFrame, decode_frame
from krakenbot.adapters.kraken.protocol.budget import Budget
from krakenbot.adapters.kraken.protocol.level3 import Level3Session
from krakenbot.adapters.kraken.protocol.market_session import MarketSession, SessionSettings
from krakenbot.adapters.kraken.protocol.market_state import MarketState, Pacing
from krakenbot.adapters.kraken.protocol.public import PublicSession
from krakenbot.domain.market.book import L2Book, Verdict
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.market.trade import Ticker
from krakenbot.domain.values import Side, Symbol

LEAST_RATIO_OVER_JSON = {"l2 depth 10": 0.85, "l3 depth 10": 0.4}
"""The bare path over `json.loads`."""
LEAST_RATIO_WITH_PLACES = 0.4
PLACES = 20
"""Imagined orders that are followed in each book of the level3 path, ten a side at its five best prices."""
LEAST_RATIO_OVER_CLIENTS = {"l2 depth 10": 4.5, "l2 depth 100": 5.0}
"""The whole session over the fastest of the others."""
RECORDED_REPEATS = 40
SEEDED_FRAMES = 6_000
TURNS = 9
MORE_TURNS = 27
"""Further turns of `json.loads` and the bare path alone, whose ratio is close to its limit."""
SLICE = 400


class Quiet:
    """A listener that does nothing."""

    def on_instruments(self, instruments: object) -> None: ...
    def on_book(self, symbol: Symbol) -> None: ...
    def on_queue(self, symbol: Symbol) -> None: ...
    def on_trades(self, trades: object, *, is_snapshot: bool) -> None: ...
    def on_ticker(self, ticker: Ticker) -> None: ...
    def on_validity(self, symbol: Symbol, source: str, *, valid: bool, reason: str) -> None: ...
    def on_connection(self, stream: str, *, up: bool, reason: str) -> None: ...
    def on_reconnect(self, reconnect: object) -> None: ...


def run() -> dict[str, Any]:
    result: dict[str, Any] = {"passed": True}
    for name, channel, depth, frames in (
        ("l2 depth 10", "book", 10, seeded("book", 10) + recorded_frames(RECORDED_REPEATS)),
        ("l2 depth 100", "book", 100, seeded("book", 100)),
        ("l3 depth 10", "level3", 10, seeded("level3", 10)),
    ):
        found = measure(channel, depth, frames)
        for ratio, least in (
            ("ratio_over_json_loads", LEAST_RATIO_OVER_JSON.get(name)),
            ("ratio_over_fastest_other", LEAST_RATIO_OVER_CLIENTS.get(name)),
            ("ratio_with_places", LEAST_RATIO_WITH_PLACES if channel == "level3" else None),
        ):
            if least is not None:
                found[f"least_{ratio}"] = least
                result["passed"] &= found[ratio] >= least
        result |= {f"{name}: {figure}": value for figure, value in found.items()}
    return result


def seeded(channel: str, depth: int) -> list[str]:
    return seeded_frames(channel, depth=depth, count=SEEDED_FRAMES, seed=7)


def measure(channel: str, depth: int, frames: list[str]) -> dict[str, Any]:
    """Measure one channel and depth, all in turns."""
    symbols = sorted({json.loads(frame)["data"][0]["symbol"] for frame in frames})
    others = NAMES if channel == "book" else ()
    ours = ("json", "path", "session", *(() if channel == "book" else ("places",)))
    turns: dict[str, list[list[float]]] = {name: [] for name in (*ours, *others)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "frames"
        file.write_text("\n".join(frames))
        digits = {"price_digits": PRICE_DIGITS, "qty_digits": QTY_DIGITS}
        with clients(
            others, frames=str(file), symbols=symbols, depth=depth, untimed=SYMBOLS, slice=SLICE, **digits
        ) as running:
            for _ in range(TURNS):
                state = one_turn(turns, channel, depth, symbols, frames)
                for name, client in running.items():
                    turns[name].append(client.turn())
            for name, client in running.items():
                differing = differing_symbols(client.touch(), touch_of(state))
                if differing:
                    raise AssertionError(f"{name}: other best prices for {differing[:5]}")
    for _ in range(MORE_TURNS):
        json_and_path(turns, channel, depth, symbols, frames)
    rates = {name: (len(frames) - SYMBOLS) / sum(map(min, zip(*found, strict=True))) for name, found in turns.items()}
    result: dict[str, Any] = {f"{name}_frames_per_s": round(rate) for name, rate in rates.items()}
    result["ratio_over_json_loads"] = round(rates["path"] / rates["json"], 3)
    if others:
        result["ratio_over_fastest_other"] = round(rates["session"] / max(rates[name] for name in others), 2)
    else:
        result["ratio_with_places"] = round(rates["places"] / rates["path"], 3)
    return result | {"frames": len(frames) - SYMBOLS, "symbols": len(symbols), "checksums_verified_per_frame": 1}


def json_and_path(
    turns: dict[str, list[list[float]]], channel: str, depth: int, symbols: list[str], frames: list[str]
) -> None:
    wire = [frame.encode() for frame in frames]
    turns["json"].append(timed(json.loads, frames))
    kind = L2Book if channel == "book" else L3Book
    books = {symbol: kind(price_precision=PRICE_DIGITS, qty_precision=QTY_DIGITS, depth=depth) for symbol in symbols}
    turns["path"].append(timed(partial(decode_update_verify, books), wire))


def one_turn(
    turns: dict[str, list[list[float]]], channel: str, depth: int, symbols: list[str], frames: list[str]
) -> MarketState:
    """Measure our own paths once; raises AssertionError when a frame did not verify."""
    wire = [frame.encode() for frame in frames]
    json_and_path(turns, channel, depth, symbols, frames)
    if channel == "level3":
        queues = {symbol: L3Book(price_precision=1, qty_precision=8, depth=depth) for symbol in symbols}
        turns["places"].append(timed(partial(decode_update_verify, queues), wire, lambda: follow_places(queues)))
    session, state = connected(channel, symbols, depth)
    turns["session"].append(timed(partial(receive_at, session), wire))
    tally = state.l2 if channel == "book" else state.l3
    if tally.ok != len(frames) or tally.bad or state.errors:
        raise AssertionError(f"a frame did not verify: {tally.ok} of {len(frames)}, {state.errors}")
    return state


def follow_places(queues: dict[str, L3Book]) -> None:
    for queue in queues.values():
        for side in (Side.BUY, Side.SELL):
            for ticks in queue.prices(side, PLACES // 4) * 2:
                queue.places.join(side, ticks, 1)
        if len(queue.places) != PLACES:
            raise AssertionError(f"{len(queue.places)} places")


def timed(
    handle: Callable[[Any], object], frames: Sequence[str | bytes], prepare: Callable[[], None] = lambda: None
) -> list[float]:
    """Return the CPU seconds of handling every frame after the seeded snapshots, slice by slice."""
    seconds = []
    gc.collect()
    for frame in frames[:SYMBOLS]:
        handle(frame)
    prepare()
    for start in range(SYMBOLS, len(frames), SLICE):
        part = frames[start : start + SLICE]
        started = time.process_time()
        for frame in part:
            handle(frame)
        seconds.append(time.process_time() - started)
    return seconds


def decode_update_verify(books: dict[str, Any], text: bytes) -> None:
    frame = decode_frame(text)
    if not isinstance(frame, BookFrame | QueueFrame):
        raise TypeError(text)
    for row in frame.data:
        book = books[row.symbol]
        put = book.apply if frame.type == "update" else book.load
        if put(row.bids, row.asks, row.checksum, row.timestamp, 1.0) is not Verdict.GOOD:
            raise AssertionError(book.invalid_reason)


def receive_at(session: MarketSession, frame: bytes) -> None:
    session.receive(frame, 1.0)


def connected(channel: str, symbols: list[str], depth: int) -> tuple[MarketSession, MarketState]:
    """Return a session that has asked for the books of all symbols."""
    names = tuple(map(Symbol, symbols))
    state = MarketState()
    pacing = Pacing(budget=Budget(rate_per_s=1e6, burst=1e6), resync_budget=Budget(rate_per_s=1, burst=1), jitter=float)
    settings = SessionSettings(book_depth=depth, level3_depth=depth)
    session: MarketSession = PublicSession(
        state=state,
        listener=Quiet(),
        settings=settings,
        pacing=pacing,
        instruments_changed=lambda *_: None,
        symbols=(),
        now_mono=0.0,
    )
    for symbol in symbols:
        session.receive(instrument_text(symbol, PRICE_DIGITS, QTY_DIGITS), 0.0)
    if channel == "book":
        session.follow_symbols(names, 0.0)
    else:
        session = Level3Session(
            state=state,
            listener=Quiet(),
            settings=settings,
            pacing=pacing,
            token="none",
            symbols=names,
            now_mono=0.0,
        )
    session.on_deadline(0.5)
    session.to_send()
    return session, state


def touch_of(state: MarketState) -> dict[str, list[float]]:
    """Return the best bid and ask of every book."""
    unit = 10.0**-PRICE_DIGITS
    best = {symbol: (book.levels(Side.BUY, 1), book.levels(Side.SELL, 1)) for symbol, book in state.books.items()}
    return {symbol: [bids[0][0] * unit, asks[0][0] * unit] for symbol, (bids, asks) in best.items()}


def differing_symbols(found: dict[str, list[float]], expected: dict[str, list[float]]) -> list[str]:
    """Return the symbols whose best prices differ by half a tick or more, or that one of both does not hold."""
    half = 10.0**-PRICE_DIGITS / 2
    return sorted(found.keys() ^ expected.keys()) + [
        symbol
        for symbol in found.keys() & expected.keys()
        if any(abs(a - b) >= half for a, b in zip(found[symbol], expected[symbol], strict=True))
    ]
