"""Goal: a rehearsal may only call itself clean when ledger and exchange agree to the last digit.

Method: two equal books, then one mistake planted at a time.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
import pytest

from krakenbot.apps.rehearsal.books import (
    Comparison,
    FillLine,
    OrderLine,
    TradingBook,
    balance_changes,
    compare,
)


def make_fill(exec_id: str = "E1", **changes: Any) -> FillLine:
    line = FillLine(
        exec_id=exec_id,
        cl_ord_id="kbe1",
        price=Decimal("100.10"),
        qty=Decimal("0.5"),
        fee=Decimal("0.125"),
        fee_asset="USD",
    )
    return attrs.evolve(line, **changes)


def make_book() -> TradingBook:
    return TradingBook(
        orders={
            "kbe1": OrderLine(cl_ord_id="kbe1", status="filled", cum_qty=Decimal("0.50")),
            "kbs1": OrderLine(cl_ord_id="kbs1", status="open", cum_qty=Decimal(0)),
        },
        fills={"E1": make_fill()},
        balance_changes={"AAA": Decimal("0.5"), "USD": Decimal("-50.175")},
    )


def test_equal_books_have_equal_hashes_whatever_their_trailing_zeros() -> None:
    ledger, exchange = make_book(), make_book()
    exchange.fills["E1"] = make_fill(price=Decimal("100.1000"))

    assert ledger.summary() == exchange.summary()
    assert compare(ledger, exchange) == Comparison(equal=True, orphan_orders=0, differences=())


def test_without_fills_there_is_nothing_to_compare() -> None:
    assert compare(TradingBook(), TradingBook()) == Comparison(equal=None, orphan_orders=0, differences=())


@pytest.mark.parametrize("side", ["ledger", "exchange"])
def test_a_missing_fill_is_found_on_either_side(side: str) -> None:
    books = {"ledger": make_book(), "exchange": make_book()}
    del books[side].fills["E1"]

    found = compare(books["ledger"], books["exchange"])

    assert found.equal is False
    assert found.differences == (f"fill E1: not {'in the ledger' if side == 'ledger' else 'at the exchange'}",)


def test_an_extra_open_order_is_an_orphan() -> None:
    ledger, exchange = make_book(), make_book()
    exchange.orders["kbe9"] = OrderLine(cl_ord_id="kbe9", status="open", cum_qty=Decimal(0))

    found = compare(ledger, exchange)

    assert (found.equal, found.orphan_orders) == (False, 1)


def test_an_order_open_in_the_ledger_only_is_an_orphan_too() -> None:
    ledger, exchange = make_book(), make_book()
    exchange.orders["kbs1"] = attrs.evolve(exchange.orders["kbs1"], status="canceled")

    assert compare(ledger, exchange).orphan_orders == 1


def test_a_wrong_fee_is_found_to_the_last_digit() -> None:
    ledger, exchange = make_book(), make_book()
    ledger.fills["E1"] = make_fill(fee=Decimal("0.12500001"))

    assert compare(ledger, exchange).equal is False


def test_a_balance_change_without_a_fill_is_found() -> None:
    ledger, exchange = make_book(), make_book()
    exchange.balance_changes["USD"] -= Decimal("0.00000001")

    assert compare(ledger, exchange).differences == ("balance USD: ledger -50.175, exchange -50.17500001",)


def test_balance_changes_fold_quantity_cost_and_fee() -> None:
    changes = balance_changes(
        [
            ("AAA", "USD", "buy", Decimal(2), Decimal(200), Decimal("0.5"), "USD"),
            ("AAA", "USD", "sell", Decimal(2), Decimal(210), Decimal("0.001"), "AAA"),
        ]
    )

    assert changes == {"USD": Decimal("9.5"), "AAA": Decimal("-0.001")}
