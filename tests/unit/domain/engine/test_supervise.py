"""The whole execution side: start from any crash state, gaps, duplicates, clean stop, leases."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from typing import Any

import anyio
import pytest

from krakenbot.domain.errors import LeaseLost
from krakenbot.domain.execution.order import OrderState
from krakenbot.domain.execution.reports import ExecType, ExecutionReport, Fee
from krakenbot.domain.values import Side

ABC = "ABC/USD"


def agree(world):
    """Tell whether store and venue hold the same fills and the same open orders."""
    alive = {cl for cl, r in world.venue.orders.items() if r.status == "new"}
    rows = {o.cl_ord_id for o in world.store.orders.values() if not o.state.is_terminal}
    return {t.exec_id for t in world.venue.trades} == set(world.store.fills) and alive == rows


async def test_clean_stop_cancels_entries_and_leaves_the_stop_standing(world):
    async with world.running():
        await world.held()
    first = world.stop()
    async with world.running(world.make_engine()):
        world.bid, world.ask = Decimal("99.9"), Decimal("100.1")
        await anyio.sleep(60.0)  # until the trading counter that the first process left behind has decayed
        entry_id = await world.open_entry()

    assert "canceled" == world.venue.orders[entry_id].status
    assert OrderState.CANCELED is world.store.orders[entry_id].state
    assert first is world.stop()
    assert [1, 2] == world.lease.released
    assert agree(world)


async def test_clean_stop_protects_a_fill_that_comes_with_the_cancel(world):
    async with world.running():
        entry_id = await world.open_entry()
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))

    assert Decimal("0.5") == world.stop().qty
    assert "canceled" == world.venue.orders[entry_id].status
    assert agree(world)


async def test_clean_stop_puts_the_stop_back_in_the_place_of_a_take_profit(world):
    async with world.running():
        await world.held()
        world.bid, world.ask = Decimal("100.9"), Decimal("101.2")
        await world.until(lambda: any(r.order.role == "take_profit" for r in world.venue.orders.values()))
        await anyio.sleep(0.5)

        assert world.stop() is None

    assert Decimal(1) == world.stop().qty
    assert ["canceled"] == [r.status for r in world.venue.orders.values() if r.order.role == "take_profit"]
    assert agree(world)


async def test_clean_stop_sends_a_stop_that_was_refused_again(world):
    async with world.running():
        entry_id = await world.open_entry()
        world.venue.script = ["reject:EService:Busy"] * 2
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))

    assert Decimal("0.5") == world.stop().qty
    assert agree(world)


@pytest.mark.parametrize("answer", ["reject:EService:Busy", "lost"])
async def test_clean_stop_asks_again_for_a_cancel_that_did_not_come_through(world, answer):
    async with world.running():
        entry_id = await world.open_entry()
        world.venue.cancel_script = [answer]

    assert "canceled" == world.venue.orders[entry_id].status
    assert [] == world.events.of("stopped")[0]["entries_left"]
    assert agree(world)


async def test_clean_stop_is_bounded_when_the_venue_does_not_answer(world):
    async with world.running():
        entry_id = await world.open_entry()
        world.venue.cancel_script = ["lost"] * 1_000
        world.venue.queries_fail = True
        began = anyio.current_time()

    assert anyio.current_time() - began < 60.0
    assert [entry_id] == world.events.of("stopped")[0]["entries_left"]


@pytest.mark.parametrize("restarted", ["before", "partly", "whole"])
async def test_fills_missed_while_down_are_booked_and_protected(world, restarted):
    async with world.running():
        entry_id = await world.open_entry()
        # A crash: this engine's clean stop finds no venue and no store.
        world.venue.is_muted = world.store.is_away = world.venue.queries_fail = True
        world.venue.cancel_script = ["lost"] * 1_000
        if restarted != "before":
            qty = Decimal("0.5") if restarted == "partly" else Decimal(1)
            world.venue.fill(entry_id, qty, Decimal("100.0"), silent=True)
    world.venue.is_muted = world.store.is_away = world.venue.queries_fail = False
    world.venue.cancel_script = []
    began = anyio.current_time()
    async with world.running(world.make_engine()):
        if restarted != "before":
            await world.until(lambda: world.stop() is not None)

        assert anyio.current_time() - began < 30.0

        await anyio.sleep(200.0)

    assert agree(world)
    assert ({"before": Decimal(0), "partly": Decimal("0.5")}.get(restarted, Decimal(1))) == world.position()
    assert 1 == world.venue.submitted.count(entry_id)


async def test_row_that_was_never_sent_is_proven_absent_after_a_restart(world):
    async with world.running():
        real = world.venue.submit

        async def die(order):
            await anyio.sleep_forever()

        world.venue.submit = die
        world.store.apply_real = world.store.apply
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.enter)
            await anyio.sleep(0.5)
            world.store.is_away = True
            world.venue.submit = real
            tasks.cancel_scope.cancel()
    world.store.is_away = False
    rows = list(world.store.orders)
    async with world.running(world.make_engine()):
        view = await world.engine.account.view()

        assert {ABC} == view.unknown_symbols

        await anyio.sleep(200.0)

    assert [] == world.venue.submitted
    assert {OrderState.NEVER_ACCEPTED} == {world.store.orders[row].state for row in rows}


async def test_gap_blocks_entries_until_a_ladder_has_answered(world):
    async with world.running() as engine:
        entry_id = await world.open_entry()
        world.venue.queries_fail = True
        trade = world.venue.fill(entry_id, Decimal(1), Decimal("100.0"), silent=True)
        world.venue.tell(is_snapshot=True, gap=True)
        await anyio.sleep(5.0)

        assert not engine._system_view().reconciled

        world.venue.queries_fail = False
        await world.until(lambda: engine.reconciler.is_clean)

        assert engine._system_view().reconciled
        assert trade.exec_id in world.store.fills
        assert OrderState.FILLED is world.state(entry_id)


async def test_fill_seen_on_stream_snapshot_and_query_counts_once(world):
    async with world.running() as engine:
        entry_id = await world.open_entry()
        trade = world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        resting = world.venue.orders[entry_id]
        world.venue.tell_trade(resting, trade)
        engine.reconciler.request("test")
        await world.until(lambda: engine.reconciler.is_clean)
        world.venue.tell_trade(resting, trade)
        await anyio.sleep(1.0)

        assert Decimal(1) == world.position()
        assert [trade.exec_id] == [f.exec_id for f in world.store.fills.values() if f.side is Side.BUY]


async def test_start_asks_the_venue_once_and_then_periodically(world):
    async with world.running() as engine:
        await anyio.sleep(30.0)

        assert engine.reconciler.ladders <= 2


async def test_foreign_orders_are_counted_and_left_alone(world):
    async with world.running() as engine:
        world.venue.tell(
            ExecutionReport(order_id="O-MAN", exec_type=ExecType.NEW, at=world.clock.now(), symbol=ABC, side=Side.BUY),
            ExecutionReport(
                order_id="O-BOT", exec_type=ExecType.NEW, at=world.clock.now(), cl_ord_id="xy-1", symbol=ABC
            ),
        )
        await anyio.sleep(5.0)

        assert 2 == engine.tracker.foreign_reports
        assert [] == world.venue.cancels


async def test_open_own_order_without_a_row_is_cancelled(world):
    async with world.running():
        entry_id = await world.open_entry()
        resting = world.venue.orders[entry_id]
    world.store.orders.clear()
    resting.status = "new"
    async with world.running(world.make_engine()):
        await world.until(lambda: resting.status == "canceled")

        assert "cancel_stranger" in {row["kind"] for row in world.events.of("correction")}


async def test_lost_commit_answer_of_a_fill_does_not_book_it_twice(world):
    async with world.running() as engine:
        entry_id = await world.open_entry()
        await world.until(lambda: engine.recorder.is_settled)
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        world.store.lose_answers = 1
        await anyio.sleep(5.0)

        assert engine.recorder.is_settled
        assert Decimal("0.5") == world.store.positions[ABC].qty
        assert ["commit_found"] == [n for n in world.events.names() if n == "commit_found"]


async def test_second_leader_waits_and_says_who_leads(world):
    world.lease.held_by_other = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.engine.run)
        await anyio.sleep(10.0)

        assert [{"reason": "held by other until later", "holder": "other"}] == world.events.of("lease_waiting")
        assert "other" == world.store.statuses["execution-waiting"]["waits_for"]
        assert [] == world.venue.submitted

        world.lease.held_by_other = False
        await world.until(lambda: "loaded" in world.events.names())

        assert world.store.statuses["execution-waiting"]["waits_for"] is None
        assert "waits_for" not in world.store.statuses["execution"]
        tasks.cancel_scope.cancel()


async def test_lease_that_comes_in_the_moment_of_a_stop_is_given_back(world):
    real = world.lease.acquire
    async with anyio.create_task_group() as tasks:

        async def acquire(holder, ttl_s):
            epoch = await real(holder, ttl_s)
            tasks.cancel_scope.cancel()
            return epoch

        world.lease.acquire = acquire
        tasks.start_soon(world.engine.run)

    assert [1] == world.lease.released
    assert "loaded" not in world.events.names()


async def test_store_that_hangs_on_a_status_holds_up_neither_the_start_nor_the_renewal_of_the_lease(world):
    async def hang(process, at, body):
        await anyio.sleep(3600.0)

    world.store.publish_status = hang
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.engine.run)
        await world.until(lambda: "loaded" in world.events.names(), timeout_s=2.0)
        await anyio.sleep(30.0)

        assert world.engine.lease.is_held
        tasks.cancel_scope.cancel()


async def test_lost_lease_ends_the_engine(world):
    async def lose():
        async with world.running():
            world.lease.held_by_other = True
            await anyio.sleep(60.0)

    with pytest.raises(ExceptionGroup) as caught:
        await lose()

    found: Exception = caught.value
    while isinstance(found, ExceptionGroup):
        found = found.exceptions[0]

    assert isinstance(found, LeaseLost)


async def test_process_that_was_stopped_past_its_lease_sends_nothing_before_it_knows_who_leads(world):
    async def stop_and_go_on():
        async with world.running():
            entry_id = await world.enter()
            await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
            world.lease.held_by_other = True
            loop: Any = asyncio.get_running_loop()
            loop._jumping.jumped_s += 20.0
            world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
            await anyio.sleep(60.0)

    with pytest.raises(ExceptionGroup):
        await stop_and_go_on()

    assert [] == [i for i in world.venue.submitted if not i.startswith("kbe")]


async def test_release_while_a_renewal_is_under_way_ends_without_an_error(world):
    async with world.running() as engine:
        await anyio.sleep(1.0)
        renewing = anyio.Event()

        async def renew(lease_epoch, ttl_s):
            renewing.set()
            await anyio.sleep(0.5)
            raise LeaseLost("released")

        world.lease.renew = renew
        await renewing.wait()

    assert [1] == world.lease.released
    assert engine.lease.age_s is None


async def test_markouts_are_recorded_at_their_horizons(world):
    async with world.running():
        entry_id = await world.open_entry()
        trade = world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await anyio.sleep(310.0)

        assert {1.0, 5.0, 30.0, 300.0} == {h for exec_id, h in world.store.markouts if exec_id == trade.exec_id}
        assert 10.0 == world.store.markouts[trade.exec_id, 1.0]


async def test_entry_is_cancelled_when_its_time_is_up(world):
    async with world.running():
        entry_id = await world.open_entry()
        await world.until(lambda: world.state(entry_id) is OrderState.CANCELED, timeout_s=70.0)

        assert 60.0 <= (world.engine.tracker.get(entry_id).state_at - world.store.orders[entry_id].created_at).seconds
        assert "ttl" in world.engine.resting.cancels


async def test_invalid_book_cancels_a_resting_entry(world):
    async with world.running():
        entry_id = await world.open_entry()
        await anyio.sleep(6.0)
        world.market._book.is_valid = False
        await world.until(lambda: world.state(entry_id) is OrderState.CANCELED, timeout_s=5.0)

        assert "toxic:" in world.engine.resting.cancels


async def test_live_feed_follows_orders_and_positions(world):
    async with world.running():
        assert () == world.market.symbols

        await world.open_entry()
        await anyio.sleep(1.0)

        assert ("ABC/USD", "BTC/USD") == world.market.symbols


async def test_status_is_published_every_second_as_json(world):
    async with world.running():
        await world.held()
        await anyio.sleep(4.0)
        body = json.loads(json.dumps(world.store.statuses["execution"]))

        assert "protected" == body["positions"][0]["protection"]
        assert {"open": 1} == body["order_states"]
        assert body["protection"]["seconds"]["protected"] > 1.0
        assert body["blockers"]["GENERATION"] >= 1


async def test_missing_coins_stop_entries_of_the_symbol_until_they_are_back(world):
    async with world.running() as engine:
        await world.held()
        world.venue.foreign["ABC"] = Decimal("-0.5")
        for _ in range(3):
            engine.reconciler.request("test")
            await anyio.sleep(31.0)

        assert "exit_only" == world.store.safety[ABC].mode

        world.venue.foreign["ABC"] = Decimal(0)
        for _ in range(3):
            engine.reconciler.request("test")
            await anyio.sleep(31.0)

        assert "normal" == world.store.safety[ABC].mode


async def test_late_fill_of_a_closed_order_is_booked_protected_and_told(world):
    async with world.running():
        entry_id = await world.open_entry()
        world.venue.close(entry_id, "canceled")
        await world.until(lambda: world.state(entry_id) is OrderState.CANCELED)
        resting = world.venue.orders[entry_id]
        world.venue.tell(
            ExecutionReport(
                order_id=resting.order_id,
                exec_type=ExecType.TRADE,
                at=world.clock.now(),
                exec_id="E-LATE",
                last_qty=Decimal(1),
                last_price=Decimal("100.0"),
                fees=(Fee(asset="USD", qty=Decimal("0.25")),),
            )
        )
        await world.until(lambda: world.stop() is not None)

        assert OrderState.CANCELED is world.state(entry_id)
        assert "late_fill" in {row["code"] for row in world.events.of("alarm")}
