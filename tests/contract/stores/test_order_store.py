"""The order store's contract: fenced entries, whole changes, append-only ledger, terminal states."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from attrs import evolve

from krakenbot.domain.decision.blocker import BlockerCode
from krakenbot.domain.decision.plan import ExitKind, StopTrigger
from krakenbot.domain.errors import LeaseLost, Refused, StoreConflict
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order, OrderRole, OrderState, OrderType
from krakenbot.domain.execution.position import Position, Protection, ProtectionEvent
from krakenbot.domain.state.epoch import EpochCriteria, EpochStatus
from krakenbot.domain.state.safety import EngineMode, EngineState
from krakenbot.domain.values import (
    Asset,
    ClOrdId,
    EpochId,
    ExecId,
    GenerationId,
    LeaseEpoch,
    LineageId,
    Side,
    Symbol,
    VenueId,
    VenueOrderId,
)
from krakenbot.ports.order_store import EntryGate, LiveBook, OrderChange, OrderEventRow

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BTC = Symbol("BTC/USD")
VENUE = VenueId("loopback:test")
CRITERIA = EpochCriteria(
    symbols=12,
    l2_fresh=12,
    l3_set=12,
    l3_fresh=12,
    pinned=0,
    pinned_l2_fresh=0,
    pinned_l3_fresh=0,
    writer_lag_s=0.1,
    symbols_configured=None,
    l3_enabled=True,
)


FIRST = LeaseEpoch(1)


def make_entry(cl_ord_id="kb-1", **changes) -> Order:
    order = Order(
        cl_ord_id=ClOrdId(cl_ord_id),
        venue_id=VENUE,
        symbol=BTC,
        side=Side.BUY,
        role=OrderRole.ENTRY,
        order_type=OrderType.LIMIT,
        qty=Decimal("0.01"),
        limit_price=Decimal("50000.1"),
        trigger_price=None,
        trigger=None,
        post_only=True,
        state=OrderState.PENDING_SUBMIT,
        created_at=AT,
        deadline_at=AT + timedelta(seconds=5),
        expire_at=AT + timedelta(seconds=60),
        record={"regime": "range", "surplus_bps": 7.5, "odd": [1, None, {"deep": "é"}]},
    )
    return evolve(order, **changes)


def make_stop(cl_ord_id="kb-2", parent="kb-1", **changes) -> Order:
    order = Order(
        cl_ord_id=ClOrdId(cl_ord_id),
        venue_id=VENUE,
        symbol=BTC,
        side=Side.SELL,
        role=OrderRole.PROTECTIVE_STOP,
        order_type=OrderType.STOP_LOSS,
        qty=Decimal("0.01"),
        limit_price=None,
        trigger_price=Decimal(49000),
        trigger=StopTrigger.INDEX,
        post_only=False,
        state=OrderState.PENDING_SUBMIT,
        created_at=AT,
        parent_id=ClOrdId(parent) if parent else None,
        exit_kind=ExitKind.STOP_LOSS,
        record={},
    )
    return evolve(order, **changes)


def make_fill(exec_id="E1", **changes) -> Fill:
    fill = Fill(
        exec_id=ExecId(exec_id),
        cl_ord_id=ClOrdId("kb-1"),
        venue_order_id=VenueOrderId("O1"),
        venue_id=VENUE,
        symbol=BTC,
        side=Side.BUY,
        price=Decimal("50000.1"),
        qty=Decimal("0.004"),
        cost=Decimal("200.0004"),
        fee_asset=Asset("USD"),
        fee_qty=Decimal("0.5000010"),
        is_maker=True,
        at=AT + timedelta(seconds=1),
        recorded_at=AT + timedelta(seconds=2),
        source="stream",
    )
    return evolve(fill, **changes)


def make_position(**changes) -> Position:
    position = Position(
        symbol=BTC,
        qty=Decimal("0.004"),
        cost_quote=Decimal("200.500401"),
        realized_quote=Decimal(0),
        opened_at=AT + timedelta(seconds=1),
        entry_id=ClOrdId("kb-1"),
    )
    return evolve(position, **changes)


async def make_gate(stores: Any, *, status=EpochStatus.VALID, at=AT, **changes) -> EntryGate:
    """Bring a lineage, an epoch, an answered generation and a lease into force."""
    lineage_id, run_id = await stores.lineage.start_lineage(at)
    epoch, _ = await stores.lineage.publish_epoch(
        lineage_id=lineage_id,
        run_id=run_id,
        status=status,
        criteria=CRITERIA,
        reasons=(),
        execution=(BTC,),
        l3=(BTC,),
        pinned=(),
        at=at,
    )
    generation_id = await answer_one(stores, lineage_id, run_id, at)
    gate = EntryGate(
        lineage_id=lineage_id,
        epoch_id=epoch.epoch_id,
        generation_id=generation_id,
        lease_epoch=await stores.lease.acquire("a", 30),
        max_generation_age_s=10,
        max_epoch_age_s=120,
        at=at + timedelta(seconds=1),
    )
    return evolve(gate, **changes)


async def answer_one(stores: Any, lineage_id, run_id, at) -> GenerationId:
    assert await stores.state.request_refresh(at, 0.0) is None
    ids = await stores.answers.wait_for_requests(1.0)
    refreshed = await stores.refresher.refresh(lineage_id, run_id, at)
    await stores.refresher.sync(refreshed.generation_id)
    await stores.answers.answer(ids, refreshed.generation_id)
    return GenerationId(refreshed.generation_id)


async def test_entry_and_protective_intent_come_back_as_they_were(stores):
    gate = await make_gate(stores)
    entry, stop = make_entry(), make_stop()

    await stores.orders.insert_entry(entry, stop, gate)

    expected = LiveBook(
        orders=(entry, stop), positions=(), exec_ids=frozenset(), last_fill_at=None, changed_at={BTC: AT}
    )

    assert expected == await stores.orders.load_live(VENUE)
    assert entry == await stores.orders.find_order(ClOrdId("kb-1"))
    assert await stores.orders.find_order(ClOrdId("kb-none")) is None
    assert (1, Decimal("500.001")) == await stores.orders.entry_notional_since(AT)
    assert (0, Decimal(0)) == await stores.orders.entry_notional_since(AT + timedelta(seconds=1))
    assert (BTC,) == await stores.lineage.pinned_symbols()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"generation_id": GenerationId(999)}, "GENERATION"),
        ({"at": AT + timedelta(seconds=11)}, "GENERATION"),
        ({"epoch_id": EpochId(999)}, "EPOCH"),
        ({"lineage_id": LineageId(999)}, "EPOCH"),
        ({"at": AT + timedelta(seconds=121), "max_generation_age_s": 1000}, "EPOCH"),
    ],
)
async def test_gate_refuses_and_nothing_is_written(stores, change, code):
    gate = evolve(await make_gate(stores), **change)

    with pytest.raises(Refused) as caught:
        await stores.orders.insert_entry(make_entry(), make_stop(), gate)

    assert code == caught.value.code
    assert await stores.orders.find_order(ClOrdId("kb-1")) is None


async def test_degraded_epoch_admits_no_entry(stores):
    gate = await make_gate(stores, status=EpochStatus.DEGRADED)

    with pytest.raises(Refused, match="EPOCH"):
        await stores.orders.insert_entry(make_entry(), make_stop(), gate)


async def test_newer_answer_makes_the_cycles_generation_stale(stores):
    gate = await make_gate(stores)
    lineage_id, run_id = gate.lineage_id, 1
    await answer_one(stores, lineage_id, run_id, AT)

    with pytest.raises(Refused, match="GENERATION"):
        await stores.orders.insert_entry(make_entry(), make_stop(), gate)


async def test_epoch_of_an_older_lineage_is_refused(stores):
    old = await make_gate(stores)
    new = await make_gate(stores)

    with pytest.raises(Refused, match="EPOCH"):
        await stores.orders.insert_entry(
            make_entry(), make_stop(), evolve(new, lineage_id=old.lineage_id, epoch_id=old.epoch_id)
        )


async def test_foreign_lease_epoch_is_lost_for_entries_and_exits(stores):
    gate = await make_gate(stores)
    wrong = LeaseEpoch(gate.lease_epoch + 1)

    with pytest.raises(LeaseLost):
        await stores.orders.insert_entry(make_entry(), make_stop(), evolve(gate, lease_epoch=wrong))
    with pytest.raises(LeaseLost):
        await stores.orders.apply(OrderChange(inserts=(make_stop(parent=None),)), wrong)


async def test_expired_lease_is_lost(stores):
    gate = await make_gate(stores)
    await stores.expire_lease()

    with pytest.raises(LeaseLost):
        await stores.orders.insert_entry(make_entry(), make_stop(), gate)


async def test_exit_needs_the_lease_alone(stores):
    lease_epoch = await stores.lease.acquire("a", 30)
    stop = make_stop(parent=None)

    await stores.orders.apply(OrderChange(inserts=(stop,)), lease_epoch)

    assert stop == await stores.orders.find_order(stop.cl_ord_id)


@pytest.mark.parametrize(
    ("entry", "stop", "constraint"),
    [
        (make_entry(record={"surplus_bps": 7.5}), make_stop(), "execution_orders_entry_is_explained"),
        (make_entry(side=Side.SELL), make_stop(), "execution_orders_entry_is_explained"),
        (make_entry(), make_stop(side=Side.BUY), "execution_orders_exit_only_sells"),
        (make_entry(), make_stop(cl_ord_id="kb-1"), "execution_orders_pkey"),
        (make_entry(), make_stop(parent="kb-0"), "execution_orders_parent_id_fkey"),
    ],
)
async def test_row_that_breaks_a_rule_leaves_no_half(stores, entry, stop, constraint):
    gate = await make_gate(stores)

    with pytest.raises(StoreConflict) as caught:
        await stores.orders.insert_entry(entry, stop, gate)

    assert constraint == caught.value.constraint
    assert await stores.orders.find_order(entry.cl_ord_id) is None


async def test_same_cl_ord_id_twice_is_a_conflict(stores):
    gate = await make_gate(stores)
    await stores.orders.insert_entry(make_entry(), make_stop(), gate)

    with pytest.raises(StoreConflict) as caught:
        await stores.orders.insert_entry(make_entry(), make_stop("kb-3"), gate)

    assert "execution_orders_pkey" == caught.value.constraint
    assert await stores.orders.find_order(ClOrdId("kb-3")) is None


async def _with_entry(stores: Any) -> OrderChange:
    await stores.orders.insert_entry(make_entry(), make_stop(), await make_gate(stores))
    partly = make_entry(
        state=OrderState.PARTIALLY_FILLED,
        cum_qty=Decimal("0.004"),
        venue_order_id=VenueOrderId("O1"),
        state_at=AT + timedelta(seconds=1),
    )
    return OrderChange(
        orders=(partly,),
        events=(
            OrderEventRow(
                cl_ord_id=partly.cl_ord_id,
                at=AT,
                event="trade",
                from_state="open",
                to_state="partially_filled",
                detail={"exec_id": "E1"},
            ),
        ),
        fills=(make_fill(),),
        positions=(make_position(),),
        protection=(
            ProtectionEvent(
                symbol=BTC,
                at=AT,
                protection=Protection.BARE,
                position_qty=Decimal("0.004"),
                protected_qty=Decimal(0),
                reason="first fill",
            ),
        ),
    )


async def test_change_is_committed_whole(stores):
    change = await _with_entry(stores)

    await stores.orders.apply(change, FIRST)

    live = await stores.orders.load_live(VENUE)
    assert (change.orders[0], make_stop()) == live.orders
    assert change.positions == live.positions
    assert frozenset({ExecId("E1")}) == live.exec_ids
    assert make_fill().at == live.last_fill_at
    assert [make_fill()] == list(await stores.orders.fills_between(AT, AT + timedelta(seconds=9), BTC))
    assert [] == list(await stores.orders.fills_between(AT, AT + timedelta(seconds=9), Symbol("ETH/USD")))
    assert [] == list(await stores.orders.fills_between(AT + timedelta(seconds=2), AT + timedelta(seconds=9), None))


async def test_repeated_fill_makes_the_whole_change_a_conflict(stores):
    change = await _with_entry(stores)
    await stores.orders.apply(change, FIRST)
    again = evolve(
        change,
        fills=(make_fill("E2"), make_fill("E1")),
        orders=(evolve(change.orders[0], cum_qty=Decimal("0.008")),),
    )

    with pytest.raises(StoreConflict) as caught:
        await stores.orders.apply(again, FIRST)

    assert "fills_pkey" == caught.value.constraint
    live = await stores.orders.load_live(VENUE)
    assert frozenset({ExecId("E1")}) == live.exec_ids
    assert Decimal("0.004") == live.orders[0].cum_qty


@pytest.mark.parametrize(
    ("fill", "constraint"),
    [(make_fill(price=Decimal(0)), "fills_price_check"), (make_fill(qty=Decimal(0)), "fills_qty_check")],
)
async def test_fill_without_price_or_quantity_is_refused(stores, fill, constraint):
    change = await _with_entry(stores)

    with pytest.raises(StoreConflict) as caught:
        await stores.orders.apply(evolve(change, fills=(fill,)), FIRST)

    assert constraint == caught.value.constraint


@pytest.mark.parametrize("state", [state for state in OrderState if state.is_terminal])
async def test_terminal_state_is_never_left(stores, state):
    change = await _with_entry(stores)
    done = evolve(change.orders[0], state=state)
    await stores.orders.apply(OrderChange(orders=(done,)), FIRST)

    with pytest.raises(StoreConflict) as caught:
        await stores.orders.apply(OrderChange(orders=(evolve(done, state=OrderState.OPEN),)), FIRST)

    assert "execution_orders_terminal" == caught.value.constraint
    assert done == await stores.orders.find_order(done.cl_ord_id)


async def test_cumulative_quantity_never_falls(stores):
    change = await _with_entry(stores)
    await stores.orders.apply(change, FIRST)

    with pytest.raises(StoreConflict) as caught:
        await stores.orders.apply(OrderChange(orders=(evolve(change.orders[0], cum_qty=Decimal("0.003")),)), FIRST)

    assert "execution_orders_cum_qty" == caught.value.constraint


async def test_order_without_a_row_cannot_change(stores):
    with pytest.raises(StoreConflict) as caught:
        await stores.orders.apply(OrderChange(orders=(make_entry("kb-9"),)), LeaseEpoch(0))

    assert "execution_orders_row" == caught.value.constraint


async def test_realized_profit_is_booked_by_difference(stores):
    change = await _with_entry(stores)
    await stores.orders.apply(change, FIRST)
    sold = make_fill("E2", side=Side.SELL, at=AT + timedelta(seconds=5))
    flat = make_position(
        qty=Decimal(0), cost_quote=Decimal(0), realized_quote=Decimal("1.25"), opened_at=None, entry_id=None
    )
    await stores.orders.apply(OrderChange(fills=(sold,), positions=(flat,)), FIRST)
    worse = evolve(flat, realized_quote=Decimal("-0.75"))
    later = make_fill("E3", side=Side.SELL, at=AT + timedelta(seconds=8))
    await stores.orders.apply(OrderChange(fills=(later,), positions=(worse,)), FIRST)

    assert Decimal("-0.75") == await stores.orders.realized_since(AT)
    assert Decimal("-2.00") == await stores.orders.realized_since(AT + timedelta(seconds=6))
    assert Decimal(0) == await stores.orders.realized_since(AT + timedelta(seconds=9))
    assert (worse,) == (await stores.orders.load_live(VENUE)).positions


async def test_last_change_is_that_of_each_symbols_newest_order_alive_or_not(stores):
    late, eth = AT + timedelta(seconds=7), Symbol("ETH/USD")
    sold = make_stop("kb-3", parent=None, state=OrderState.CANCELED, state_at=late)
    before = make_stop("kb-4", parent=None, state_at=AT - timedelta(days=1))
    other = make_stop("kb-5", parent=None, symbol=eth, created_at=AT - timedelta(days=2))
    elsewhere = make_stop("kb-6", parent=None, symbol=Symbol("SOL/USD"), venue_id=VenueId("elsewhere"))
    await stores.orders.apply(OrderChange(inserts=(sold, before, other, elsewhere)), LeaseEpoch(0))

    found = (await stores.orders.load_live(VENUE)).changed_at

    assert {BTC: late, eth: AT - timedelta(days=2)} == found
    assert {} == (await stores.orders.load_live(VenueId("nowhere"))).changed_at


async def test_change_of_a_leader_that_was_replaced_is_refused(stores):
    change = await _with_entry(stores)
    await stores.expire_lease()
    await stores.orders.apply(OrderChange(orders=change.orders), FIRST)
    heir = await stores.lease.acquire("b", 30)

    with pytest.raises(LeaseLost):
        await stores.orders.apply(OrderChange(fills=change.fills, positions=change.positions), FIRST)

    assert frozenset() == (await stores.orders.load_live(VENUE)).exec_ids
    await stores.orders.apply(OrderChange(fills=change.fills, positions=change.positions), heir)
    assert frozenset({ExecId("E1")}) == (await stores.orders.load_live(VENUE)).exec_ids


@pytest.mark.parametrize(
    "state",
    [
        EngineState(mode=EngineMode.HALTED, reason="a person", since=AT),
        EngineState(mode=EngineMode.EXIT_ONLY, reason="a person", since=AT),
        EngineState(mode=EngineMode.NORMAL, reason="", since=AT, latch="DAY_LOSS"),
    ],
)
async def test_entry_is_refused_once_the_engine_is_halted_or_latched(stores, state):
    gate = await make_gate(stores)
    await stores.safety.set_engine_state(state)

    with pytest.raises(Refused) as caught:
        await stores.orders.insert_entry(make_entry(), make_stop(), gate)

    assert BlockerCode.ENGINE_MODE == caught.value.code
    await stores.orders.apply(OrderChange(inserts=(make_stop(parent=None),)), gate.lease_epoch)


async def test_other_venue_sees_nothing(stores):
    await stores.orders.apply(await _with_entry(stores), FIRST)

    assert LiveBook(orders=(), positions=(), exec_ids=frozenset(), last_fill_at=None) == (
        await stores.orders.load_live(VenueId("elsewhere"))
    )


async def test_account_and_markout_rows_may_be_repeated(stores):
    for _ in range(2):
        await stores.orders.record_account(AT, {"USD": Decimal("1000.50")}, Decimal("1000.50"), VENUE)
        await stores.orders.record_markout(ExecId("E1"), 5.0, -1.5, AT, VENUE)

    if stores.url is not None:
        import psycopg

        async with await psycopg.AsyncConnection.connect(stores.url) as connection:
            rows = await connection.execute("SELECT balances->>'USD' FROM krakenbot.account_snapshots")
            assert [("1000.50",), ("1000.50",)] == await rows.fetchall()
            rows = await connection.execute("SELECT markout_bps FROM krakenbot.markouts")
            assert [(-1.5,)] == await rows.fetchall()
