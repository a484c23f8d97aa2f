"""The desk: row before order, one send per id, outcome unknown kept as unknown."""

from __future__ import annotations

from decimal import Decimal

import anyio
import pytest

from krakenbot.domain.errors import Refused
from krakenbot.domain.execution.order import OrderState

ABC = "ABC/USD"


async def test_row_and_protective_intent_are_committed_before_the_send(world):
    async with world.running():
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        intents = [o for o in world.store.orders.values() if o.parent_id == entry_id]

        assert [entry_id] == world.venue.submitted
        assert [OrderState.PENDING_SUBMIT] == [o.state for o in intents]
        assert Decimal("99.0") == intents[0].trigger_price
        assert "range" == world.store.orders[entry_id].record["regime"]


async def test_refused_row_sends_nothing(world):
    async def refuse(order, protective, gate):
        raise Refused("GENERATION", "a newer one was asked for")

    async with world.running():
        world.store.insert_entry = refuse

        assert await world.enter() is None
        assert [] == world.venue.submitted
        assert "GENERATION" == world.events.of("entry_refused")[0]["code"]


async def test_entry_with_the_store_away_is_not_sent(world):
    async with world.running():
        world.store.is_away = True
        sent = await world.enter()
        world.store.is_away = False

        assert sent is None
        assert [] == world.venue.submitted


async def test_lost_commit_answer_leads_to_withdrawal_not_to_a_send(world):
    async with world.running() as engine:
        world.store.lose_answers = 1
        sent = await world.enter()
        engine.reconciler.request("test")
        await world.until(lambda: all(o.state.is_terminal for o in world.store.orders.values()))

        assert sent is None
        assert [] == world.venue.submitted
        assert {OrderState.NEVER_ACCEPTED} == {o.state for o in world.store.orders.values()}


async def test_row_whose_commit_took_too_long_is_withdrawn(world):
    slow = world.store.insert_entry

    async def insert(order, protective, gate):
        await slow(order, protective, gate)
        await anyio.sleep(4.8)

    async with world.running():
        world.store.insert_entry = insert

        assert await world.enter() is None
        assert [] == world.venue.submitted
        assert "deadline" in world.events.of("entry_withdrawn")[0]["reason"]


async def test_stale_lease_withdraws_the_row(world):
    async with world.running() as engine:
        engine.lease._renewed_mono -= 60.0

        assert await world.enter() is None
        assert [] == world.venue.submitted
        assert "lease" in world.events.of("entry_withdrawn")[0]["reason"]


async def test_unknown_outcome_is_never_resent_and_never_rejected(world):
    async with world.running() as engine:
        world.venue.script = ["lost"]
        entry_id = await world.enter()
        view = await engine.account.view()

        assert OrderState.UNKNOWN is world.state(entry_id)
        assert {ABC} == view.unknown_symbols
        assert {ABC: Decimal("100.0")} == view.open_entries

        await anyio.sleep(60.0)

        assert OrderState.UNKNOWN is world.state(entry_id)
        assert [entry_id] == world.venue.submitted


async def test_absence_is_proven_after_horizon_and_two_clean_ladders(world):
    async with world.running():
        world.venue.script = ["lost"]
        entry_id = await world.enter()
        row = world.store.orders[entry_id]
        await world.until(lambda: world.state(entry_id) is OrderState.NEVER_ACCEPTED, timeout_s=200.0)
        closed_s = (world.engine.tracker.get(entry_id).state_at - row.created_at).total_seconds()

        assert closed_s >= 120.0
        assert [entry_id] == world.venue.submitted


async def test_late_visibility_within_the_margin_is_found_and_cancelled(world):
    async with world.running():
        world.venue.script = ["lost_alive"]
        world.venue.is_muted = True
        entry_id = None

        async with anyio.create_task_group() as tasks:

            async def hide():
                while not world.venue.orders:
                    await anyio.sleep(0.01)
                world.venue.hidden = set(world.venue.orders)
                await anyio.sleep(55.0)
                world.venue.hidden = set()
                world.venue.is_muted = False

            tasks.start_soon(hide)
            entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.CANCELED)

        assert [entry_id] == world.venue.submitted
        assert entry_id in world.venue.cancels


async def test_unknown_entry_that_filled_is_booked_and_protected(world):
    async with world.running():
        world.venue.is_muted = True
        world.venue.script = ["lost_alive"]
        entry_id = await world.enter()
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"), silent=True)
        world.venue.is_muted = False
        await world.until(lambda: world.stop() is not None)

        assert Decimal(1) == world.position()
        assert Decimal(1) == world.stop().qty
        assert OrderState.FILLED is world.state(entry_id)


async def test_same_rejection_twice_quiets_the_symbol(world):
    async with world.running():
        world.venue.script = ["reject:EOrder:Post only order", "reject:EOrder:Post only order"]
        first, second = await world.enter(), await world.enter()
        await world.until(lambda: ABC in world.store.safety)

        assert {OrderState.REJECTED} == {world.state(first), world.state(second)}
        assert "quiet" == world.store.safety[ABC].mode


async def test_request_that_never_left_withdraws_entry_and_intent(world):
    async with world.running():
        world.venue.script = ["not_sent"]
        entry_id = await world.enter()
        await world.until(lambda: all(o.state.is_terminal for o in world.store.orders.values()))

        assert OrderState.NEVER_ACCEPTED is world.state(entry_id)


async def test_cancel_of_an_order_that_filled_leads_to_a_query_not_to_a_loop(world):
    async with world.running() as engine:
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"), silent=True)
        await engine.desk.cancel(entry_id)
        await world.until(lambda: world.state(entry_id) is OrderState.FILLED)

        assert 1 == world.venue.cancels.count(entry_id)
        assert Decimal(1) == world.position()


async def test_refused_cancels_are_spaced(world):
    async with world.running() as engine:
        entry_id = await world.enter()
        await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
        world.venue.cancel_script = ["lost"] * 100
        for _ in range(100):
            await engine.desk.cancel(entry_id)
            await anyio.sleep(0.1)

        assert world.venue.cancels.count(entry_id) <= 5


@pytest.mark.parametrize("change", [{"time_stop_s": 0.0}, {"stop_distance_bps": 0.0}])
async def test_profile_that_would_leave_at_once_is_a_configuration_error(world, change):
    async with world.running():
        with pytest.raises(Exception, match="above 0"):
            await world.enter(**change)

        assert [] == world.venue.submitted
