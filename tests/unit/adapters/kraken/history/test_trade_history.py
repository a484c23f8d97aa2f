"""Trades over REST: names, pages, pace, and what is not as documented."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import anyio
import httpx
import pytest

from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.adapters.kraken.trade_history import KrakenTradeHistory, TradeHistorySettings
from krakenbot.domain.errors import VenueRejected, VenueUnavailable
from krakenbot.domain.market.samples import TradeSample
from krakenbot.domain.values import Side, Symbol

BTC = Symbol("BTC/USD")
PAIRS = {
    "XXBTZUSD": {
        "altname": "XBTUSD",
        "wsname": "XBT/USD",
        "base": "XXBT",
        "quote": "ZUSD",
        "pair_decimals": 1,
        "lot_decimals": 8,
        "cost_decimals": 5,
        "ordermin": "0.00005",
        "costmin": "0.5",
        "tick_size": "0.1",
        "status": "online",
    }
}


class ManualClock:
    elapsed_s = 0.0

    def now(self) -> datetime:
        return datetime(2026, 3, 1, tzinfo=UTC)

    def now_ns(self) -> int:
        return 77

    def mono(self) -> float:
        return self.elapsed_s

    async def sleep(self, duration_s: float) -> None:
        self.elapsed_s += duration_s


class Venue:
    """Answers AssetPairs, and Trades with whatever the test says."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, str], float]] = []
        self.clock = ManualClock()
        self.rest = KrakenRest(
            settings=RestSettings(base_url="http://127.0.0.1:1"),
            clock=self.clock,
            transport=httpx.MockTransport(self._answer),
        )
        self.history = KrakenTradeHistory(
            rest=self.rest, clock=self.clock, settings=TradeHistorySettings(interval_s=1.0)
        )

    def _answer(self, request: httpx.Request) -> httpx.Response:
        name = request.url.path.rpartition("/")[2]
        self.asked.append((name, dict(request.url.params), self.clock.elapsed_s))
        if name == "AssetPairs":
            return httpx.Response(200, json={"error": [], "result": PAIRS})
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            return httpx.Response(200, json={"error": [answer]})
        return httpx.Response(200, json={"error": [], "result": answer})


def row(trade_id: int, **changes: Any) -> list[Any]:
    fields = {"price": "50000.10000", "qty": "0.01000000", "time": 1616663618.1234567, "side": "s", **changes}
    return [fields["price"], fields["qty"], fields["time"], fields["side"], "l", "", trade_id]


async def test_page_is_read_exactly_with_the_rest_name_of_the_pair() -> None:
    venue = Venue({"XXBTZUSD": [row(8), row(7, side="b")], "last": "1616663618123456700"})

    page = await venue.history.page(BTC, 1616663617000000000)

    assert page.next_since_ns is None
    assert [(7, Side.BUY), (8, Side.SELL)] == [(trade.trade_id, trade.side) for trade in page.trades]
    assert page.trades[1] == TradeSample(
        symbol=BTC,
        trade_id=8,
        side=Side.SELL,
        price=Decimal("50000.1"),
        qty=Decimal("0.01"),
        at_ns=1616663618123456700,
        received_at_ns=77,
    )
    assert ("Trades", {"pair": "XBTUSD", "since": "1616663617000000000"}) == venue.asked[1][:2]
    await venue.rest.aclose()


async def test_full_page_says_where_the_next_begins_unless_it_does_not_move() -> None:
    rows = [row(i) for i in range(1, 1001)]
    venue = Venue({"XXBTZUSD": rows, "last": "50"}, {"XXBTZUSD": rows, "last": "50"})

    first = await venue.history.page(BTC, 10)
    second = await venue.history.page(BTC, 50)

    assert (50, None) == (first.next_since_ns, second.next_since_ns)
    await venue.rest.aclose()


async def test_calls_go_one_after_the_other_a_second_apart() -> None:
    venue = Venue(*[{"XXBTZUSD": [], "last": "50"}] * 3)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(venue.history.page, BTC, 10)

    assert ["AssetPairs", "Trades", "Trades", "Trades"] == [name for name, _, _ in venue.asked]
    assert [0.0, 1.0, 2.0, 3.0] == [at_s for _, _, at_s in venue.asked]
    await venue.rest.aclose()


async def test_symbol_that_the_venue_does_not_list_is_refused() -> None:
    venue = Venue()

    with pytest.raises(VenueRejected, match="does not list NO/USD"):
        await venue.history.page(Symbol("NO/USD"), 10)

    await venue.rest.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        "EService:Unavailable",
        {"XXBTZUSD": [row(1)]},
        {"XXBTZUSD": [row(1)], "last": "soon"},
        {"XXBTZUSD": [row(1)], "XETHZUSD": [], "last": "50"},
        {"last": "50"},
        {"XXBTZUSD": [row(0)], "last": "50"},
        {"XXBTZUSD": [row(1)[:6]], "last": "50"},
        {"XXBTZUSD": [row(1, price="cheap")], "last": "50"},
        {"XXBTZUSD": [row(1, price="NaN")], "last": "50"},
        {"XXBTZUSD": [row(1, qty="0")], "last": "50"},
        {"XXBTZUSD": [row(1, side="x")], "last": "50"},
        {"XXBTZUSD": [row(1), row(2, qty="-1")], "last": "50"},
    ],
)
async def test_page_that_is_not_as_documented_is_refused_whole_and_may_be_tried_again(answer: Any) -> None:
    venue = Venue(answer)

    with pytest.raises(VenueUnavailable):
        await venue.history.page(BTC, 10)

    await venue.rest.aclose()
