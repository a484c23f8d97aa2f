"""The state table, step by step and as a machine against a naive reference."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.scripts import ROOT, script

from krakenbot.domain.errors import InvariantViolated
from krakenbot.domain.execution.order import (
    TRANSITIONS,
    Advanced,
    OrderEvent,
    OrderState,
    ProtocolViolation,
    advance,
    with_fill,
)

EVERYTHING = [HealthCheck.function_scoped_fixture]


def test_every_state_has_a_row_and_every_event_a_use():
    used = {event for row in TRANSITIONS.values() for event in row}

    assert set(OrderState) == set(TRANSITIONS)
    assert set(OrderEvent) == used


def test_terminal_states_have_self_loops_only():
    for state in OrderState:
        if state.is_terminal:
            assert {state} == set(TRANSITIONS[state].values())


def test_a_trade_never_closes_an_order_and_is_no_step_of_a_closed_one():
    for state, row in TRANSITIONS.items():
        target = row.get(OrderEvent.TRADE)

        assert state.is_terminal == (target is None)
        assert target is None or not target.is_terminal


def test_only_proof_or_word_of_the_venue_ends_an_unknown_order():
    ends = {event for event, target in TRANSITIONS[OrderState.UNKNOWN].items() if target.is_terminal}

    assert {
        OrderEvent.REJECTED,
        OrderEvent.FILLED,
        OrderEvent.CANCELED,
        OrderEvent.EXPIRED,
        OrderEvent.PROVEN_ABSENT,
    } == ends


def test_every_live_state_can_reach_an_end():
    for state in OrderState:
        reached, frontier = {state}, [state]
        while frontier:
            for target in TRANSITIONS[frontier.pop()].values():
                if target not in reached:
                    reached.add(target)
                    frontier.append(target)

        assert any(target.is_terminal for target in reached)


def test_event_without_a_step_changes_nothing(make):
    order = make.order(state=OrderState.FILLED)
    outcome = advance(order, OrderEvent.CANCELED, at=make.at)

    assert ProtocolViolation(order=order, event=OrderEvent.CANCELED) == outcome


def test_late_ack_after_fill_keeps_filled(make):
    outcome = advance(make.order(state=OrderState.FILLED), OrderEvent.ACKED, at=make.at)

    assert isinstance(outcome, Advanced)
    assert OrderState.FILLED is outcome.order.state


@pytest.mark.parametrize(
    ("state", "event"),
    [
        (OrderState.PENDING_AMEND, OrderEvent.AMENDED),
        (OrderState.PENDING_CANCEL, OrderEvent.CANCEL_REFUSED),
        (OrderState.ACKED, OrderEvent.REPORT_NEW),
    ],
)
def test_a_step_to_open_with_fills_ends_in_partially_filled(make, state, event):
    filled = advance(make.order(state=state, cum_qty=Decimal(1)), event, at=make.at)
    empty = advance(make.order(state=state), event, at=make.at)

    assert OrderState.PARTIALLY_FILLED is filled.order.state
    assert OrderState.OPEN is empty.order.state


@given(events=st.lists(st.sampled_from(OrderEvent), max_size=60), start=st.sampled_from(OrderState))
@settings(suppress_health_check=EVERYTHING)
def test_machine_agrees_with_a_naive_reference(make, events, start):
    """The reference looks the step up and knows the one rule outside the table; terminal states absorb everything."""
    order, expected = make.order(state=start), start
    for event in events:
        outcome = advance(order, event, at=make.at)
        known = event in TRANSITIONS[expected]
        if known and not expected.is_terminal:
            expected = TRANSITIONS[expected][event]

        assert known == isinstance(outcome, Advanced)
        assert expected is outcome.order.state

        order = outcome.order


def test_a_fill_of_nothing_is_an_error_of_ours(make):
    with pytest.raises(InvariantViolated, match="I8"):
        with_fill(make.order(), Decimal(0))


def test_the_diagram_in_the_docs_is_generated_from_the_table():
    with script("write_order_states") as module:
        rendered = module.render()

    assert rendered == (ROOT / "docs/order_states.md").read_text(encoding="utf-8")
