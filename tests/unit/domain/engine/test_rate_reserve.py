"""The rate counter's reserve at work: entries end before exits lack points; exits and cancels always go out."""

from __future__ import annotations

from decimal import Decimal

import anyio
import pytest

from krakenbot.domain.execution.order import OrderState
from krakenbot.domain.execution.rate import AccountTier, trading_limits

ABC = "ABC/USD"


async def test_many_partial_fills_on_the_lowest_tier_end_the_entry_before_the_stop_lacks_points(world):
    """An amend of a young stop costs 4 points and may come each 2 s; the counter falls by 1 a second."""
    highest = 0.0
    async with world.running(world.make_engine(tier=AccountTier.STARTER)) as engine:
        entry_id = await world.enter(qty="2")
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        for _ in range(300):
            if world.state(entry_id).is_terminal:
                break
            world.venue.fill(entry_id, Decimal("0.01"), Decimal("100.0"))
            await anyio.sleep(0.5)
            highest = max(highest, engine.rate.budget.points(ABC, world.clock.mono()))
        filled = world.position()
        await world.until(lambda: world.stop() is not None and world.stop().qty == filled)

        assert OrderState.CANCELED is world.state(entry_id)
        assert 0 < filled < 2
        assert {"reserve": 1} == engine.resting.cancels
        assert 35.0 < highest <= 60.0
        assert 0 == engine.rate.budget.over_limit


async def test_entry_without_a_fill_rests_on_while_the_reserve_is_touched(world):
    async with world.running() as engine:
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        engine.rate.budget.assume_full(ABC, world.clock.mono())
        await anyio.sleep(2.0)

        assert OrderState.OPEN is world.state(entry_id)


async def test_exit_goes_out_with_the_whole_counter_spent(world):
    async with world.running() as engine:
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        engine.rate.budget.assume_full(ABC, world.clock.mono())
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None, 5.0)
        await world.until(lambda: world.state(entry_id) is OrderState.CANCELED, 5.0)

        assert world.position() == world.stop().qty == Decimal("0.5")


@pytest.mark.parametrize(
    ("setting", "stated", "holds"),
    [
        (AccountTier.PRO, 60, AccountTier.STARTER),
        (AccountTier.STARTER, 180, AccountTier.STARTER),
        (AccountTier.PRO, 130, AccountTier.INTERMEDIATE),
    ],
)
async def test_tighter_of_setting_and_venue_counts_trading_and_reads(world, setting, stated, holds):
    world.venue.max_ratecount = stated
    async with world.running(world.make_engine(tier=setting)) as engine:
        await anyio.sleep(5.0)

        assert holds is engine.rate.effective_tier
        assert trading_limits(holds) == engine.rate.budget.limits
        assert [holds] == world.venue.tiers
        assert 1 == world.events.names().count("tier_differs")
