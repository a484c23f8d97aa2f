"""The tracker beside a small venue: reports reordered, doubled, lost and late, queries that lag, outcomes unknown.

The venue is the naive reference: it knows which orders and fills there are, and nothing of reports. After every step
the ledger holds only fills of the venue, each once, filled quantities have not fallen, and no terminal state was left.
After one ladder that does not lag, ledger and open orders are the venue's.
"""

# mypy: disable-error-code="arg-type, union-attr, index, misc, operator, assignment"
from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from attrs import define, evolve, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from krakenbot.domain.execution.applied import AlarmCode, Applied
from krakenbot.domain.execution.order import Order, OrderEvent, OrderRole, OrderState, OrderType
from krakenbot.domain.execution.reconcile import CorrectionKind, Proof, VenueView, diff, newest_shown
from krakenbot.domain.execution.reports import ExecType, ExecutionReport, Fee, VenueFill, VenueOrder
from krakenbot.domain.execution.tracker import OrderTracker
from krakenbot.domain.values import Side

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ABC = "ABC/USD"
LAG_S = 60
CLOSED_MAX = 4
# A ladder looks up every order it shows; those that were given up must not push each other out while it does.
REFUSED_MAX = CLOSED_MAX - 1
PICK = st.integers(0, 1_000)
STATES = {"open": None, "closed": OrderState.FILLED, "canceled": OrderState.CANCELED, "expired": OrderState.EXPIRED}
GIVEN_UP = {OrderState.NEVER_ACCEPTED, OrderState.REJECTED}


@define
class AtVenue:
    """An order as the venue has it, and how it was at earlier times."""

    row: VenueOrder
    history: list[tuple[datetime, VenueOrder]] = field(factory=list)

    def change(self, at: datetime, **changes: object) -> None:
        self.row = evolve(self.row, **changes)
        self.history.append((at, self.row))

    def as_of(self, at: datetime) -> VenueOrder | None:
        return next((row for since, row in reversed(self.history) if since <= at), None)


class Lifecycle(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.at = START
        self.tracker = OrderTracker(closed_max=CLOSED_MAX, orphans_max=5)
        self.orders: dict[str, AtVenue] = {}
        self.unsent: dict[str, Order] = {}
        self.fills: list[VenueFill] = []
        self.wire: list[ExecutionReport] = []
        self.booked: list[str] = []
        self.terminal: dict[str, OrderState] = {}
        self.filled: dict[str, Decimal] = {}
        self.store: dict[str, Order] = {}
        self.alarms: list[AlarmCode] = []
        self.clean: dict[str, int] = {}
        self.count = 0
        self.refused = 0

    # what every input goes through

    def take(self, applied: Applied) -> None:
        for order in applied.change.orders:
            before = self.terminal.get(order.cl_ord_id)

            assert before is None or before is order.state, "a terminal state was left"
            assert order.cum_qty >= self.filled.get(order.cl_ord_id, Decimal(0)), "cum_qty fell"

            if order.state.is_terminal:
                self.terminal[order.cl_ord_id] = order.state
            self.filled[order.cl_ord_id] = order.cum_qty
            self.store[order.cl_ord_id] = order
        self.booked += [fill.exec_id for fill in applied.change.fills]
        self.alarms += [alarm.code for alarm in applied.alarms]

    def number(self) -> int:
        self.count += 1
        return self.count

    def tell(self, order_id: str, exec_type: str, **fields: object) -> None:
        self.wire.append(ExecutionReport(order_id=order_id, exec_type=ExecType(exec_type), at=self.at, **fields))

    def ours(self) -> list[AtVenue]:
        return [each for each in self.orders.values() if each.row.cl_ord_id is not None]

    def live(self) -> list[AtVenue]:
        return [each for each in self.orders.values() if each.row.status == "open"]

    # requests of ours and their answers

    @rule(outcome=st.sampled_from(["ack", "late", "lost_alive", "unsure"]), qty=st.integers(1, 5))
    def submit(self, outcome, qty):
        cl_ord_id = f"kbe{self.number():012d}"
        order = Order(
            cl_ord_id=cl_ord_id,
            venue_id="test",
            symbol=ABC,
            side=Side.BUY,
            role=OrderRole.ENTRY,
            order_type=OrderType.LIMIT,
            qty=Decimal(qty),
            limit_price=Decimal(100),
            trigger_price=None,
            trigger=None,
            post_only=True,
            state=OrderState.PENDING_SUBMIT,
            created_at=self.at,
            state_at=self.at,
            deadline_at=self.at + timedelta(seconds=5),
            expire_at=self.at + timedelta(seconds=30),
            record={},
        )
        self.tracker.add(order)
        self.store[cl_ord_id] = order
        self.take(self.tracker.apply_event(cl_ord_id, OrderEvent.SUBMIT_SENT, at=self.at))
        order_id = None if outcome == "unsure" else self.accept(order)
        if outcome == "ack":
            self.take(self.tracker.apply_event(cl_ord_id, OrderEvent.ACKED, at=self.at, venue_order_id=order_id))
        elif outcome != "late":
            self.take(self.tracker.apply_event(cl_ord_id, OrderEvent.OUTCOME_UNKNOWN, at=self.at))
            if outcome == "unsure":
                self.unsent[cl_ord_id] = order

    def accept(self, order: Order) -> str:
        order_id = f"O-{self.number()}"
        row = VenueOrder(
            order_id=order_id,
            cl_ord_id=order.cl_ord_id,
            symbol=ABC,
            side=Side.BUY,
            status="open",
            order_type="limit",
            qty=order.qty,
            cum_qty=Decimal(0),
            limit_price=order.limit_price,
            trigger_price=None,
            opened_at=self.at,
        )
        self.orders[order_id] = AtVenue(row, [(self.at, row)])
        self.tell(order_id, "pending_new", cl_ord_id=order.cl_ord_id, symbol=ABC, side=Side.BUY, order_qty=order.qty)
        self.tell(order_id, "new")
        return order_id

    @precondition(lambda self: self.unsent)
    @rule(pick=PICK)
    def late_acceptance(self, pick):
        """A request that nobody believed in arrives after all, perhaps after its absence was proven."""
        self.accept(self.unsent.pop(sorted(self.unsent)[pick % len(self.unsent)]))

    @rule(pick=PICK, event=st.sampled_from(["cancel_sent", "cancel_refused", "amend_sent", "amend_refused", "acked"]))
    def request(self, pick, event):
        known = sorted(cl for cl in self.store if self.tracker.get(cl) is not None)
        if known:
            order = self.tracker.get(known[pick % len(known)])
            if event != "acked" or order.venue_order_id is not None:
                self.take(self.tracker.apply_event(order.cl_ord_id, OrderEvent(event), at=self.at))

    @precondition(lambda self: self.refused < REFUSED_MAX)
    @rule(pick=PICK)
    def refuse(self, pick):
        """An answer says no, whatever the venue did; it may even have executed the order."""
        asked = sorted(
            order.cl_ord_id
            for order in self.tracker.live()
            if order.state in {OrderState.SUBMITTED, OrderState.UNKNOWN}
        )
        if asked:
            self.refused += 1
            cl_ord_id = asked[pick % len(asked)]
            self.take(self.tracker.apply_event(cl_ord_id, OrderEvent.REJECTED, at=self.at, reason="no"))

    # what happens at the venue

    @rule()
    def foreign_order(self):
        order_id = f"F-{self.number()}"
        row = VenueOrder(
            order_id=order_id,
            cl_ord_id=None,
            symbol=ABC,
            side=Side.BUY,
            status="open",
            order_type="limit",
            qty=Decimal(3),
            cum_qty=Decimal(0),
            limit_price=Decimal(100),
            trigger_price=None,
            opened_at=self.at,
        )
        self.orders[order_id] = AtVenue(row, [(self.at, row)])
        self.tell(order_id, "pending_new", symbol=ABC, side=Side.BUY, order_qty=Decimal(3))

    @precondition(live)
    @rule(pick=PICK, qty=st.integers(1, 5))
    def trade(self, pick, qty):
        each = self.live()[pick % len(self.live())]
        row = each.row
        part = min(Decimal(qty), row.qty - row.cum_qty)
        total = row.cum_qty + part
        fill = VenueFill(
            exec_id=f"E-{self.number()}",
            order_id=row.order_id,
            symbol=ABC,
            side=Side.BUY,
            price=Decimal(100),
            qty=part,
            cost=100 * part,
            fee=Decimal("0.25"),
            fee_asset="USD",
            is_maker=True,
            at=self.at,
        )
        self.fills.append(fill)
        self.tell(row.order_id, "trade", **trade_fields(fill), cum_qty=total)
        is_filled = total == row.qty
        each.change(
            self.at,
            cum_qty=total,
            status="closed" if is_filled else "open",
            closed_at=self.at if is_filled else None,
        )
        if is_filled:
            self.tell(row.order_id, "filled", cum_qty=total)

    @precondition(live)
    @rule(pick=PICK, status=st.sampled_from(["canceled", "expired"]))
    def close(self, pick, status):
        each = self.live()[pick % len(self.live())]
        each.change(self.at, status=status, closed_at=self.at)
        self.tell(each.row.order_id, status, cum_qty=each.row.cum_qty)

    @precondition(live)
    @rule(pick=PICK, more=st.integers(1, 3))
    def amend(self, pick, more):
        each = self.live()[pick % len(self.live())]
        each.change(self.at, qty=each.row.qty + more)
        self.tell(each.row.order_id, "amended", order_qty=each.row.qty)

    # how we hear of it

    @precondition(lambda self: self.wire)
    @rule(pick=PICK, fate=st.sampled_from(["next", "next", "any", "double", "lost"]))
    def deliver(self, pick, fate):
        at = 0 if fate == "next" else pick % len(self.wire)
        report = self.wire[at] if fate == "double" else self.wire.pop(at)
        if fate != "lost":
            self.take(self.tracker.apply_report(report, self.at))

    @rule()
    def reconnect(self):
        """All that was on the wire is gone; a snapshot of open orders and the newest fills follows."""
        self.wire.clear()
        for each in self.live():
            self.tell(
                each.row.order_id,
                "new",
                cl_ord_id=each.row.cl_ord_id,
                symbol=ABC,
                order_qty=each.row.qty,
                cum_qty=each.row.cum_qty,
                order_status="new",
            )
        for fill in self.fills[-3:]:
            self.tell(fill.order_id, "trade", **trade_fields(fill))
        for report in self.wire:
            self.take(self.tracker.apply_report(report, self.at))
        self.wire.clear()

    @rule(seconds=st.integers(1, 90))
    def wait(self, seconds):
        self.at += timedelta(seconds=seconds)

    @rule(lag_s=st.integers(0, LAG_S))
    def ladder(self, lag_s):
        self.climb(self.at - timedelta(seconds=lag_s))

    def climb(self, seen_at: datetime) -> None:
        rows = [row for each in self.orders.values() if (row := each.as_of(seen_at)) is not None]
        view = VenueView(
            at=self.at,
            open_orders=tuple(row for row in rows if row.status == "open"),
            closed_orders=tuple(row for row in rows if row.status != "open"),
            fills=tuple(fill for fill in self.fills if fill.at <= seen_at),
        )

        assert newest_shown(view) is None or newest_shown(view) <= seen_at

        for row in rows:
            if row.cl_ord_id is not None and self.tracker.get(row.cl_ord_id) is None:
                self.take(self.tracker.adopt(self.store[row.cl_ord_id], self.at))
        known = {o.cl_ord_id: o for o in self.tracker.live()}
        known |= {row.cl_ord_id: order for row in rows if row.cl_ord_id and (order := self.tracker.get(row.cl_ord_id))}
        found = diff(known.values(), self.tracker.exec_ids, view, clean_ladders=self.clean, proof=Proof())
        self.clean = found.clean_ladders
        for correction in found.corrections:
            self.apply(correction)

    def apply(self, correction) -> None:
        row = self.tracker.get(correction.cl_ord_id)
        match correction.kind:
            case CorrectionKind.BOOK_FILL:
                self.take(self.tracker.book_query_fill(row, correction.fill, self.at))
            case CorrectionKind.UPDATE_ORDER:
                self.take(self.tracker.apply_venue_order(correction.order, self.at))
            case CorrectionKind.CANCEL_ALIVE:
                each = self.orders[correction.order_id]
                if each.row.status == "open":
                    each.change(self.at, status="canceled", closed_at=self.at)
                    self.tell(correction.order_id, "canceled", cum_qty=each.row.cum_qty)
            case CorrectionKind.PROVEN_ABSENT:
                reason = correction.detail
                self.take(self.tracker.apply_event(row.cl_ord_id, OrderEvent.PROVEN_ABSENT, at=self.at, reason=reason))
            case CorrectionKind.STILL_UNKNOWN | CorrectionKind.NOT_SHOWN:
                assert not row.state.is_terminal
            case _:
                raise AssertionError(correction.kind)

    # what holds after every step

    @invariant()
    def ledger_holds_own_fills_once(self):
        own = {each.row.order_id for each in self.ours()}

        assert len(self.booked) == len(set(self.booked)), "a fill was booked twice"
        assert set(self.booked) <= {fill.exec_id for fill in self.fills if fill.order_id in own}

    @invariant()
    def position_is_the_sum_of_the_ledger(self):
        held = sum((fill.qty for fill in self.fills if fill.exec_id in set(self.booked)), Decimal(0))

        assert held == self.tracker.position(ABC).qty == sum(self.filled.values(), Decimal(0))

    @invariant()
    def closed_order_lacks_nothing_that_we_were_told_of(self):
        for each in self.ours():
            order = self.store[each.row.cl_ord_id]
            if order.state in {OrderState.FILLED, OrderState.CANCELED, OrderState.EXPIRED}:
                assert order.cum_qty == each.row.cum_qty

    @invariant()
    def only_live_orders_wait_for_their_end(self):
        for cl_ord_id in self.tracker.overdue(self.at, 0.0):
            assert not self.tracker.get(cl_ord_id).state.is_terminal
        assert all(order.cl_ord_id in self.store for order in self.tracker.lacking())

    def teardown(self):
        """Climb ladders that do not lag, the last one when nothing on the wire can be newer than what it shows."""
        self.at += timedelta(seconds=300)
        self.climb(self.at)
        for report in self.wire:
            self.take(self.tracker.apply_report(report, self.at))
        # The wire may have told of amends out of their order: only a query that cannot lag behind it says which counts.
        self.at += timedelta(seconds=LAG_S)
        self.climb(self.at)
        own = {each.row.order_id for each in self.ours()}

        assert {fill.exec_id for fill in self.fills if fill.order_id in own} == set(self.booked)
        assert [] == self.tracker.lacking()

        for each in self.ours():
            order = self.store[each.row.cl_ord_id]
            expected = STATES[each.row.status]

            assert order.cum_qty == each.row.cum_qty
            if order.state in GIVEN_UP:
                assert each.row.status != "open", "given up, and alive"
            elif expected is None:
                assert not order.state.is_terminal
                assert order.qty == each.row.qty
            else:
                assert expected is order.state
        assert AlarmCode.SECOND_VENUE_ORDER not in self.alarms
        assert AlarmCode.FILL_REFUSED not in self.alarms


def trade_fields(fill: VenueFill) -> dict[str, object]:
    return {
        "exec_id": fill.exec_id,
        "last_qty": fill.qty,
        "last_price": fill.price,
        "cost": fill.cost,
        "symbol": ABC,
        "fees": (Fee(asset=fill.fee_asset, qty=fill.fee),),
    }


Lifecycle.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLifecycle = Lifecycle.TestCase
