"""Ladders: from when on they ask, what they prove, how often they are climbed, and what contradicts them."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import anyio
import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.ladder import LOOK_BACK, Ladder
from krakenbot.domain.errors import VenueUnavailable
from krakenbot.domain.execution.applied import AlarmCode
from krakenbot.domain.execution.order import OrderState
from krakenbot.domain.execution.reports import ExecType, ExecutionReport
from krakenbot.domain.values import Side


def watch_since(world, monkeypatch):
    """Return the times from which fills are asked for from now on; the venue then shows no older ones."""
    asked = []

    async def fills(since):
        asked.append(since)
        return [trade for trade in world.venue.trades if trade.at >= since]

    monkeypatch.setattr(world.venue, "fills", fills)
    return asked


async def test_restart_asks_from_the_stored_cursor_though_an_old_stop_is_alive(world, monkeypatch):
    async with world.running():
        await world.held()
        await anyio.sleep(300)
        someones = evolve(world.venue.trades[-1], exec_id="E-F", order_id="F-1", at=world.clock.now())
        world.venue.trades.append(someones)
        await world.until(lambda: world.store.reconciled_at == someones.at, 90.0)
    asked = watch_since(world, monkeypatch)
    async with world.running(world.make_engine()):
        pass

    assert asked[0] == someones.at - LOOK_BACK
    assert asked[0] > world.stop().order.created_at


async def test_cursor_stays_behind_a_fill_that_cannot_be_booked(world):
    async with world.running() as engine:
        await world.held()
        await world.until(lambda: engine.reconciler.is_clean and world.store.reconciled_at is not None)
        before = world.store.reconciled_at
        odd = evolve(world.venue.trades[-1], exec_id="E-X", qty=Decimal("1E-40"), at=world.clock.now())
        world.venue.trades.append(odd)
        for _ in range(3):
            engine.reconciler.request("test")
            await anyio.sleep(30.0)

        assert {"fill_refused"} == {told["code"] for told in world.events.of("alarm")}
        assert before == world.store.reconciled_at


async def test_stray_that_queries_still_show_is_cancelled_once_a_minute(world, monkeypatch):
    async with world.running() as engine:
        world.venue.script = ["lost"]
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.NEVER_ACCEPTED, 300.0)
        world.venue.is_muted = True
        world.venue.accept(world.store.orders[entry_id])
        shown = await world.venue.open_orders()

        async def lagging():
            return shown

        async def nothing_yet(since):
            return []

        monkeypatch.setattr(world.venue, "open_orders", lagging)
        monkeypatch.setattr(world.venue, "closed_orders", nothing_yet)
        for _ in range(5):
            engine.reconciler.request("test")
            await anyio.sleep(10.0)

        assert [entry_id] == world.venue.cancels

        await world.until(lambda: len(world.venue.cancels) == 2, 90.0)


async def test_time_far_ahead_in_one_row_does_not_take_the_cursor_beyond_what_can_be_known(world, monkeypatch):
    """Nothing that happens before that time would ever be asked for again, in any process."""
    async with world.running() as engine:
        await world.held()
        ahead = world.clock.now() + timedelta(days=365)
        world.venue.trades.append(evolve(world.venue.trades[-1], exec_id="E-F", order_id="F-1", at=ahead))
        began_at = world.clock.now()
        engine.reconciler.request("test")
        await world.until(lambda: world.store.reconciled_at is not None and world.store.reconciled_at >= began_at)

        assert world.store.reconciled_at <= world.clock.now()


def make_ladder(world, engine):
    return Ladder(
        clock=world.clock,
        query=world.venue,
        execution_feed=world.venue,
        order_store=world.store,
        recorder=engine.recorder,
        settings=ExecutionSettings(venue_id="test", capital_limit_quote=Decimal(1)),
    )


async def test_histories_begin_before_every_order_in_question_and_before_the_cursor(world):
    async with world.running() as engine:
        await world.held()
        stop = world.stop().order
        await anyio.sleep(300)
        now = world.clock.now()
        ladder = make_ladder(world, engine)
        since = []
        for cursor, last_fill_at, doubted in [
            (now, None, []),
            (now, None, [stop.cl_ord_id, "kbe-forgotten"]),
            (None, now, []),
            (None, None, []),
        ]:
            ladder.start_from(cursor, last_fill_at)
            since.append((await ladder.ask(doubted)).since + LOOK_BACK)

    assert [now, stop.created_at, stop.created_at, now - timedelta(hours=1)] == since


@pytest.mark.parametrize("lost_at", ["open_orders", "balances"])
async def test_ladder_during_which_the_stream_was_lost_shows_nothing(world, monkeypatch, lost_at):
    """What a query lacks the stream may have told, so it must stand from the first rung to the last."""
    async with world.running() as engine:
        ladder = make_ladder(world, engine)
        ask = getattr(world.venue, lost_at)

        async def lose_the_stream():
            monkeypatch.setattr(world.venue, "is_connected", False)
            return await ask()

        monkeypatch.setattr(world.venue, lost_at, lose_the_stream)
        with pytest.raises(VenueUnavailable):
            await ladder.ask([])


async def test_ladder_without_a_stream_asks_nothing(world, monkeypatch):
    async with world.running() as engine:
        ladder = make_ladder(world, engine)
        monkeypatch.setattr(world.venue, "is_connected", False)
        monkeypatch.setattr(world.venue, "open_orders", None)
        with pytest.raises(VenueUnavailable):
            await ladder.ask([])


async def test_balances_are_asked_for_every_half_minute_only(world):
    async with world.running() as engine:
        ladder = make_ladder(world, engine)
        found = []
        for wait_s in (0.0, 10.0, 25.0):
            await anyio.sleep(wait_s)
            found.append((await ladder.ask([])).short)

    assert [(), None, ()] == found


async def test_all_fills_of_a_long_outage_are_booked_not_only_the_newest(world, monkeypatch):
    async with world.running():
        entry_id = await world.held()
        stop_id = world.stop().order.cl_ord_id
    world.venue.is_muted = True
    for _ in range(120):
        await anyio.sleep(60)
        world.venue.fill(stop_id, Decimal("0.008"), Decimal("99.0"))
    watch_since(world, monkeypatch)
    world.venue.is_muted = False
    async with world.running(world.make_engine()):
        pass

    assert {trade.exec_id for trade in world.venue.trades} == set(world.store.fills)
    assert OrderState.FILLED is world.store.orders[entry_id].state
    assert Decimal("0.96") == world.store.orders[stop_id].cum_qty


async def test_cursor_stays_while_a_known_fill_is_missing(world, monkeypatch):
    async with world.running() as engine:
        entry_id = await world.held()
        await world.until(lambda: engine.reconciler.is_clean)
        shown = list(world.venue.trades)
        late_id = await world.enter()
        await world.until(lambda: world.state(late_id) is OrderState.OPEN)

        async def lagging(since):
            return shown

        monkeypatch.setattr(world.venue, "fills", lagging)
        world.venue.fill(late_id, Decimal("0.5"), Decimal("100.0"), silent=True)
        world.venue.close(late_id, "canceled")
        before = world.store.reconciled_at
        await anyio.sleep(30)

        assert [late_id] == engine.tracker.overdue(world.clock.now(), 0.0)
        assert before == world.store.reconciled_at
        assert before is None or before <= shown[-1].at

        monkeypatch.undo()
        await world.until(lambda: not engine.tracker.lacking())
        await world.until(lambda: world.store.reconciled_at == world.venue.trades[-1].at, 90.0)

    assert OrderState.FILLED is world.store.orders[entry_id].state


async def test_query_that_lags_by_a_minute_is_asked_ever_more_rarely(world, monkeypatch):
    async with world.running() as engine:
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        await anyio.sleep(20)

        async def nothing(since):
            return []

        monkeypatch.setattr(world.venue, "fills", nothing)
        before = engine.reconciler.ladders
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"), silent=True)
        world.venue.report(world.venue.orders[entry_id], ExecType.FILLED, cum_qty=Decimal(1))
        await anyio.sleep(60)
        during = engine.reconciler.ladders - before
        monkeypatch.undo()
        await world.until(lambda: world.position() == 1)

    assert 2 <= during <= 9


async def test_ledger_answers_for_fills_that_memory_no_longer_holds(world, monkeypatch):
    """The store's own newest exec_ids are a window; a stop alive for long lets a ladder look back past it."""
    async with world.running():
        entry_id = await world.held()
    load = world.store.load_live

    async def load_no_fills(venue_id):
        return evolve(await load(venue_id), exec_ids=frozenset())

    monkeypatch.setattr(world.store, "load_live", load_no_fills)
    async with world.running(world.make_engine()) as engine:
        engine.reconciler.request("again")
        await world.until(lambda: engine.reconciler.ladders >= 2)

        assert Decimal(1) == world.position()

    assert Decimal(1) == world.store.orders[entry_id].cum_qty
    assert 1 == len(world.store.fills)


async def test_clock_that_steps_forward_proves_nothing_absent(world):
    async with world.running() as engine:
        world.venue.script = ["lost"]
        entry_id = await world.enter()
        world.clock.skew_s = 3_600.0
        await anyio.sleep(60)

        assert engine.reconciler.ladders >= 3
        assert OrderState.UNKNOWN is world.state(entry_id)

        await world.until(lambda: world.state(entry_id) is OrderState.NEVER_ACCEPTED, 200.0)


async def test_order_that_lives_after_its_absence_was_proven_is_cancelled_booked_protected_and_told(world):
    async with world.running() as engine:
        world.venue.script = ["lost"]
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.NEVER_ACCEPTED, 300.0)
        world.venue.accept(world.store.orders[entry_id])
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None, 10.0)
        await world.until(lambda: world.venue.orders[entry_id].status == "canceled", 10.0)
        await world.until(lambda: engine.recorder.is_settled)

        assert OrderState.NEVER_ACCEPTED is world.state(entry_id)
        assert Decimal("0.5") == world.position() == world.stop().qty
        assert engine.recorder.alarms[AlarmCode.ALIVE_AFTER_END] >= 1
        assert 1 == engine.recorder.alarms[AlarmCode.LATE_FILL]
        assert 1 == world.venue.submitted.count(entry_id)


async def test_stray_that_queries_go_on_showing_is_cancelled_once_a_minute(world, monkeypatch):
    async with world.running() as engine:
        world.venue.script = ["lost"]
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.NEVER_ACCEPTED, 300.0)
        world.venue.is_muted = True
        world.venue.accept(world.store.orders[entry_id])
        shown = await world.venue.open_orders()

        async def lagging():
            return shown

        monkeypatch.setattr(world.venue, "open_orders", lagging)
        for _ in range(5):
            engine.reconciler.request("again")
            await anyio.sleep(10)

        assert [entry_id] == world.venue.cancels


async def test_full_buffer_of_waiting_reports_leads_to_a_ladder(world):
    async with world.running() as engine:
        await anyio.sleep(30)
        before = engine.reconciler.ladders
        for number in range(1_001):
            world.venue.tell(
                ExecutionReport(
                    order_id=f"O-X{number}", exec_type=ExecType.CANCELED, at=world.clock.now(), side=Side.BUY
                )
            )
        await world.until(lambda: engine.reconciler.ladders > before, 5.0)

        assert 1 == engine.tracker.orphans_dropped
        assert 1 == engine.recorder.alarms[AlarmCode.ORPHAN_DROPPED]


@given(
    lags_s=st.lists(st.tuples(st.integers(1, 200), st.integers(0, 60)), min_size=1, max_size=40),
    ladders_s=st.lists(st.integers(1, 500), min_size=1, max_size=20),
)
def test_cursor_of_the_venues_clock_passes_no_fill_however_late_it_is_shown(lags_s, ladders_s):
    """Fills become visible up to 60 s after they happen; a ladder shows the visible ones since cursor and look-back."""
    at_s, fills = 0, []
    for gap_s, lag_s in lags_s:
        at_s += gap_s
        fills.append((at_s, at_s + lag_s))
    seen, cursor_s, now_s = set(), 0, 0
    for gap_s in [*ladders_s, 10_000]:
        now_s += gap_s
        since_s = cursor_s - LOOK_BACK / timedelta(seconds=1)
        shown = [fill for fill in fills if fill[1] <= now_s and fill[0] > since_s]
        seen |= set(shown)
        cursor_s = max([cursor_s, *(at for at, _ in shown)])

    assert set(fills) == seen
