"""The tie-out at work: named differences, and entries that stop where nothing explains a balance."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import anyio
import pytest
from attrs import evolve

from krakenbot.domain.decision.capital import losses_of
from krakenbot.domain.execution.fills import FillSource


def ledger_of(engine):
    return engine.ledger.status()


async def test_own_trades_tie_out_and_the_cursor_moves_on(world):
    async with world.running(world.make_engine(tie_out_interval_s=60.0)) as engine:
        entry_id = await world.enter()
        await anyio.sleep(30.0)
        world.venue.fill(entry_id, Decimal("0.4"), Decimal("100.0"))
        await anyio.sleep(200.0)

    assert ledger_of(engine)["tie_outs"] >= 2
    assert {} == ledger_of(engine)["unexplained"] == engine.ledger.untied()
    assert [] == ledger_of(engine)["named"]
    assert ledger_of(engine)["tied_at"] is not None


async def test_deposit_is_named_and_does_not_stop_entries(world):
    async with world.running() as engine:
        await anyio.sleep(30.0)
        world.venue.foreign["USD"] += 500
        world.venue.bookings.append(world.venue.booking("L-1", "USD", 500, kind="deposit"))
        await world.until(lambda: ledger_of(engine)["named"], 200.0)

    assert [{"cause": "deposit", "asset": "USD", "amount": "500", "entries": 1}] == ledger_of(engine)["named"]
    assert {} == engine.ledger.untied()


async def test_strange_balance_is_asked_about_and_stops_its_symbol_after_the_second_look(world):
    async with world.running() as engine:
        await anyio.sleep(30.0)
        world.venue.foreign["ABC"] += Decimal("0.0001")
        await world.until(engine.ledger.untied, 200.0)
        view = await engine.account.view()
        world.venue.bookings.append(world.venue.booking("L-1", "ABC", "0.0001", kind="staking"))
        await world.until(lambda: not engine.ledger.untied(), 200.0)

    assert {"ABC"} == set(view.untied)
    assert 2 <= engine.ledger.tie_outs
    assert ["ABC"] == [fields["asset"] for fields in world.events.of("ledger_unexplained")]
    assert {"earn"} == {row["cause"] for row in ledger_of(engine)["named"]}


async def test_first_look_alone_stops_nothing(world):
    async with world.running() as engine:
        await anyio.sleep(30.0)
        world.venue.foreign["ABC"] += Decimal("0.0001")
        seen = engine.ledger.tie_outs
        await world.until(lambda: engine.ledger.tie_outs > seen or engine.ledger.untied(), 700.0)
        suspected = engine.ledger.untied()
        await world.until(engine.ledger.untied, 100.0)

    assert {} == suspected
    assert seen + 2 <= engine.ledger.tie_outs


async def test_unexplained_difference_outlives_a_restart(world):
    async with world.running() as engine:
        await world.until(lambda: "ledger_cursor_set" in world.events.names())
        store = engine.ledger._store
    world.venue.foreign["USD"] -= 1
    again = world.make_engine()
    again.ledger._store = store
    async with world.running(again):
        await world.until(again.ledger.untied, 200.0)

    assert {"USD"} == set(again.ledger.untied())


async def test_withdrawal_of_money_is_no_drawdown(world):
    async with world.running() as engine:
        await anyio.sleep(30.0)
        before = engine.account.equity_quote
        world.venue.foreign["USD"] -= Decimal(9_500)
        await anyio.sleep(30.0)

    assert (Decimal(1000), Decimal(500)) == (before, engine.account.equity_quote)
    assert Decimal(0) == engine.account.pnl_quote == engine.account.peak_pnl_quote


async def test_coins_of_the_user_and_earn_are_named_and_not_counted(world):
    world.venue.foreign |= {"ABC": Decimal(7)}
    async with world.running() as engine:
        entry_id = await world.enter()
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await anyio.sleep(30.0)
        money = engine.account.money()
        equity = engine.account.equity_quote

    assert {"ABC": "7"} == money["not_counted"]
    assert Decimal(1000) == equity


async def test_drawdown_is_of_own_trades_however_much_the_account_holds(world):
    """Ten times the capital limit lies on the account, so that its equity stays at the limit."""
    async with world.running() as engine:
        entry_id = await world.enter()
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await anyio.sleep(30.0)
        view = await engine.account.view()
        status = engine.status()["account"]
        position = engine.recorder.tracker.position("ABC/USD")
        bid, _ = engine.account._feed.book("ABC/USD").best_bid()
        worth = position.qty * world.instrument.price_of(bid)

    assert Decimal(1000) == engine.account.equity_quote
    assert (0, 0) == (view.realized_total_quote, view.peak_pnl_quote)
    assert worth - position.cost_quote == Decimal(status["pnl_quote"]) < 0


async def test_difference_that_a_person_accepted_frees_its_symbol_and_stays_named(world):
    async with world.running() as engine:
        await anyio.sleep(30.0)
        world.venue.foreign["ABC"] += Decimal("0.0001")
        await world.until(engine.ledger.untied, 200.0)
        store, venue_id = engine.ledger._store, engine.ledger._settings.venue_id
        wrong = await store.accept(venue_id, "ABC", Decimal("0.0002"), "ann", "a guess")
        right = await store.accept(
            venue_id, "ABC", Decimal(ledger_of(engine)["unexplained_amounts"]["ABC"]), "ann", "ok"
        )
        await world.until(lambda: not engine.ledger.untied(), 200.0)
        await anyio.sleep(100.0)
        entry_id = await world.enter()
        world.venue.fill(entry_id, Decimal("0.4"), Decimal("100.0"))
        await anyio.sleep(400.0)

    assert {wrong.number: False, right.number: True} == store.settled
    assert {} == ledger_of(engine)["unexplained"] == ledger_of(engine)["unexplained_amounts"]
    assert [("accepted", "ABC", "0.0001")] == [
        (n["cause"], n["asset"], n["amount"]) for n in ledger_of(engine)["named"]
    ]
    assert [("ABC", "0.0001", "ann", "ok")] == [
        (e["asset"], e["amount"], e["who"], e["reason"]) for e in world.events.of("ledger_accepted")
    ]
    assert [("ABC", "0.0002")] == [(e["asset"], e["amount"]) for e in world.events.of("ledger_acceptance_void")]


async def test_acceptance_covers_no_later_difference(world):
    async with world.running() as engine:
        await anyio.sleep(30.0)
        store, venue_id = engine.ledger._store, engine.ledger._settings.venue_id
        early = await store.accept(venue_id, "ABC", Decimal("0.0001"), "ann", "in advance")
        await world.until(lambda: store.settled, 700.0)
        world.venue.foreign["ABC"] += Decimal("0.0001")
        await world.until(engine.ledger.untied, 400.0)

    assert {early.number: False} == store.settled


async def test_fill_between_the_reads_is_no_difference(world):
    """The ledger is read last, so it leads through the balances that were read."""
    async with world.running() as engine:
        entry_id = await world.enter()
        await anyio.sleep(60.0)
        read_balances, read_ledger = world.venue.balances, world.venue.ledger

        async def filled_after(answer):
            world.venue.fill(entry_id, Decimal("0.1"), Decimal("100.0"))
            await anyio.sleep(0.2)
            return answer

        async def balances():
            return await filled_after(await read_balances())

        async def ledger(since):
            return await filled_after(await read_ledger(since))

        world.venue.balances, world.venue.ledger = balances, ledger
        result = await engine.ledger.tie_out()
        world.venue.balances, world.venue.ledger = read_balances, read_ledger

    assert () == result.unexplained
    assert 2 == result.entries


async def test_old_entry_that_fits_nowhere_is_a_difference_once_the_ledger_has_tied_out(world):
    async with world.running() as engine:
        await world.until(lambda: "tied_out" in world.events.names(), 100.0)
        await anyio.sleep(100.0)
        at = world.clock.now() - timedelta(seconds=110)
        late = evolve(world.venue.booking("L-1", "USD", 5, kind="deposit", at=at), balance=Decimal(77))
        world.venue.bookings.append(late)
        world.venue._shown["L-1"] = late
        engine.ledger.ask("test")
        await world.until(engine.ledger.untied, 700.0)

    assert {"USD"} == set(engine.ledger.untied())
    assert 1 == world.events.names().count("ledger_cursor_set")


async def test_fills_that_the_store_may_lack_are_not_compared(world):
    async with world.running() as engine:
        await anyio.sleep(30.0)
        engine.recorder.is_store_available = False
        result, before = await engine.ledger.tie_out(), engine.ledger.tie_outs
        engine.recorder.is_store_available = True

        assert result is None
        assert await engine.ledger.tie_out() is not None
        assert before + 1 == engine.ledger.tie_outs


@pytest.mark.parametrize(("hidden_s", "is_stopped"), [(58.0, False), (110.0, True)])
async def test_balance_ahead_of_the_ledger_stops_entries_only_beyond_the_ledgers_lag(world, hidden_s, is_stopped):
    async with world.running() as engine:
        await world.until(lambda: "tied_out" in world.events.names(), 100.0)
        await anyio.sleep(100.0)
        world.venue.foreign["ABC"] += Decimal("0.0001")
        booked = world.venue.booking("L-1", "ABC", "0.0001", kind="staking")
        looks = engine.ledger.tie_outs
        # However often it looks meanwhile.
        for _ in range(int(hidden_s)):
            engine.ledger.ask("test")
            await anyio.sleep(1.0)
        looks = engine.ledger.tie_outs - looks
        stopped = set(engine.ledger.untied())
        world.venue.bookings.append(booked)
        await world.until(lambda: not engine.ledger._suspected, 200.0)

    assert ({"ABC"} if is_stopped else set()) == stopped
    assert is_stopped is ("ledger_unexplained" in world.events.names())
    assert 2 <= looks
    assert {} == engine.ledger.untied()


async def test_first_look_ties_out_what_was_bought_and_sold_before_it(world):
    """The chain of an asset that came and went leads back to where it began."""
    world.venue.bookings += [
        evolve(
            world.venue.booking(f"L-{n}-{asset}", asset, amount, ref_id=f"T-{n}"),
            at=world.clock.now() - timedelta(seconds=ago_s),
        )
        for n, (ago_s, base, quote) in enumerate([(90, 1, -100), (80, -1, 100)])
        for asset, amount in (("ABC", base), ("USD", quote))
    ]
    async with world.running() as engine:
        await world.until(lambda: engine.ledger.tie_outs, 10.0)

    assert ["tied_out"] == [name for name in world.events.names() if name == "tied_out"]
    assert {("foreign_trade", "ABC", 2), ("foreign_trade", "USD", 2)} == {
        (row["cause"], row["asset"], row["entries"]) for row in ledger_of(engine)["named"]
    }


async def test_entry_that_was_hidden_at_the_first_look_begins_it_anew(world):
    world.venue.foreign["ABC"] += Decimal(5)
    async with world.running() as engine:
        hidden = world.venue.booking("L-1", "ABC", 5, kind="deposit")
        await world.until(lambda: engine.ledger.tie_outs, 10.0)
        await anyio.sleep(50.0)
        world.venue.bookings.append(hidden)
        await anyio.sleep(400.0)

    assert {} == engine.ledger.untied()
    assert "ledger_unexplained" not in world.events.names()
    assert 2 == world.events.names().count("ledger_cursor_set")
    assert [("deposit", "5")] == [(row["cause"], row["amount"]) for row in ledger_of(engine)["named"]]


async def test_restart_goes_on_with_the_peak_so_that_a_crash_loop_has_one_drawdown(world):
    async with world.running() as engine:
        world.store.peak = Decimal(40)
        await world.until(lambda: engine.account.peak_pnl_quote == Decimal(40), 30.0)
    again = world.make_engine()
    async with world.running(again):
        await anyio.sleep(5.0)
        view = await again.account.view()
        losses = losses_of(view, {})
        world.store.peak = None
        begun_anew = await again.account.view()

    assert Decimal(40) == view.peak_pnl_quote == losses.drawdown_quote
    assert Decimal(0) == begun_anew.peak_pnl_quote


async def test_position_without_a_bid_makes_no_peak(world):
    async with world.running() as engine:
        entry_id = await world.enter()
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await anyio.sleep(5.0)
        world.store.peak = Decimal(-60)
        engine.account._feed.book = lambda _: None
        view = await engine.account.view()

    assert Decimal(0) == engine.account.pnl_quote
    assert Decimal(-60) == world.store.peak
    assert Decimal(0) == view.peak_pnl_quote


@pytest.mark.parametrize(
    ("fee_asset", "fee_qty", "source", "told"),
    [
        ("ABC", "0.1", FillSource.STREAM, ["ABC"]),
        ("USD", "0.1", FillSource.STREAM, []),
        ("ABC", "0", FillSource.STREAM, []),
        ("ABC", "0.1", FillSource.QUERY, []),
    ],
)
async def test_fee_that_the_stream_states_in_another_asset_than_asked_for_is_told(
    world, fee_asset, fee_qty, source, told
):
    async with world.running() as engine:
        entry_id = await world.enter()
        world.venue.fill(entry_id, Decimal("0.4"), Decimal("100.0"))
        await world.until(lambda: world.store.fills, 10.0)
        (fill,) = world.store.fills.values()
        engine.account.take(evolve(fill, exec_id="T-2", fee_asset=fee_asset, fee_qty=Decimal(fee_qty), source=source))

    assert told == [fields["fee_asset"] for fields in world.events.of("fee_asset_differs")]


@pytest.mark.parametrize("skew_s", [3600.0, -3600.0])
async def test_step_of_the_wall_clock_leaves_no_difference_behind(world, skew_s):
    async with world.running(world.make_engine(tie_out_interval_s=60.0)) as engine:
        entry_id = await world.open_entry()
        await anyio.sleep(200.0)
        world.clock.skew_s = skew_s
        await anyio.sleep(200.0)
        world.clock.skew_s = 0.0
        tie_outs = engine.ledger.tie_outs
        world.venue.fill(entry_id, Decimal("0.4"), Decimal("100.0"))
        await anyio.sleep(600.0)

        assert engine.ledger.tie_outs > tie_outs
        assert {} == engine.ledger.untied()
        assert [] == world.events.of("ledger_unexplained")
        assert engine.ledger._tied_at >= world.clock.true_now() - timedelta(seconds=200.0)
