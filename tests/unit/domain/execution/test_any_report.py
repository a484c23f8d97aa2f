"""The tracker under reports that contradict each other and themselves: nothing that the venue says ends the process.

An invariant that a report could break would end execution at every start anew, for a snapshot repeats its reports.
"""

# mypy: disable-error-code="arg-type, var-annotated"
from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.domain.execution.fills import balance_deltas
from krakenbot.domain.execution.order import OrderEvent, OrderState
from krakenbot.domain.execution.reports import ExecType, ExecutionReport, Fee
from krakenbot.domain.execution.tracker import OrderTracker
from krakenbot.domain.values import Side

ENTRY, STOP = "kbe000000000001", "kbs000000000002"
IDS = st.sampled_from([ENTRY, STOP, "kbe000000000009", "somebody else's", None])
ORDER_IDS = st.sampled_from(["O-1", "O-2", "O-3"])
QTY = st.sampled_from([None, *map(Decimal, (0, 4, 6, 10, 12))])
PRICE = st.sampled_from([None, Decimal(0), Decimal(99)])
STATUS = st.sampled_from(
    [None, "pending_new", "new", "open", "partially_filled", "filled", "canceled", "expired", "odd"]
)
FEES = st.lists(st.builds(Fee, asset=st.sampled_from(["USD", "ABC"]), qty=st.sampled_from([Decimal(0), Decimal(2)])))
ANSWERS = st.sampled_from(
    [
        OrderEvent.REJECTED,
        OrderEvent.OUTCOME_UNKNOWN,
        OrderEvent.CANCEL_SENT,
        OrderEvent.CANCEL_REFUSED,
        OrderEvent.AMEND_SENT,
        OrderEvent.AMEND_REFUSED,
        OrderEvent.PROVEN_ABSENT,
        OrderEvent.NOT_SENT,
    ]
)


@st.composite
def fields_of_a_report(draw):
    """What the codec lets through: on trade rows quantity and price are above zero, symbol and side are there."""
    exec_type = draw(st.sampled_from(list(ExecType)))
    is_trade = exec_type is ExecType.TRADE
    fields = {
        "exec_type": exec_type,
        "order_id": draw(ORDER_IDS),
        "cl_ord_id": draw(IDS),
        "symbol": draw(st.sampled_from(["ABC/USD", "XYZ/USD"] if is_trade else ["ABC/USD", "XYZ/USD", None])),
        "side": draw(st.sampled_from([*Side] if is_trade else [*Side, None])),
        "order_status": draw(STATUS),
        "order_qty": draw(QTY),
        "cum_qty": draw(QTY),
        "limit_price": draw(PRICE),
        "trigger_price": draw(PRICE),
        "reason": draw(st.sampled_from([None, "", "why"])),
    }
    if is_trade:
        fields |= {
            "exec_id": f"E-{draw(st.integers(0, 6))}",
            "last_qty": draw(st.sampled_from([Decimal(1), Decimal(4), Decimal(11)])),
            "last_price": draw(st.sampled_from([Decimal(1), Decimal(100)])),
            "fees": tuple(draw(FEES)),
        }
    return fields


@given(st.data())
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_report_row_or_answer_breaks_an_invariant(make, data):
    tracker = OrderTracker(orphans_max=3, closed_max=2)
    sent = {"state_at": make.at, "deadline_at": make.at, "expire_at": make.at}
    tracker.add(make.order(cl_ord_id=ENTRY, state=OrderState.SUBMITTED, **sent))
    unsure = data.draw(st.sampled_from([OrderState.PENDING_SUBMIT, OrderState.UNKNOWN]))
    tracker.add(make.order(cl_ord_id=STOP, side=Side.SELL, state=unsure, **sent))
    fills = []
    for n in range(data.draw(st.integers(1, 12))):
        at = make.at + timedelta(seconds=n)
        match data.draw(st.sampled_from(["report", "report", "report", "row", "answer", "acked"])):
            case "report":
                applied = tracker.apply_report(ExecutionReport(at=at, **data.draw(fields_of_a_report())), at)
                fills += applied.change.fills
            case "row":
                row = make.venue_order(
                    data.draw(ORDER_IDS),
                    data.draw(IDS),
                    status=data.draw(STATUS) or "pending",
                    qty=data.draw(QTY) or Decimal(0),
                    cum_qty=data.draw(QTY) or Decimal(0),
                )
                fills += tracker.apply_venue_order(row, at).change.fills
            case answer:
                cl_ord_id = data.draw(st.sampled_from([ENTRY, STOP]))
                if tracker.get(cl_ord_id) is None:
                    continue
                if answer == "acked":
                    order_id = data.draw(ORDER_IDS)
                    applied = tracker.apply_event(cl_ord_id, OrderEvent.ACKED, at=at, venue_order_id=order_id)
                else:
                    applied = tracker.apply_event(cl_ord_id, data.draw(ANSWERS), at=at, reason="why")
                fills += applied.change.fills

    live = {order.cl_ord_id for order in tracker.live()}

    assert set(tracker.overdue(at, 0.0)) <= live
    assert all(tracker.get(order.cl_ord_id) is order for order in tracker.lacking())
    assert len(fills) == len({fill.exec_id for fill in fills})
    assert tracker.position("ABC/USD").qty == sum((balance_deltas(fill)[0] for fill in fills), Decimal(0))
    for cl_ord_id in {ENTRY, STOP} & {fill.cl_ord_id for fill in fills}:
        order = tracker.get(cl_ord_id)
        assert order is None or order.cum_qty == sum(f.qty for f in fills if f.cl_ord_id == cl_ord_id)
