"""The judge of the orders suite complains about each kind of violation, and about nothing else.

Each test takes one sound case (an entry that was filled, its stop that rests), damages it in one place, and looks that
the checker of that invariant says so.
"""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve
from tests.faults.orders import invariants
from tests.faults.orders.invariants import Away
from tests.faults.orders.ledger import Ledger
from tests.faults.orders.record import Truth

AT = datetime(2026, 11, 22, 10, tzinfo=UTC)
SECOND = 10**9
AT_NS = int(AT.timestamp()) * SECOND
ENTRY, STOP = "kbe000000000000", "kbs000000000000"


def accepted(order_id: str, name: str, at_s: float, side: str = "buy", **more: str) -> dict[str, Any]:
    row = {"kind": "accepted", "at_ns": AT_NS + int(at_s * SECOND), "order_id": order_id, "cl_ord_id": name}
    kind = "limit" if side == "buy" else "stop-loss"
    price = "100" if side == "buy" else None
    return row | {"symbol": "A/USD", "side": side, "order_type": kind, "qty": "2", "limit_price": price} | more


def traded(exec_id: str, at_s: float) -> dict[str, Any]:
    row = {"kind": "traded", "at_ns": AT_NS + int(at_s * SECOND), "exec_id": exec_id, "order_id": "O1"}
    money = {"qty": "2", "price": "100", "cost": "200", "fee": "0.5", "fee_asset": "USD"}
    return row | {"cl_ord_id": ENTRY, "symbol": "A/USD", "side": "buy"} | money


def paid(asset: str, amount: str, fee: str = "0") -> dict[str, Any]:
    return {"kind": "paid", "at_ns": AT_NS, "asset": asset, "amount": amount, "fee": fee}


def ended(order_id: str, at_s: float, kind: str = "filled") -> dict[str, Any]:
    return {"kind": kind, "at_ns": AT_NS + int(at_s * SECOND), "order_id": order_id}


def truth_of(*rows: dict[str, Any]) -> Truth:
    truth = Truth()
    for row in rows:
        truth.take(row)
    return truth


SOUND_ROWS = (
    accepted("O1", ENTRY, 1.0),
    traded("T1", 2.0),
    paid("USD", "-200", "0.5"),
    paid("A", "2"),
    ended("O1", 2.0),
    accepted("O2", STOP, 2.5, side="sell"),
)


def order(name: str, role: str, state: str, cum_qty: str, generation: int | None = 7) -> dict[str, Any]:
    ids = {"cl_ord_id": name, "venue_order_id": "O", "symbol": "A/USD", "role": role, "lease_epoch": 1}
    return ids | {"state": state, "cum_qty": Decimal(cum_qty), "generation_id": generation}


def step(name: str, before: str | None, after: str, at_s: float, cum: tuple[str | None, str] = ("0", "0")) -> Any:
    old, new = cum
    row = {"cl_ord_id": name, "is_birth": before is None, "old_state": before, "new_state": after, "lease_epoch": 1}
    cums = {"old_cum": None if old is None else Decimal(old), "new_cum": Decimal(new)}
    return row | cums | {"committed_at": AT + timedelta(seconds=at_s)}


def event(name: str, before: str, after: str) -> dict[str, Any]:
    return {"cl_ord_id": name, "from_state": before, "to_state": after}


FILL = {
    "exec_id": "T1",
    "cl_ord_id": ENTRY,
    "venue_order_id": "O1",
    "venue_id": "here/1",
    "symbol": "A/USD",
    "side": "buy",
    "price": Decimal(100),
    "qty": Decimal(2),
    "cost": Decimal(200),
    "fee_asset": "USD",
    "fee_qty": Decimal("0.5"),
    "is_maker": True,
    "at": AT,
    "recorded_at": AT,
    "source": "stream",
    "committed_at": AT + timedelta(seconds=2.2),
}
POSITION = {"qty": Decimal(2), "cost_quote": Decimal("200.5"), "realized_quote": Decimal(0)}


def sound() -> tuple[Truth, Ledger]:
    births = {ENTRY: step(ENTRY, None, "pending_submit", 0.5), STOP: step(STOP, None, "pending_submit", 0.5)}
    steps = (
        *births.values(),
        step(ENTRY, "pending_submit", "acked", 1.2),
        step(ENTRY, "acked", "filled", 2.2, ("0", "2")),
        step(STOP, "pending_submit", "open", 2.7),
    )
    ledger = Ledger(
        orders={ENTRY: order(ENTRY, "entry", "filled", "2"), STOP: order(STOP, "protective_stop", "open", "0", None)},
        fills={"T1": dict(FILL)},
        positions={"A/USD": dict(POSITION)},
        births=births,
        steps=steps,
        events=(
            event(ENTRY, "pending_submit", "acked"),
            event(ENTRY, "acked", "filled"),
            event(STOP, "pending_submit", "open"),
        ),
        generations=(6, 7, 7),
    )
    return truth_of(*SOUND_ROWS), ledger


def judged(truth: Truth, ledger: Ledger, **more: Any) -> list[str]:
    given: dict[str, Any] = {"started_ns": (), "away": (), "rest_refused": 0, "is_proven": True}
    return invariants.judge(truth, ledger, **given | more)


def only(invariant: str, findings: list[str]) -> bool:
    return bool(findings) and all(finding.startswith(f"{invariant}:") for finding in findings)


def changed(ledger: Ledger, name: str, key: str, **fields: Any) -> Ledger:
    table = deepcopy(getattr(ledger, name))
    table[key] |= fields
    return evolve(ledger, **{name: table})


def test_a_sound_case_has_no_finding():
    assert [] == judged(*sound(), started_ns=(AT_NS,))


def test_an_order_without_a_row_breaks_i1():
    truth, ledger = sound()

    assert only("I1", invariants.rows_first(truth, evolve(ledger, births={ENTRY: ledger.births[ENTRY]})))


def test_a_row_that_came_after_its_order_breaks_i1():
    truth, ledger = sound()
    late = changed(ledger, "births", ENTRY, committed_at=AT + timedelta(seconds=1.1))

    assert only("I1", invariants.rows_first(truth, late))


def test_the_journal_excuses_a_late_row_of_a_sell_while_the_database_is_away_and_of_nothing_else():
    truth, ledger = sound()
    late = changed(ledger, "births", STOP, committed_at=AT + timedelta(seconds=9))
    away = [Away(since_ns=AT_NS, until_ns=AT_NS + 5 * SECOND)]

    assert [] == invariants.rows_first(truth, late, away)
    assert only("I1", invariants.rows_first(truth, late))
    late = changed(late, "births", ENTRY, committed_at=AT + timedelta(seconds=9))
    assert only("I1", invariants.rows_first(truth, late, away))


def test_a_second_order_of_the_same_id_breaks_i2():
    truth, ledger = sound()
    truth.take(accepted("O3", ENTRY, 3.0))

    assert only("I2", [f for f in invariants.no_duplicates(truth, ledger) if "orders at" in f])


def test_two_entries_of_one_plan_break_i2():
    truth, ledger = sound()
    truth.take(accepted("O3", "kbe1", 3.0))
    ledger = evolve(ledger, orders=ledger.orders | {"kbe1": order("kbe1", "entry", "open", "0")})

    assert only("I2", invariants.no_duplicates(truth, ledger))


def test_a_lost_fill_and_one_too_many_break_i3():
    truth, ledger = sound()

    assert only("I3", invariants.same_fills(truth, evolve(ledger, fills={})))
    assert only("I3", invariants.same_fills(truth, evolve(ledger, fills={**ledger.fills, "T2": dict(FILL)})))


@pytest.mark.parametrize("name", ["qty", "price", "cost", "fee_qty"])
def test_a_wrong_digit_of_a_fill_breaks_i3(name: str):
    truth, ledger = sound()
    wrong = changed(ledger, "fills", "T1", **{name: FILL[name] + Decimal("1e-10")})  # type: ignore[operator]

    assert only("I3", invariants.same_fills(truth, wrong))


def test_a_balance_that_moved_otherwise_breaks_i4():
    truth, ledger = sound()
    truth.take(paid("USD", "-0.0000000001"))

    assert only("I4", invariants.same_balances(truth, ledger))


def test_a_position_that_is_not_the_sum_of_its_fills_breaks_i4():
    truth, ledger = sound()

    assert only("I4", invariants.same_balances(truth, changed(ledger, "positions", "A/USD", qty=Decimal(4))))
    assert only("I4", invariants.same_balances(truth, changed(ledger, "positions", "A/USD", cost_quote=Decimal(1))))
    assert only("I4", invariants.same_balances(truth, evolve(ledger, positions={})))


def test_a_position_that_its_fills_do_not_give_again_breaks_i18():
    _, ledger = sound()
    moved = {"cost_quote": Decimal("201.5"), "realized_quote": Decimal(1)}

    assert only("I18", invariants.replayed(changed(ledger, "positions", "A/USD", **moved)))


def test_a_terminal_state_that_is_left_breaks_i7():
    _, ledger = sound()

    assert invariants.states_stay(evolve(ledger, events=(*ledger.events, event(ENTRY, "filled", "canceled"))))
    again = step(ENTRY, "filled", "open", 3.0, ("2", "2"))
    assert only("I7", invariants.states_stay(evolve(ledger, steps=(*ledger.steps, again))))


def test_a_step_that_does_not_begin_where_the_last_one_ended_breaks_i7():
    _, ledger = sound()

    assert only("I7", invariants.states_stay(evolve(ledger, events=(*ledger.events, event(STOP, "acked", "open")))))


def test_figures_that_fall_break_i8():
    _, ledger = sound()
    fallen = step(STOP, "open", "open", 3.0, ("2", "1"))
    older = step("kbe1", None, "pending_submit", 3.0) | {"lease_epoch": 0}

    assert only("I8", invariants.monotone(evolve(ledger, steps=(*ledger.steps, fallen))))
    assert only("I8", invariants.monotone(evolve(ledger, steps=(*ledger.steps, older))))
    assert only("I8", invariants.monotone(evolve(ledger, generations=(7, 6))))


def test_orders_of_two_leases_that_interleave_break_i9():
    truth, ledger = sound()

    assert only("I9", invariants.one_leader(truth, changed(ledger, "orders", ENTRY, lease_epoch=2)))


def test_states_that_differ_at_the_end_break_i10():
    truth, ledger = sound()

    assert only("I10", invariants.same_orders(truth, changed(ledger, "orders", STOP, state="canceled"), is_proven=True))
    assert only("I10", invariants.same_orders(truth, changed(ledger, "orders", STOP, state="unknown"), is_proven=False))
    more = evolve(ledger, orders=ledger.orders | {"kbe1": order("kbe1", "entry", "open", "0")})
    assert only("I10", invariants.same_orders(truth, more, is_proven=True))


def test_an_unknown_order_that_never_arrived_is_a_finding_only_where_its_proof_is_asked_for():
    truth, ledger = sound()
    more = evolve(ledger, orders=ledger.orders | {"kbe1": order("kbe1", "entry", "unknown", "0")})

    assert [] == invariants.same_orders(truth, more, is_proven=False)
    assert only("I10", invariants.same_orders(truth, more, is_proven=True))


def test_an_entry_before_the_past_is_booked_breaks_i10():
    truth, ledger = sound()
    truth.take(accepted("O3", "kbe1", 4.0))
    start_ns = AT_NS + 3 * SECOND

    assert [] == invariants.no_entry_before_clean(truth, ledger, [start_ns])
    late = changed(ledger, "fills", "T1", committed_at=AT + timedelta(seconds=4.5))
    assert only("I10", invariants.no_entry_before_clean(truth, late, [start_ns]))
    late = evolve(ledger, steps=tuple(s for s in ledger.steps if s["new_state"] != "filled"))
    assert only("I10", invariants.no_entry_before_clean(truth, late, [start_ns]))


def test_too_much_in_one_symbol_breaks_i11():
    truth = truth_of(accepted("O1", ENTRY, 1.0, qty="26"))

    assert only("I11", invariants.within_limits(truth))


def test_too_much_in_all_counts_entries_that_rest_and_positions():
    rows = [accepted(f"O{n}", f"kbe{n}", n, qty="20", symbol=f"{n}/USD") for n in range(4)]

    assert only("I11", invariants.within_limits(truth_of(*rows)))
    assert [] == invariants.within_limits(truth_of(*rows[:3]))


def test_more_sold_than_bought_too_many_open_and_too_many_a_minute_break_i11():
    sold = traded("T2", 3.0) | {"side": "sell", "order_id": "O2", "qty": "3"}
    small = [accepted(f"O{n}", f"kbe{n}", n / 10, qty="0.01", symbol=f"{n}/USD") for n in range(11)]
    closed = [row for n in range(11) for row in (small[n], ended(f"O{n}", n / 10 + 0.01, "cancelled"))]

    assert only("I11", invariants.within_limits(truth_of(*SOUND_ROWS, sold)))
    assert any("open at once" in finding for finding in invariants.within_limits(truth_of(*small)))
    assert ["I11: 11 entries within a minute"] == invariants.within_limits(truth_of(*closed))


def test_an_order_refused_for_its_rate_breaks_i12():
    truth, ledger = sound()
    truth.take({"kind": "rejected", "at_ns": AT_NS, "error": "EOrder:Rate limit exceeded", "action": "add_order"})

    assert only("I12", judged(truth, ledger))


def test_more_rest_calls_refused_for_their_rate_than_restarts_explain_break_i12():
    started_ns = (AT_NS,)

    assert only("I12", judged(*sound(), rest_refused=1))
    assert [] == judged(*sound(), rest_refused=1, started_ns=started_ns)
    assert only("I12", judged(*sound(), rest_refused=2, started_ns=started_ns))


def test_a_case_without_an_order_is_a_finding_unless_it_names_why():
    assert ["suite: no order to compare"] == invariants.compared(Truth(), "")
    assert [] == invariants.compared(Truth(), "the exchange takes no orders")
    assert [] == invariants.compared(sound()[0], "")


def test_a_secret_in_any_text_breaks_i15():
    assert [] == invariants.no_secrets({"status": "all is well"}, ["canary"])
    assert ["I15: a secret is in status"] == invariants.no_secrets({"log": "", "status": "key=canary"}, ["canary"])
