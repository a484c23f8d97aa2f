"""What a refused request must not take from a position: its stop, and the way out."""

from __future__ import annotations

from decimal import Decimal

import anyio
import pytest
from attrs import evolve

OVER_LIMIT = "reject:EOrder:Rate limit exceeded"


async def trailed(world):
    """Hold one coin under a trailing stop that covers all of it; return the stop's id."""
    entry_id = await world.open_entry(trail_distance_bps=50.0, take_profit_bps=2000.0)
    world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
    await world.until(lambda: world.stop() is not None and world.stop().qty == 1)
    await anyio.sleep(5.0)
    return world.stop().order.cl_ord_id


@pytest.mark.parametrize("outcome", ["not_sent", OVER_LIMIT, "reject"])
async def test_trail_that_came_to_nothing_does_not_cost_a_stop_that_covers_everything(world, outcome):
    async with world.running():
        stop_id = await trailed(world)
        world.venue.amend_script = [outcome] * 3
        world.bid, world.ask = Decimal("101.0"), Decimal("101.2")
        await world.until(lambda: len(world.venue.amends) == 4, timeout_s=300.0)
        await world.until(lambda: world.stop().trigger > Decimal("100.4"))

        assert stop_id not in world.venue.cancels
        assert stop_id == world.stop().order.cl_ord_id


async def test_position_is_sold_when_its_trail_is_reached_and_was_refused(world):
    async with world.running():
        await trailed(world)
        world.venue.amend_script = ["reject"] * 100
        world.bid, world.ask = Decimal("101.0"), Decimal("101.2")
        await world.until(lambda: world.venue.amends)
        world.bid, world.ask = Decimal("100.4"), Decimal("100.6")
        await world.until(lambda: world.position() == 0, timeout_s=10.0)

        assert ["stop_loss"] == [started["kind"] for started in world.events.of("exit_started")]


async def test_trails_that_fail_are_tried_again_at_a_growing_interval(world):
    async with world.running():
        await trailed(world)
        world.venue.amend_script = ["reject"] * 1_000
        world.bid, world.ask = Decimal("101.0"), Decimal("101.2")
        await anyio.sleep(120.0)

        # After 2, 2, 4, 8, 16, 30, 30 s.
        assert 6 <= len(world.venue.amends) <= 9

        world.venue.amend_script = []
        await world.until(lambda: world.stop().trigger > Decimal("100.4"), timeout_s=40.0)


async def test_trail_that_rests_after_refusals_does_not_hold_up_the_sale_at_its_trigger(world):
    async with world.running():
        await trailed(world)
        world.venue.amend_script = ["reject"] * 1_000
        world.bid, world.ask = Decimal("101.0"), Decimal("101.2")
        await world.until(lambda: len(world.venue.amends) == 6, timeout_s=100.0)
        await anyio.sleep(5.0)

        assert 6 == len(world.venue.amends)

        world.bid, world.ask = Decimal("100.4"), Decimal("100.6")
        await world.until(lambda: world.position() == 0, timeout_s=6.0)


async def test_trail_that_went_through_ends_the_rest_after_refusals(world):
    async with world.running():
        await trailed(world)
        world.venue.amend_script = ["reject"] * 5
        world.bid, world.ask = Decimal("101.0"), Decimal("101.2")
        await world.until(lambda: world.stop().trigger > Decimal("100.4"), timeout_s=100.0)
        tries = len(world.venue.amends)
        world.venue.amend_script = ["reject"]
        world.bid, world.ask = Decimal("102.0"), Decimal("102.2")
        await world.until(lambda: len(world.venue.amends) == tries + 2, timeout_s=8.0)


async def test_rate_limit_on_a_trail_does_not_end_in_a_sale_at_market(world):
    async with world.running() as engine:
        await trailed(world)
        bare_before_s = engine.monitor.seconds["bare"]
        world.venue.amend_script = [OVER_LIMIT] * 100
        world.venue.script = [OVER_LIMIT] * 3
        world.bid, world.ask = Decimal("101.0"), Decimal("101.2")
        await world.until(lambda: world.venue.amends)
        await anyio.sleep(20.0)

        assert [] == world.events.of("exit_started")
        assert bare_before_s == engine.monitor.seconds["bare"]


@pytest.mark.parametrize("outcome", ["not_sent", OVER_LIMIT])
async def test_growing_position_keeps_its_stop_while_the_amend_is_put_off(world, outcome):
    async with world.running():
        entry_id = await world.open_entry()
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None)
        stop_id = world.stop().order.cl_ord_id
        await anyio.sleep(3.0)
        world.venue.amend_script = [outcome]
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None and world.stop().qty == 1, timeout_s=5.0)

        assert [] == world.venue.cancels
        assert stop_id == world.stop().order.cl_ord_id


async def test_stop_comes_back_while_a_sale_is_refused(world):
    async with world.running() as engine:
        entry_id = await world.open_entry(time_stop_s=10.0)
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None)
        bare_before_s = engine.monitor.seconds["bare"]
        world.venue.sale_refusal = "EOrder:Rate limit exceeded"
        await anyio.sleep(130.0)
        sales = [i for i in world.venue.submitted if i.startswith("kbm")]

        # Tried again after 1, 2, 4, 8, 16, 30, 30 s.
        assert 7 <= len(sales) <= 9
        assert world.stop() is not None
        assert engine.monitor.seconds["bare"] - bare_before_s < 2.0

        world.venue.sale_refusal = None
        await world.until(lambda: world.position() == 0, timeout_s=40.0)

        assert world.stop() is None


async def test_part_that_would_cost_less_than_the_minimum_at_its_stop_is_dust(world):
    world.instrument = evolve(world.instrument, cost_min=Decimal(5))
    async with world.running():
        entry_id = await world.open_entry()
        # Worth 5.02 at its price and 4.97 at its stop; the least cost is 5.
        world.venue.fill(entry_id, Decimal("0.0502"), Decimal("100.0"))
        await anyio.sleep(10.0)

        assert world.stop() is None
        assert [] == world.events.of("exit_started")
        assert ["unprotectable"] == [e.protection for e in world.store.protection]


async def test_position_without_a_stop_is_sold_when_its_five_seconds_are_over(world):
    async with world.running():
        world.venue.script = ["ack"] + ["reject:EGeneral:Invalid arguments"] * 3
        entry_id = await world.open_entry()
        began = world.clock.mono()
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await world.until(lambda: world.position() == 0)

        assert world.clock.mono() - began < 6.0
