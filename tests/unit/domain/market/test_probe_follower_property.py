"""Probes against a naive oracle that stands in the venue's own queue, on a random stream of orders and takers.

The venue keeps whole queues with the hypothetical order in them as a phantom: takers meet it in its turn, and what it
takes is what the oracle counts. The follower sees only level3 messages and trades, in either order.
"""

from __future__ import annotations

import zlib
from collections import Counter
from random import Random
from typing import Any

from attrs import define, field
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.level3 import Order, whole_instrument

from krakenbot.domain.market.book import Verdict
from krakenbot.domain.market.freshness import utc_ns
from krakenbot.domain.market.probe import Probe, ProbeEnd, ProbeKind
from krakenbot.domain.market.probe_follower import ProbeFollower
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.market.trade import PublicTrade
from krakenbot.domain.values import NS_PER_S, Side, Symbol

SYMBOL = Symbol("ABC/USD")
INSTRUMENT = whole_instrument(SYMBOL)
PRIMES = [n for n in range(1009, 4000) if all(n % d for d in range(2, 64))]
START_NS = utc_ns("2026-11-22T10:00:00.000000000Z")
ASK, TIMEOUT_S, MATCH_S = 1004, 60.0, 1.0


@define
class Naive:
    """One hypothetical bid as the oracle knows it: ids ahead with their lots, and what became of it."""

    probe: Probe
    price: int
    left: int
    away_from: int
    ahead: dict[str, int]
    traded: int = 0
    cancelled: int = 0
    amended: int = 0
    end: tuple[ProbeEnd, int] | None = None


@define
class Venue:
    """Bids from 1000 down; asks stay."""

    queues: dict[int, dict[str, int]] = field(factory=lambda: {1000 - i: {f"S{i}": 900 + i} for i in range(6)})
    now_s: float = 0.0
    names: int = 0
    naives: list[Naive] = field(factory=list)
    book: L3Book = field(factory=lambda: L3Book(price_precision=0, qty_precision=0, depth=10))
    follower: ProbeFollower = field(factory=lambda: ProbeFollower(INSTRUMENT, MATCH_S))

    @property
    def now_ns(self) -> int:
        return START_NS + round(self.now_s * NS_PER_S)

    def at(self) -> str:
        return f"2026-11-22T10:{int(self.now_s) // 60:02d}:{self.now_s % 60:012.9f}Z"

    def checksum(self) -> int:
        bids = sorted(self.queues.items(), reverse=True)[:10]
        return zlib.crc32((f"{ASK}7" + "".join(f"{p}{lots}" for p, q in bids for lots in q.values())).encode())

    def open(self) -> None:
        bids = [
            Order(name, float(p), float(q), self.at()) for p, line in self.queues.items() for name, q in line.items()
        ]
        verdict = self.book.load(bids, [Order("Z", float(ASK), 7.0, self.at())], self.checksum(), self.at(), 0.0)
        assert Verdict.GOOD is verdict

    def publish(self, changes: list[Order], trades: list[tuple[int, int]], *, trades_first: bool) -> None:
        def tell_trades() -> None:
            for price, lots in trades:
                trade = PublicTrade(
                    symbol=SYMBOL, trade_id=1, side=Side.SELL, price_ticks=price, size_lots=lots, at_ns=self.now_ns
                )
                self.book.places.on_trade(trade)
                self.follower.on_trade(trade, self.now_s)

        if trades_first:
            tell_trades()
        verdict = self.book.apply(changes, [], self.checksum(), self.at(), self.now_s)
        assert Verdict.GOOD is verdict, self.book.invalid_reason
        self.follower.on_queue(self.book, self.now_s)
        if not trades_first:
            tell_trades()

    def add(self, price: int) -> None:
        if price not in self.queues and len(self.queues) == 10:
            # an eleventh level would leave the window, and this venue would have to tell of it when it comes back
            return
        self.names += 1
        name, lots = f"O{self.names}", PRIMES[self.names] * 27
        self.queues.setdefault(price, {})[name] = lots
        self.see_best()
        self.publish([Order(name, float(price), float(lots), self.at(), "add")], [], trades_first=False)

    def leave(self, price: int, index: int, *, amends: bool) -> None:
        """Cancel an order, or lower it to two thirds."""
        line = self.queues.get(price)
        if not line or (not amends and len(line) == 1 and len(self.queues) == 1):
            return
        name = list(line)[index % len(line)]
        lots = line[name]
        gone = lots // 3 if amends else lots
        if not gone:
            return
        self.take(price, name, gone)
        for naive in self.naives:
            if naive.end is None and naive.price == price and name in naive.ahead:
                naive.ahead[name] -= gone
                if amends:
                    naive.amended += gone
                else:
                    naive.cancelled += gone
        self.see_best()
        left = lots - gone
        event = "modify" if left else "delete"
        self.publish([Order(name, float(price), float(left or lots), self.at(), event)], [], trades_first=False)

    def sell(self, orders: int, *, part: bool, trades_first: bool) -> None:
        """A taker eats so many whole orders from the front, and a third of the next one when `part`."""
        changes: list[Order] = []
        trades: list[tuple[int, int]] = []
        line_of = [(p, name) for p in sorted(self.queues, reverse=True) for name in self.queues[p]]
        for price, name in line_of[: min(orders, len(line_of) - 1)]:
            self.eat(price, name, self.queues[price][name], changes, trades)
        if part:
            best = max(self.queues)
            name = next(iter(self.queues[best]))
            if third := self.queues[best][name] // 3:
                self.eat(best, name, third, changes, trades)
        if trades:
            self.see_best()
            self.publish(changes, trades, trades_first=trades_first)

    def eat(self, price: int, name: str, lots: int, changes: list[Order], trades: list[tuple[int, int]]) -> None:
        for naive in self.naives:
            if naive.end is not None:
                same_instant = naive.end[1] == self.now_ns and naive.end[0] is ProbeEnd.CONSUMED
                if same_instant and price < naive.price:
                    naive.end = (ProbeEnd.SWEPT, self.now_ns)
                continue
            if price < naive.price:
                naive.end = (ProbeEnd.SWEPT, self.now_ns)
            elif price == naive.price and name in naive.ahead:
                naive.ahead[name] -= lots
                naive.traded += lots
            elif price == naive.price:
                naive.left -= lots
                if naive.left <= 0:
                    naive.end = (ProbeEnd.CONSUMED, self.now_ns)
        left = self.queues[price][name] - lots
        self.take(price, name, lots)
        changes[:] = [each for each in changes if each.order_id != name]
        changes.append(Order(name, float(price), float(left or lots), self.at(), "modify" if left else "delete"))
        trades.append((price, lots))

    def take(self, price: int, name: str, lots: int) -> None:
        line = self.queues[price]
        line[name] -= lots
        if not line[name]:
            del line[name]
            if not line:
                del self.queues[price]

    def see_best(self) -> None:
        best = max(self.queues)
        for naive in self.naives:
            if naive.end is None and best >= naive.away_from:
                naive.end = (ProbeEnd.AWAY, self.now_ns)

    def time_out(self, now_ns: int) -> None:
        for naive in self.naives:
            deadline_ns = naive.probe.deadline_at_ns
            if naive.end is None and now_ns >= deadline_ns:
                naive.end = (ProbeEnd.TIMEOUT, deadline_ns)

    def join(self, lots: int) -> None:
        best = max(self.queues)
        probe = self.follower.start(
            self.book,
            probe_no=len(self.naives) + 1,
            kind=ProbeKind.JOIN,
            side=Side.BUY,
            size_quote=float(lots * best),
            timeout_s=TIMEOUT_S,
            away_spread_share=0.5,
            now_mono=self.now_s,
        )
        assert probe is not None
        step = max(1, -(-(ASK - best) // 2))
        self.naives.append(Naive(probe, best, lots, best + step, dict(self.queues[best])))


KINDS = ["add", "add", "add", "cancel", "amend", "sell", "sell", "join", "join"]


def draw(random: Random) -> Any:
    kind = random.choice(KINDS)
    # what leaves within the time to match a trade may be taken for it: causes are only certain when they are apart
    gaps_s = [0.05, 0.4, 1.5, 6.0] if kind in {"add", "join"} else [1.2, 1.5, 6.0]
    return (
        kind,
        random.randint(0, 5),
        random.randint(0, 4),
        random.random() < 0.5,
        random.random() < 0.5,
        random.choice(gaps_s),
    )


def act(venue: Venue, action: Any) -> None:
    kind, offset, index, one, other, gap_s = action
    venue.now_s += gap_s
    venue.time_out(venue.now_ns - 1)
    venue.follower.step(venue.book, venue.now_s)
    best = max(venue.queues)
    if kind == "add":
        venue.add(min(best + 2, ASK - 1) - offset)
    elif kind in {"cancel", "amend"}:
        venue.leave(best - offset % 3, index, amends=kind == "amend")
    elif kind == "sell":
        venue.sell(index, part=one, trades_first=other)
    elif len([naive for naive in venue.naives if naive.end is None]) < 6:
        venue.join(1 + 9000 * index)
    # whatever happens at the very instant of a deadline comes before it
    venue.time_out(venue.now_ns)


# long streams from a seed: lists drawn action by action stay too short for queues to be eaten
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_probe_ends_as_the_phantom_in_the_venues_queue(seed):
    check(seed)


def test_the_streams_hold_every_end_in_numbers():
    ends = sum((check(seed) for seed in range(40)), Counter[ProbeEnd | None]())

    assert min(ends[end] for end in (ProbeEnd.CONSUMED, ProbeEnd.SWEPT, ProbeEnd.AWAY, None)) >= 10
    assert ends[ProbeEnd.TIMEOUT] >= 3


def check(seed: int) -> Counter[ProbeEnd | None]:
    """Play a stream and compare; return how many probes ended how."""
    random, venue = Random(seed), Venue()
    venue.open()
    for _ in range(50):
        act(venue, draw(random))
        for naive in venue.naives:
            if naive.end is None:
                assert naive.probe.end is None
                assert sum(naive.ahead.values()) == naive.probe.place.ahead.lots
    venue.now_s += 20.0
    venue.follower.step(venue.book, venue.now_s)
    for naive in venue.naives:
        place = naive.probe.place
        if naive.end is not None:
            assert naive.end == (naive.probe.end, naive.probe.ended_at_ns)
        else:
            counted = (place.traded.lots, place.cancelled.lots, place.amended.lots)
            assert (naive.traded, naive.cancelled, naive.amended) == counted
    return Counter(naive.end and naive.end[0] for naive in venue.naives)
