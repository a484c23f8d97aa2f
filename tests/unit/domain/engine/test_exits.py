"""The position monitor: protection at once, one exit of the same coins, a way out of every state."""

from __future__ import annotations

from decimal import Decimal

import anyio
import pytest

from krakenbot.domain.execution.order import OrderState
from krakenbot.domain.execution.position import Protection

ABC = "ABC/USD"


async def bought(world, qty="1", **plan):
    """Enter, wait until the entry rests, and fill it whole."""
    entry_id = await world.enter(qty=qty, **plan)
    await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
    before = world.position()
    world.venue.fill(entry_id, Decimal(qty), Decimal("100.0"))
    await world.until(lambda: world.position() > before)
    return entry_id


def quantities(world):
    return [(event.protection, event.protected_qty) for event in world.store.protection]


async def test_stop_stands_within_a_second_of_the_first_fill(world):
    async with world.running() as engine:
        entry_id = await bought(world)
        await world.until(lambda: world.stop() is not None)
        await world.until(lambda: Protection.PROTECTED is engine.monitor.protection().get(ABC))

        assert Decimal(1) == world.stop().qty
        assert Decimal("99.0") == world.stop().trigger
        assert world.stop().order.parent_id == entry_id
        assert max(engine.monitor.protected_within_s) < 1.0


async def test_partial_fills_amend_the_stop_to_the_latest_total(world):
    async with world.running():
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        for _ in range(10):
            world.venue.fill(entry_id, Decimal("0.1"), Decimal("100.0"))
            await anyio.sleep(0.3)
        await world.until(lambda: world.stop() is not None and world.stop().qty == 1)
        stops = [i for i in world.venue.submitted if i.startswith("kbs")]

        assert 1 == len(stops)
        assert len(world.venue.amends) <= 3


async def test_fill_below_the_minimum_is_unprotectable_by_name(world):
    async with world.running():
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        world.venue.fill(entry_id, Decimal("0.01"), Decimal("100.0"))
        await anyio.sleep(10.0)

        assert world.stop() is None
        assert (Protection.UNPROTECTABLE, Decimal(0)) in quantities(world)

        world.venue.close(entry_id, "canceled")
        await anyio.sleep(2.0)

        assert Protection.FLAT is world.store.protection[-1].protection
        assert "dust" == world.store.protection[-1].reason
        assert not [i for i in world.venue.submitted if i.startswith("kbm")]


async def test_dust_does_not_count_as_a_position_and_a_new_entry_is_protected_with_it(world):
    async with world.running() as engine:
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        world.venue.fill(entry_id, Decimal("0.01"), Decimal("100.0"))
        world.venue.close(entry_id, "canceled")
        await anyio.sleep(700.0)
        view = await engine.account.view()

        assert {} == view.positions

        await bought(world)
        await world.until(lambda: world.stop() is not None)
        await anyio.sleep(3.0)

        assert Decimal("1.01") == world.stop().qty


async def test_rejected_stop_is_tried_again_and_then_flattened_in_time(world):
    async with world.running():
        world.venue.script = ["ack"] + ["reject:EGeneral:Invalid arguments"] * 3
        await bought(world)
        await world.until(lambda: world.position() == 0)
        started = world.events.of("exit_started")

        assert "panic" == started[0]["kind"]
        assert max(world.engine.monitor.protected_within_s, default=0.0) < 10.0
        assert world.stop() is None


async def test_stop_whose_outcome_is_unknown_is_not_resent(world):
    async with world.running():
        world.venue.script = ["ack", "lost"]
        await bought(world)
        await world.until(lambda: world.position() == 0)
        stops = [i for i in world.venue.submitted if i.startswith("kbs")]

        assert 1 == len(stops)


async def test_stop_found_alive_after_an_unknown_outcome_is_kept(world):
    async with world.running() as engine:
        world.venue.script = ["ack", "lost_alive"]
        await bought(world)
        await anyio.sleep(20.0)

        assert Decimal(1) == world.position()
        assert Decimal(1) == world.stop().qty
        assert Protection.PROTECTED is engine.monitor.protection()[ABC]


async def test_time_stop_cancels_first_and_sells_the_position_once(world):
    async with world.running():
        await bought(world, time_stop_s=30.0)
        await world.until(lambda: world.stop() is not None)
        world.ask = Decimal("100.2")
        await world.until(lambda: world.position() == 0, timeout_s=60.0)
        await anyio.sleep(2.0)
        sales = [t for t in world.venue.trades if t.side == "sell"]

        assert [Decimal(1)] == [t.qty for t in sales]
        assert world.stop() is None
        assert "time_stop" == world.events.of("exit_started")[0]["kind"]
        assert Protection.FLAT is world.store.protection[-1].protection


async def test_stop_that_triggers_while_it_is_cancelled_leaves_nothing_to_sell_twice(world):
    """The cancel is refused because the stop has just sold all; its trade report comes only later."""
    async with world.running():
        await bought(world, time_stop_s=10.0)
        await world.until(lambda: world.stop() is not None)
        stop_id = world.stop().order.cl_ord_id
        await anyio.sleep(8.5)
        world.venue.is_muted = True
        world.venue.fill(stop_id, Decimal(1), Decimal("98.9"), silent=True)
        await anyio.sleep(10.0)
        world.venue.is_muted = False
        await world.until(lambda: world.position() == 0)
        await anyio.sleep(20.0)
        sales = [t for t in world.venue.trades if t.side == "sell"]

        assert [Decimal("98.9")] == [t.price for t in sales]
        assert Decimal(0) == (await world.venue.balances())["ABC"].balance


async def test_lost_cancel_of_a_stop_blocks_the_sale_until_it_is_known(world):
    async with world.running():
        await bought(world, time_stop_s=10.0)
        await world.until(lambda: world.stop() is not None)
        world.venue.cancel_script = ["lost"]
        world.venue.queries_fail = True
        await anyio.sleep(14.0)
        early = [i for i in world.venue.submitted if i.startswith("kbm")]
        world.venue.queries_fail = False
        await world.until(lambda: world.position() == 0, timeout_s=120.0)

        assert [] == early
        assert 1 == len([t for t in world.venue.trades if t.side == "sell"])


async def test_triggered_stop_with_a_remainder_exits_again_at_once(world):
    async with world.running():
        await bought(world)
        await world.until(lambda: world.stop() is not None)
        stop_id = world.stop().order.cl_ord_id
        world.bid, world.ask = Decimal("98.0"), Decimal("98.2")
        world.venue.fill(stop_id, Decimal("0.4"), Decimal("98.0"))
        world.venue.close(stop_id, "canceled")
        await world.until(lambda: world.position() == 0, timeout_s=10.0)
        sales = [t.qty for t in world.venue.trades if t.side == "sell"]

        assert [Decimal("0.4"), Decimal("0.6")] == sales


async def test_remainder_of_a_market_sale_is_sold_again(world):
    async with world.running():
        world.venue.market_share = Decimal("0.5")
        await bought(world, time_stop_s=5.0)
        await world.until(lambda: world.position() < Decimal("0.2"), timeout_s=60.0)
        world.venue.market_share = Decimal(1)
        await world.until(lambda: world.position() == 0, timeout_s=60.0)

        assert Decimal(0) == (await world.venue.balances())["ABC"].balance


async def test_trailing_stop_is_amended_upwards_and_never_down(world):
    async with world.running():
        await bought(world, trail_distance_bps=50.0, take_profit_bps=2000.0)
        await world.until(lambda: world.stop() is not None)
        world.bid, world.ask = Decimal("105.0"), Decimal("105.2")
        await world.until(lambda: world.stop().trigger > 100)
        high = world.stop().trigger
        world.bid, world.ask = Decimal("104.6"), Decimal("104.8")
        await anyio.sleep(10.0)

        assert Decimal("104.5") == high
        assert high == world.stop().trigger


async def test_take_profit_never_stands_beside_the_stop(world):
    async with world.running():
        await bought(world)
        await world.until(lambda: world.stop() is not None)
        world.bid, world.ask = Decimal("100.9"), Decimal("101.2")
        for _ in range(600):
            await anyio.sleep(0.1)
            alive = [r for r in world.venue.orders.values() if r.order.side == "sell" and r.status == "new"]

            assert len(alive) <= 1

        profits = [r for r in world.venue.orders.values() if r.order.role == "take_profit"]
        seconds = world.engine.monitor.seconds

        assert len(profits) >= 2
        assert all(r.order.post_only and r.order.limit_price == Decimal("101.2") for r in profits)
        assert seconds["guarded"] > 5.0
        assert seconds["bare"] < 3.0


async def test_filled_take_profit_closes_the_position(world):
    async with world.running():
        await bought(world)
        await world.until(lambda: world.stop() is not None)
        world.bid, world.ask = Decimal("100.9"), Decimal("101.2")
        await world.until(lambda: any(i.startswith("kbt") for i in world.venue.orders))
        profit_id = next(i for i in world.venue.orders if i.startswith("kbt"))
        world.venue.fill(profit_id, Decimal(1), Decimal("101.2"))
        await world.until(lambda: world.position() == 0)
        await anyio.sleep(3.0)

        assert world.stop() is None
        assert 2 == len(world.venue.trades)


async def test_breach_while_the_take_profit_rests_leaves_at_market(world):
    async with world.running():
        await bought(world)
        await world.until(lambda: world.stop() is not None)
        world.bid, world.ask = Decimal("100.9"), Decimal("101.2")
        await world.until(lambda: any(i.startswith("kbt") for i in world.venue.orders))
        world.bid, world.ask = Decimal("98.5"), Decimal("98.7")
        await world.until(lambda: world.position() == 0, timeout_s=10.0)

        assert "stop_loss" == world.events.of("exit_started")[-1]["kind"]


async def test_stale_book_while_the_take_profit_rests_leaves_at_market(world):
    async with world.running():
        await bought(world)
        await world.until(lambda: world.stop() is not None)
        world.bid, world.ask = Decimal("100.9"), Decimal("101.2")
        await world.until(lambda: any(i.startswith("kbt") for i in world.venue.orders))
        world.book_mono = anyio.current_time()
        await world.until(lambda: world.position() == 0, timeout_s=10.0)

        assert "panic" == world.events.of("exit_started")[-1]["kind"]


async def test_exits_work_without_ingest_and_with_the_store_away(world):
    """The row of the stop was committed with its entry, so the stop is sent although the database is away."""
    async with world.running() as engine:
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        world.store.is_away = True
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None, timeout_s=3.0)

        assert not engine.recorder.is_settled

        world.store.is_away = False
        await world.until(lambda: engine.recorder.is_settled)

        assert {t.exec_id for t in world.venue.trades} == set(world.store.fills)


async def test_foreign_coins_are_not_sold(world):
    world.venue.foreign["ABC"] = Decimal(50)
    async with world.running():
        await bought(world, time_stop_s=5.0)
        await world.until(lambda: world.position() == 0, timeout_s=60.0)

        assert Decimal(50) == (await world.venue.balances())["ABC"].balance


async def test_refused_amend_replaces_the_stop(world):
    async with world.running():
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None)
        world.venue.amend_script = ["reject"]
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None and world.stop().qty == 1, timeout_s=10.0)

        assert Decimal(1) == world.position()


@pytest.mark.parametrize("outcome", ["lost", "lost_alive"])
async def test_sale_with_an_unknown_outcome_is_not_repeated(world, outcome):
    async with world.running():
        await bought(world, time_stop_s=5.0)
        await world.until(lambda: world.stop() is not None)
        world.venue.script = [outcome]
        await anyio.sleep(40.0)
        sales = [i for i in world.venue.submitted if i.startswith("kbm")]

        assert 1 == len(sales)

        await world.until(lambda: world.position() == 0, timeout_s=200.0)
        await anyio.sleep(5.0)

        assert Decimal(0) == (await world.venue.balances())["ABC"].balance
        assert world.stop() is None
