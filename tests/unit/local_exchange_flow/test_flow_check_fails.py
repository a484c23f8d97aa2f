"""The checks can fail: a flow of Poisson takers with exponential sizes on books of flat makers fails those named."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from random import Random

import pytest

from krakenbot.adapters.local_exchange.flow.market import Market, Side
from krakenbot.adapters.local_exchange.flow_check.checks import LIMITS, Limit, check_tapes
from krakenbot.adapters.local_exchange.flow_check.estimates import Estimate
from krakenbot.adapters.local_exchange.flow_check.run import NS, record_tapes
from krakenbot.adapters.local_exchange.flow_check.tape import SymbolTape

SIDES: tuple[Side, Side] = ("buy", "sell")


class PoissonFlow:
    """Takers, adds and cancels at constant rates, each independent of all else; exponential sizes and lives."""

    def __init__(self, markets: Mapping[str, Market], seed: int) -> None:
        (self._market,) = markets.values()
        self._rng = Random(seed)
        self._events: list[tuple[int, int, str, int]] = []
        self._count = 0

    def open(self, now_ns: int) -> None:
        for _ in range(200):
            self._add(now_ns)
        for kind, rate in (("add", 10.0), ("take", 1.0)):
            self._schedule(now_ns, rate, kind)

    def next_at_ns(self) -> int:
        return self._events[0][0]

    def step(self, now_ns: int) -> None:
        while self._events[0][0] <= now_ns:
            at_ns, _, kind, order_id = heapq.heappop(self._events)
            if kind == "add":
                self._add(at_ns)
                self._schedule(at_ns, 10.0, "add")
            elif kind == "take":
                size_lots = 1 + int(self._rng.expovariate(1 / 500))
                self._market.take(self._rng.choice(SIDES), size_lots)
                self._schedule(at_ns, 1.0, "take")
            else:
                self._market.cancel(order_id)

    def last_price_ticks(self, symbol: str) -> int:
        return 600_000

    def parameters(self) -> dict[str, object]:
        return {}

    def _add(self, now_ns: int) -> None:
        side = self._rng.choice(SIDES)
        away = 1 + int(self._rng.expovariate(1 / 8))
        price_ticks = 600_000 + 20 * (-away if side == "buy" else away)
        order_id = self._market.place(side, price_ticks, 1 + int(self._rng.expovariate(1 / 2000)))
        if order_id is not None:
            self._schedule(now_ns, 1 / 20, "cancel", order_id)

    def _schedule(self, now_ns: int, rate: float, kind: str, order_id: int = 0) -> None:
        self._count += 1
        at_ns = now_ns + int(self._rng.expovariate(rate) * NS) + 1
        heapq.heappush(self._events, (at_ns, self._count, kind, order_id))


@pytest.fixture(scope="module")
def poisson_checks():
    tapes = record_tapes(lambda markets: PoissonFlow(markets, 1), symbol_count=1, seed=1, duration_s=3600)
    return {check.name: check for check in check_tapes(list(tapes.values()))}


def test_every_limit_is_checked(poisson_checks):
    assert list(LIMITS) == list(poisson_checks)


@pytest.mark.parametrize(
    "name",
    [
        "fano_factor_60_s",
        "sign_autocorrelation",
        "size_hill_exponent",
        "hazard_slope_by_age",
        "hazard_back_to_front",
        "variance_ratio_1_to_60_s",
    ],
)
def test_poisson_takers_on_flat_makers_fail(poisson_checks, name):
    assert not poisson_checks[name].is_ok


@pytest.fixture(scope="module")
def walk_checks():
    """A mid that walks by normal steps ten times a second, a spread that never moves, and takers who know nothing."""
    rng = Random(2)
    tape = SymbolTape(symbol="WALK/USD", usd_per_lot_tick=1.0, duration_s=7200.0)
    mid = 1_000_000.0
    for tenth in range(72_000):
        mid += rng.gauss(0, 20)
        tape.quotes.at_s.append(tenth / 10)
        tape.quotes.bid_ticks.append(round(mid) - 50)
        tape.quotes.ask_ticks.append(round(mid) + 50)
        if rng.random() < 0.1:
            tape.takers.at_s.append(tenth / 10 + 0.05)
            tape.takers.sign.append(rng.choice((-1, 1)))
            tape.takers.size_lots.append(1 + int(1000 * rng.paretovariate(2)))
            tape.takers.bid_ticks.append(round(mid) - 50)
            tape.takers.ask_ticks.append(round(mid) + 50)
    for at_s in range(100):
        tape.adds.at_s.append(float(at_s))
    return {check.name: check for check in check_tapes([tape])}


@pytest.mark.parametrize(
    "name",
    [
        "spread_half_life_s",
        "cancels_per_add",
        "response_1_s_bps",
        "response_30_s_bps",
        "response_size_exponent",
        "kurtosis_10_s",
        "absolute_return_memory",
    ],
)
def test_a_walk_that_nobody_moves_fails(walk_checks, name):
    assert not walk_checks[name].is_ok


def test_poisson_takers_show_the_truth_that_is_known(poisson_checks):
    found = {name: check.found for name, check in poisson_checks.items()}

    assert found["fano_factor_60_s"].value == pytest.approx(1.0, abs=0.5)
    assert found["sign_autocorrelation"].value == pytest.approx(0.0, abs=0.06)
    assert found["hazard_slope_by_age"].value == pytest.approx(0.0, abs=0.05)
    assert found["hazard_back_to_front"].value == pytest.approx(1.0, abs=0.08)
    assert found["size_hill_exponent"].value > 2.5


@pytest.mark.parametrize(
    ("limit", "holds"),
    [
        (Limit(low=1.0), True),
        (Limit(low=2.0), False),
        (Limit(high=1.4), False),
        (Limit(interval_above=0.9), True),
        (Limit(interval_above=1.1), False),
        (Limit(interval_below=1.9), False),
        (Limit(t_above=2.0), True),
        (Limit(t_below=3.0), False),
        (Limit(least_count=101), False),
    ],
)
def test_a_limit_looks_at_value_interval_t_and_count(limit, holds):
    found = Estimate(value=1.5, low=1.0, high=2.0, count=100, t=3.0)

    assert holds is limit.holds(found)


@pytest.mark.parametrize("limit", [*LIMITS.values(), Limit(t_below=0.0), Limit(high=0.0)])
def test_what_is_not_a_number_keeps_no_limit(limit):
    nan = float("nan")

    assert not limit.holds(Estimate(value=nan, low=nan, high=nan, count=100))
