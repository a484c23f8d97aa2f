"""Values that parse, and that a store or a sum could not bear: refused and counted, and nothing else suffers."""

from __future__ import annotations

import json
import zlib

import pytest
from tests.contract.kraken_market.conftest import instrument_text

from krakenbot.adapters.kraken.protocol.market_state import MAX_ERROR_KINDS

TICKER = {"symbol": "BTC/USD", "bid": 1.0, "ask": 2.0, "last": 1.5, "volume": 3.0}


@pytest.fixture
def desk(make_desk):
    return make_desk("BTC/USD", 1, 8)


def receive(desk, frame):
    desk.public.receive(json.dumps(frame), desk.now)


@pytest.mark.parametrize("figure", [1e300, 1e-300, -1.0])
@pytest.mark.parametrize("name", ["last", "volume"])
def test_ticker_whose_turnover_no_double_holds_is_refused(desk, name, figure):
    receive(desk, {"channel": "ticker", "type": "update", "data": [{**TICKER, name: figure}]})

    assert [] == desk.listener.of("ticker")
    assert 1 == sum(desk.state.errors.values())


def test_trade_after_the_last_year_of_a_bigint_is_refused(desk):
    trade = {"symbol": "BTC/USD", "side": "buy", "price": 1.5, "qty": 1.0, "trade_id": 1}
    rows = [{**trade, "timestamp": "9999-01-01T00:00:00Z"}, {**trade, "timestamp": "2026-01-01T00:00:00Z"}]
    receive(desk, {"channel": "trade", "type": "update", "data": rows})

    assert [1] == [len(trades) for trades, _ in desk.listener.of("trades")]
    assert {"public: malformed trade": 1} == desk.state.errors


def test_texts_of_the_venue_hold_nothing_that_postgresql_refuses(desk):
    receive(desk, {"method": "error", "success": False, "error": "E\x00\ud800rr"})
    receive(desk, {"Error": "Exceeded\x00 msg rate"})
    receive(desk, {"channel": "status", "data": [{"system": "on\x00line"}]})
    desk.pump(desk.public)
    receive(desk, {"method": "subscribe", "success": False, "symbol": "BTC/USD", "error": "no\x00 such"})

    texts = [*desk.state.errors, desk.state.venue_status, *(each.reason for each in desk.quarantined().values())]
    assert len(texts) >= 5
    assert all(text.isprintable() for text in texts)


def test_ever_new_errors_do_not_grow_without_bound(desk):
    for number in range(3 * MAX_ERROR_KINDS):
        receive(desk, {"method": "error", "success": False, "error": f"EService: Throttled: {number}"})

    assert len(desk.state.errors) <= MAX_ERROR_KINDS + 1
    assert 3 * MAX_ERROR_KINDS == sum(desk.state.errors.values())


@pytest.mark.parametrize("name", ["A\x00/USD", "A\n/USD", "", "A" * 41])
def test_pair_with_a_name_that_no_column_takes_is_refused(desk, name):
    pair = json.loads(instrument_text("ETH/USD", 2, 8))["data"]["pairs"][0]
    receive(desk, {"channel": "instrument", "type": "update", "data": {"pairs": [{**pair, "symbol": name}]}})

    assert ["BTC/USD"] == list(desk.state.instruments)
    assert {"public: malformed instrument": 1} == desk.state.errors


def test_price_under_half_a_tick_is_no_level_whatever_the_checksum_says(desk):
    level = {"price": 1e-9, "qty": 1.0}
    row = {"symbol": "BTC/USD", "bids": [level], "asks": [], "checksum": zlib.crc32(b"0100000000"), "timestamp": ""}
    desk.ack(desk.public, "subscribe", "book")
    receive(desk, {"channel": "book", "type": "snapshot", "data": [row]})
    order = {"order_id": "O", "limit_price": 1e-9, "order_qty": 1.0, "timestamp": "2026-01-01T00:00:00Z"}
    level3 = desk.level3()
    frame = {"channel": "level3", "type": "snapshot", "data": [{**row, "bids": [order]}]}
    level3.receive(json.dumps(frame), desk.now)

    assert [False, False] == [desk.state.books["BTC/USD"].is_valid, desk.state.queues["BTC/USD"].is_valid]
