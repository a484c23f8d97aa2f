"""The tape writes down what a venue shows; a script of operations stands in for a flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from krakenbot.adapters.local_exchange.flow.market import Market
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.flow_check.run import NS, START_NS, record_tapes
from krakenbot.adapters.local_exchange.flow_check.tape import CANCELLED, FILLED, STILL_OPEN, SymbolTape

Script = list[tuple[float, Callable[[Market], object]]]
SYMBOL = "BTC/USD"


class ScriptedFlow:
    """Place a bid at 100 and an ask at 110, then carry out a script of (seconds, operation)."""

    def __init__(self, markets: Mapping[str, Market], script: Script) -> None:
        self._market = markets[SYMBOL]
        self._script = [(START_NS + round(at_s * NS), operation) for at_s, operation in script]

    def open(self, now_ns: int) -> None:
        self._market.place("buy", 100, 1000)
        self._market.place("sell", 110, 1000)

    def next_at_ns(self) -> int:
        return self._script[0][0] if self._script else 2**62

    def step(self, now_ns: int) -> None:
        while self._script and self._script[0][0] <= now_ns:
            self._script.pop(0)[1](self._market)

    def last_price_ticks(self, symbol: str) -> int:
        return 105

    def parameters(self) -> dict[str, object]:
        return {}


def tape_of(script: Script, duration_s: int = 10) -> SymbolTape:
    return record_tapes(
        lambda markets: ScriptedFlow(markets, script), symbol_count=1, seed=1, duration_s=duration_s, warm_up_s=0
    )[SYMBOL]


def test_trades_of_one_taker_order_are_one_market_order_with_the_quote_before_it():
    tape = tape_of(
        [
            (1.0, lambda market: market.place("sell", 111, 500)),
            (2.0, lambda market: market.take("buy", 1200)),
            (2.0, lambda market: market.take("buy", 100)),
            (2.0, lambda market: market.take("sell", 50)),
            (3.0, lambda market: market.take("sell", 70)),
        ]
    )
    takers = tape.takers

    assert [2.0, 2.0, 3.0] == list(takers.at_s)
    assert [1, -1, -1] == list(takers.sign)
    assert [1300, 50, 70] == list(takers.size_lots)
    assert [100, 100, 100] == list(takers.bid_ticks)
    assert [110, 111, 111] == list(takers.ask_ticks)


def test_adds_and_ends_know_their_age_and_place():
    orders: dict[str, int | None] = {}

    def place(name: str, price_ticks: int) -> Callable[[Market], object]:
        def carry_out(market: Market) -> None:
            orders[name] = market.place("buy", price_ticks, 10)

        return carry_out

    tape = tape_of(
        [
            (1.0, place("second", 100)),
            (2.0, place("third", 100)),
            (3.0, place("deep", 90)),
            (5.0, lambda market: market.cancel(orders["second"] or 0)),
            (6.0, lambda market: market.take("sell", 1000)),
        ]
    )
    adds, ends = tape.adds, tape.ends

    assert [(1.0, 1, 0), (2.0, 2, 0), (3.0, 0, 1)] == list(zip(adds.at_s, adds.ahead, adds.level, strict=True))
    assert [CANCELLED, FILLED, *[STILL_OPEN] * 3] == list(ends.kind)
    assert [4.0, 6.0, 10.0, 8.0, 7.0] == pytest.approx(list(ends.age_s))
    assert (5.0, 100, 1, 1, 0) == (ends.at_s[0], ends.key[0], ends.ahead[0], ends.behind[0], ends.level[0])
    assert [-110, 100, 90] == list(ends.key[2:])


def test_quotes_are_written_when_they_change_and_sampled_at_fixed_steps():
    tape = tape_of(
        [
            (1.2, lambda market: market.place("buy", 104, 10)),
            (1.4, lambda market: market.place("buy", 90, 10)),
            (3.0, lambda market: market.take("sell", 10)),
        ],
        duration_s=4,
    )

    assert [(0.0, 100, 110), (1.2, 104, 110), (3.0, 100, 110)] == list(
        zip(tape.quotes.at_s, tape.quotes.bid_ticks, tape.quotes.ask_ticks, strict=True)
    )
    assert [105.0, 105.0, 107.0, 105.0, 105.0] == tape.mids_at(1.0)
    assert tape.spreads_at(2.0) == pytest.approx([10 / 105 * 1e4, 6 / 107 * 1e4, 10 / 105 * 1e4])
    assert [105.0, 107.0, 107.0, 105.0] == [tape.mid_at(at_s) for at_s in (1.0, 1.2, 2.9, 3.0)]


def test_a_side_that_runs_empty_leaves_the_last_mid():
    tape = tape_of([(1.0, lambda market: market.take("buy", 1000))], duration_s=2)

    assert [105.0, 105.0, 105.0] == tape.mids_at(1.0)
    assert 105.0 == tape.mid_at(2.0)


def test_the_same_seed_writes_the_same_tape():
    one, other = (
        record_tapes(lambda m: SeededFlow(m, profile="edge", seed=5), symbol_count=2, seed=5, duration_s=30)
        for _ in range(2)
    )

    for symbol, tape in one.items():
        again = other[symbol]
        assert len(tape.takers.at_s) > 20
        assert (tape.takers.at_s, tape.takers.size_lots) == (again.takers.at_s, again.takers.size_lots)
        assert (tape.ends.at_s, tape.ends.age_s, tape.ends.ahead) == (
            again.ends.at_s,
            again.ends.age_s,
            again.ends.ahead,
        )


def test_every_order_that_came_ends_or_stays():
    tape = record_tapes(
        lambda markets: SeededFlow(markets, profile="edge", seed=5),
        symbol_count=1,
        seed=5,
        duration_s=60,
    )[SYMBOL]
    since_the_begin = [at_s - age_s >= 0 for at_s, age_s in zip(tape.ends.at_s, tape.ends.age_s, strict=True)]

    assert len(tape.adds.at_s) == sum(since_the_begin)
