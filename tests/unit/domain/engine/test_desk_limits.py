"""What never happens: more sold than there is, a lost cancel taken for refused, absence proven on a broken feed."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

from decimal import Decimal

import anyio
import pytest
from attrs import evolve

from krakenbot.domain.decision.plan import ExitKind, ProtectiveExit
from krakenbot.domain.engine.live_orders import AmendResult
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.errors import InvariantViolated, StoreConflict
from krakenbot.domain.execution.change import OrderChange
from krakenbot.domain.execution.order import OrderState
from krakenbot.domain.execution.reports import ExecutionBatch


@pytest.mark.parametrize("qty", ["1.00000001", "0", "-1"])
async def test_exit_of_more_than_the_position_or_of_nothing_is_not_sent(world, qty):
    async with world.running() as engine:
        entry_id = await world.held()
        before = list(world.venue.submitted)
        plan = ProtectiveExit(symbol="ABC/USD", qty=Decimal(qty), kind=ExitKind.PANIC, reason="test")
        sent = await engine.desk.send_exit(plan, parent_id=entry_id)

        assert sent is None
        assert before == world.venue.submitted
        assert [qty] == [told["qty"] for told in world.events.of("exit_refused")]


async def test_cancel_without_an_answer_is_not_taken_for_refused(world):
    async with world.running() as engine:
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        world.venue.cancel_script = ["lost"]
        world.venue.queries_fail = True

        assert not await engine.desk.cancel(entry_id)
        assert OrderState.PENDING_CANCEL is world.state(entry_id)


async def test_stream_that_breaks_while_a_ladder_is_climbed_counts_nothing_as_absent(world, monkeypatch):
    """What the stream told in the gap is lost, and what the queries show may be older than it."""
    async with world.running() as engine:
        world.venue.script = ["lost"]
        entry_id = await world.enter()
        closed_orders = world.venue.closed_orders

        async def broken_meanwhile(since):
            engine.reconciler.request("gap")
            return await closed_orders(since)

        monkeypatch.setattr(world.venue, "closed_orders", broken_meanwhile)
        await anyio.sleep(300.0)

        assert OrderState.UNKNOWN is world.state(entry_id)

        monkeypatch.undo()
        await world.until(lambda: world.state(entry_id) is OrderState.NEVER_ACCEPTED, 200.0)


async def test_no_ladder_is_climbed_while_the_stream_is_not_connected(world):
    async with world.running() as engine:
        ladders = engine.reconciler.ladders
        world.venue.is_connected = False

        assert not await engine.reconciler.reconcile()
        assert ladders == engine.reconciler.ladders


async def test_fill_that_the_ledger_holds_without_a_lost_answer_before_ends_the_process(world):
    """Only the repetition of a change may meet its own rows; another's rows there are a second booking."""

    class Conflicting:
        async def apply(self, change, lease_epoch):
            raise StoreConflict("fills_pkey")

    engine = world.engine
    await engine.lease.acquire()
    recorder = Recorder(
        clock=world.clock,
        order_store=Conflicting(),
        journal=world.journal,
        lease=engine.lease,
        tracker=engine.tracker,
        event_sink=world.events,
        store_timeout_s=1.0,
    )
    recorder.put(OrderChange(reconciled_at=world.clock.now()))
    with pytest.raises(InvariantViolated, match="I3"):
        with anyio.fail_after(10.0):
            await recorder.run()

    assert 0 == recorder.committed


async def test_fill_that_queries_show_a_minute_late_is_booked_though_the_cursor_moved_on(world, monkeypatch):
    async with world.running() as engine:
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        late = world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"), silent=True)
        world.venue.orders[entry_id].cum = Decimal(0)
        await anyio.sleep(50.0)
        world.venue.trades.append(evolve(late, exec_id="E-F", order_id="F-1", at=world.clock.now()))
        shown = [world.venue.trades[-1]]

        async def lagging(since):
            return [trade for trade in shown if trade.at >= since]

        monkeypatch.setattr(world.venue, "fills", lagging)
        engine.reconciler.request("test")
        await world.until(lambda: world.store.reconciled_at == shown[0].at)

        assert Decimal(0) == world.position()

        shown.insert(0, late)
        engine.reconciler.request("test")
        await world.until(lambda: world.position() == Decimal("0.5"))


async def test_entries_wait_after_a_restart_until_no_row_of_before_can_still_be_sent(world):
    """By the steady clock: the deadline on the row may lie in the past by a clock that was set."""
    async with world.running() as engine:
        world.venue.script = ["lost"]
        entry_id = await world.enter()
        await world.until(lambda: engine.recorder.is_settled)
    row = world.store.orders[entry_id]
    world.store.orders[entry_id] = evolve(row, state=OrderState.SUBMITTED)
    world.clock.skew_s = 3_600.0
    started_mono = world.clock.mono()
    async with world.running(world.make_engine()) as engine:
        early = engine._system_view().reconciled
        early_s = world.clock.mono() - started_mono
        await world.until(lambda: engine._system_view().reconciled)
        waited_s = world.clock.mono() - started_mono

    assert not early
    assert early_s < 5.0
    assert waited_s >= 5.0


@pytest.mark.parametrize(("is_snapshot", "gap"), [(True, False), (False, True)])
async def test_snapshot_and_gap_each_ask_for_a_ladder_before_entries_go_on(world, is_snapshot, gap):
    async with world.running() as engine:
        await world.until(lambda: engine.reconciler.is_clean)
        engine.executions.take(ExecutionBatch(reports=(), is_snapshot=is_snapshot, gap=gap, sequence=None))

        assert not engine.reconciler.is_clean

        await world.until(lambda: engine.reconciler.is_clean)


async def test_request_without_an_answer_keeps_its_points_while_it_may_still_arrive(world):
    async with world.running() as engine:
        world.venue.script = ["lost"]
        await world.enter()
        budget = engine.rate.budget
        sent = budget.points("ABC/USD", world.clock.mono())
        await anyio.sleep(30.0)

        assert sent >= 1.0
        assert sent == budget.points("ABC/USD", world.clock.mono())


async def test_amend_is_not_sent_after_a_cancel_that_came_while_it_waited(world, monkeypatch):
    async with world.running() as engine:
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        world.venue.cancel_script = ["lost"]
        world.venue.queries_fail = True
        may_act = engine.lease.may_act

        async def cancelled_meanwhile(timeout_s):
            monkeypatch.setattr(engine.lease, "may_act", may_act)
            await engine.desk.cancel(entry_id)
            return await may_act(timeout_s)

        monkeypatch.setattr(engine.lease, "may_act", cancelled_meanwhile)

        assert AmendResult.PUT_OFF is await engine.desk.amend(entry_id, qty=Decimal("0.5"))
        assert [] == world.venue.amends
        assert OrderState.PENDING_CANCEL is world.state(entry_id)
        assert [] == world.events.of("alarm")


async def test_second_amend_waits_for_the_outcome_of_the_first(world):
    async with world.running() as engine:
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        world.venue.amend_script = ["lost"]

        assert AmendResult.UNKNOWN is await engine.desk.amend(entry_id, qty=Decimal("0.5"))
        assert AmendResult.PUT_OFF is await engine.desk.amend(entry_id, qty=Decimal("0.4"))
        assert [Decimal("0.5")] == [qty for _, qty, _ in world.venue.amends]

        ladders = engine.reconciler.ladders
        await anyio.sleep(3.0)

        # A query shows the order as it was; the amend may still arrive until its deadline.
        assert engine.reconciler.ladders > ladders
        assert OrderState.PENDING_AMEND is world.state(entry_id)

        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)

        assert AmendResult.ACCEPTED is await engine.desk.amend(entry_id, qty=Decimal("0.4"))
