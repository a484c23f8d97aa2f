"""Contracts of runs within a lineage, and of what retention removes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from krakenbot.domain.decision.plan import ExitKind
from krakenbot.domain.errors import StoreUnavailable
from krakenbot.domain.execution.change import OrderChange
from krakenbot.domain.execution.order import Order, OrderRole, OrderState, OrderType
from krakenbot.domain.execution.position import Position
from krakenbot.domain.market.samples import TickerSample
from krakenbot.domain.state.epoch import EpochCriteria, EpochStatus
from krakenbot.domain.state.retention import StoredRun
from krakenbot.domain.state.windows import ns_of
from krakenbot.domain.values import ClOrdId, LineageId, RunId, Side, Symbol, VenueId

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BTC, ETH = Symbol("BTC/USD"), Symbol("ETH/USD")
CRITERIA = EpochCriteria(
    symbols=1,
    l2_fresh=1,
    l3_set=0,
    l3_fresh=0,
    pinned=0,
    pinned_l2_fresh=0,
    pinned_l3_fresh=0,
    writer_lag_s=0.0,
    symbols_configured=1,
    l3_enabled=False,
)


def ticker(at: datetime, symbol: Symbol = BTC) -> TickerSample:
    return TickerSample(
        symbol=symbol, at_ns=ns_of(at), received_at_ns=ns_of(at), bid=1.0, ask=2.0, last=1.5, volume_24h=10.0
    )


async def publish(stores: Any, lineage_id: LineageId, run_id: RunId, at: datetime = AT) -> Any:
    epoch, _ = await stores.lineage.publish_epoch(
        lineage_id=lineage_id,
        run_id=run_id,
        status=EpochStatus.VALID,
        criteria=CRITERIA,
        reasons=(),
        execution=(BTC,),
        l3=(),
        pinned=(),
        at=at,
    )
    return epoch


async def rows_of(stores: Any, run_id: RunId, *times: datetime) -> None:
    stores.sink.put(run_id, [ticker(at) for at in times])
    await stores.sink.flush()


async def runs_of(stores: Any) -> dict[RunId, StoredRun]:
    return {run.run_id: run for run in await stores.retention.stored_runs()}


async def test_a_restart_begins_a_lineage_and_a_rotation_does_not(stores):
    first, run_1 = await stores.lineage.start_lineage(AT)
    run_2 = await stores.lineage.start_run(first, AT + timedelta(hours=1), await stores.lineage.prepare_run())
    second, run_3 = await stores.lineage.start_lineage(AT + timedelta(hours=2))
    runs = await runs_of(stores)

    assert second > first
    assert run_1 < run_2 < run_3
    assert {run_1: first, run_2: first, run_3: second} == {run.run_id: run.lineage_id for run in runs.values()}


async def test_runs_follow_one_another_without_a_gap_and_a_restart_ends_what_a_crash_left_open(stores):
    lineage_id, run_1 = await stores.lineage.start_lineage(AT)
    run_2 = await stores.lineage.start_run(lineage_id, AT + timedelta(hours=1))
    _, run_3 = await stores.lineage.start_lineage(AT + timedelta(hours=2))
    runs = await runs_of(stores)

    periods = [(runs[run_id].started_at, runs[run_id].ended_at) for run_id in (run_1, run_2, run_3)]
    hours = [AT + timedelta(hours=n) for n in range(3)]
    assert [(hours[0], hours[1]), (hours[1], hours[2]), (hours[2], None)] == periods


async def test_a_prepared_run_takes_rows_only_of_a_lineage_once_it_has_begun(stores):
    lineage_id, _ = await stores.lineage.start_lineage(AT)
    prepared = await stores.lineage.prepare_run()
    before = (await runs_of(stores))[prepared]

    begun = await stores.lineage.start_run(lineage_id, AT + timedelta(hours=1), prepared)
    again = await stores.lineage.start_run(lineage_id, AT + timedelta(hours=1), prepared)
    after = (await runs_of(stores))[prepared]

    assert prepared == begun == again
    assert (None, None) == (before.lineage_id, before.started_at)
    assert (lineage_id, AT + timedelta(hours=1), None) == (after.lineage_id, after.started_at, after.ended_at)


async def test_epochs_of_a_lineage_go_on_over_a_rotation(stores):
    lineage_id, run_1 = await stores.lineage.start_lineage(AT)
    first = await publish(stores, lineage_id, run_1)
    run_2 = await stores.lineage.start_run(lineage_id, AT + timedelta(seconds=5))
    second = await publish(stores, lineage_id, run_2, AT + timedelta(seconds=10))
    stores.sink.put(run_2, [ticker(AT)])
    await stores.sink.flush()
    refreshed = await stores.refresher.refresh(lineage_id, run_2, AT + timedelta(seconds=10))
    await stores.refresher.sync(refreshed.generation_id)
    cycle = await stores.state.read_cycle(refreshed.generation_id, AT + timedelta(seconds=10), 120)

    assert second.epoch_id > first.epoch_id
    assert cycle is not None
    assert (lineage_id, second) == (cycle.lineage_id, cycle.epoch)
    assert 0 == await stores.lineage.publish_pending()


async def test_dropping_a_run_takes_its_rows_and_no_others(stores):
    lineage_id, run_1 = await stores.lineage.start_lineage(AT)
    await rows_of(stores, run_1, AT)
    run_2 = await stores.lineage.start_run(lineage_id, AT + timedelta(seconds=10))
    stores.sink.put(run_2, [ticker(AT + timedelta(seconds=11), ETH)])
    await stores.sink.flush()

    freed_bytes = await stores.retention.drop_run(run_1, AT + timedelta(hours=1))
    again = await stores.retention.drop_run(run_1, AT + timedelta(hours=1))
    refreshed = await stores.refresher.refresh(lineage_id, run_2, AT + timedelta(seconds=12))
    await stores.refresher.sync(refreshed.generation_id)
    cycle = await stores.state.read_cycle(refreshed.generation_id, AT + timedelta(seconds=12), 120)

    assert freed_bytes > 0
    assert 0 == again
    assert {run_2} == (await runs_of(stores)).keys()
    assert cycle is not None
    assert {ETH} == cycle.states.keys()


async def test_the_run_that_goes_on_cannot_be_dropped(stores):
    _, run_id = await stores.lineage.start_lineage(AT)
    await rows_of(stores, run_id, AT)

    with pytest.raises(StoreUnavailable, match=f"run {run_id} goes on"):
        await stores.retention.drop_run(run_id, AT)
    assert {run_id} == (await runs_of(stores)).keys()


async def test_a_run_that_never_began_can_be_dropped(stores):
    prepared = await stores.lineage.prepare_run()
    await stores.retention.drop_run(prepared, AT)

    assert {} == await runs_of(stores)


async def test_old_rows_of_the_run_that_goes_on_are_deleted_in_steps(stores):
    lineage_id, run_id = await stores.lineage.start_lineage(AT)
    await rows_of(stores, run_id, *(AT + timedelta(seconds=n) for n in range(10)))
    cut = AT + timedelta(seconds=7)
    counts = [await stores.retention.delete_rows(run_id, cut, 4) for _ in range(3)]
    refreshed = await stores.refresher.refresh(lineage_id, run_id, AT + timedelta(seconds=8))

    assert [4, 3, 0] == counts
    assert 1 == refreshed.symbols


async def test_old_epochs_go_and_the_newest_stays(stores):
    lineage_id, run_id = await stores.lineage.start_lineage(AT)
    for n in range(5):
        await publish(stores, lineage_id, run_id, AT + timedelta(seconds=n))
    later = AT + timedelta(days=30)
    counts = [await stores.retention.prune_epochs(later, 3) for _ in range(3)]
    newest = await publish(stores, lineage_id, run_id, later)
    refreshed = await stores.refresher.refresh(lineage_id, run_id, later)
    await stores.refresher.sync(refreshed.generation_id)
    cycle = await stores.state.read_cycle(refreshed.generation_id, later, 120)

    assert [3, 1, 0] == counts
    assert cycle is not None
    assert newest == cycle.epoch


async def test_what_is_open_is_known_by_its_beginning(stores):
    lease_epoch = await stores.lease.acquire("me", 30)
    stop = Order(
        cl_ord_id=ClOrdId("kb-2"),
        venue_id=VenueId("loopback:test"),
        symbol=BTC,
        side=Side.SELL,
        role=OrderRole.MARKET_EXIT,
        order_type=OrderType.MARKET,
        qty=Decimal("0.01"),
        limit_price=None,
        trigger_price=None,
        trigger=None,
        post_only=False,
        state=OrderState.PENDING_SUBMIT,
        created_at=AT,
        exit_kind=ExitKind.PANIC,
        record={},
    )
    opened_at = AT + timedelta(seconds=7)
    held = Position(
        symbol=BTC,
        qty=Decimal("0.01"),
        cost_quote=Decimal(500),
        realized_quote=Decimal(0),
        opened_at=opened_at,
        entry_id=None,
    )
    nothing = await stores.retention.open_since()
    await stores.orders.apply(OrderChange(inserts=(stop,)), lease_epoch)
    await stores.orders.apply(OrderChange(positions=(held,)), lease_epoch)

    assert [] == list(nothing)
    assert {AT, opened_at} == set(await stores.retention.open_since())
