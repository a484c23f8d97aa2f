"""Public frames, replayed by readers that share nothing with the encoder."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.adapters.local_exchange.flow.instruments import choose_symbols, load_instruments
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.keys import KeyRing
from krakenbot.adapters.local_exchange.matching.accounts import Account
from krakenbot.adapters.local_exchange.matching.orders import OrderRequest
from krakenbot.adapters.local_exchange.matching.venue import Venue, VenueSettings
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.record import RecordOfTruth
from krakenbot.adapters.local_exchange.venue_clock import RunningClock

START_NS = 1_790_000_000_000_000_000
SECOND = 1_000_000_000


class Reader:
    def __init__(self, book: Any) -> None:
        self.book = book

    def push(self, text: str) -> None:
        self.book.feed(text)


def seeded_exchange(symbols: list[str], profile: Any, seed: int) -> tuple[Exchange, Account]:
    listed = load_instruments()
    venue = Venue({s: listed[s] for s in symbols}, VenueSettings(seed=seed))
    account = venue.open_account("trader", {"USD": Decimal(1_000_000)})
    exchange = Exchange(venue, KeyRing(seed), RecordOfTruth(venue, None), RunningClock(read_ns=lambda: venue.now_ns))
    venue.open(SeededFlow(dict(venue.markets), profile=profile, seed=seed), START_NS)
    return exchange, account


@pytest.mark.parametrize("profile", ["edge", "toxic", "null"])
def test_every_frame_of_a_seeded_market_verifies_at_every_depth(profile, naive_book, naive_level3):
    symbols = choose_symbols(2)
    exchange, account = seeded_exchange(symbols, profile, seed=3)
    readers = []
    for symbol in symbols:
        feed = exchange.public.symbols[symbol]
        for depth in (10, 25, 100):
            reader = Reader(naive_book(depth))
            reader.push(feed.read_book(reader, depth, START_NS))
            readers.append(reader)
        for depth in (10, 100):
            reader = Reader(naive_level3(depth))
            reader.push(feed.read_level3(reader, depth, START_NS))
            readers.append(reader)

    for step in range(1, 121):
        exchange.venue.advance(START_NS + step * SECOND // 2)
        symbol = symbols[step % 2]
        market = exchange.venue.markets[symbol]
        rules, bid = market.rules, market.best("buy")
        lots = max(rules.qty_min_lots, 10**rules.qty_precision // 100)
        price = (bid - step % 5 * rules.price_increment_ticks) if bid else None
        if price and step % 3:
            exchange.venue.add_order(
                account,
                OrderRequest(
                    symbol=symbol,
                    side="buy",
                    order_type="limit",
                    qty=Decimal(lots).scaleb(-rules.qty_precision),
                    limit_price=Decimal(price).scaleb(-rules.price_precision),
                ),
            )
        elif step % 9 == 0:
            exchange.venue.cancel_all(account)

    assert all(reader.book.checked > 500 for reader in readers)
    assert account.orders


def test_a_late_reader_starts_from_the_same_view(naive_book):
    symbol = choose_symbols(1)[0]
    exchange, _account = seeded_exchange([symbol], "edge", seed=5)
    feed = exchange.public.symbols[symbol]
    first, late = Reader(naive_book(10)), Reader(naive_book(10))
    first.push(feed.read_book(first, 10, START_NS))
    exchange.venue.advance(START_NS + 20 * SECOND)
    late.push(feed.read_book(late, 10, exchange.venue.now_ns))
    exchange.venue.advance(START_NS + 40 * SECOND)

    assert first.book.sides == late.book.sides
    assert late.book.checked > 50


operations = st.lists(
    st.tuples(
        st.sampled_from(["place", "take", "cancel", "reduce"]),
        st.integers(0, 1),
        st.integers(0, 30),
        st.integers(1, 40),
    ),
    min_size=20,
    max_size=200,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=operations)
def test_any_sequence_of_operations_keeps_small_windows_right(operations, make_desk, naive_book, naive_level3):
    desk = make_desk()
    feed = desk.exchange.public.symbols[desk.symbol]
    books, level3 = [], []
    # The tenth level decides the checksum; a depth of 10 over 30 prices makes levels leave and return often.
    for _ in range(2):
        book, orders = Reader(naive_book(10)), Reader(naive_level3(10))
        book.push(feed.read_book(book, 10, desk.venue.now_ns))
        orders.push(feed.read_level3(orders, 10, desk.venue.now_ns))
        books.append(book)
        level3.append(orders)
    numbers = []
    for kind, is_buy, price, lots in operations:
        side = "buy" if is_buy else "sell"
        match kind:
            case "place":
                ticks = 500 + price * 5
                numbers.append(desk.market.place(side, ticks, lots))
            case "take":
                desk.market.take(side, lots * 3)
            case "cancel" if numbers:
                desk.market.cancel(numbers[price % len(numbers)] or 0)
            case "reduce" if numbers:
                desk.market.reduce(numbers[price % len(numbers)] or 0, lots // 2)
            case _:
                continue

    for reader in books:
        for name, side in (("bids", "buy"), ("asks", "sell")):
            expected = [(price, lots) for price, lots in desk.market.levels(side, 10)]
            shown = [(int(p.replace(".", "")), int(q.replace(".", ""))) for p, q in reader.book.best(name, 10)]
            assert expected == shown
    assert level3[0].book.sides == level3[1].book.sides


def test_the_bbo_ticker_speaks_when_the_top_changes_and_the_trade_ticker_when_it_trades(desk, make_frames):
    feed = desk.exchange.public.symbols[desk.symbol]
    bbo, trades, prints = make_frames(), make_frames(), make_frames()
    feed.read_ticker(bbo, "bbo", 0)
    feed.read_ticker(trades, "trades", 0)
    feed.read_trades(prints)
    desk.market.place("sell", 1000, 500)
    desk.market.place("sell", 1005, 500)
    desk.market.take("buy", 700)

    assert [Decimal("100.0"), Decimal("100.5")] == [frame["data"][0]["ask"] for frame in bbo.take()]
    (ticker,) = trades.take()
    assert ticker["data"][0]["last"] == Decimal("100.5")
    (frame,) = prints.take()
    assert [(1, Decimal("0.0500")), (2, Decimal("0.0200"))] == [(r["trade_id"], r["qty"]) for r in frame["data"]]
    assert {"buy"} == {row["side"] for row in frame["data"]}
