"""Book frames per second through the public session, over `json.loads` alone on the same frames.

The session decodes, updates, verifies every checksum, counts and tells its listener: the production path without
the socket. Frames: the recorded depth-10 sequences of tests/data repeated, and seeded frames of 50 symbols. Both
sides run on one core in turns, measured in CPU time; the best turn of each counts, since a shared machine only
ever adds time. json.loads gets text, which is quicker for it than bytes; the session gets bytes, as the socket
hands them on.
"""

from __future__ import annotations

import json
import random
import time
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tests.contract.kraken_market.conftest import OWN, instrument_text, read_sequence

from krakenbot.adapters.kraken.protocol.budget import Budget
from krakenbot.adapters.kraken.protocol.market_session import MarketState, Pacing, SessionSettings
from krakenbot.adapters.kraken.protocol.public import PublicSession
from krakenbot.domain.market.trade import Ticker
from krakenbot.domain.values import Side, Symbol

LEAST_RATIO = 0.85
SEQUENCES = ("btcusd-d10-a.tsv", "btcusd-d10-b.tsv")
REPEATS = 150
SEEDED_SYMBOLS = 50
SEEDED_FRAMES = 10_000
TURNS = 7
DEPTH = 10


class Quiet:
    """A listener that does nothing."""

    def on_instruments(self, instruments: object) -> None: ...
    def on_book(self, symbol: Symbol) -> None: ...
    def on_queue(self, symbol: Symbol) -> None: ...
    def on_trades(self, trades: object, *, is_snapshot: bool) -> None: ...
    def on_ticker(self, ticker: Ticker) -> None: ...
    def on_validity(self, symbol: Symbol, source: str, *, valid: bool, reason: str) -> None: ...
    def on_connection(self, stream: str, *, up: bool, reason: str) -> None: ...


def run() -> dict[str, Any]:
    frames = recorded_frames() + seeded_frames(seed=7)
    symbols = sorted({json.loads(frame)["data"][0]["symbol"] for frame in frames})
    ours, theirs = [], []
    wire = [frame.encode() for frame in frames]
    for _ in range(TURNS):
        theirs.append(timed(json.loads, frames))
        session, state = connected(symbols)
        ours.append(timed(partial(receive_at, session), wire))
        if state.book_ok != len(frames) or state.book_bad or state.errors:
            raise AssertionError(f"a frame did not verify: {state.book_ok} of {len(frames)}, {state.errors}")
    ratio = min(theirs) / min(ours)
    return {
        "passed": ratio >= LEAST_RATIO,
        "ratio_over_json_loads": round(ratio, 3),
        "least_ratio": LEAST_RATIO,
        "frames_per_s": round(len(frames) / min(ours)),
        "json_loads_frames_per_s": round(len(frames) / min(theirs)),
        "frames": len(frames),
        "recorded_frames": len(frames) - SEEDED_FRAMES - SEEDED_SYMBOLS,
        "seeded_frames": SEEDED_FRAMES + SEEDED_SYMBOLS,
        "checksums_verified_per_frame": 1,
        "share_that_change_a_top_ten_level": round(share_that_change_top_ten(frames, symbols), 4),
    }


def timed(handle: Callable[[Any], object], frames: Sequence[str | bytes]) -> float:
    """Return the CPU seconds of handling every frame and forgetting the result."""
    started = time.process_time()
    for frame in frames:
        handle(frame)
    return time.process_time() - started


def receive_at(session: PublicSession, frame: bytes) -> None:
    session.receive(frame, 1.0)


def connected(symbols: list[str]) -> tuple[PublicSession, MarketState]:
    """Return a session that has asked for the books of all symbols."""
    state = MarketState(wanted_l2=tuple(map(Symbol, symbols)))
    session = PublicSession(
        state=state,
        listener=Quiet(),
        settings=SessionSettings(book_depth=DEPTH),
        pacing=Pacing(
            budget=Budget(rate_per_s=1e6, burst=1e6), resync_budget=Budget(rate_per_s=1, burst=1), jitter=float
        ),
        instruments_changed=lambda *_: None,
        now_mono=0.0,
    )
    for symbol in symbols:
        session.receive(instrument_text(symbol, 1, 8), 0.0)
    session.on_deadline(0.5)
    session.to_send()
    return session, state


def recorded_frames() -> list[str]:
    return [frame for name in SEQUENCES for frame in read_sequence(OWN / name).frames] * REPEATS


def seeded_frames(*, seed: int) -> list[str]:
    """Return what a venue would send at depth 10 for books that change at random near the touch."""
    rng = random.Random(seed)
    books = [SeededBook(f"S{number:02d}/USD", rng) for number in range(SEEDED_SYMBOLS)]
    frames = [book.frame("snapshot", *book.window()) for book in books]
    while len(frames) < SEEDED_FRAMES + SEEDED_SYMBOLS:
        frame = rng.choice(books).change()
        if frame:
            frames.append(frame)
    return frames


class SeededBook:
    """The venue's side of one book, and what it would send."""

    def __init__(self, symbol: str, rng: random.Random) -> None:
        self.symbol, self.rng = symbol, rng
        self.mid = rng.randrange(10_000, 900_000)
        self.bids = {self.mid - step: self.lots() for step in range(1, 31)}
        self.asks = {self.mid + step: self.lots() for step in range(1, 31)}
        self.at_us = 0

    def lots(self) -> int:
        return self.rng.randrange(1, 10**11)

    def window(self) -> tuple[dict[int, int], dict[int, int]]:
        return (
            dict(sorted(self.bids.items(), reverse=True)[:DEPTH]),
            dict(sorted(self.asks.items())[:DEPTH]),
        )

    def change(self) -> str:
        """Change one to three levels; empty when none of them is in the window."""
        before = self.window()
        for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
            is_bid = self.rng.random() < 0.5
            side, sign = (self.bids, -1) if is_bid else (self.asks, 1)
            ticks = self.mid + sign * (1 + min(int(self.rng.expovariate(0.25)), 29))
            if ticks in side and self.rng.random() < 0.3 and len(side) > DEPTH:
                del side[ticks]
            else:
                side[ticks] = self.lots()
        after = self.window()
        sent = [
            {**{ticks: 0 for ticks in old if ticks not in whole}, **{t: q for t, q in new.items() if old.get(t) != q}}
            for old, new, whole in zip(before, after, (self.bids, self.asks), strict=True)
        ]
        return self.frame("update", *sent) if any(sent) else ""

    def frame(self, kind: str, bids: dict[int, int], asks: dict[int, int]) -> str:
        self.at_us += 1
        best_bids, best_asks = self.window()
        digits = "".join(f"{ticks}{lots}" for side in (best_asks, best_bids) for ticks, lots in side.items())
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{self.symbol}","bids":[{levels(bids)}],'
            f'"asks":[{levels(asks)}],"checksum":{zlib.crc32(digits.encode())},'
            f'"timestamp":"2026-11-22T10:00:{self.at_us // 10**6:02d}.{self.at_us % 10**6:06d}Z"}}]}}'
        )


def levels(side: dict[int, int]) -> str:
    return ",".join(
        f'{{"price":{ticks // 10}.{ticks % 10},"qty":{lots // 10**8}.{lots % 10**8:08d}}}'
        for ticks, lots in side.items()
    )


def share_that_change_top_ten(frames: list[str], symbols: list[str]) -> float:
    session, state = connected(symbols)
    changed = 0
    before: dict[str, object] = {}
    for frame in frames:
        session.receive(frame, 1.0)
        symbol = json.loads(frame)["data"][0]["symbol"]
        book = state.books[symbol]
        after = (book.levels(Side.BUY, 10), book.levels(Side.SELL, 10))
        changed += after != before.get(symbol)
        before[symbol] = after
    return changed / len(frames)
