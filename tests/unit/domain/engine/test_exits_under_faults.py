"""What the position monitor does while the store is away, the stream is down, or an answer never comes."""

from __future__ import annotations

from decimal import Decimal

import anyio

from krakenbot.domain.execution.order import OrderState

ABC = "ABC/USD"


async def bought(world, qty="1", **plan):
    """Enter, fill it whole, and wait for its stop."""
    entry_id = await world.enter(qty=qty, **plan)
    await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
    world.venue.fill(entry_id, Decimal(qty), Decimal("100.0"))
    await world.until(lambda: world.stop() is not None and world.stop().qty == Decimal(qty))
    return entry_id


async def test_stop_stands_while_the_row_of_a_sale_cannot_be_committed(world):
    async with world.running() as engine:
        await bought(world, time_stop_s=5.0)
        world.store.is_away = True
        world.journal.room = 0
        for _ in range(400):
            await anyio.sleep(0.05)

            assert world.stop() is not None

        world.store.is_away = False
        await world.until(lambda: world.position() == 0, timeout_s=60.0)

        assert engine.monitor.seconds["bare"] < 2.0


async def test_stop_stands_while_the_row_of_a_take_profit_cannot_be_committed(world):
    async with world.running() as engine:
        await bought(world)
        world.store.is_away = True
        world.bid, world.ask = Decimal("100.9"), Decimal("101.2")
        await anyio.sleep(30.0)

        assert world.stop() is not None
        assert engine.monitor.seconds["bare"] < 2.0


async def test_stop_comes_back_after_a_take_profit_although_the_store_went_away_meanwhile(world):
    async with world.running() as engine:
        await bought(world)
        world.bid, world.ask = Decimal("100.9"), Decimal("101.2")
        await world.until(lambda: any(i.startswith("kbt") for i in world.venue.orders))
        world.store.is_away = True
        await anyio.sleep(30.0)

        assert world.stop() is not None
        assert engine.monitor.seconds["bare"] < 2.0
        assert Decimal(1) == world.position()


async def test_sale_that_cannot_be_sent_is_tried_at_a_growing_interval(world):
    async with world.running():
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        world.venue.script = ["not_sent"] * 10_000
        world.may_resend = True
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await anyio.sleep(120.0)
        rows = [i for i in world.store.orders if i.startswith("kbm")]

        assert len(rows) < 12

        world.venue.script = []
        await world.until(lambda: world.position() == 0 or world.stop() is not None, timeout_s=60.0)


async def test_part_that_an_unanswered_amend_left_bare_is_sold_in_time(world):
    async with world.running() as engine:
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None)
        world.venue.amend_script = ["lost"] * 100
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.position() == 0, timeout_s=20.0)

        assert engine.monitor.seconds["bare"] < 12.0


async def test_trail_that_was_not_answered_is_no_reason_to_sell_at_the_next_fill(world):
    async with world.running():
        entry_id = await world.enter(trail_distance_bps=50.0, take_profit_bps=2000.0)
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None)
        world.venue.amend_script = ["lost", "lost"]
        world.bid, world.ask = Decimal("101.0"), Decimal("101.2")
        await world.until(lambda: len(world.venue.amends) == 2)
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None and world.stop().qty == Decimal(1))

        assert [] == world.events.of("exit_started")


async def test_plan_of_the_entry_is_found_again_after_a_restart_behind_a_replaced_stop(world):
    async with world.running():
        entry_id = await bought(world, time_stop_s=120.0)
        world.bid, world.ask = Decimal("100.9"), Decimal("101.2")
        await world.until(lambda: any(i.startswith("kbt") for i in world.venue.orders))
        world.bid, world.ask = Decimal("100.0"), Decimal("100.2")
    world.venue.hidden.add(entry_id)  # closed long ago: no ladder asks back that far
    async with world.running(world.make_engine()):
        await anyio.sleep(5.0)

        assert [] == world.events.of("profile_missing")
        assert Decimal("99.0") == world.stop().trigger

        await world.until(lambda: world.position() == 0, timeout_s=130.0)

        assert "time_stop" == world.events.of("exit_started")[-1]["kind"]
