"""What the account says while a part of it cannot be read, and what dust counts for in it."""

from __future__ import annotations

from decimal import Decimal

import anyio

from krakenbot.domain.errors import StoreUnavailable


async def away(_since):
    raise StoreUnavailable("statement timeout")


async def test_account_is_not_fresh_before_the_days_result_was_read(world, monkeypatch):
    monkeypatch.setattr(world.store, "realized_since", away)
    await world.engine.account.refresh()

    assert world.engine.account.age_s is None


async def test_account_ages_while_the_days_result_cannot_be_read(world, monkeypatch):
    async with world.running() as engine:
        await world.until(lambda: engine.account.age_s is not None)
        monkeypatch.setattr(world.store, "realized_since", away)
        await anyio.sleep(60.0)

        assert engine.account.age_s > 30.0

        monkeypatch.undo()
        await world.until(lambda: engine.account.age_s < 1.0)


async def test_account_is_as_old_as_its_question(world, monkeypatch):
    realized_since = world.store.realized_since

    async def slow(since):
        await anyio.sleep(1.5)
        return await realized_since(since)

    monkeypatch.setattr(world.store, "realized_since", slow)
    await world.engine.account.refresh()

    assert world.engine.account.age_s >= 1.5


async def test_dust_is_in_no_sum_of_the_account(world):
    """A loss on dust that the view leaves out must not be in the profit that the peak is compared with."""
    async with world.running() as engine:
        entry_id = await world.open_entry()
        world.venue.fill(entry_id, Decimal("0.02"), Decimal("100.0"))
        world.venue.close(entry_id, "canceled")
        await world.until(lambda: world.position() == Decimal("0.02"))
        world.bid, world.ask = Decimal("50.0"), Decimal("50.2")
        await engine.account.refresh()
        view = await engine.account.view()

        assert {} == dict(view.positions)
        assert Decimal(0) == engine.account.pnl_quote
        assert Decimal(0) == view.peak_pnl_quote
        assert {"ABC": "0.02"} == engine.account.money()["dust"]
        assert engine.account.funds.balance("USD") < 10_000


async def test_dust_is_not_in_the_equity(world):
    world.venue.foreign["USD"] = Decimal(500)
    async with world.running() as engine:
        entry_id = await world.open_entry()
        world.venue.fill(entry_id, Decimal("0.02"), Decimal("100.0"))
        await world.until(lambda: world.position() == Decimal("0.02"))
        await engine.account.refresh()

        assert engine.account.funds.balance("USD") == engine.account.equity_quote
