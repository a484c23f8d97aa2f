"""With the database away: no new risk, protection goes on from the journal, and its return finds everything once."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

from decimal import Decimal
from typing import Any

import anyio
import pytest
from attrs import evolve

from krakenbot.domain.errors import JournalFailed
from krakenbot.domain.execution.journal import JournalKind
from krakenbot.domain.execution.order import OrderState

ABC = "ABC/USD"


async def open_entry(world, **plan):
    entry_id = await world.enter(**plan)
    await world.until(lambda: world.state(entry_id) is OrderState.OPEN)
    await world.until(lambda: world.engine.recorder.is_settled)
    return entry_id


async def lose_store(world):
    """Let the store go away, and let the recorder know."""
    world.store.is_away = True
    world.engine.recorder.is_store_available = False


class Killed:
    """An engine that ends as by kill -9: nothing of its clean stop reaches venue, store or journal."""

    def __init__(self, world) -> None:
        self.world = world

    async def __aenter__(self) -> Any:
        self._running = self.world.running()
        return await self._running.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        world = self.world
        records = list(world.journal.records)
        venue = {cl: (r.status, r.qty, r.cum, r.trigger) for cl, r in world.venue.orders.items()}
        trades, events = list(world.venue.trades), list(world.store.events)
        orders, journaled = dict(world.store.orders), set(world.store.journaled)
        was_away, world.store.is_away = world.store.is_away, True
        world.venue.is_muted = True
        real_submit, real_cancel, real_amend = world.venue.submit, world.venue.cancel, world.venue.amend
        world.venue.submit = world.venue.cancel = world.venue.amend = _nowhere
        await self._running.__aexit__(None, None, None)
        world.venue.submit, world.venue.cancel, world.venue.amend = real_submit, real_cancel, real_amend
        world.venue.is_muted, world.store.is_away = False, was_away
        world.journal.records[:] = records
        world.store.events, world.store.orders, world.store.journaled = events, orders, journaled
        world.venue.trades = trades
        for cl, (status, qty, cum, trigger) in venue.items():
            resting = world.venue.orders[cl]
            resting.status, resting.qty, resting.cum, resting.trigger = status, qty, cum, trigger


async def _nowhere(*_args: Any, **_named: Any) -> None:
    await anyio.sleep(1.0)
    raise TimeoutError


def agree(world):
    alive = {cl for cl, r in world.venue.orders.items() if r.status == "new"}
    rows = {o.cl_ord_id for o in world.store.orders.values() if not o.state.is_terminal}
    return {t.exec_id for t in world.venue.trades} == set(world.store.fills) and alive == rows


async def test_fill_while_the_store_is_away_gets_its_stop_from_the_journal_at_once(world):
    async with world.running() as engine:
        entry_id = await open_entry(world)
        await lose_store(world)
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None, timeout_s=1.0)

        assert [JournalKind.SUBMIT] == [record.kind for record in world.journal.records]
        assert engine.monitor.seconds["bare"] < 1.0

        world.store.is_away = False
        await world.until(lambda: engine.recorder.is_settled)
        await world.until(lambda: not world.journal.records)

        assert agree(world)
        assert 1 == len(world.store.journaled)


async def test_time_stop_goes_through_while_the_store_is_away(world):
    async with world.running() as engine:
        await open_entry(world, time_stop_s=5.0)
        entry_id = next(iter(world.store.orders))
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None)
        await world.until(lambda: engine.recorder.is_settled)
        await lose_store(world)
        await world.until(lambda: world.position() == 0, timeout_s=20.0)
        kinds = [record.kind for record in world.journal.records]

        assert [JournalKind.ROW, JournalKind.CANCEL, JournalKind.SUBMIT] == kinds

        world.store.is_away = False
        await world.until(lambda: engine.recorder.is_settled)

        assert agree(world)
        assert {r.journal_id for r in world.journal.records} <= world.store.journaled


async def test_store_that_only_hangs_does_not_hold_up_an_exit(world):
    async def hang(change, lease_epoch):
        await anyio.sleep(3600.0)

    async with world.running():
        entry_id = await open_entry(world, time_stop_s=5.0)
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None)
        real, world.store.apply = world.store.apply, hang
        began = anyio.current_time()
        await world.until(lambda: world.position() == 0, timeout_s=20.0)

        assert anyio.current_time() - began < 9.0
        world.store.apply = real


async def test_entry_is_cancelled_through_the_journal_while_the_store_is_away(world):
    async with world.running():
        entry_id = await open_entry(world)
        await lose_store(world)
        await world.until(lambda: world.venue.orders[entry_id].status == "canceled", timeout_s=70.0)

        assert [JournalKind.CANCEL] == [r.kind for r in world.journal.records]
        assert entry_id == world.journal.records[0].order.cl_ord_id


async def sell_and_be_killed(world: Any) -> None:
    """Sell a position while the store is away, and be killed: the sale is in the journal only."""
    async with Killed(world):
        entry_id = await open_entry(world, time_stop_s=5.0)
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None and world.engine.recorder.is_settled)
        await lose_store(world)
        await world.until(lambda: world.position() == 0, timeout_s=20.0)


async def test_killed_while_the_store_was_away_the_next_start_replays_before_its_first_ladder(world):
    await sell_and_be_killed(world)
    sale_ids = [i for i in world.venue.orders if i.startswith("kbm")]

    assert 1 == len(sale_ids)
    assert sale_ids[0] not in world.store.orders

    world.store.is_away = False
    async with world.running(world.make_engine()) as engine:
        names = world.events.names()

        assert names.index("journal_replayed") < len(names) - 1 - names[::-1].index("loaded")
        await world.until(lambda: agree(world))
        await world.until(lambda: not world.journal.records)

        assert OrderState.FILLED is world.store.orders[sale_ids[0]].state
        assert Decimal(0) == engine.tracker.position(ABC).qty
    sent = [row.event for row in world.store.events if row.cl_ord_id == sale_ids[0] and row.event == "submit_sent"]

    assert ["submit_sent"] == sent
    assert 1 == world.venue.submitted.count(sale_ids[0])


async def test_killed_in_the_middle_of_the_replay_each_record_is_taken_once(world):
    await sell_and_be_killed(world)
    world.store.is_away = False
    applied: list[Any] = []
    real = world.store.apply

    async def once(change, lease_epoch):
        if change.journal_ids and len(applied) == 1:
            await anyio.sleep_forever()
        await real(change, lease_epoch)
        applied.append(change)

    world.store.apply = once
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.make_engine().run)
        await world.until(lambda: len(applied) == 1)
        await anyio.sleep(1.0)
        tasks.cancel_scope.cancel()
    world.store.apply = real
    async with world.running(world.make_engine()):
        await world.until(lambda: agree(world))
    steps = [(row.cl_ord_id, row.event, row.at) for row in world.store.events]

    assert len(steps) == len(set(steps))


async def test_amended_trigger_is_asked_of_the_venue_after_a_kill(world):
    killed = Killed(world)
    async with killed:
        entry_id = await open_entry(world)
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None and world.engine.recorder.is_settled)
        await lose_store(world)
        await anyio.sleep(3.0)
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop().qty == Decimal(1))

        assert [JournalKind.AMEND] == [r.kind for r in world.journal.records]
    stop_id = world.stop().order.cl_ord_id
    world.store.is_away = False
    async with world.running(world.make_engine()) as engine:
        await world.until(lambda: agree(world))
        await world.until(lambda: engine.tracker.get(stop_id).state is OrderState.OPEN)

        assert Decimal(1) == engine.tracker.get(stop_id).qty
        assert Decimal(1) == world.position()


async def test_fills_that_waited_for_the_store_are_booked_again_from_the_venue_after_a_kill(world):
    killed = Killed(world)
    async with killed:
        entry_id = await open_entry(world)
        await lose_store(world)
        for _ in range(4):
            world.venue.fill(entry_id, Decimal("0.25"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None and world.stop().qty == Decimal(1))

        assert {} == world.store.fills
    world.store.is_away = False
    async with world.running(world.make_engine()):
        await world.until(lambda: agree(world))

        assert Decimal(1) == world.position()
        assert 4 == len(world.store.fills)


async def test_exit_whose_row_can_be_kept_nowhere_is_not_sent_but_cancels_and_reserved_stops_are(world):
    async with world.running() as engine:
        entry_id = await open_entry(world, time_stop_s=5.0)
        await lose_store(world)
        world.journal.room = 0
        world.venue.fill(entry_id, Decimal("0.5"), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None)
        await anyio.sleep(20.0)
        sold = [i for i in world.venue.submitted if i.startswith("kbm")]

        assert [] == sold
        assert world.stop() is not None
        assert "journal_failed" in world.events.names()
        assert not engine._system_view().reconciled

        world.store.is_away = False
        world.journal.room = None
        await world.until(lambda: world.position() == 0, timeout_s=60.0)
        await world.until(lambda: engine.recorder.is_settled)
        await world.until(lambda: engine.recorder.is_journal_usable)


async def test_lost_answer_of_an_exits_row_sends_it_once_and_keeps_one_row(world):
    async with world.running() as engine:
        entry_id = await open_entry(world, time_stop_s=5.0)
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None and engine.recorder.is_settled)
        world.store.lose_answers = 2
        await world.until(lambda: world.position() == 0, timeout_s=30.0)
        await world.until(lambda: engine.recorder.is_settled)

        assert 1 == len([i for i in world.venue.submitted if i.startswith("kbm")])
        assert agree(world)


async def kill_with_a_sale_in_the_journal(world):
    """Return the id of a market sale that only the journal has a row of."""
    async with Killed(world):
        entry_id = await open_entry(world, time_stop_s=5.0)
        world.venue.fill(entry_id, Decimal(1), Decimal("100.0"))
        await world.until(lambda: world.stop() is not None and world.engine.recorder.is_settled)
        await lose_store(world)
        await world.until(lambda: world.position() == 0, timeout_s=20.0)
    world.store.is_away = False
    return next(i for i in world.venue.orders if i.startswith("kbm"))


async def test_clean_stop_before_the_replay_is_done_leaves_the_journal_to_the_next_start(world):
    sale_id = await kill_with_a_sale_in_the_journal(world)
    kept = list(world.journal.records)
    world.store.is_away = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.make_engine().run)
        await anyio.sleep(5.0)
        tasks.cancel_scope.cancel()

    assert kept == world.journal.records

    world.store.is_away = False
    async with world.running(world.make_engine()):
        await world.until(lambda: agree(world))

    assert OrderState.FILLED is world.store.orders[sale_id].state


async def test_journal_that_is_unreadable_for_a_moment_is_replayed_by_the_same_start(world):
    sale_id = await kill_with_a_sale_in_the_journal(world)
    world.journal.is_readable = False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.make_engine().run)
        await anyio.sleep(1.5)
        world.journal.is_readable = True
        await world.until(lambda: agree(world))
        tasks.cancel_scope.cancel()

    assert OrderState.FILLED is world.store.orders[sale_id].state


async def test_unreadable_journal_blocks_entries_and_ends_the_process_once_records_are_found_in_it(world):
    await kill_with_a_sale_in_the_journal(world)
    kept = list(world.journal.records)
    world.journal.is_readable = False
    engine = world.make_engine()

    async def look_then_mend():
        await world.until(lambda: engine.reconciler.ladders)
        await anyio.sleep(30.0)

        assert not engine.recorder.is_journal_usable
        assert not engine._system_view().reconciled
        assert kept == world.journal.records

        world.journal.is_readable = True

    async def both():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run)
            await look_then_mend()

    with anyio.fail_after(90.0), pytest.raises(ExceptionGroup) as ended:
        await both()

    assert ended.group_contains(JournalFailed, match="read only now")
    assert kept == world.journal.records


async def test_replay_that_takes_longer_than_one_try_goes_on_where_it_was(world):
    await kill_with_a_sale_in_the_journal(world)
    first = world.journal.records[0]
    world.journal.records[:] = [evolve(first, journal_id=f"n{number}") for number in range(100)]
    real = world.store.find_order

    async def slowly(cl_ord_id):
        await anyio.sleep(1.0)
        return await real(cl_ord_id)

    world.store.find_order = slowly
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.make_engine().run)
        await world.until(lambda: len(world.store.journaled) == 100, timeout_s=200.0)
        tasks.cancel_scope.cancel()
