"""From a book to samples: figures by hand for a book of known levels."""

from __future__ import annotations

from decimal import Decimal

import pytest
from attrs import define, field

from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.market.sampler import Sampler
from krakenbot.domain.values import NS_PER_S, Asset, Side, Symbol

SYMBOL = Symbol("AAA/USD")
INSTRUMENT = Instrument(
    symbol=SYMBOL,
    base=Asset("AAA"),
    quote=Asset("USD"),
    status=InstrumentStatus.ONLINE,
    price_precision=2,
    qty_precision=4,
    cost_precision=5,
    price_increment=Decimal("0.01"),
    qty_increment=Decimal("0.0001"),
    qty_min=Decimal(1),
    cost_min=Decimal("0.5"),
)


@define
class PlainBook:
    bids: list[tuple[int, int]] = field(factory=list)
    asks: list[tuple[int, int]] = field(factory=list)
    is_valid: bool = True
    invalid_reason: str = ""
    updated_at_ns: int = 0
    received_mono: float = 0.0

    def best_bid(self) -> tuple[int, int] | None:
        return self.bids[0] if self.bids else None

    def best_ask(self) -> tuple[int, int] | None:
        return self.asks[0] if self.asks else None

    def levels(self, side: Side, count: int) -> list[tuple[int, int]]:
        return (self.bids if side is Side.BUY else self.asks)[:count]

    def levels_near(self, side: Side, distance_bps: float, least: int) -> list[tuple[int, int]]:
        return self.levels(side, 100)


def test_a_sample_states_touch_depth_and_imbalance() -> None:
    book = PlainBook(
        bids=[(10_000, 30_000), (9_990, 10_000), (9_960, 50_000), (9_000, 990_000)],
        asks=[(10_100, 10_000), (10_110, 10_000)],
    )

    row = Sampler(SYMBOL).sample_book(INSTRUMENT, book, 5 * NS_PER_S)

    assert row is not None
    assert (row.bid, row.ask, row.mid) == (100.0, 101.0, 100.5)
    assert row.spread_bps == pytest.approx(1.0 / 100.5 * 1e4)
    microprice = (100.0 * 1 + 101.0 * 3) / 4
    assert row.microprice_dev_bps == pytest.approx((microprice - 100.5) / 100.5 * 1e4)
    assert row.imbalance_5 == pytest.approx((108 - 2) / 110)
    assert row.bid_depth_10_quote == pytest.approx(3 * 100.0 + 1 * 99.9)
    assert row.bid_depth_25_quote == row.bid_depth_10_quote
    assert row.bid_depth_50_quote == pytest.approx(3 * 100.0 + 1 * 99.9 + 5 * 99.6)
    assert row.ask_depth_10_quote == pytest.approx(1 * 101.0 + 1 * 101.1)


def test_order_flow_imbalance_counts_what_the_touch_gained_and_lost() -> None:
    """Bid size up by 1.0, then the bid drops a tick (loses 4.0), then the ask gives way upwards (loses 1.0)."""
    book = PlainBook(bids=[(10_000, 30_000)], asks=[(10_100, 10_000)])
    sampler = Sampler(SYMBOL)
    sampler.observe_book(book)
    book.bids = [(10_000, 40_000)]
    sampler.observe_book(book)
    book.bids = [(9_999, 20_000)]
    sampler.observe_book(book)
    book.asks = [(10_101, 50_000)]
    sampler.observe_book(book)

    row = sampler.sample_book(INSTRUMENT, book, NS_PER_S)

    assert row is not None
    assert row.ofi == pytest.approx(1.0 - 4.0 + 1.0)
    assert row.updates == 4
    again = sampler.sample_book(INSTRUMENT, book, 2 * NS_PER_S)
    assert again is not None
    assert (again.ofi, again.updates) == (0.0, 0)


def test_an_invalid_book_gives_no_row_and_its_seconds_are_stated_later() -> None:
    book = PlainBook(bids=[(10_000, 30_000)], asks=[(10_100, 10_000)])
    sampler = Sampler(SYMBOL)
    sampler.sample_book(INSTRUMENT, book, 1 * NS_PER_S)
    broken = PlainBook(is_valid=False, invalid_reason="crossed")

    assert sampler.sample_book(INSTRUMENT, broken, 2 * NS_PER_S) is None
    broken.invalid_reason = "checksum"
    assert sampler.sample_book(INSTRUMENT, broken, 4 * NS_PER_S) is None
    row = sampler.sample_book(INSTRUMENT, book, 5 * NS_PER_S)
    assert row is not None
    assert (row.crossed_s, row.invalid_s) == (1.0, 3.0)
    again = sampler.sample_book(INSTRUMENT, book, 6 * NS_PER_S)
    assert again is not None
    assert (again.crossed_s, again.invalid_s) == (0.0, 0.0)


def test_a_one_sided_book_gives_no_row() -> None:
    assert Sampler(SYMBOL).sample_book(INSTRUMENT, PlainBook(bids=[(1, 1)]), NS_PER_S) is None
