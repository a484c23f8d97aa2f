"""What clock steps, lost cancels and late fills must not do to orders under way."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

from decimal import Decimal

import anyio
import pytest

from krakenbot.domain.decision.plan import ExitKind, ProtectiveExit
from krakenbot.domain.execution.exits import ExitSettings
from krakenbot.domain.execution.order import OrderRole, OrderState

ABC = "ABC/USD"
HOUR = 3_600.0


@pytest.mark.parametrize("skew_s", [0.0, -HOUR])
async def test_stop_without_an_answer_leaves_no_position_bare_for_long_when_the_clock_steps(world, skew_s):
    async with world.running():
        entry_id = await world.open_entry()
        world.venue.script = ["lost"]
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await world.until(lambda: len(world.venue.submitted) == 2)
        await anyio.sleep(1.0)
        world.clock.skew_s = skew_s
        await world.until(lambda: world.position() == 0 or world.stop() is not None, timeout_s=20.0)


@pytest.mark.parametrize("skew_s", [0.0, -HOUR])
async def test_part_left_bare_by_a_lost_amend_is_covered_in_time_when_the_clock_steps(world, skew_s):
    async with world.running():
        entry_id = await world.open_entry()
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None)
        world.venue.amend_script = ["lost"]
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: len(world.venue.amends) == 1)
        world.clock.skew_s = skew_s
        await world.until(
            lambda: world.position() == 0 or (world.stop() is not None and world.stop().qty == 1), timeout_s=30.0
        )


@pytest.mark.parametrize("skew_s", [HOUR, -HOUR])
async def test_step_of_the_clock_neither_ends_a_position_nor_keeps_it_beyond_its_time(world, skew_s):
    async with world.running():
        entry_id = await world.open_entry(time_stop_s=120.0)
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None)
        world.clock.skew_s = skew_s
        await anyio.sleep(100.0)

        assert [] == world.events.of("exit_started")
        assert Decimal(1) == world.position()

        await world.until(lambda: world.position() == 0, timeout_s=30.0)

        assert ["time_stop"] == [told["kind"] for told in world.events.of("exit_started")]


@pytest.mark.parametrize("skew_s", [HOUR, -HOUR])
async def test_take_profit_rests_as_long_as_it_should_when_the_clock_steps(world, skew_s):
    async with world.running():
        entry_id = await world.open_entry()
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None)
        world.bid, world.ask = Decimal("100.9"), Decimal("101.2")
        profit = lambda: [o for o in world.engine.tracker.live(ABC) if o.role is OrderRole.TAKE_PROFIT]  # noqa: E731
        await world.until(lambda: [o.state for o in profit()] == [OrderState.OPEN])
        began = world.clock.mono()
        world.clock.skew_s = skew_s
        await anyio.sleep(1.0)
        rested = bool(profit())
        await world.until(lambda: not profit(), timeout_s=120.0)

        assert rested
        assert ExitSettings().tp_rest_s - 2.0 <= world.clock.mono() - began <= ExitSettings().tp_rest_s + 5.0


@pytest.mark.parametrize("skew_s", [0.0, -HOUR])
async def test_lost_cancel_of_an_entry_is_asked_again_when_the_clock_steps(world, skew_s):
    async with world.running() as engine:
        entry_id = await world.open_entry()
        world.venue.cancel_script = ["lost"]
        await engine.desk.cancel(entry_id)
        world.clock.skew_s = skew_s
        await world.until(lambda: world.venue.orders[entry_id].status == "canceled", timeout_s=20.0)


@pytest.mark.parametrize("skew_s", [0.0, HOUR])
async def test_restart_behind_a_step_forward_proves_nothing_absent(world, skew_s):
    async with world.running():
        real = world.venue.submit

        async def die(order):
            world.venue.submitted.append(order.cl_ord_id)
            world.sent = order
            await anyio.sleep_forever()

        world.venue.submit = die
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.enter)
            await anyio.sleep(0.5)
            world.store.is_away = True
            world.venue.submit = real
            tasks.cancel_scope.cancel()
    world.store.is_away = False
    entry_id = world.sent.cl_ord_id
    world.clock.skew_s = skew_s
    # Alive at the venue: its reports are lost and its queries lag.
    world.venue.is_muted = True
    world.venue.accept(world.sent)
    world.venue.hidden.add(entry_id)
    world.venue.is_muted = False
    async with world.running(world.make_engine()):
        await anyio.sleep(40.0)

        assert OrderState.UNKNOWN is world.state(entry_id)


@pytest.mark.parametrize("answer", ["lost", "reject:EService:Busy"])
async def test_cancel_of_a_stray_that_failed_is_asked_again_soon(world, answer):
    async with world.running() as engine:
        world.venue.script = ["lost"]
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.NEVER_ACCEPTED, 300.0)
        world.venue.is_muted = True
        world.venue.accept(world.store.orders[entry_id])
        world.venue.cancel_script = [answer]
        engine.reconciler.request("again")
        await world.until(lambda: len(world.venue.cancels) == 1)
        begun = world.clock.mono()
        await world.until(lambda: world.venue.orders[entry_id].status == "canceled", 400.0)

        assert world.clock.mono() - begun < 30


async def test_cancel_that_overtakes_its_submit_is_no_violation(world, monkeypatch):
    async with world.running() as engine:
        submit = world.venue.submit

        async def slow(order):
            await anyio.sleep(1.0)
            return await submit(order)

        monkeypatch.setattr(world.venue, "submit", slow)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.enter)
            await world.until(lambda: any(o.state is OrderState.SUBMITTED for o in engine.tracker.live()))
            entry = next(o for o in engine.tracker.live() if o.state is OrderState.SUBMITTED)
            await engine.desk.cancel(entry.cl_ord_id)

        assert [] == world.events.of("alarm")


async def test_tries_of_cancels_are_forgotten_with_their_orders(world):
    async with world.running() as engine:
        for _ in range(4):
            entry_id = await world.enter()
            await anyio.sleep(1)
            await engine.desk.cancel(entry_id)
            await anyio.sleep(120)
            assert world.state(entry_id).is_terminal

        assert len(engine.desk._cancels) <= 1


async def test_exit_is_at_most_the_position_at_the_moment_of_its_send(world, monkeypatch):
    world.venue.foreign["ABC"] = Decimal(5)
    async with world.running() as engine:
        await world.held()
        stop = world.stop()
        keep_row = engine.desk._ahead.keep_row

        async def filled_meanwhile(order):
            world.venue.fill(stop.order.cl_ord_id, Decimal(1), Decimal("99.0"))
            kept = await keep_row(order)
            await anyio.sleep(0.2)
            return kept

        monkeypatch.setattr(engine.desk._ahead, "keep_row", filled_meanwhile)
        plan = ProtectiveExit(symbol=ABC, qty=Decimal(1), kind=ExitKind.PANIC, reason="test")
        await engine.desk.send_exit(plan, parent_id=None)
        await anyio.sleep(2)

        assert Decimal(0) == world.position()


async def test_lost_cancel_of_a_stop_is_followed_up(world):
    async with world.running():
        entry_id = await world.open_entry()
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None)
        world.venue.amend_script = ["reject"]
        world.venue.cancel_script = ["lost"]
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: len(world.venue.cancels) == 1)
        await anyio.sleep(25)

        assert world.position() == 0 or (world.stop() is not None and world.stop().qty == 1)
