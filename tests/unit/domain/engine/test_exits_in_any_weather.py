"""One position through a random course of prices, fills, refusals, lost answers and outages.

The venue of this test sells no coins that are not there. Whatever happened, once all is right again both sides hold the
same, the rest of the position has its stop, and the exits have not asked without measure.
"""

from __future__ import annotations

import random
from decimal import Decimal

import anyio
import pytest

from krakenbot.domain.errors import VenueRejected
from krakenbot.domain.execution.order import OrderRole, OrderState, OrderType
from krakenbot.domain.execution.reports import ExecType
from krakenbot.domain.values import Side

SEEDS = range(60)
STEPS = 40
SUBMITS = ("not_sent", "reject", "reject:EOrder:Rate limit exceeded", "reject:EService:Busy", "lost", "lost_alive")
AMENDS = ("not_sent", "reject", "reject:EOrder:Rate limit exceeded", "lost", "lost_done")
CANCELS = ("reject:EService:Busy", "lost", "lost_done")


class Weather:
    """What happens to one position."""

    def __init__(self, world, seed) -> None:
        self.world = world
        self.venue = world.venue
        self.draw = random.Random(seed)
        self.silent: list[str] = []
        self._submit = world.venue.submit
        world.venue.submit = self._submit_what_is_there

    def coins(self):
        return sum((t.qty if t.side is Side.BUY else -t.qty for t in self.venue.trades), Decimal(0))

    async def _submit_what_is_there(self, order):
        if order.side is Side.SELL and order.qty > self.coins():
            self.venue.submitted.append(order.cl_ord_id)
            raise VenueRejected("EOrder:Insufficient funds")
        return await self._submit(order)

    def resting(self, role):
        found = [r for r in self.venue.orders.values() if r.order.role is role and r.status == "new"]
        return found[0] if found else None

    async def step(self):
        act = self.draw.choice(
            (
                self.move_price,
                self.move_price,
                self.fill_entry,
                self.fill_take_profit,
                self.cancel_exit,
                self.script,
                self.script,
                self.script,
                self.outage,
                self.mute,
            )
        )
        act()
        await anyio.sleep(self.draw.choice((0.05, 0.3, 1.0, 2.5, 6.0)))

    def move_price(self):
        world = self.world
        bid = self.draw.choice(("98.0", "98.9", "99.5", "100.0", "100.5", "101.0", "101.5"))
        world.bid, world.ask = Decimal(bid), Decimal(bid) + Decimal("0.2")
        stop = self.resting(OrderRole.PROTECTIVE_STOP)
        if stop is not None and stop.trigger >= world.bid:
            self.sell(stop, self.draw.choice(("all", "all", "part")))

    def sell(self, resting, how):
        """Sell what is there; an order that is not filled whole is cancelled by the venue."""
        left = resting.qty - resting.cum
        qty = min(left if how == "all" else (left / 2).quantize(Decimal("0.0001")), self.coins())
        silent = self.draw.random() < 0.25
        if qty > 0:
            self.venue.fill(resting.order.cl_ord_id, qty, self.world.bid, silent=silent)
        if resting.status == "new":
            self.venue.close(resting.order.cl_ord_id, "canceled", silent=True)
            self.venue.report(resting, ExecType.CANCELED, cum_qty=resting.cum)

    def fill_entry(self):
        entry = self.resting(OrderRole.ENTRY)
        if entry is not None:
            part = self.draw.choice((Decimal("0.02"), Decimal("0.3"), Decimal(1)))
            qty = min(part, entry.qty - entry.cum)
            self.venue.fill(entry.order.cl_ord_id, qty, Decimal("100.0"), silent=self.draw.random() < 0.1)

    def fill_take_profit(self):
        profit = self.resting(OrderRole.TAKE_PROFIT)
        if profit is not None:
            self.sell(profit, self.draw.choice(("all", "part")))

    def cancel_exit(self):
        exits = [r for r in self.venue.orders.values() if r.order.side is Side.SELL and r.status == "new"]
        if exits and self.draw.random() < 0.3:
            self.venue.close(self.draw.choice(exits).order.cl_ord_id, "canceled")

    def script(self):
        venue = self.venue
        count = self.draw.choice((1, 1, 2, 4))
        scripts = ((venue.script, SUBMITS), (venue.amend_script, AMENDS), (venue.cancel_script, CANCELS))
        into, outcomes = self.draw.choice(scripts)
        into.extend([self.draw.choice(outcomes)] * count)

    def outage(self):
        if self.draw.random() < 0.5:
            self.venue.queries_fail = not self.venue.queries_fail
        else:
            self.world.store.is_away = not self.world.store.is_away

    def mute(self):
        self.venue.is_muted = not self.venue.is_muted and self.draw.random() < 0.4

    def clear_up(self):
        venue = self.venue
        for script in (venue.script, venue.amend_script, venue.cancel_script):
            script.clear()
        venue.queries_fail = venue.is_muted = self.world.store.is_away = False
        self.world.bid, self.world.ask = Decimal("100.0"), Decimal("100.2")


@pytest.mark.parametrize("seed", SEEDS)
async def test_position_comes_through_any_weather(world, seed):
    weather = Weather(world, seed)
    draw = weather.draw
    async with world.running():
        await world.open_entry(
            qty="2",
            trail_distance_bps=draw.choice((None, 50.0)),
            take_profit_bps=draw.choice((80.0, 2000.0)),
            time_stop_s=draw.choice((30.0, 60.0, 10_000.0)),
        )
        for _ in range(draw.choice((0, 5, 20))):
            await weather.step()
    # The process died there, in the midst of whatever was under way.
    weather.clear_up()
    async with world.running(world.make_engine()) as engine:
        for _ in range(STEPS):
            await weather.step()
        requests = len(world.venue.submitted) + len(world.venue.amends) + len(world.venue.cancels)
        weather.clear_up()
        # A minute for queries that may lag, one for proofs of absence, and the longest rest between two sales.
        await anyio.sleep(200.0)
        sales = [o for o in engine.tracker.live() if o.side is Side.SELL and o.order_type is not OrderType.STOP_LOSS]
        stop = world.stop()

        assert weather.coins() == world.position()
        assert [] == [o.cl_ord_id for o in engine.tracker.live() if o.state is OrderState.UNKNOWN]
        assert requests < 250

        if world.position() >= world.instrument.qty_min and not sales:
            assert stop is not None
            assert stop.qty - stop.cum == world.position()
