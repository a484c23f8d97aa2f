"""The keeper of the trading counters after a restart and beside foreign orders; the gateway that spends from them."""

# mypy: disable-error-code="arg-type, return-value"
from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from decimal import Decimal

import pytest

from krakenbot.domain.engine.counted_gateway import CountedGateway
from krakenbot.domain.errors import OutcomeUnknown, VenueRejected, VenueUnavailable
from krakenbot.domain.execution.rate import AccountTier, RateBudget, trading_limits
from krakenbot.domain.execution.reports import ExecType, ExecutionReport

ABC, XYZ = "ABC/USD", "XYZ/USD"


def points(world, engine, symbol=ABC):
    return engine.rate.budget.points(symbol, world.clock.mono())


async def test_symbol_with_a_live_order_starts_full_whenever_it_changed_last(world):
    """The last requests about a live order may not have been committed."""
    async with world.running() as engine:
        at = world.clock.now() - timedelta(seconds=40)
        engine.rate.start_from({ABC: at, XYZ: at}, {ABC})

        assert engine.rate.budget.limits.threshold == points(world, engine)
        assert engine.rate.budget.limits.threshold - 40.0 == points(world, engine, XYZ)


async def test_foreign_order_counts_by_its_id_after_its_first_report(world):
    async with world.running() as engine:
        first = {"order_id": "F-1", "at": world.clock.now()}
        engine.rate.take(ExecutionReport(**first, exec_type=ExecType.PENDING_NEW, symbol=XYZ))
        engine.rate.take(ExecutionReport(**first, exec_type=ExecType.CANCELED, ratecount=Decimal(9)))

        assert 9.0 == points(world, engine, XYZ)


@pytest.mark.parametrize(
    ("error", "expected", "hits"),
    [
        (None, 7.0, 0),
        (VenueRejected("EOrder:Rate limit exceeded"), 60.0, 1),
        (VenueRejected("EOrder:Domain rate limit exceeded"), 60.0, 1),
        (VenueRejected("EOrder:Unknown order"), 7.0, 0),
        (VenueUnavailable("not connected"), 0.0, 0),
        (OutcomeUnknown("kbe", "timeout"), 8.0, 0),
    ],
)
async def test_answer_decides_what_becomes_of_the_points_of_a_cancel(world, monkeypatch, error, expected, hits):
    """Without an answer they stay; after one they decay; what never left costs nothing."""
    budget = RateBudget(trading_limits(AccountTier.STARTER))
    gateway = CountedGateway(gateway=world.venue, rate=budget, clock=world.clock, symbol_of=lambda _: ABC)

    async def cancel(cl_ord_id):
        if error is not None:
            raise error

    monkeypatch.setattr(world.venue, "cancel", cancel)
    with nullcontext() if error is None else pytest.raises(type(error)):
        await gateway.cancel("kbe")
    at_once = budget.points(ABC, world.clock.mono())

    assert hits == budget.over_limit
    assert expected == budget.points(ABC, world.clock.mono() + 1.0) + (1.0 if hits else 0.0)
    assert at_once >= expected
