"""Reports that can't be true, and errors of our own: what ends the process, what does not, and what holds meanwhile.

An invariant that breaks ends the process, for what it holds in memory can't be trusted any more: stops stay at the
venue, and the next start reconciles. That is sound for an error of ours only. A report that broke one would come again
in the snapshot of every start, so what the venue says must never get that far.
"""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

from decimal import Decimal

import anyio
import pytest

from krakenbot.domain.errors import InvariantViolated
from krakenbot.domain.execution.applied import AlarmCode
from krakenbot.domain.execution.order import OrderState
from krakenbot.domain.execution.reports import ExecType, Fee
from krakenbot.domain.values import Side


def broken(error):
    """Tell whether a group of errors holds a broken invariant of ours and nothing else."""
    if isinstance(error, BaseExceptionGroup):
        return all(broken(one) for one in error.exceptions)
    return isinstance(error, InvariantViolated)


async def run_until_an_invariant_breaks(world, monkeypatch):
    def break_one(report, at):
        raise InvariantViolated("I4: an error of ours")

    async with world.running() as engine:
        await world.held()
        entry_id = await world.open_entry()
        monkeypatch.setattr(engine.tracker, "apply_report", break_one)
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await anyio.sleep(30)


@pytest.mark.parametrize(
    "fields",
    [
        {"cost": Decimal(-1)},
        {"cost": Decimal("1e29")},
        {"cost": Decimal("1.000000000000000000000000000001")},
        {"last_qty": Decimal("1e30")},
        {"last_qty": Decimal("1e-30")},
        {"fees": (Fee(asset="ABC", qty=Decimal("-1e29")),)},
        {"fees": (Fee(asset="USD", qty=Decimal("1e-29")),)},
    ],
)
async def test_trade_that_can_not_be_booked_is_told_and_asked_about_while_protection_goes_on(world, fields):
    async with world.running() as engine:
        await world.held()
        entry_id = await world.open_entry()
        before = engine.reconciler.ladders
        trade = {"exec_id": "E-odd", "last_qty": Decimal("0.1"), "last_price": Decimal(100), "side": Side.BUY}
        world.venue.report(world.venue.orders[entry_id], ExecType.TRADE, **(trade | fields))
        await world.until(lambda: engine.reconciler.ladders > before)

        assert 1 == engine.recorder.alarms[AlarmCode.FILL_REFUSED]
        assert "E-odd" in world.events.of("alarm")[0]["detail"]
        assert Decimal(1) == world.position()

        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None and world.stop().qty == Decimal("1.5"))


@pytest.mark.parametrize("field", ["order_qty", "limit_price"])
async def test_entry_finer_than_its_instrument_is_cancelled(world, field):
    async with world.running():
        await world.held()
        entry_id = await world.open_entry()
        odd = {"limit_price": Decimal("100.00001"), "order_qty": Decimal("1.0000001")}[field]
        world.venue.report(world.venue.orders[entry_id], ExecType.AMENDED, **{field: odd})
        await world.until(lambda: world.state(entry_id) is OrderState.CANCELED)

        assert Decimal(1) == world.stop().qty


async def test_broken_invariant_ends_the_process_and_the_next_one_reconciles_and_protects(world, monkeypatch):
    with pytest.raises(BaseExceptionGroup) as ended:
        await run_until_an_invariant_breaks(world, monkeypatch)

    assert broken(ended.value)
    assert Decimal(1) == world.stop().qty
    assert [] == world.lease.released

    async with world.running(world.make_engine()):
        await world.until(lambda: world.stop() is not None and world.stop().qty == Decimal("1.5"))

        assert Decimal("1.5") == world.position()
        assert {trade.exec_id for trade in world.venue.trades} == set(world.store.fills)
