"""Truncation on both sides of both books: what is pushed out of the window of levels is forgotten, with its orders."""

from __future__ import annotations

import zlib

import pytest
from attrs import frozen

from krakenbot.domain.market.book import L2Book, Verdict
from krakenbot.domain.market.queue import L3Book
from krakenbot.domain.values import Side

DEPTHS = [10, 25, 100, 500, 1000]
MIDDLE = 5000
AT = "2026-11-22T10:00:00.000000001Z"


@frozen
class Level:
    price: float
    qty: float = 1.0


@frozen
class Order:
    order_id: str
    limit_price: float
    event: str = "add"
    order_qty: float = 1.0
    timestamp: str = AT


def ticks(side, place):
    """Return the price of the level in this place, the best of which is 1."""
    return MIDDLE + (place if side is Side.SELL else -place)


def crc(side, *places: int):
    return zlib.crc32("".join(f"{ticks(side, place)}1" for place in places[:10]).encode())


def put(book, side, rows, *places: int, load=False):
    """Put rows of one side, after which these places are the ones that hold a level."""
    bids, asks = (rows, []) if side is Side.BUY else ([], rows)
    assert Verdict.GOOD is (book.load if load else book.apply)(bids, asks, crc(side, *places), AT, 1.0)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("depth", DEPTHS)
def test_l2_level_that_was_pushed_out_is_not_there_when_the_window_opens_again(side, depth):
    book = L2Book(price_precision=0, qty_precision=0, depth=depth)
    places = range(2, depth + 2)
    put(book, side, [Level(float(ticks(side, place))) for place in places], *places, load=True)
    put(book, side, [Level(float(ticks(side, 1)))], 1, *places)
    full = book.levels(side, 2 * depth)
    put(book, side, [Level(float(ticks(side, 1)), 0.0)], *places[:-1])

    assert [(ticks(side, place), 1) for place in range(1, depth + 1)] == full
    assert [(ticks(side, place), 1) for place in range(2, depth + 1)] == book.levels(side, 2 * depth)


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize("depth", DEPTHS)
def test_l3_level_that_was_pushed_out_takes_its_orders_with_it(side, depth):
    book = L3Book(price_precision=0, qty_precision=0, depth=depth)
    places = range(2, depth + 2)
    orders = [Order(f"O{place}", float(ticks(side, place)), event="") for place in places]
    put(book, side, orders, *places, load=True)
    put(book, side, [Order("O1", float(ticks(side, 1)))], 1, *places)
    full = book.prices(side, 2 * depth)
    put(book, side, [Order("O1", float(ticks(side, 1)), event="delete")], *places[:-1])

    assert [ticks(side, place) for place in range(1, depth + 1)] == full
    assert [ticks(side, place) for place in range(2, depth + 1)] == book.prices(side, 2 * depth)
    assert book.position_of(f"O{depth + 1}") is None
    assert book.position_of(f"O{depth}") is not None
