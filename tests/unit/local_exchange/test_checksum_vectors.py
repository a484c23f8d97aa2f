"""Worked examples of the vendor's documentation, restated (FACTS 7.1, 8.1, 13.1), and exact numbers."""

from __future__ import annotations

import base64
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.adapters.local_exchange.checksum import book_checksum, level3_checksum
from krakenbot.adapters.local_exchange.digits import (
    fixed_text,
    parse_rfc3339,
    rescale,
    rfc3339_ns,
    rfc3339_us,
    to_units,
    venue_id,
)
from krakenbot.adapters.local_exchange.flow.market import Side
from krakenbot.adapters.local_exchange.keys import sign
from krakenbot.adapters.local_exchange.matching.book import Book, RestingOrder

BOOK_ASKS = """
45285.2 0.00100000
45286.4 1.54571953
45286.6 1.54571109
45289.6 1.54560911
45290.2 0.15890660
45291.8 1.54553491
45294.7 0.04454749
45296.1 0.35380000
45297.5 0.09945542
45299.5 0.18772827
"""
BOOK_BIDS = """
45283.5 0.10000000
45283.4 1.54582015
45282.1 0.10000000
45281.0 0.10000000
45280.3 1.54592586
45279.0 0.07990000
45277.6 0.03310103
45277.5 0.30000000
45277.3 1.54602737
45276.6 0.15445238
"""
LEVEL3_ASKS = """
44939.5 4.52308393
44939.5 0.00111261
44939.5 0.00100000
44939.5 0.01000000
44950.0 0.10334926
44953.0 0.00064537
44955.0 0.00250000
44959.6 0.35630000
44959.6 0.35630000
44960.1 0.00338072
44960.2 0.88967575
44967.0 3.14392283
44978.5 0.06778960
44979.2 0.35630000
"""
LEVEL3_BIDS = """
44939.4 0.88968699
44939.4 0.45210000
44939.4 0.10000000
44939.4 0.14296323
44939.4 0.25000000
44939.4 0.10292988
44939.4 0.33880000
44939.4 1.28140860
44937.1 0.03346877
44934.7 0.35630000
44930.2 0.22734299
44930.2 0.01000000
44930.2 0.05550000
44930.2 0.70000000
44930.2 0.15000000
44928.0 0.00105240
44919.6 0.33870000
44919.5 0.07610000
44912.0 0.35630000
44909.7 0.06690000
44901.9 0.00088982
"""


def units(text: str, precision: int) -> int:
    value = to_units(Decimal(text), precision)
    assert value is not None
    return value


def book_of(asks: str, bids: str) -> Book:
    book = Book()
    number = 0
    sides: tuple[tuple[Side, str], ...] = (("sell", asks), ("buy", bids))
    for side, text in sides:
        for row in text.split("\n"):
            if row:
                price, qty = row.split()
                number += 1
                book.add(
                    RestingOrder(
                        number=number,
                        side=side,
                        price_ticks=units(price, 1),
                        remaining_lots=units(qty, 8),
                        since_ns=number,
                    )
                )
    return book


def test_the_documented_book_has_the_documented_checksum():
    book = book_of(BOOK_ASKS, BOOK_BIDS)

    assert book_checksum(book) == 3310070434


def test_the_documented_level3_book_has_the_documented_checksum():
    book = book_of(LEVEL3_ASKS, LEVEL3_BIDS)

    assert level3_checksum(book) == 1063832831
    assert len(book.orders) == 35


def test_a_level_beyond_the_tenth_does_not_change_the_checksum():
    book = book_of(BOOK_ASKS + "45300.0 1.00000000\n", BOOK_BIDS)

    assert book_checksum(book) == 3310070434


def test_the_documented_request_has_the_documented_signature():
    secret = base64.b64decode(
        "kQH5HW/8p1uGOVjbgWA7FunAmGO8lsSUXNsu3eow76sz84Q18fWxnyRzBHCd3pd5nE9qa99HAZtuZuj6F1huXg=="
    )
    body = b"nonce=1616492376594&ordertype=limit&pair=XBTUSD&price=37500&type=buy&volume=1.25"

    assert sign(secret, "/0/private/AddOrder", body, "1616492376594") == (
        b"4/dpxb3iT4tp/ZCVEwSnEsLxx0bqyhLpdfOpc6fn7OR8+UClSV5n9E6aSS8MPtnRfp32bAb0nmbRn6H8ndwLUQ=="
    )


@given(st.integers(-(10**20), 10**20), st.integers(0, 10))
def test_fixed_text_is_exact_both_ways(units, precision):
    text = fixed_text(units, precision)

    assert Decimal(text) == Decimal(units).scaleb(-precision)
    if abs(units) < 10**17:
        assert to_units(Decimal(text), precision) == units


@pytest.mark.parametrize(
    "text", ["1e999999999", "-1e999999999", "1e-999999999", "NaN", "Infinity", "0.00000000001", "1" * 60]
)
def test_a_number_that_does_not_fit_is_none_and_costs_nothing(text):
    assert to_units(Decimal(text), 8) is None


def test_cost_rounds_to_the_cost_precision_as_on_the_wire():
    raw = 180406743 * 9995  # 1.80406743 at 99.95

    assert rescale(raw, 10, 5) == 18031654
    assert rescale(raw, 10, 5, up=True) == 18031654
    assert rescale(raw + 10**5, 10, 5, up=True) == 18031655


def test_times_are_printed_and_read_exactly():
    at_ns = 1_704_716_799_526_146_327

    assert rfc3339_ns(at_ns) == "2024-01-08T12:26:39.526146327Z"
    assert rfc3339_us(at_ns) == "2024-01-08T12:26:39.526146Z"
    assert parse_rfc3339("2024-01-08T12:26:39.526146Z") == at_ns // 1000 * 1000
    assert parse_rfc3339("2024-01-08T12:26:39") is None
    assert parse_rfc3339("tomorrow") is None


def test_ids_of_different_counters_differ():
    ids = {venue_id("O", number, 7) for number in range(20_000)}

    assert len(ids) == 20_000
    assert all(len(text) == 19 and text.startswith("O") for text in ids)
