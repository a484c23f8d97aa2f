"""Short-term measures of the live flow: what is old is not what flows now."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from krakenbot.domain.engine.live_flow import LiveFlow
from krakenbot.domain.values import Symbol

SYMBOL = Symbol("AAA/USD")


class Market:
    """A clock and a book that a test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.bid, self.ask = (100, 50), (102, 50)

    def mono(self) -> float:
        return self.now

    def book(self, _: Symbol) -> Any:
        return SimpleNamespace(best_bid=lambda: self.bid, best_ask=lambda: self.ask)

    def emit(self, name: str, **fields: object) -> None: ...


@pytest.fixture
def market() -> Market:
    return Market()


@pytest.fixture
def flow(market: Any) -> LiveFlow:
    return LiveFlow(clock=market, market_feed=market, event_sink=market)


def seen_for(market: Market, flow: LiveFlow, seconds: int) -> None:
    for second in range(seconds):
        market.now += 1.0
        market.bid = (100, 50 + second % 2)
        flow.on_book(SYMBOL)


def test_selling_shows_at_once_and_is_over_when_the_book_has_been_quiet(market: Market, flow: LiveFlow) -> None:
    seen_for(market, flow, 90)
    market.now += 1.0
    market.bid = (99, 5)
    flow.on_book(SYMBOL)
    during, fallen = flow.ofi_z(SYMBOL), flow.return_1s_sigmas(SYMBOL)
    market.now += 20.0
    after, still = flow.ofi_z(SYMBOL), flow.return_1s_sigmas(SYMBOL)

    assert during is not None
    assert during < -2.0
    assert fallen is not None
    assert fallen < -3.0
    assert after is not None
    assert after > -1.0
    assert still == 0.0
