"""The tracker against a naive reference: reports reordered, doubled, lost and late."""

# mypy: disable-error-code="arg-type, union-attr, misc, list-item"
from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from krakenbot.domain.errors import InvariantViolated
from krakenbot.domain.execution.applied import AlarmCode
from krakenbot.domain.execution.order import OrderEvent, OrderRole, OrderState
from krakenbot.domain.execution.tracker import OrderTracker
from krakenbot.domain.values import Side

EVERYTHING = [HealthCheck.function_scoped_fixture]
ID = "kbe000000000001"
SALE = "kbs000000000002"


def tracker_with(make, **changes):
    tracker = OrderTracker()
    tracker.add(make.order(**changes))
    return tracker


def life(make, parts, end):
    """Return the reports of one order as the venue makes them: complete first, sparse afterwards."""
    reports = [
        make.report("pending_new", cl_ord_id=ID, symbol="ABC/USD", side=Side.BUY, order_qty=Decimal(10)),
        make.report("new"),
    ]
    total = Decimal(0)
    for n, part in enumerate(parts):
        total += part
        reports.append(make.trade(f"E-{n}", part, cum_qty=total, order_status="partially_filled"))
    if end is not None:
        reports.append(make.report(end, cum_qty=total))
    return reports, total


@given(
    parts=st.lists(st.decimals("0.1", "1", places=1), max_size=8),
    end=st.sampled_from(["filled", "canceled", "expired", None]),
    doubled=st.lists(st.integers(0, 10), max_size=8),
    order=st.randoms(use_true_random=False),
)
@settings(suppress_health_check=EVERYTHING)
def test_any_order_of_reports_with_doubles_ends_the_same(make, parts, end, doubled, order):
    """The reference counts distinct exec_ids and knows the last word of the venue."""
    assume(parts or end != "filled")
    reports, total = life(make, parts, end)
    shuffled = reports + [reports[n % len(reports)] for n in doubled]
    order.shuffle(shuffled)
    tracker = tracker_with(make, state=OrderState.SUBMITTED)
    fills = []
    for report in shuffled:
        applied = tracker.apply_report(report, make.at)
        fills += applied.change.fills

        assert not [a for a in applied.alarms if a.code is AlarmCode.PROTOCOL_VIOLATION]

    expected = {"filled": OrderState.FILLED, "canceled": OrderState.CANCELED, "expired": OrderState.EXPIRED}

    assert sorted(f"E-{n}" for n in range(len(parts))) == sorted(fill.exec_id for fill in fills)
    assert total == tracker.get(ID).cum_qty == tracker.position("ABC/USD").qty

    if end is not None:
        assert expected[end] is tracker.get(ID).state
    elif parts:
        assert OrderState.PARTIALLY_FILLED is tracker.get(ID).state


@given(
    parts=st.lists(st.decimals("0.1", "1", places=1), min_size=1, max_size=6),
    lost=st.sets(st.integers(0, 5)),
    order=st.randoms(use_true_random=False),
)
@settings(suppress_health_check=EVERYTHING)
def test_lost_trades_keep_the_order_open_until_the_query_brings_them(make, parts, lost, order):
    reports, total = life(make, parts, "filled")
    kept = [r for r in reports if r.exec_id is None or int(r.exec_id[2:]) not in lost]
    missing = [r for r in reports if r not in kept]
    order.shuffle(kept)
    tracker = tracker_with(make, state=OrderState.SUBMITTED)
    incomplete = [tracker.apply_report(report, make.at).is_incomplete for report in kept]

    assert bool(missing) == (not tracker.get(ID).state.is_terminal)
    assert not missing or any(incomplete)

    for row in [make.venue_fill(r.exec_id, qty=r.last_qty, cost=r.last_qty * 100) for r in reports if r.exec_id]:
        tracker.book_query_fill(tracker.get(ID), row, make.at)

    assert OrderState.FILLED is tracker.get(ID).state
    assert total == tracker.get(ID).cum_qty


@given(
    parts=st.lists(st.decimals("0.1", "1", places=1), max_size=6),
    cut=st.integers(0, 20),
)
@settings(suppress_health_check=EVERYTHING)
def test_snapshot_after_a_break_overlaps_without_harm(make, parts, cut):
    reports, total = life(make, parts, None)
    seen = reports[:cut]
    snapshot = [
        make.report("new", cl_ord_id=ID, symbol="ABC/USD", cum_qty=total, order_status="new"),
        *[r for r in reports if r.exec_id is not None],
    ]
    tracker = tracker_with(make, state=OrderState.SUBMITTED)
    for report in seen + snapshot:
        tracker.apply_report(report, make.at)

    assert total == tracker.get(ID).cum_qty == tracker.position("ABC/USD").qty
    assert (OrderState.PARTIALLY_FILLED if parts else OrderState.OPEN) is tracker.get(ID).state


def test_sparse_reports_wait_for_the_answer_that_names_them(make):
    tracker = tracker_with(make, state=OrderState.SUBMITTED)
    tracker.apply_report(make.report("new"), make.at)
    tracker.apply_report(make.trade("E-1", "1"), make.at)
    waiting = tracker.orphans()
    applied = tracker.apply_event(ID, OrderEvent.ACKED, at=make.at, venue_order_id="O-1")

    assert 2 == waiting
    assert 0 == tracker.orphans()
    assert ["E-1"] == [fill.exec_id for fill in applied.change.fills]
    assert OrderState.PARTIALLY_FILLED is tracker.get(ID).state


def test_change_of_one_report_holds_row_event_fill_and_position(make):
    tracker = tracker_with(make, state=OrderState.OPEN, venue_order_id="O-1")
    change = tracker.apply_report(make.trade("E-1", "2"), make.at).change

    assert [Decimal(2)] == [order.cum_qty for order in change.orders]
    assert [("trade", "open", "partially_filled")] == [(e.event, e.from_state, e.to_state) for e in change.events]
    assert ["E-1"] == [fill.exec_id for fill in change.fills]
    assert [Decimal(2)] == [position.qty for position in change.positions]


def test_orphans_are_bounded_and_a_dropped_one_is_told(make):
    tracker = OrderTracker(orphans_max=3)
    results = [tracker.apply_report(make.report("new", f"O-{n}"), make.at) for n in range(5)]

    assert 3 == tracker.orphans()
    assert [AlarmCode.ORPHAN_DROPPED] * 2 == [a.code for r in results for a in r.alarms]
    assert results[-1].is_incomplete


def test_foreign_orders_and_their_deltas_are_ignored(make):
    tracker = OrderTracker()
    tracker.apply_report(make.report("new", "O-9", symbol="ABC/USD", cl_ord_id="someone"), make.at)
    tracker.apply_report(make.report("canceled", "O-9"), make.at)
    tracker.apply_report(make.report("new", "O-8", symbol="ABC/USD"), make.at)

    assert 3 == tracker.foreign_reports
    assert 0 == tracker.orphans()


def test_own_order_without_a_row_is_handed_on(make):
    tracker = OrderTracker()
    applied = tracker.apply_report(make.report("new", cl_ord_id=ID, symbol="ABC/USD"), make.at)

    assert [ID] == [report.cl_ord_id for report in applied.strangers]

    adopted = tracker.adopt(make.order(state=OrderState.UNKNOWN), make.at)

    assert OrderState.OPEN is tracker.get(ID).state
    assert 1 == len(adopted.change.orders)


def test_fill_after_the_end_goes_to_the_ledger_with_an_alarm(make):
    tracker = tracker_with(make, state=OrderState.NEVER_ACCEPTED, venue_order_id="O-1")
    applied = tracker.apply_report(make.trade("E-1", "1"), make.at)

    assert OrderState.NEVER_ACCEPTED is tracker.get(ID).state
    assert Decimal(1) == tracker.position("ABC/USD").qty
    assert [AlarmCode.LATE_FILL] == [alarm.code for alarm in applied.alarms]


def test_filled_before_its_trades_closes_with_the_last_of_them(make):
    tracker = tracker_with(make, state=OrderState.OPEN, venue_order_id="O-1")
    early = tracker.apply_report(make.report("filled", cum_qty=Decimal(2)), make.at)
    tracker.apply_report(make.trade("E-1", "1"), make.at)
    before = tracker.get(ID).state
    tracker.apply_report(make.trade("E-2", "1"), make.at)

    assert early.is_incomplete
    assert OrderState.PARTIALLY_FILLED is before
    assert OrderState.FILLED is tracker.get(ID).state


def test_closed_order_without_its_fills_becomes_overdue(make):
    tracker = tracker_with(make, state=OrderState.OPEN, venue_order_id="O-1")
    tracker.apply_report(make.report("canceled", cum_qty=Decimal(2)), make.at)

    assert [] == tracker.overdue(make.at, 2.0)
    assert [ID] == tracker.overdue(make.at + timedelta(seconds=3), 2.0)


@pytest.mark.parametrize("state", [OrderState.PENDING_SUBMIT, OrderState.SUBMITTED, OrderState.UNKNOWN])
@pytest.mark.parametrize("event", [OrderEvent.REJECTED, OrderEvent.PROVEN_ABSENT, OrderEvent.WITHDRAWN])
def test_order_that_the_venue_closed_is_not_given_up_before_its_fills_came(make, state, event):
    tracker = tracker_with(make, state=state, state_at=make.at, deadline_at=make.at, expire_at=make.at)
    told = tracker.apply_report(make.report("filled", cl_ord_id=ID, cum_qty=Decimal(10)), make.at)
    late = tracker.apply_event(ID, event, at=make.at, reason="no such order")
    filled = tracker.apply_report(make.trade("E-1", "10"), make.at)

    assert told.is_incomplete
    assert (OrderState.ACKED, "O-1") == (told.change.orders[0].state, told.change.orders[0].venue_order_id)
    assert [AlarmCode.PROTOCOL_VIOLATION] == [alarm.code for alarm in late.alarms]
    assert [] == tracker.lacking() == tracker.overdue(make.at + timedelta(seconds=3), 2.0)
    assert OrderState.FILLED is filled.change.orders[-1].state


def test_order_that_is_forgotten_leaves_nothing_behind(make):
    """Both ids that the venue had for it, and what it told of it."""
    tracker = OrderTracker(closed_max=1)
    tracker.add(make.order(state=OrderState.OPEN, venue_order_id="O-1"))
    tracker.apply_report(make.report("status", "O-2", cl_ord_id=ID), make.at)
    tracker.apply_report(make.report("canceled", cum_qty=Decimal(0)), make.at)
    tracker.apply_report(make.report("status", cum_qty=Decimal(2)), make.at)

    assert [ID, ID] == [tracker.find(order_id).cl_ord_id for order_id in ("O-1", "O-2")]
    assert [ID] == [order.cl_ord_id for order in tracker.lacking()]

    tracker.add(make.order(cl_ord_id="kbe000000000002", state=OrderState.CANCELED, venue_order_id="O-3"))

    assert [None, None] == [tracker.find(order_id) for order_id in ("O-1", "O-2")]
    assert [] == tracker.lacking()


def test_open_row_of_a_query_says_nothing_of_a_closed_order(make):
    tracker = tracker_with(make, state=OrderState.FILLED, venue_order_id="O-1", cum_qty=Decimal(10))
    applied = tracker.apply_venue_order(make.venue_order(status="open", qty=Decimal(12)), make.at)

    assert applied.change.is_empty
    assert (OrderState.FILLED, Decimal(10)) == (tracker.get(ID).state, tracker.get(ID).qty)


def test_filled_of_an_amended_order_means_the_total_that_the_report_states(make):
    tracker = tracker_with(make, state=OrderState.PARTIALLY_FILLED, venue_order_id="O-1", cum_qty=Decimal(4))
    tracker.apply_report(make.report("filled", order_qty=Decimal(4)), make.at)

    assert OrderState.FILLED is tracker.get(ID).state


def test_query_that_lags_does_not_take_back_an_amend_that_was_answered(make):
    tracker = tracker_with(make, state=OrderState.PENDING_AMEND, venue_order_id="O-1", state_at=make.at)
    tracker.apply_event(ID, OrderEvent.AMENDED, at=make.at, qty=Decimal(7))
    tracker.apply_venue_order(make.venue_order(qty=Decimal(10)), make.at + timedelta(seconds=1))

    assert Decimal(7) == tracker.get(ID).qty


def test_first_word_of_an_end_counts_when_its_fills_come(make):
    tracker = tracker_with(make, state=OrderState.OPEN, venue_order_id="O-1")
    tracker.apply_report(make.report("filled", cum_qty=Decimal(10)), make.at)
    tracker.apply_report(make.report("canceled", cum_qty=Decimal(10)), make.at)
    tracker.apply_report(make.trade("E-1", "10"), make.at)

    assert OrderState.FILLED is tracker.get(ID).state


def test_report_that_tells_of_more_than_is_booked_asks_for_the_history(make):
    tracker = tracker_with(make, state=OrderState.OPEN, venue_order_id="O-1")

    assert tracker.apply_report(make.report("status", order_status="new", cum_qty=Decimal(2)), make.at).is_incomplete
    assert [ID] == [order.cl_ord_id for order in tracker.lacking()]


def test_fill_after_the_end_asks_whether_there_are_more(make):
    tracker = tracker_with(make, state=OrderState.CANCELED, venue_order_id="O-1")
    applied = tracker.apply_report(make.trade("E-1", "1"), make.at)

    assert applied.is_incomplete
    assert [AlarmCode.LATE_FILL] == [alarm.code for alarm in applied.alarms]


def test_late_fill_that_a_query_showed_asks_for_no_other_query(make):
    tracker = tracker_with(make, state=OrderState.CANCELED, venue_order_id="O-1")
    applied = tracker.book_query_fill(tracker.get(ID), make.venue_fill(), make.at)

    assert not applied.is_incomplete
    assert ["E-1"] == [fill.exec_id for fill in applied.change.fills]


def test_first_report_that_comes_late_does_not_take_back_an_amend(make):
    tracker = tracker_with(make, state=OrderState.SUBMITTED)
    tracker.apply_event(ID, OrderEvent.ACKED, at=make.at, venue_order_id="O-1")
    tracker.apply_report(make.report("amended", order_qty=Decimal(4), limit_price=Decimal(98)), make.at)
    late = make.report("pending_new", cl_ord_id=ID, symbol="ABC/USD", order_qty=Decimal(10), limit_price=Decimal(100))
    tracker.apply_report(late, make.at)

    assert (Decimal(4), Decimal(98)) == (tracker.get(ID).qty, tracker.get(ID).limit_price)


def test_query_that_lags_does_not_take_back_what_an_answer_settled(make):
    tracker = tracker_with(make, state=OrderState.SUBMITTED)
    tracker.apply_event(ID, OrderEvent.ACKED, at=make.at, venue_order_id="O-1")
    tracker.apply_venue_order(make.venue_order(qty=Decimal(7)), make.at + timedelta(seconds=1))

    assert Decimal(10) == tracker.get(ID).qty


def test_refused_trade_is_told_and_asks_for_the_history(make):
    tracker = tracker_with(make, state=OrderState.OPEN, venue_order_id="O-1")
    applied = tracker.apply_report(make.trade("E-1", "1", price="0"), make.at)

    assert applied.is_incomplete
    assert [AlarmCode.FILL_REFUSED] == [alarm.code for alarm in applied.alarms]
    assert Decimal(0) == tracker.position("ABC/USD").qty


def test_closed_orders_are_kept_for_a_while_only(make):
    tracker = OrderTracker(closed_max=2)
    for n in range(4):
        tracker.add(make.order(cl_ord_id=f"kbe{n:012d}", state=OrderState.CANCELED, venue_order_id=f"O-{n}"))

    assert [False, False, True, True] == [tracker.get(f"kbe{n:012d}") is not None for n in range(4)]
    assert tracker.find("O-0") is None


@pytest.mark.parametrize("cl_ord_id", ["kbe000000000001", "foreign-1"])
def test_row_that_is_known_or_not_ours_is_an_error_of_ours(make, cl_ord_id):
    tracker = tracker_with(make)

    with pytest.raises(InvariantViolated, match="I2"):
        tracker.add(make.order(cl_ord_id=cl_ord_id))


def test_order_never_overfills_in_silence(make):
    tracker = tracker_with(make, state=OrderState.OPEN, venue_order_id="O-1", qty=Decimal(1))
    applied = tracker.apply_report(make.trade("E-1", "2"), make.at)

    assert [AlarmCode.OVERFILLED] == [alarm.code for alarm in applied.alarms]


def test_total_below_what_is_filled_is_told_and_leaves_nothing_open(make):
    tracker = tracker_with(make, state=OrderState.PARTIALLY_FILLED, venue_order_id="O-1", cum_qty=Decimal(6))
    applied = [tracker.apply_report(make.report("amended", order_qty=Decimal(4)), make.at) for _ in range(2)]

    assert [AlarmCode.OVERFILLED] * 2 == [alarm.code for each in applied for alarm in each.alarms]
    assert all(each.is_incomplete for each in applied)
    assert (Decimal(6), Decimal(0)) == (tracker.get(ID).qty, tracker.get(ID).open_qty)


def test_query_that_shows_a_total_below_what_is_filled_is_told_and_asks_for_no_other(make):
    tracker = tracker_with(make, state=OrderState.OPEN, venue_order_id="O-1", cum_qty=Decimal(6))
    applied = tracker.apply_venue_order(make.venue_order(qty=Decimal(4)), make.at)

    assert [AlarmCode.OVERFILLED] == [alarm.code for alarm in applied.alarms]
    assert not applied.is_incomplete
    assert Decimal(6) == tracker.get(ID).qty


def test_nothing_is_open_of_an_order_that_is_overfilled(make):
    assert Decimal(0) == make.order(qty=Decimal(4), cum_qty=Decimal(6)).open_qty
    assert Decimal(1) == make.order(qty=Decimal(4), cum_qty=Decimal(3)).open_qty


def test_lagging_query_does_not_take_back_an_amend_that_the_stream_told(make):
    tracker = tracker_with(make, state=OrderState.OPEN, venue_order_id="O-1")
    tracker.apply_report(make.report("amended", order_qty=Decimal(4)), make.at)
    tracker.apply_venue_order(make.venue_order(qty=Decimal(10)), make.at + timedelta(seconds=59))

    assert Decimal(4) == tracker.get(ID).qty

    tracker.apply_venue_order(make.venue_order(qty=Decimal(3)), make.at + timedelta(seconds=60))

    assert Decimal(3) == tracker.get(ID).qty


@pytest.mark.parametrize("state", [OrderState.UNKNOWN, OrderState.OPEN])
def test_query_tells_the_prices_of_an_order_that_an_earlier_process_sent_or_amended(make, state):
    tracker = tracker_with(make, state=state, venue_order_id="O-1", state_at=make.at)
    row = make.venue_order(qty=Decimal(4), limit_price=Decimal("98.5"), trigger_price=Decimal("99.5"))
    applied = tracker.apply_venue_order(row, make.at)
    order = tracker.get(ID)

    assert (Decimal(4), Decimal("98.5"), Decimal("99.5")) == (order.qty, order.limit_price, order.trigger_price)
    assert (order,) == applied.change.orders


def test_lagging_query_does_not_take_back_prices_that_the_stream_told(make):
    tracker = tracker_with(make, state=OrderState.OPEN, venue_order_id="O-1")
    tracker.apply_report(make.report("amended", trigger_price=Decimal(97), limit_price=Decimal(96)), make.at)
    stale = make.venue_order(limit_price=Decimal("98.5"), trigger_price=Decimal("99.5"))
    tracker.apply_venue_order(stale, make.at + timedelta(seconds=59))
    order = tracker.get(ID)

    assert (Decimal(96), Decimal(97)) == (order.limit_price, order.trigger_price)


def test_snapshot_settles_the_quantity_of_an_unanswered_amend(make):
    tracker = tracker_with(make, state=OrderState.PENDING_AMEND, venue_order_id="O-1", state_at=make.at)
    later = make.at + timedelta(seconds=5)
    tracker.apply_report(make.report("new", cl_ord_id=ID, symbol="ABC/USD", order_qty=Decimal(7)), later)
    tracker.apply_venue_order(make.venue_order(qty=Decimal(10)), later)

    assert OrderState.OPEN is tracker.get(ID).state
    assert Decimal(7) == tracker.get(ID).qty


def test_snapshot_that_repeats_old_fills_leaves_no_report_waiting(make):
    tracker = OrderTracker()
    tracker.load((), (), [f"E-{n}" for n in range(50)])
    for n in range(50):
        tracker.apply_report(make.trade(f"E-{n}", "1", order_id=f"O-{n}"), make.at)

    assert 0 == tracker.orphans()
    assert 50 == tracker.duplicate_fills


def test_ladder_forgets_waiting_reports_of_foreign_orders_and_old_ones(make):
    tracker = OrderTracker()
    for n in range(3):
        tracker.apply_report(make.trade(f"E-{n}", "1", order_id=f"O-{n}"), make.at)
    tracker.settle_orphans({"O-1"}, make.at)

    assert 2 == tracker.orphans()

    tracker.settle_orphans((), make.at + timedelta(seconds=1))

    assert 0 == tracker.orphans()


def test_two_orders_of_the_venue_under_one_id_are_told(make):
    tracker = tracker_with(make, state=OrderState.OPEN, venue_order_id="O-1")
    applied = tracker.apply_report(make.report("new", "O-2", cl_ord_id=ID, symbol="ABC/USD"), make.at)

    assert [AlarmCode.SECOND_VENUE_ORDER] == [alarm.code for alarm in applied.alarms]
    assert applied.is_incomplete
    assert "O-1" == tracker.get(ID).venue_order_id


def test_filled_order_without_a_quantity_waits_for_its_whole_quantity(make):
    tracker = tracker_with(make, state=OrderState.OPEN, venue_order_id="O-1")
    applied = tracker.apply_report(make.report("filled", cum_qty=Decimal(0)), make.at)

    assert applied.is_incomplete
    assert OrderState.OPEN is tracker.get(ID).state


def test_booked_ids_are_kept_up_to_a_bound(make):
    tracker = OrderTracker(fills_max=2)
    tracker.remember_booked(["E-1", "E-2", "E-3"])

    assert {"E-2", "E-3"} == tracker.exec_ids


@pytest.mark.parametrize(
    ("changes", "event", "what"),
    [
        ({"state": OrderState.PENDING_SUBMIT}, OrderEvent.ACKED, "the venue's order id"),
        ({"state": OrderState.PENDING_SUBMIT}, OrderEvent.REJECTED, "the reason"),
        ({"state": OrderState.PENDING_SUBMIT}, OrderEvent.SUBMIT_SENT, "a deadline and an expire time"),
        ({"state": OrderState.OPEN}, OrderEvent.CANCEL_SENT, "the venue's order id"),
    ],
)
def test_order_without_the_data_of_its_state_is_an_error_of_ours(make, changes, event, what):
    tracker = tracker_with(make, **changes)

    with pytest.raises(InvariantViolated, match=what):
        tracker.apply_event(ID, event, at=make.at)


def test_what_was_sent_can_not_be_withdrawn(make):
    tracker = tracker_with(make, state=OrderState.SUBMITTED)
    applied = tracker.apply_event(ID, OrderEvent.WITHDRAWN, at=make.at, reason="no")

    assert [AlarmCode.PROTOCOL_VIOLATION] == [alarm.code for alarm in applied.alarms]
    assert OrderState.SUBMITTED is tracker.get(ID).state


@pytest.mark.parametrize("state", [OrderState.REJECTED, OrderState.NEVER_ACCEPTED])
def test_word_of_an_order_that_was_given_up_is_told_and_asked_about(make, state):
    tracker = tracker_with(make, state=state)
    applied = tracker.apply_report(make.report("canceled", cl_ord_id=ID, cum_qty=Decimal(1)), make.at)

    assert applied.is_incomplete
    assert [AlarmCode.ALIVE_AFTER_END] == [alarm.code for alarm in applied.alarms]
    assert state is tracker.get(ID).state


def test_ended_sale_counts_as_sold_before_its_trades_are_booked(make):
    tracker = tracker_with(make, state=OrderState.ACKED)
    tracker.apply_report(make.trade("E-1", "10", cum_qty=Decimal(10), cl_ord_id=ID), make.at)
    tracker.add(make.order(cl_ord_id=SALE, side=Side.SELL, role=OrderRole.PROTECTIVE_STOP, state=OrderState.ACKED))

    assert Decimal(10) == tracker.unsold_qty("ABC/USD")
    assert not tracker.is_ended(SALE)

    end = make.report("canceled", "O-2", cl_ord_id=SALE, cum_qty=Decimal(4))
    tracker.apply_report(end, make.at)

    assert tracker.is_ended(SALE)
    assert Decimal(10) == tracker.position("ABC/USD").qty
    assert Decimal(6) == tracker.unsold_qty("ABC/USD")
    assert Decimal(0) == tracker.unsold_qty("XYZ/USD")

    tracker.apply_report(make.trade("E-2", "3", order_id="O-2", cum_qty=Decimal(3)), make.at)

    assert (Decimal(7), Decimal(6)) == (tracker.position("ABC/USD").qty, tracker.unsold_qty("ABC/USD"))

    tracker.apply_report(make.trade("E-3", "1", order_id="O-2", cum_qty=Decimal(4)), make.at)

    assert not tracker.is_ended(SALE)
    assert OrderState.CANCELED is tracker.get(SALE).state
    assert Decimal(6) == tracker.position("ABC/USD").qty == tracker.unsold_qty("ABC/USD")


def test_purchase_that_ended_takes_nothing_off_what_is_held(make):
    tracker = tracker_with(make, state=OrderState.ACKED)
    tracker.apply_report(make.trade("E-1", "4", cum_qty=Decimal(4), cl_ord_id=ID), make.at)
    tracker.apply_report(make.report("canceled", cum_qty=Decimal(6)), make.at)

    assert tracker.is_ended(ID)
    assert Decimal(4) == tracker.unsold_qty("ABC/USD")


def test_sale_of_another_symbol_takes_nothing_off_what_is_held(make):
    tracker = tracker_with(make, state=OrderState.ACKED)
    tracker.apply_report(make.trade("E-1", "4", cum_qty=Decimal(4), cl_ord_id=ID), make.at)
    tracker.add(make.order(cl_ord_id=SALE, symbol="XYZ/USD", side=Side.SELL, state=OrderState.ACKED))
    tracker.apply_report(make.report("canceled", "O-2", cl_ord_id=SALE, cum_qty=Decimal(3)), make.at)

    assert tracker.is_ended(SALE)
    assert Decimal(4) == tracker.unsold_qty("ABC/USD")
