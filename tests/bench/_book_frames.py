"""Frames of book and level3 with right checksums, as a venue would send them: recorded ones and seeded ones."""

from __future__ import annotations

import random
import zlib
from typing import Protocol

from tests.contract.kraken_market.conftest import OWN, read_sequence

PRICE_DIGITS, QTY_DIGITS = 1, 8
SEQUENCES = ("btcusd-d10-a.tsv", "btcusd-d10-b.tsv")
SYMBOLS = 50


def recorded_frames(repeats: int) -> list[str]:
    """Return the recorded depth-10 sequences again and again, each time as another symbol."""
    frames = [read_sequence(OWN / name).frames for name in SEQUENCES]
    return [
        frame.replace('"BTC/USD"', f'"R{number:03d}/USD"')
        for number in range(repeats)
        for frame in frames[number % len(frames)]
    ]


class Venue(Protocol):
    """The venue's side of one book."""

    def snapshot(self) -> str:
        """Return the frame that a subscription begins with."""

    def change(self) -> str:
        """Change something; return the frame, empty when nothing of it is in the window."""


def seeded_frames(channel: str, *, depth: int, count: int, seed: int) -> list[str]:
    """Return snapshots of all symbols and so many updates of books that change at random near the touch."""
    rng = random.Random(seed)
    kind = SeededBook if channel == "book" else SeededQueues
    venues: list[Venue] = [kind(f"S{number:02d}/USD", rng, depth) for number in range(SYMBOLS)]
    frames = [venue.snapshot() for venue in venues]
    while len(frames) < count + SYMBOLS:
        frame = rng.choice(venues).change()
        if frame:
            frames.append(frame)
    return frames


def stamp(at_us: int, digits: int) -> str:
    """Return a venue time so many microseconds after the start."""
    second, fraction = divmod(at_us, 10**6)
    return (
        f"2026-11-22T{10 + second // 3600}:{second // 60 % 60:02d}:{second % 60:02d}.{fraction:06d}".ljust(
            20 + digits, "0"
        )
        + "Z"
    )


def price(ticks: int) -> str:
    """Return a price as the venue writes it."""
    return f"{ticks // 10}.{ticks % 10}"


def qty(lots: int) -> str:
    """Return a quantity as the venue writes it."""
    return f"{lots // 10**8}.{lots % 10**8:08d}"


class SeededBook:
    """The venue's side of one L2 book."""

    def __init__(self, symbol: str, rng: random.Random, depth: int) -> None:
        self.symbol, self.rng, self.depth = symbol, rng, depth
        self.mid = rng.randrange(10_000, 900_000)
        self.levels = 3 * depth
        self.bids = {self.mid - step: self.lots() for step in range(1, self.levels + 1)}
        self.asks = {self.mid + step: self.lots() for step in range(1, self.levels + 1)}
        self.at_us = 0

    def lots(self) -> int:
        return self.rng.randrange(1, 10**11)

    def window(self) -> tuple[dict[int, int], dict[int, int]]:
        return (
            dict(sorted(self.bids.items(), reverse=True)[: self.depth]),
            dict(sorted(self.asks.items())[: self.depth]),
        )

    def snapshot(self) -> str:
        return self.frame("snapshot", *self.window())

    def change(self) -> str:
        """Change one to three levels; empty when none of them is in the window."""
        before = self.window()
        for _ in range(self.rng.choice((1, 1, 1, 2, 3))):
            is_bid = self.rng.random() < 0.5
            side, sign = (self.bids, -1) if is_bid else (self.asks, 1)
            ticks = self.mid + sign * (1 + min(int(self.rng.expovariate(2.5 / self.depth)), self.levels - 1))
            if ticks in side and self.rng.random() < 0.3 and len(side) > self.depth:
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
        best = [pair for side in (best_asks, best_bids) for pair in list(side.items())[:10]]
        digits = "".join(f"{ticks}{lots}" for ticks, lots in best)
        rows = [
            ",".join(f'{{"price":{price(ticks)},"qty":{qty(lots)}}}' for ticks, lots in side.items())
            for side in (bids, asks)
        ]
        return (
            f'{{"channel":"book","type":"{kind}","data":[{{"symbol":"{self.symbol}","bids":[{rows[0]}],'
            f'"asks":[{rows[1]}],"checksum":{zlib.crc32(digits.encode())},"timestamp":"{stamp(self.at_us, 6)}"}}]}}'
        )


Queues = dict[int, dict[str, tuple[int, int]]]
"""Price in ticks: order id: lots and microsecond of joining, first in line first."""


class SeededQueues:
    """The venue's side of one L3 book: some orders at each of many prices."""

    def __init__(self, symbol: str, rng: random.Random, depth: int) -> None:
        self.symbol, self.rng, self.depth = symbol, rng, depth
        self.mid = rng.randrange(10_000, 900_000)
        self.levels = 3 * depth
        self.at_us = self.names = 0
        self.sides: tuple[Queues, Queues] = ({}, {})
        for side, sign in zip(self.sides, (-1, 1), strict=True):
            for step in range(1, self.levels + 1):
                for _ in range(rng.randrange(1, 6)):
                    self.add(side, self.mid + sign * step)

    def add(self, side: Queues, ticks: int) -> None:
        self.at_us += 1
        self.names += 1
        order_id = f"O{self.symbol[:3]}XX-{self.names // 10**6:05d}-{self.names % 10**6:06d}"
        side.setdefault(ticks, {})[order_id] = (self.rng.randrange(1, 10**11), self.at_us)

    def window(self, side: int) -> Queues:
        queues = self.sides[side]
        return {ticks: queues[ticks] for ticks in sorted(queues, reverse=side == 0)[: self.depth]}

    def flat(self, side: int) -> dict[str, tuple[int, int, int]]:
        return {name: (ticks, *order) for ticks, queue in self.window(side).items() for name, order in queue.items()}

    def snapshot(self) -> str:
        return self.frame("snapshot", *[[("", name, *order) for name, order in self.flat(s).items()] for s in (0, 1)])

    def change(self) -> str:
        """Change one or two orders; empty when none of them is in the window."""
        before = self.flat(0), self.flat(1)
        for _ in range(self.rng.choice((1, 1, 1, 2))):
            self.act()
        self.at_us += 1
        sent = [self.difference(side, before[side]) for side in (0, 1)]
        return self.frame("update", *sent) if any(sent) else ""

    def act(self) -> None:
        index = self.rng.randrange(2)
        side, sign = self.sides[index], (-1, 1)[index]
        ticks = self.mid + sign * (1 + min(int(self.rng.expovariate(2.5 / self.depth)), self.levels - 1))
        queue = side.get(ticks)
        kind = self.rng.random()
        if queue is None or kind < 0.5:
            self.add(side, ticks)
            return
        name = self.rng.choice(list(queue))
        if kind < 0.53:
            queue[name] = (self.rng.randrange(1, 10**11), queue[name][1])
        elif len(side) > self.depth or len(queue) > 1:
            del queue[name]
            if not queue:
                del side[ticks]

    def difference(self, side: int, old: dict[str, tuple[int, int, int]]) -> list[tuple[str, str, int, int, int]]:
        new, held = self.flat(side), {name for queue in self.sides[side].values() for name in queue}
        gone = [("delete", name, *order[:2], self.at_us) for name, order in old.items() if name not in held]
        changed = [("modify", name, *o[:2], self.at_us) for name, o in new.items() if name in old and old[name] != o]
        return [*gone, *changed, *[("add", name, *order) for name, order in new.items() if name not in old]]

    def frame(
        self, kind: str, bids: list[tuple[str, str, int, int, int]], asks: list[tuple[str, str, int, int, int]]
    ) -> str:
        digits = "".join(
            f"{ticks}{lots}"
            for side in (1, 0)
            for ticks, queue in list(self.window(side).items())[:10]
            for lots, _ in queue.values()
        )
        rows = [
            ",".join(
                (f'{{"event":"{event}",' if event else "{") + f'"order_id":"{name}","limit_price":{price(ticks)},'
                f'"order_qty":{qty(lots)},"timestamp":"{stamp(at_us, 9)}"}}'
                for event, name, ticks, lots, at_us in side
            )
            for side in (bids, asks)
        ]
        return (
            f'{{"channel":"level3","type":"{kind}","data":[{{"symbol":"{self.symbol}","checksum":'
            f'{zlib.crc32(digits.encode())},"bids":[{rows[0]}],"asks":[{rows[1]}],'
            f'"timestamp":"{stamp(self.at_us, 9)}"}}]}}'
        )
