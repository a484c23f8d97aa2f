"""Random recordings and random orders through the whole venue: what fills is covered by what was recorded.

The oracle reads nothing but the script: it keeps displayed volume and prints as plain numbers, and never a queue.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from krakenbot.adapters.local_exchange.matching.orders import AmendRequest

UNIT = 10**6
MIDDLE = 1000
LEVELS = st.dictionaries(st.integers(1, 4), st.integers(1, 9), min_size=1)
BOOKS = st.tuples(LEVELS, LEVELS)
PRINTS = st.lists(st.tuples(st.sampled_from(("buy", "sell")), st.integers(-4, 4), st.integers(1, 12)), max_size=2)
ORDERS = st.tuples(
    st.sampled_from(("rest", "take", "amend", "cancel")),
    st.sampled_from(("buy", "sell")),
    st.integers(-4, 4),
    st.integers(1, 20),
    st.sampled_from(("alice", "bob")),
)
STEPS = st.lists(st.tuples(BOOKS, PRINTS, st.lists(ORDERS, max_size=3)), min_size=2, max_size=12)


def sides_of(book: Any) -> tuple[dict[int, int], dict[int, int]]:
    bids = {MIDDLE - offset: lots * UNIT for offset, lots in sorted(book[0].items())}
    asks = {MIDDLE + offset: lots * UNIT for offset, lots in sorted(book[1].items())}
    return bids, asks


def act(played: Any, order: Any) -> None:
    """Send one request; refusals are as good as any answer."""
    what, side, offset, lots, name = order
    account = played.venue.accounts[name]
    resting = [known for known in account.open_orders.values() if known.resting]
    try:
        if what in ("rest", "take"):
            more = {"stp_type": "cancel_oldest"} | ({"time_in_force": "ioc"} if what == "take" else {})
            played.order(side, lots * UNIT, MIDDLE + offset, account=account, **more)
        elif resting and what == "cancel":
            played.venue.cancel_order(account, resting[0].order_id, None)
        elif resting:
            change = AmendRequest(
                order_id=resting[-1].order_id,
                qty=Decimal(lots * UNIT).scaleb(-8),
                limit_price=Decimal(MIDDLE + offset).scaleb(-1),
            )
            played.venue.amend_order(account, change)
    except AssertionError:
        # The fixture's way to say that an add was refused.
        return


def replay(
    make_script: Any, play: Any, steps: Any, folder: Path, at_end: str = "stop"
) -> tuple[Any, list[Any], dict[int, Any]]:
    """Play a script of books and prints with orders between them; return what is played, books and prints."""
    script = make_script(folder)
    books: list[Any] = []
    prints: dict[int, Any] = {}
    script.ack(0, "trade")
    script.ack(0, "book", depth=10)
    for index, (book, rows, _) in enumerate(steps):
        sides = sides_of(book)
        if not books or sides != books[-1]:
            script.book(100 * index + 1, *sides)
        books.append(sides)
        for side, offset, lots in rows:
            number = len(prints) + 1
            prints[number] = (side, MIDDLE + offset, lots * UNIT)
            script.trade(100 * index + 20 + number % 2, (number, side, MIDDLE + offset, lots * UNIT))
    played = play(script.close(), at_end=at_end)
    played.readers = [played.subscribe("book", depth=10)]
    for index, (_, _, orders) in enumerate(steps):
        played.to(100 * index + 10)
        for order in orders:
            act(played, order)
    played.to(100 * len(steps) + 100)
    return played, books, prints


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
def test_every_fill_is_covered_by_recorded_volume_that_the_account_uses_once(
    script_type: Any, play: Any, steps: Any
) -> None:
    with TemporaryDirectory() as folder:
        played, books, prints = replay(script_type, play, steps, Path(folder) / "recording")
    offered: Counter[tuple[str, int]] = Counter()
    before: tuple[dict[int, int], dict[int, int]] = ({}, {})
    for sides in books:
        for name, levels, old in zip(("buy", "sell"), sides, before, strict=True):
            for price, lots in levels.items():
                offered[name, price] += max(0, lots - old.get(price, 0))
        before = sides

    for account in played.venue.accounts.values():
        by_print: Counter[int] = Counter()
        by_level: Counter[tuple[str, int]] = Counter()
        for fill in account.fills:
            if fill.trade_id in prints:
                taker_side, price, lots = prints[fill.trade_id]
                by_print[fill.trade_id] += fill.size_lots
                sign = 1 if fill.side == "buy" else -1
                through = price * sign < fill.price_ticks * sign
                assert through or (price == fill.price_ticks and taker_side != fill.side)
                assert by_print[fill.trade_id] <= lots
                assert fill.is_maker
            elif not fill.is_maker:
                by_level["sell" if fill.side == "buy" else "buy", fill.price_ticks] += fill.size_lots
        for order in account.orders.values():
            assert order.filled_lots <= order.qty_lots
        # What other clients rested may have been taken too.
        rested = Counter[tuple[str, int]]()
        for other in played.venue.accounts.values():
            if other is not account:
                for fill in other.fills:
                    if fill.is_maker and fill.trade_id not in prints:
                        rested[fill.side, fill.price_ticks] += fill.size_lots
        for level, lots in by_level.items():
            assert lots <= offered[level] + rested[level]


@settings(max_examples=100, deadline=None)
@given(steps=STEPS)
def test_the_recorded_book_is_the_same_with_and_without_orders(script_type: Any, play: Any, steps: Any) -> None:
    with TemporaryDirectory() as folder:
        played, books, _ = replay(script_type, play, steps, Path(folder) / "recording")

    assert list(books[-1][0].items()) == played.market.levels("buy", 10)
    assert list(books[-1][1].items()) == played.market.levels("sell", 10)
    assert "checksum_mismatches" not in played.counts
    for account in played.venue.accounts.values():
        assert all(amount >= 0 for amount in account.balances.values())


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_books_stay_right_and_orders_keep_their_rest_over_the_seam(
    script_type: Any, play: Any, books_type: Any, steps: Any
) -> None:
    with TemporaryDirectory() as folder:
        played, _, _ = replay(script_type, play, steps, Path(folder) / "recording", at_end="seeded")
    played.to(100 * len(steps) + 600)
    model = books_type(10)
    for text in played.readers[0].data("book"):
        model.read(text)

    market = played.market
    assert "BTC/USD" in played.flow.parameters()["seam"]
    shown = {
        name: [Decimal(best) for best in sorted(model.sides[name], reverse=name == "bids")] for name in model.sides
    }
    assert [Decimal(price).scaleb(-1) for price, _ in market.levels("buy", 10)] == shown["bids"]
    assert [Decimal(price).scaleb(-1) for price, _ in market.levels("sell", 10)] == shown["asks"]
    bid, ask = market.best("buy"), market.best("sell")
    assert bid is None or ask is None or bid < ask
    for order in [order for account in played.venue.accounts.values() for order in account.orders.values()]:
        assert (order.resting is not None) == order.is_open
        assert order.resting is None or order.resting.remaining_lots == order.remaining_lots
        assert order.resting is None or market.book.orders[order.number] is order.resting
