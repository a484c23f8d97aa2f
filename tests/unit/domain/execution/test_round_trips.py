"""Round trips and seconds of cover, folded from what the ledger holds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.domain.decision.plan import ExitKind
from krakenbot.domain.execution.covered import covered_seconds
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.position import Protection, apply_fill, flat_position
from krakenbot.domain.execution.round_trips import LedgerFill, RoundTrip, round_trips
from krakenbot.domain.values import Asset, ClOrdId, ExecId, Side, Symbol, VenueId, VenueOrderId

AT = datetime(2026, 11, 22, 12, tzinfo=UTC)
ABC = Symbol("ABC/USD")


def fill(number: int, side: Side, qty: str, price: str, **changes: Any) -> LedgerFill:
    cost = Decimal(qty) * Decimal(price)
    made = Fill(
        exec_id=ExecId(f"E{number:04}"),
        cl_ord_id=ClOrdId(f"kb{side.value[0]}{number}"),
        venue_order_id=VenueOrderId(f"O{number}"),
        venue_id=VenueId("here"),
        symbol=ABC,
        side=side,
        price=Decimal(price),
        qty=Decimal(qty),
        cost=cost,
        fee_asset=Asset("USD"),
        fee_qty=cost * Decimal("0.0025"),
        is_maker=True,
        at=AT + timedelta(seconds=number),
        recorded_at=AT,
        source="stream",
    )
    kind = None if side is Side.BUY else ExitKind.TAKE_PROFIT
    return LedgerFill(fill=evolve(made, **changes), exit_kind=kind)


def trips(*fills: LedgerFill, dust: str = "0", **markouts: dict[float, float]) -> list[RoundTrip]:
    return round_trips(fills, {ABC: Decimal(dust)}, {ExecId(name): found for name, found in markouts.items()})


def test_bought_in_two_parts_and_sold_in_two_is_one_trip_net_of_all_fees() -> None:
    [trip] = trips(
        fill(1, Side.BUY, "1", "100"),
        fill(2, Side.BUY, "3", "104"),
        fill(3, Side.SELL, "1", "110"),
        fill(4, Side.SELL, "3", "106"),
    )

    assert not trip.is_open
    assert (Decimal(4), Decimal(4)) == (trip.qty_bought, trip.qty_sold)
    assert (Decimal(103), Decimal(107)) == (trip.entry_price, trip.exit_price)
    assert {Asset("USD"): Decimal("2.1")} == trip.fees
    assert Decimal("13.9") == trip.realized_quote
    assert ExitKind.TAKE_PROFIT is trip.exit_kind
    assert (AT + timedelta(seconds=1), AT + timedelta(seconds=4)) == (trip.opened_at, trip.closed_at)


def test_a_position_that_is_held_is_an_open_trip() -> None:
    [trip] = trips(fill(1, Side.BUY, "2", "100"), fill(2, Side.SELL, "1", "90"))

    assert trip.is_open
    assert trip.closed_at is None
    assert Decimal(1) == trip.qty_sold
    assert trip.realized_quote < 0


def test_dust_ends_a_trip_and_is_sold_with_the_next() -> None:
    first, second = trips(
        fill(1, Side.BUY, "1", "100"),
        fill(2, Side.SELL, "0.99", "110"),
        fill(3, Side.BUY, "1", "100"),
        fill(4, Side.SELL, "1.01", "110"),
        dust="0.05",
    )

    assert not first.is_open
    assert not second.is_open
    assert Decimal("1.01") == second.qty_sold


def test_markouts_are_of_the_entries_and_weighted_by_quantity() -> None:
    [trip] = trips(
        fill(1, Side.BUY, "1", "100"),
        fill(2, Side.BUY, "3", "100"),
        fill(3, Side.SELL, "4", "100"),
        E0001={5.0: 8.0},
        E0002={5.0: 4.0, 30.0: 1.0},
        E0003={5.0: 99.0},
    )

    assert {5.0: 5.0, 30.0: 1.0} == trip.markouts_bps


def test_two_venues_do_not_mix() -> None:
    there = VenueId("there")

    found = trips(fill(1, Side.BUY, "1", "100"), fill(2, Side.BUY, "1", "100", venue_id=there))

    assert ["here", "there"] == sorted(trip.venue_id for trip in found)


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(50, 150), st.booleans()), max_size=40))
def test_the_trips_add_up_to_the_position_exactly(script: list[tuple[int, int, bool]]) -> None:
    fills, position = [], flat_position(ABC)
    for number, (units, price, is_sale) in enumerate(script):
        qty = min(Decimal(units) / 10, position.qty) if is_sale else Decimal(units) / 10
        if qty > 0:
            one = fill(number, Side.SELL if is_sale else Side.BUY, str(qty), str(price))
            position = apply_fill(position, one.fill)
            fills.append(one)

    found = round_trips(fills, {ABC: Decimal("0.5")}, {})

    assert sum((trip.realized_quote for trip in found), Decimal(0)) == position.realized_quote
    bought = sum((trip.qty_bought for trip in found), Decimal(0))
    sold = sum((trip.qty_sold for trip in found), Decimal(0))
    assert bought - sold == position.qty


def seconds_at(number: float) -> datetime:
    return AT + timedelta(seconds=number)


def test_seconds_are_counted_by_how_the_position_was_covered() -> None:
    changes = [
        (seconds_at(-50), Protection.PROTECTED),
        (seconds_at(-10), Protection.FLAT),
        (seconds_at(1), Protection.BARE),
        (seconds_at(3), Protection.PROTECTED),
        (seconds_at(10), Protection.GUARDED),
        (seconds_at(14), Protection.PROTECTED),
    ]

    found = covered_seconds(changes, opened_at=AT, watched_until=seconds_at(20), now=seconds_at(20.5))

    assert (13.0, 4.0, 2.0) == (found.protected_s, found.guarded_s, found.bare_s)
    assert found.unseen_s == pytest.approx(1.5)


def test_what_nobody_watched_is_unseen_and_never_protected() -> None:
    changes = [(seconds_at(0), Protection.PROTECTED)]

    found = covered_seconds(changes, opened_at=AT, watched_until=seconds_at(5), now=seconds_at(3605))

    assert (5.0, 3600.0) == (found.protected_s, found.unseen_s)


@given(
    st.lists(st.tuples(st.floats(-100, 100), st.sampled_from(Protection)), max_size=12),
    st.floats(-100, 300),
    st.floats(0, 200),
)
def test_the_seconds_add_up_to_the_age_of_the_position(
    script: list[tuple[float, Protection]], watched: float, now: float
) -> None:
    changes = [(seconds_at(min(at, now)), protection) for at, protection in sorted(script, key=lambda one: one[0])]

    found = covered_seconds(changes, opened_at=AT, watched_until=seconds_at(watched), now=seconds_at(now))

    total = found.protected_s + found.guarded_s + found.bare_s + found.unprotectable_s + found.unseen_s
    assert total == pytest.approx(now, abs=1e-4)
