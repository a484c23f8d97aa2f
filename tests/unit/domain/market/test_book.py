from __future__ import annotations

import zlib
from decimal import Decimal

import pytest
from attrs import frozen

from krakenbot.domain.market.book import L2Book, Verdict
from krakenbot.domain.values import Side


@frozen
class Level:
    price: float
    qty: float | Decimal


def crc(*digits: str) -> int:
    return zlib.crc32("".join(digits).encode())


def make_book(**overrides: int) -> L2Book:
    return L2Book(**{"price_precision": 1, "qty_precision": 8, "depth": 10} | overrides)


def loaded(at: str = "2026-11-22T10:00:00.000001Z") -> L2Book:
    book = make_book()
    verdict = book.load([Level(99.9, 2.0)], [Level(100.1, 1.0)], crc("1001100000000", "999200000000"), at, 1.0)
    assert Verdict.GOOD is verdict
    return book


def test_new_book_is_invalid_and_empty():
    book = make_book()

    assert not book.is_valid
    assert book.best_bid() is None
    assert [] == book.levels(Side.SELL, 10)
    assert 0 == book.updated_at_ns


def deep_book(depth: int = 10) -> L2Book:
    """Return a book of bids at 1000, 999, 995 and 900 ticks and asks at 1001, 1006 and 1007, one lot each."""
    book = make_book(qty_precision=0, depth=depth)
    bids, asks = (1000, 999, 995, 900), (1001, 1006, 1007)
    checksum = crc(*(f"{ticks}1" for ticks in (*asks, *bids)))
    bid_levels, ask_levels = ([Level(ticks / 10, 1.0) for ticks in side] for side in (bids, asks))
    assert Verdict.GOOD is book.load(bid_levels, ask_levels, checksum, "2026-11-22T10:00:00.000001Z", 1.0)
    return book


def test_levels_near_the_best_price_end_at_the_distance_which_counts_as_near():
    book = deep_book()

    assert [1000, 999, 995] == [ticks for ticks, _ in book.levels_near(Side.BUY, 50.0, 1)]
    assert [1000, 999] == [ticks for ticks, _ in book.levels_near(Side.BUY, 49.9, 1)]
    assert [1001, 1006] == [ticks for ticks, _ in book.levels_near(Side.SELL, 50.0, 1)]


def test_levels_near_hold_the_least_count_however_far_they_are():
    book = deep_book()

    assert [1000, 999, 995, 900] == [ticks for ticks, _ in book.levels_near(Side.BUY, 1.0, 5)]
    assert [] == make_book().levels_near(Side.BUY, 50.0, 5)


def test_a_touch_that_did_not_change_is_the_same_object_and_a_changed_one_is_read_anew():
    book = loaded()
    bid, ask = book.best_bid(), book.best_ask()
    checksum = crc("1001100000000", "999300000000")
    book.apply([Level(99.9, 3.0)], [], checksum, "2026-11-22T10:00:00.000002Z", 2.0)

    assert ask is book.best_ask()
    assert ((999, 200_000_000), (999, 300_000_000)) == (bid, book.best_bid())


def test_same_price_repeated_in_one_message_is_applied_in_order():
    book = loaded()
    changes = [Level(99.9, 0.0), Level(99.8, 0.5), Level(99.9, 3.0), Level(99.9, 0.0), Level(99.9, 4.0)]
    verdict = book.apply(
        changes, [], crc("1001100000000", "999400000000", "99850000000"), "2026-11-22T10:00:00.000002Z", 2.0
    )

    assert Verdict.GOOD is verdict
    assert [(999, 400_000_000), (998, 50_000_000)] == book.levels(Side.BUY, 10)


def test_removal_of_an_unknown_level_is_ignored():
    book = loaded()
    verdict = book.apply(
        [Level(50.0, 0.0)], [], crc("1001100000000", "999200000000"), "2026-11-22T10:00:00.000002Z", 2.0
    )

    assert Verdict.GOOD is verdict


def test_wrong_checksum_empties_the_book():
    book = loaded()
    verdict = book.apply([Level(99.9, 1.0)], [], 1, "2026-11-22T10:00:00.000002Z", 2.0)

    assert Verdict.BAD is verdict
    assert (False, "checksum mismatch") == (book.is_valid, book.invalid_reason)
    assert book.best_bid() is None


def test_crossed_book_is_invalid_even_with_a_right_checksum():
    book = loaded()
    verdict = book.apply(
        [Level(100.1, 1.0)],
        [],
        crc("1001100000000", "1001100000000", "999200000000"),
        "2026-11-22T10:00:00.000002Z",
        2.0,
    )

    assert Verdict.BAD is verdict
    assert "crossed" == book.invalid_reason


@pytest.mark.parametrize("at", ["2026-11-22T09:59:59.999999Z", "", "11"])
def test_time_that_runs_back_is_invalid_even_with_a_right_checksum(at):
    book = loaded()
    verdict = book.apply([Level(99.9, 1.0)], [], crc("1001100000000", "999100000000"), at, 2.0)

    assert Verdict.BAD is verdict
    assert "time ran back" == book.invalid_reason


def test_equal_time_is_allowed():
    book = loaded()

    assert Verdict.GOOD is book.apply(
        [Level(99.9, 1.0)], [], crc("1001100000000", "999100000000"), "2026-11-22T10:00:00.000001Z", 2.0
    )


def test_time_of_the_last_message_is_readable_and_nonsense_reads_as_zero():
    assert 1_795_341_600_000_001_000 == loaded().updated_at_ns
    assert 0 == loaded(at="zzz").updated_at_ns


def test_quantity_beyond_the_exact_range_of_floats_asks_for_decimals():
    lots = 2**50 + 1
    exact = Decimal(lots).scaleb(-8)
    book = make_book()
    checksum = crc("1001100000000", f"999{lots}")
    asks, at = [Level(100.1, 1.0)], "2026-11-22T10:00:00.000001Z"

    assert Verdict.INEXACT is book.load([Level(99.9, float(exact))], asks, checksum, at, 1.0)
    with book.exactly():
        asks_exactly = [Level(100.1, Decimal(1))]
        assert Verdict.GOOD is book.load([Level(99.9, exact)], asks_exactly, checksum, at, 1.0)
    assert (999, lots) == book.best_bid()


def test_inexact_update_applied_again_exactly_counts_what_the_first_attempt_did():
    lots = 2**50 + 1
    book = loaded()
    at = "2026-11-22T10:00:00.000002Z"
    exact = Decimal(lots).scaleb(-8)
    checksum = crc("1001100000000", f"998{lots}")

    assert Verdict.INEXACT is book.apply([Level(99.9, 0.0), Level(99.8, float(exact))], [], checksum, at, 1.0)
    with book.exactly():
        verdict = book.apply([Level(99.9, Decimal(0)), Level(99.8, exact)], [], checksum, at, 1.0)
    assert Verdict.GOOD is verdict
    assert [(998, lots)] == book.levels(Side.BUY, 10)


def test_quantity_beyond_64_bits_is_invalid():
    book = make_book()
    huge = Decimal(2**63).scaleb(-8)
    book.load([Level(99.9, float(huge))], [], 0, "", 1.0)
    with book.exactly():
        verdict = book.load([Level(99.9, huge)], [], 0, "", 1.0)

    assert Verdict.BAD is verdict
    assert "number too large" == book.invalid_reason


def test_price_whose_float_cannot_tell_neighbours_apart_raises():
    with pytest.raises(OverflowError):
        make_book().load([Level(1e17, 1.0)], [], 0, "", 1.0)


@pytest.mark.parametrize("depth", [10, 25, 100, 500, 1000])
def test_levels_pushed_out_of_the_subscribed_depth_are_forgotten(depth):
    book = make_book(depth=depth)
    bids = [Level(1000 - step / 10, 1.0) for step in range(depth)]
    digits = [f"{10000 - step}100000000" for step in range(-1, 10)]
    assert Verdict.GOOD is book.load(bids, [], crc(*digits[1:]), "", 1.0)
    verdict = book.apply([Level(1000.1, 1.0)], [], crc(*digits[:10]), "", 1.0) if depth else None

    assert Verdict.GOOD is verdict
    levels = book.levels(Side.BUY, 2000)
    assert (depth, 10001, 10001 - depth + 1) == (len(levels), levels[0][0], levels[-1][0])


def test_prices_kept_are_bounded():
    book = make_book()
    for ticks in range(1, 20_000):
        book.load([Level(ticks / 10, 1.0)], [], crc(f"{ticks}100000000"), "", 1.0)

    assert book.is_valid
    assert len(book._prices) <= 4096


def test_increment_of_five_cents_is_counted_in_cents():
    book = L2Book(price_precision=2, qty_precision=1, depth=10)
    digits = ("10510", "9530", "9020")
    bids = [Level(0.95, 3.0), Level(0.9, 2.0)]

    assert Verdict.GOOD is book.load(bids, [Level(1.05, 1.0)], crc(*digits), "", 1.0)
    assert [(95, 30), (90, 20)] == book.levels(Side.BUY, 10)
    assert (105, 10) == book.best_ask()


@pytest.mark.parametrize(("before", "after"), [("01.51Z", "01.5Z"), ("01.5Z", "01Z"), ("01.000001Z", "01Z")])
def test_time_that_runs_back_in_fewer_digits_is_noticed(before, after):
    book = loaded(at=f"2026-11-22T10:00:{before}")
    verdict = book.apply([Level(99.9, 1.0)], [], crc("1001100000000", "999100000000"), f"2026-11-22T10:00:{after}", 2.0)

    assert (Verdict.BAD, "time ran back") == (verdict, book.invalid_reason)


def test_equal_time_in_fewer_digits_is_allowed():
    book = loaded(at="2026-11-22T10:00:00.500000Z")
    at = "2026-11-22T10:00:00.5Z"

    assert Verdict.GOOD is book.apply([Level(99.9, 1.0)], [], crc("1001100000000", "999100000000"), at, 2.0)


def test_snapshot_replaces_all_that_stood_and_its_time():
    book = loaded()
    earlier = "2026-11-22T09:00:00.000000Z"
    verdict = book.load([Level(99.8, 1.0)], [Level(100.2, 1.0)], crc("1002100000000", "998100000000"), earlier, 2.0)

    assert Verdict.GOOD is verdict
    assert [(998, 100_000_000)] == book.levels(Side.BUY, 10)
    assert [(1002, 100_000_000)] == book.levels(Side.SELL, 10)


def test_prices_that_stand_outlive_all_that_come_and_go():
    book = loaded()
    for step in range(5000):
        ticks, at = 1002 + step, "2026-11-22T10:00:00.000002Z"
        digits = ("1001100000000", f"{ticks}100000000", "999200000000")
        assert Verdict.GOOD is book.apply([], [Level(ticks / 10, 1.0)], crc(*digits), at, 2.0)
        assert Verdict.GOOD is book.apply([], [Level(ticks / 10, 0.0)], crc(*digits[::2]), at, 2.0)

    assert ((999, 200_000_000), (1001, 100_000_000)) == (book.best_bid(), book.best_ask())
    assert Verdict.GOOD is book.apply([Level(99.9, 1.0)], [], crc("1001100000000", "999100000000"), at, 2.0)


def test_price_below_one_tick_raises():
    with pytest.raises(OverflowError):
        make_book().load([Level(0.04, 1.0)], [], 0, "", 1.0)


def test_reshaped_book_counts_in_its_new_ticks():
    book = loaded()
    book.invalidate("precision changed")
    book.reshape(price_precision=2, qty_precision=1)

    assert Verdict.GOOD is book.load([Level(99.9, 2.0)], [Level(100.1, 1.0)], crc("1001010", "999020"), "", 1.0)
    assert ((9990, 20), (10010, 10)) == (book.best_bid(), book.best_ask())


def test_inexact_ask_applied_again_exactly_counts_what_the_first_attempt_did():
    lots = 2**50 + 1
    book = loaded()
    at = "2026-11-22T10:00:00.000002Z"
    exact = Decimal(lots).scaleb(-8)
    checksum = crc(f"1002{lots}", "999200000000")

    assert Verdict.INEXACT is book.apply([], [Level(100.1, 0.0), Level(100.2, float(exact))], checksum, at, 1.0)
    with book.exactly():
        assert Verdict.GOOD is book.apply([], [Level(100.1, Decimal(0)), Level(100.2, exact)], checksum, at, 1.0)
    assert [(1002, lots)] == book.levels(Side.SELL, 10)


@pytest.mark.parametrize("sign", [1, -1])
def test_best_level_removed_in_an_inexact_message_is_gone_from_the_checksum(sign):
    lots = 2**50 + 1
    book = make_book(depth=25)
    big = Decimal(lots).scaleb(-8)
    levels = [Level((1000 + sign * step) / 10, 1.0) for step in range(11)]
    digits = [f"{1000 + sign * step}100000000" for step in range(11)]
    price = (1000 + sign * 11) / 10

    def sides(changes: list[Level]) -> tuple[list[Level], list[Level]]:
        return ([], changes) if sign > 0 else (changes, [])

    assert Verdict.GOOD is book.load(*sides(levels), crc(*digits[:10]), "", 1.0)
    checksum = crc(*digits[1:11])
    assert Verdict.INEXACT is book.apply(*sides([Level(100.0, 0.0), Level(price, float(big))]), checksum, "", 1.0)
    with book.exactly():
        verdict = book.apply(*sides([Level(100.0, Decimal(0)), Level(price, big)]), checksum, "", 1.0)
    assert Verdict.GOOD is verdict
    assert (1000 + sign * 11, lots) == (book.levels(Side.SELL, 25) or book.levels(Side.BUY, 25))[-1]


@pytest.mark.parametrize(("depth", "most"), [(10, 512), (1000, 4000)])
def test_a_book_remembers_few_of_all_prices_that_it_has_met(depth, most):
    book = deep_book(depth=depth)
    for ticks in range(2000, 9000):
        book._price(ticks / 10)

    assert most >= len(book._prices)
    assert [1000, 999, 995, 900] == [ticks for ticks, _ in book.levels(Side.BUY, 10)]
