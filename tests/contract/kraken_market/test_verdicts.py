"""What follows from a verdict, a changed instrument and a level3 depth: what is said, asked for anew, and paid."""

from __future__ import annotations

import json
import zlib

import pytest

from krakenbot.adapters.kraken.protocol.level3 import Level3Session
from krakenbot.adapters.kraken.protocol.market_session import SessionSettings
from krakenbot.domain.values import Side, Symbol

BTC, ETH = Symbol("BTC/USD"), Symbol("ETH/USD")


@pytest.fixture
def desk(make_desk):
    return make_desk(BTC, 1, 8)


def row_of(symbol, lots, *, ticks=999, precision=1, checksum=None):
    checksum = zlib.crc32(f"{ticks}{lots}".encode()) if checksum is None else checksum
    price, qty = f"{ticks / 10**precision:.{precision}f}", f"{lots // 10**8}.{lots % 10**8:08d}"
    return f'{{"symbol":"{symbol}","bids":[{{"price":{price},"qty":{qty}}}],"asks":[],"checksum":{checksum}}}'


def book_of(kind, *rows: str):
    return f'{{"channel":"book","type":"{kind}","data":[{",".join(rows)}]}}'


def instrument_of(symbol, price_precision=1, **change):
    pair = {
        "symbol": symbol, "base": symbol[:3], "quote": "USD", "status": "online", "price_precision": price_precision,
        "qty_precision": 8, "cost_precision": 5, "price_increment": 10.0**-price_precision, "qty_increment": 1e-8,
        "qty_min": 1e-05, "cost_min": 0.5,
    }  # fmt: skip
    return json.dumps({"channel": "instrument", "type": "update", "data": {"assets": [], "pairs": [pair | change]}})


def test_update_that_does_not_verify_is_said_at_once_with_its_reason(desk):
    desk.public.receive(book_of("snapshot", row_of(BTC, 5)), desk.now)
    desk.public.receive(book_of("update", row_of(BTC, 7, checksum=1)), desk.now)

    assert [(BTC, "l2", True, ""), (BTC, "l2", False, "checksum mismatch")] == desk.listener.of("validity")


def test_second_row_of_a_frame_is_the_one_that_is_decoded_exactly(desk):
    desk.public.receive(instrument_of(ETH), desk.now)
    desk.want(BTC, ETH)
    desk.ack_all(desk.public, desk.pump(desk.public))
    lots = 2**53 + 1
    desk.public.receive(book_of("snapshot", row_of(BTC, 5), row_of(ETH, lots)), desk.now)

    assert {} == desk.state.errors
    assert [(999, lots)] == desk.state.books[ETH].levels(Side.BUY, 10)
    assert [(999, 5)] == desk.state.books[BTC].levels(Side.BUY, 10)


def test_book_of_a_changed_precision_is_counted_in_its_new_ticks(desk):
    desk.public.receive(book_of("snapshot", row_of(BTC, 5)), desk.now)
    desk.public.receive(instrument_of(BTC, price_precision=3), desk.now)
    desk.ack_all(desk.public, desk.pump(desk.public))
    desk.ack_all(desk.public, desk.pump(desk.public))
    desk.public.receive(book_of("snapshot", row_of(BTC, 5, ticks=99_901, precision=3)), desk.now)

    assert {} == desk.state.errors
    assert (99_901, 5) == desk.state.books[BTC].best_bid()


def test_instrument_that_changes_again_and_again_puts_no_book_into_quarantine(desk):
    for number in range(5):
        desk.public.receive(instrument_of(BTC, qty_min=1.0 + number), desk.now)
        desk.ack_all(desk.public, desk.pump(desk.public))
        desk.ack_all(desk.public, desk.pump(desk.public))

    assert {} == desk.quarantined()
    assert 5 == desk.state.resyncs


@pytest.mark.parametrize(("depth", "at_once"), [(10, 20), (100, 4), (1000, 1)])
def test_level3_subscriptions_cost_what_kraken_counts_for_their_depth(desk, depth, at_once):
    names = [Symbol(f"S{number:02d}/USD") for number in range(40)]
    for name in names:
        desk.public.receive(instrument_of(name), desk.now)
    session = Level3Session(
        state=desk.state,
        listener=desk.listener,
        settings=SessionSettings(level3_depth=depth),
        # 100 units at once, and as many a second
        pacing=desk._pacing(),
        token="a-token",
        symbols=names,
        now_mono=desk.now,
    )

    first = [name for _, symbols in desk.asked(desk.pump(session), "level3") for name in symbols]
    desk.now += 1
    second = [name for _, symbols in desk.asked(desk.pump(session), "level3") for name in symbols]

    assert (at_once, at_once) == (len(first), len(second))
    assert not set(first) & set(second)
