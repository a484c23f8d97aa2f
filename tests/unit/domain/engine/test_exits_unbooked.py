"""What the exits do about coins that an ended order has sold by the venue's word, before its trades are seen."""

from __future__ import annotations

from decimal import Decimal

import anyio
import pytest

from krakenbot.domain.decision.plan import ExitKind, ProtectiveExit
from krakenbot.domain.execution.order import OrderState
from krakenbot.domain.execution.reports import ExecType
from krakenbot.domain.values import Symbol


async def held(world, **plan):
    """Hold one coin under its stop; return the stop's id."""
    entry_id = await world.open_entry(**plan)
    world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
    await world.until(lambda: world.stop() is not None and world.engine.recorder.is_settled)
    return world.stop().order.cl_ord_id


def end_unseen(world, cl_ord_id, sold, status):
    """Sell a part and close the order; the trade itself is told by nobody, the history lags."""
    resting = world.venue.orders[cl_ord_id]
    world.venue.fill(cl_ord_id, Decimal(sold), Decimal("99.0"), silent=True)
    world.lagging = world.venue.trades.pop()
    world.venue.close(cl_ord_id, status, silent=True)
    world.venue.queries_fail = True
    world.venue.report(resting, ExecType(status), cum_qty=resting.cum)


def show_trades(world):
    world.venue.trades.append(world.lagging)
    world.venue.queries_fail = False


async def test_stop_that_ended_with_unseen_fills_covers_nothing_and_the_rest_gets_a_new_one(world):
    async with world.running() as engine:
        stop_id = await held(world)
        bare_before_s = engine.monitor.seconds["bare"]
        end_unseen(world, stop_id, "0.4", "canceled")
        await world.until(lambda: world.stop() is not None, timeout_s=3.0)

        assert await engine.desk.cancel(stop_id)
        assert [] == world.venue.cancels
        assert Decimal("0.6") == world.stop().qty
        assert OrderState.OPEN is world.state(stop_id)

        await anyio.sleep(20.0)

        assert [] == world.events.of("exit_started")
        assert [] == world.venue.cancels
        assert engine.monitor.seconds["bare"] - bare_before_s < 2.0

        show_trades(world)
        await world.until(lambda: world.position() == Decimal("0.6"), timeout_s=60.0)
        await anyio.sleep(10.0)

        assert OrderState.CANCELED is world.state(stop_id)
        assert Decimal("0.6") == world.stop().qty


async def test_nothing_is_sold_twice_behind_a_stop_that_is_told_filled_before_its_trades(world):
    async with world.running():
        world.venue.foreign["ABC"] = Decimal(50)
        stop_id = await held(world, time_stop_s=15.0)
        end_unseen(world, stop_id, "1", "filled")
        submitted = len(world.venue.submitted)
        await anyio.sleep(30.0)

        assert submitted == len(world.venue.submitted)
        assert Decimal(1) == world.position()

        show_trades(world)
        await world.until(lambda: world.position() == 0, timeout_s=60.0)

        assert 1 == len(world.events.of("position_closed"))
        assert ["flat", "closed"] == [world.store.protection[-1].protection, world.store.protection[-1].reason]


def end_first_sale_unseen(world, sold):
    """Let the venue sell a part of the first market order, cancel the rest, and tell of the end alone."""
    accept = world.venue.accept

    def accept_quietly(order):
        if order.order_type != "market":
            return accept(order)
        world.venue.accept = accept
        world.venue.market_share, world.venue.is_muted = Decimal(0), True
        resting = accept(order)
        world.venue.market_share, world.venue.is_muted = Decimal(1), False
        resting.status = "new"
        world.venue.report(resting, ExecType.PENDING_NEW, cl_ord_id=order.cl_ord_id, symbol=order.symbol)
        end_unseen(world, order.cl_ord_id, sold, "canceled")
        return resting

    world.venue.accept = accept_quietly


def sold_at_market(world):
    return [resting.qty for resting in world.venue.orders.values() if resting.order.order_type == "market"]


@pytest.mark.parametrize("sold", ["0.4", "1"])
async def test_sale_that_ended_with_unseen_fills_leaves_only_its_rest_to_sell(world, sold):
    async with world.running():
        world.venue.foreign["ABC"] = Decimal(50)
        await held(world, time_stop_s=10.0)
        end_first_sale_unseen(world, sold)
        await world.until(lambda: sold_at_market(world))
        await anyio.sleep(3.0)

        # The rest is sold at once, without waiting for trades that nobody shows yet.
        assert ([Decimal(1)] if sold == "1" else [Decimal(1), Decimal("0.6")]) == sold_at_market(world)

        await anyio.sleep(30.0)
        show_trades(world)
        await world.until(lambda: world.position() == 0, timeout_s=60.0)
        await anyio.sleep(5.0)

        assert Decimal(50) == (await world.venue.balances())["ABC"].balance


async def test_rest_of_an_ended_sale_is_sold_after_refusals_although_its_trades_are_unseen(world):
    async with world.running():
        await held(world, time_stop_s=10.0)
        end_first_sale_unseen(world, "0.4")
        await world.until(lambda: sold_at_market(world))
        world.venue.sale_refusal = "EService:Busy"
        await world.until(lambda: world.stop() is not None and world.stop().qty == Decimal("0.6"), timeout_s=5.0)
        world.venue.sale_refusal = None
        await world.until(lambda: len(sold_at_market(world)) == 2, timeout_s=10.0)

        assert Decimal("0.6") == sold_at_market(world)[-1]


async def test_purchase_is_not_over_before_its_fills_are_booked(world):
    """A clean stop waits for it: what it bought has to be protected."""
    async with world.running() as engine:
        entry_id = await world.open_entry()
        end_unseen(world, entry_id, "0.4", "canceled")
        await anyio.sleep(1.0)

        assert engine.tracker.is_ended(entry_id)
        assert not await engine.recorder.wait_closed(entry_id, 0.5)

        show_trades(world)

        assert await engine.recorder.wait_closed(entry_id, 60.0)
        assert Decimal("0.4") == world.position()


def whole_sale():
    return ProtectiveExit(symbol=Symbol("ABC/USD"), qty=Decimal(1), kind=ExitKind.PANIC, reason="test")


async def test_exit_is_at_most_what_an_ended_sale_has_left(world):
    async with world.running() as engine:
        stop_id = await held(world)
        end_unseen(world, stop_id, "0.4", "canceled")
        await anyio.sleep(0.0)

        assert await engine.desk.send_exit(whole_sale(), parent_id=None) is None


async def test_exit_that_waited_is_at_most_what_an_ended_sale_has_left(world, monkeypatch):
    world.venue.foreign["ABC"] = Decimal(5)
    async with world.running() as engine:
        stop_id = await held(world)
        keep_row = engine.desk._ahead.keep_row

        async def ended_meanwhile(order):
            monkeypatch.undo()
            end_unseen(world, stop_id, "0.4", "canceled")
            kept = await keep_row(order)
            await anyio.sleep(0.2)
            return kept

        monkeypatch.setattr(engine.desk._ahead, "keep_row", ended_meanwhile)
        await engine.desk.send_exit(whole_sale(), parent_id=None)
        await anyio.sleep(2.0)

        assert [] == [i for i in world.venue.submitted if i.startswith("kbm")]


async def test_dust_of_an_ended_entry_may_still_grow(world):
    async with world.running():
        entry_id = await world.open_entry()
        world.venue.fill(entry_id, Decimal("0.02"), Decimal("100.0"))
        await anyio.sleep(1.0)
        end_unseen(world, entry_id, "0.4", "canceled")
        await anyio.sleep(3.0)

        assert ["unprotectable"] == [event.protection for event in world.store.protection]
