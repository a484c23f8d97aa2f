"""The pure difference between rows and venue."""

# mypy: disable-error-code="arg-type, dict-item, call-overload"
from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.domain.execution.order import OrderRole, OrderState
from krakenbot.domain.execution.position import flat_position
from krakenbot.domain.execution.reconcile import CorrectionKind, Proof, VenueView, diff, proof_at, shortfalls
from krakenbot.domain.execution.reports import VenueBalance

ID = "kbe000000000001"
PROOF = Proof()


def view(make, *, open_orders=(), closed_orders=(), fills=(), after_s=0.0):
    return VenueView(
        at=make.at + timedelta(seconds=after_s),
        open_orders=tuple(open_orders),
        closed_orders=tuple(closed_orders),
        fills=tuple(fills),
    )


def kinds(rows, shown, booked=(), clean=None):
    found = diff(rows, booked, shown, clean_ladders=clean or {}, proof=PROOF)
    return [correction.kind for correction in found.corrections]


def test_agreement_needs_no_correction(make):
    row = make.order(state=OrderState.OPEN, venue_order_id="O-1")

    assert [] == kinds([row], view(make, open_orders=[make.venue_order()]))


def test_missing_fill_of_an_own_order_is_booked_before_the_order_is_closed(make):
    row = make.order(state=OrderState.OPEN, venue_order_id="O-1")
    shown = view(make, closed_orders=[make.venue_order(status="closed")], fills=[make.venue_fill()])

    assert [CorrectionKind.BOOK_FILL, CorrectionKind.UPDATE_ORDER] == kinds([row], shown)
    assert [CorrectionKind.UPDATE_ORDER] == kinds([row], shown, booked={"E-1"})


def test_foreign_orders_and_fills_appear_nowhere(make):
    foreign = [make.venue_order("O-8", None), make.venue_order("O-9", "someone")]
    fills = [make.venue_fill("E-8", "O-8"), make.venue_fill("E-9", "O-9")]
    shown = view(make, open_orders=foreign, closed_orders=foreign, fills=fills)

    assert [] == kinds([], shown)


def test_open_order_with_our_prefix_and_no_row_is_cancelled(make):
    assert [CorrectionKind.CANCEL_STRANGER] == kinds([], view(make, open_orders=[make.venue_order()]))


def test_fill_of_a_closed_order_without_a_row_is_named(make):
    shown = view(make, closed_orders=[make.venue_order(status="closed")], fills=[make.venue_fill()])

    assert [CorrectionKind.UNKNOWN_FILL] == kinds([], shown)


def test_unknown_entry_found_alive_is_updated_and_cancelled(make):
    row = make.order(state=OrderState.UNKNOWN)

    assert [CorrectionKind.UPDATE_ORDER, CorrectionKind.CANCEL_ALIVE] == kinds(
        [row], view(make, open_orders=[make.venue_order()])
    )


def test_unknown_stop_found_alive_is_kept(make):
    row = make.order(state=OrderState.UNKNOWN, role=OrderRole.PROTECTIVE_STOP)

    assert [CorrectionKind.UPDATE_ORDER] == kinds([row], view(make, open_orders=[make.venue_order()]))


def test_order_given_up_and_alive_is_cancelled(make):
    row = make.order(state=OrderState.NEVER_ACCEPTED)

    assert [CorrectionKind.CANCEL_ALIVE] == kinds([row], view(make, open_orders=[make.venue_order()]))


def test_closed_order_still_shown_open_is_the_lag_of_the_query(make):
    row = make.order(state=OrderState.FILLED, venue_order_id="O-1")

    assert [] == kinds([row], view(make, open_orders=[make.venue_order()]))


@pytest.mark.parametrize(
    ("after_s", "before", "expected", "count"),
    [
        (0.0, 0, CorrectionKind.STILL_UNKNOWN, 0),
        (119.0, 5, CorrectionKind.STILL_UNKNOWN, 0),
        (120.0, 0, CorrectionKind.STILL_UNKNOWN, 1),
        (121.0, 1, CorrectionKind.PROVEN_ABSENT, 2),
    ],
)
def test_absence_is_proven_by_two_ladders_after_the_horizon(make, after_s, before, expected, count):
    row = make.order(
        state=OrderState.UNKNOWN,
        deadline_at=make.at + timedelta(seconds=5),
        expire_at=make.at + timedelta(seconds=60),
    )
    found = diff([row], (), view(make, after_s=after_s), clean_ladders={ID: before}, proof=PROOF)

    assert [expected] == [correction.kind for correction in found.corrections]
    assert count == found.clean_ladders.get(ID, 0)


def test_a_fill_alone_shows_that_an_unknown_order_exists(make):
    row = make.order(state=OrderState.UNKNOWN, venue_order_id="O-1")
    shown = view(make, fills=[make.venue_fill()], after_s=1_000.0)

    assert [CorrectionKind.BOOK_FILL] == kinds([row], shown, clean={ID: 9})
    assert [] == kinds([row], shown, booked={"E-1"}, clean={ID: 9})


def test_horizon_without_a_deadline_counts_from_when_it_became_unknown(make):
    row = make.order(state=OrderState.UNKNOWN, state_at=make.at + timedelta(seconds=100))

    assert make.at + timedelta(seconds=165) == proof_at(row, PROOF)


def test_live_order_that_is_not_shown_is_named_and_left_alone(make):
    row = make.order(state=OrderState.OPEN, venue_order_id="O-1")

    assert [CorrectionKind.NOT_SHOWN] == kinds([row], view(make, after_s=1_000.0))


def test_intent_that_was_never_sent_is_no_difference(make):
    assert [] == kinds([make.order(state=OrderState.PENDING_SUBMIT)], view(make))


ROWS = st.lists(st.tuples(st.integers(1, 6), st.sampled_from(OrderState)), max_size=6, unique_by=lambda row: row[0])
SHOWN = st.lists(st.tuples(st.integers(1, 9), st.sampled_from(["open", "closed", "canceled"])), max_size=9)


@given(rows=ROWS, shown=SHOWN, fills=st.lists(st.integers(1, 9), max_size=6), order=st.randoms(use_true_random=False))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_same_facts_in_any_order_give_the_same_corrections(make, rows, shown, fills, order):
    orders = [make.order(cl_ord_id=f"kbe{n:012d}", venue_order_id=f"O-{n}", state=state) for n, state in rows]
    venue_orders = list({n: make.venue_order(f"O-{n}", f"kbe{n:012d}", status=s) for n, s in shown}.values())
    venue_fills = list({n: make.venue_fill(f"E-{n}", f"O-{n}") for n in fills}.values())

    def ladder():
        for rows_of in (orders, venue_orders, venue_fills):
            order.shuffle(rows_of)
        return diff(
            orders,
            (),
            view(
                make,
                open_orders=[o for o in venue_orders if o.status == "open"],
                closed_orders=[o for o in venue_orders if o.status != "open"],
                fills=venue_fills,
            ),
            clean_ladders={},
            proof=PROOF,
        )

    first = ladder()

    assert first == ladder()
    assert {f.exec_id for f in venue_fills if f.order_id in {o.venue_order_id for o in orders}} == {
        c.fill.exec_id for c in first.corrections if c.kind is CorrectionKind.BOOK_FILL
    }


def test_balance_below_the_position_is_a_shortfall_and_more_is_not():
    positions = [evolve(flat_position("ABC/USD"), qty=Decimal(2)), evolve(flat_position("XYZ/USD"), qty=Decimal(1))]
    balances = {
        "ABC": VenueBalance(asset="ABC", balance=Decimal("1.5"), held=Decimal(0)),
        "XYZ": VenueBalance(asset="XYZ", balance=Decimal(9), held=Decimal(9)),
    }

    assert [("ABC/USD", Decimal("1.5"))] == [(s.symbol, s.balance_qty) for s in shortfalls(positions, balances)]
