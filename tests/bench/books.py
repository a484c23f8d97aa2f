"""Book frames per second over `json.loads` alone on the same frames.

What counts is the production path of decoding, updating and verifying; what the whole session makes of it (replies,
counts, telling a listener) is reported beside it. Frames: the recorded depth-10 sequences of tests/data repeated,
and seeded frames of 50 symbols. All run on one core in turns, measured in CPU time; of every slice of frames the
best turn counts, since a shared machine only ever adds time. json.loads gets text, which is quicker for it than
bytes; the session gets bytes, as the socket hands them on.
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

from krakenbot.adapters.kraken.codec.market import BookFrame, decode_frame
from krakenbot.adapters.kraken.protocol.budget import Budget
from krakenbot.adapters.kraken.protocol.market_session import MarketState, Pacing, SessionSettings
from krakenbot.adapters.kraken.protocol.public import PublicSession
from krakenbot.domain.market.book import L2Book, Verdict
from krakenbot.domain.market.trade import Ticker
from krakenbot.domain.values import Side, Symbol

LEAST_RATIO = 0.85
SEQUENCES = ("btcusd-d10-a.tsv", "btcusd-d10-b.tsv")
REPEATS = 150
SEEDED_SYMBOLS = 50
SEEDED_FRAMES = 10_000
TURNS = 40
SLICE = 400
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
    wire = [frame.encode() for frame in frames]
    turns: dict[str, list[list[float]]] = {"json": [], "book": [], "session": []}
    for _ in range(TURNS):
        turns["json"].append(timed(json.loads, frames))
        books = {symbol: L2Book(price_precision=1, qty_precision=8, depth=DEPTH) for symbol in symbols}
        turns["book"].append(timed(partial(decode_update_verify, books), wire))
        session, state = connected(symbols)
        turns["session"].append(timed(partial(receive_at, session), wire))
        if state.l2.ok != len(frames) or state.l2.bad or state.errors:
            raise AssertionError(f"a frame did not verify: {state.l2.ok} of {len(frames)}, {state.errors}")
    seconds = {name: sum(map(min, zip(*found, strict=True))) for name, found in turns.items()}
    ratio = seconds["json"] / seconds["book"]
    return {
        "passed": ratio >= LEAST_RATIO,
        "ratio_over_json_loads": round(ratio, 3),
        "least_ratio": LEAST_RATIO,
        "session_ratio_over_json_loads": round(seconds["json"] / seconds["session"], 3),
        "frames_per_s": round(len(frames) / seconds["book"]),
        "session_frames_per_s": round(len(frames) / seconds["session"]),
        "json_loads_frames_per_s": round(len(frames) / seconds["json"]),
        "frames": len(frames),
        "recorded_frames": len(frames) - SEEDED_FRAMES - SEEDED_SYMBOLS,
        "seeded_frames": SEEDED_FRAMES + SEEDED_SYMBOLS,
        "checksums_verified_per_frame": 1,
        "share_that_change_a_top_ten_level": round(share_that_change_top_ten(frames, symbols), 4),
    }


def timed(handle: Callable[[Any], object], frames: Sequence[str | bytes]) -> list[float]:
    """Return the CPU seconds of handling every frame and forgetting the result, slice by slice."""
    seconds = []
    for start in range(0, len(frames), SLICE):
        part = frames[start : start + SLICE]
        started = time.process_time()
        for frame in part:
            handle(frame)
        seconds.append(time.process_time() - started)
    return seconds


def decode_update_verify(books: dict[str, L2Book], text: bytes) -> None:
    frame = decode_frame(text)
    if not isinstance(frame, BookFrame):
        raise TypeError(text)
    for row in frame.data:
        book = books[row.symbol]
        put = book.apply if frame.type == "update" else book.load
        if put(row.bids, row.asks, row.checksum, row.timestamp, 1.0) is not Verdict.GOOD:
            raise AssertionError(book.invalid_reason)


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
