"""The judge of the fault suites finds what is wrong: each kind of damage, made by hand, is a finding."""

from __future__ import annotations

from tests.faults.checks import TradeLedger, book_difference, queue_difference, trade_difference
from tests.faults.held import covered
from tests.faults.venue import Depth, Published

TRUTH = Depth(bids=((99.0, 2.0), (98.0, 1.0)), asks=((101.0, 1.0), (102.0, 2.0)))
BOOK = {"bid": 99.0, "bid_qty": 2.0, "ask": 101.0, "ask_qty": 1.0, "imbalance_5": 0.0}
QUEUE = {"bid_volume": 2.0, "bid_notional": 198.0, "ask_volume": 1.0, "ask_notional": 101.0}
TRADE = Published(side="buy", price="101.0", qty="0.50")


def test_a_book_as_published_is_no_finding():
    assert "" == book_difference(TRUTH, BOOK)


def test_each_wrong_figure_of_a_book_is_named():
    for name, value in BOOK.items():
        assert name in book_difference(TRUTH, BOOK | {name: value + 0.5})


def test_each_wrong_figure_of_a_queue_is_named():
    assert "" == queue_difference(TRUTH, QUEUE)
    for name, value in QUEUE.items():
        assert name in queue_difference(TRUTH, QUEUE | {name: value + 0.5})


def test_an_empty_side_at_the_exchange_differs_from_any_sample():
    assert "no bid" in book_difference(Depth(bids=(), asks=TRUTH.asks), BOOK)


def test_a_trade_with_another_side_price_or_quantity_differs():
    same = {"side": "buy", "price": "101", "qty": "0.5"}

    assert "" == trade_difference(TRADE, same)
    assert trade_difference(TRADE, same | {"side": "sell"})
    assert trade_difference(TRADE, same | {"price": "101.1"})
    assert trade_difference(TRADE, same | {"qty": "0.4"})


def test_only_trades_published_since_the_last_look_have_to_be_held():
    ledger = TradeLedger(since_ns=0)
    ledger.begin({("A/USD", 1): TRADE, ("A/USD", 2): TRADE})

    assert {("A/USD", 3), ("B/USD", 1)} == set(
        ledger.new({("A/USD", 2): TRADE, ("A/USD", 3): TRADE, ("B/USD", 1): TRADE})
    )
    assert {} == ledger.new({("A/USD", 3): TRADE})


def test_a_gap_covers_its_own_range_and_symbol_only():
    gaps = [{"symbol": "A/USD", "first_trade_id": 3, "last_trade_id": 5}]

    assert [False, True, True, False] == [covered(gaps, "A/USD", number) for number in (2, 3, 5, 6)]
    assert not covered(gaps, "B/USD", 4)
