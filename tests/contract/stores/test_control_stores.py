"""Contracts of the lease, safety, cycles, lineage, requests and generations."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest

from krakenbot.domain.errors import LeaseLost, StoreUnavailable
from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.market.samples import TickerSample
from krakenbot.domain.state.epoch import Epoch, EpochCriteria, EpochStatus, UniverseSnapshot
from krakenbot.domain.state.safety import EngineMode, EngineState, SafetyMode, SymbolSafety
from krakenbot.domain.values import Asset, EpochId, GenerationId, Symbol, VenueId
from krakenbot.ports.cycle_store import CycleRow, OutcomeRow

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
BTC, ETH = Symbol("BTC/USD"), Symbol("ETH/USD")
CRITERIA = EpochCriteria(
    symbols=2,
    l2_fresh=2,
    l3_set=1,
    l3_fresh=1,
    pinned=0,
    pinned_l2_fresh=0,
    pinned_l3_fresh=0,
    writer_lag_s=0.25,
    symbols_configured=2,
    l3_enabled=True,
)


def make_ticker(symbol=BTC, at=AT) -> TickerSample:
    at_ns = int(at.timestamp()) * 10**9
    return TickerSample(symbol=symbol, at_ns=at_ns, received_at_ns=at_ns, bid=1.0, ask=2.0, last=1.5, volume_24h=10.0)


def make_instrument(symbol=BTC, **changes) -> Instrument:
    from decimal import Decimal

    values = {
        "symbol": symbol,
        "base": Asset("BTC"),
        "quote": Asset("USD"),
        "status": InstrumentStatus.ONLINE,
        "price_precision": 1,
        "qty_precision": 8,
        "cost_precision": 5,
        "price_increment": Decimal("0.1"),
        "qty_increment": Decimal("0.00000001"),
        "qty_min": Decimal("0.00005"),
        "cost_min": Decimal("0.5"),
        "has_index": True,
    }
    return Instrument(**(values | changes))


async def publish(stores: Any, lineage_id, run_id, status, at=AT) -> tuple[Epoch, UniverseSnapshot]:
    made: tuple[Epoch, UniverseSnapshot] = await stores.lineage.publish_epoch(
        lineage_id=lineage_id,
        run_id=run_id,
        status=status,
        criteria=CRITERIA,
        reasons=("l3 off", "é"),
        execution=(BTC, ETH),
        l3=(BTC,),
        pinned=(ETH,),
        at=at,
    )
    return made


async def refresh(stores: Any, lineage_id, run_id, at=AT) -> GenerationId:
    refreshed = await stores.refresher.refresh(lineage_id, run_id, at)
    await stores.refresher.sync(refreshed.generation_id)
    return GenerationId(refreshed.generation_id)


async def test_lease_has_one_holder_and_a_rising_epoch(stores):
    first = await stores.lease.acquire("a", 30)

    with pytest.raises(LeaseLost, match="held by a until"):
        await stores.lease.acquire("b", 30)
    await stores.lease.renew(first, 30)
    await stores.lease.release(first)
    second = await stores.lease.acquire("b", 30)

    assert second > first
    with pytest.raises(LeaseLost):
        await stores.lease.renew(first, 30)


async def test_release_of_a_lost_lease_leaves_the_new_holder_alone(stores):
    first = await stores.lease.acquire("a", 30)
    await stores.expire_lease()
    second = await stores.lease.acquire("b", 30)

    await stores.lease.release(first)

    await stores.lease.renew(second, 30)
    assert second > first


async def test_expired_lease_cannot_be_renewed(stores):
    epoch = await stores.lease.acquire("a", 30)
    await stores.expire_lease()

    with pytest.raises(LeaseLost):
        await stores.lease.renew(epoch, 30)


async def test_only_one_of_many_takes_the_lease(stores):
    taken, lost = [], []

    async def take(name):
        try:
            taken.append(await stores.lease.acquire(name, 30))
        except LeaseLost:
            lost.append(name)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            tasks.start_soon(take, f"p{number}")

    assert (1, 4) == (len(taken), len(lost))


async def test_cycle_input_is_bound_to_one_generation(stores):
    lineage_id, run_id = await stores.lineage.start_lineage(AT)
    epoch, universe = await publish(stores, lineage_id, run_id, EpochStatus.VALID)
    await stores.refresher.publish_instruments([make_instrument(), make_instrument(ETH)])
    await stores.refresher.publish_instruments([make_instrument(status=InstrumentStatus.CANCEL_ONLY)])
    halted = EngineState(mode=EngineMode.HALTED, reason="why", since=AT, latch="day_loss")
    quiet = SymbolSafety(symbol=BTC, mode=SafetyMode.QUIET, reason="x", since=AT, until=AT + timedelta(minutes=1))
    await stores.safety.set_engine_state(halted)
    await stores.safety.set_symbol_safety(
        SymbolSafety(symbol=BTC, mode=SafetyMode.NORMAL, reason="", since=AT, until=None)
    )
    await stores.safety.set_symbol_safety(quiet)
    stores.sink.put(run_id, [make_ticker(BTC), make_ticker(ETH)])
    await stores.sink.flush()
    generation_id = await refresh(stores, lineage_id, run_id)

    cycle = await stores.state.read_cycle(generation_id, AT, 120)

    assert cycle is not None
    assert (generation_id, lineage_id, epoch, universe) == (
        cycle.generation_id,
        cycle.lineage_id,
        cycle.epoch,
        cycle.universe,
    )
    assert {BTC, ETH} == set(cycle.states)
    assert {generation_id} == {state.generation_id for state in cycle.states.values()}
    assert (15.0, 0.0, False) == (
        cycle.states[BTC].volume_24h_quote,
        cycle.states[BTC].ticker_age_s,
        cycle.states[BTC].feature_complete,
    )
    assert {BTC: make_instrument(status=InstrumentStatus.CANCEL_ONLY), ETH: make_instrument(ETH)} == cycle.instruments
    assert halted == cycle.engine_state
    assert {BTC: quiet} == cycle.safety


async def test_fresh_databases_are_normal_and_have_no_generation(stores):
    assert await stores.state.read_cycle(GenerationId(1), AT, 120) is None

    lineage_id, run_id = await stores.lineage.start_lineage(AT)
    cycle = await stores.state.read_cycle(await refresh(stores, lineage_id, run_id), AT, 120)

    assert cycle is not None
    assert (EngineMode.NORMAL, {}, None) == (cycle.engine_state.mode, cycle.states, cycle.epoch)


async def test_older_generation_is_gone_once_a_newer_one_is_synced(stores):
    lineage_id, run_id = await stores.lineage.start_lineage(AT)
    stores.sink.put(run_id, [make_ticker()])
    await stores.sink.flush()
    old = await refresh(stores, lineage_id, run_id)
    new = await refresh(stores, lineage_id, run_id)

    assert new > old
    assert await stores.state.read_cycle(old, AT, 120) is None
    assert await stores.state.read_cycle(new, AT, 120) is not None


async def test_unknown_generation_cannot_be_synced(stores):
    """With one database there is nothing to copy: the generation is then just not there to read."""
    lineage_id, run_id = await stores.lineage.start_lineage(AT)
    await refresh(stores, lineage_id, run_id)
    is_single = stores.url is not None and stores.refresher._publish is stores.refresher._ingest

    with nullcontext() if is_single else pytest.raises(StoreUnavailable):
        await stores.refresher.sync(GenerationId(999))
    assert await stores.state.read_cycle(GenerationId(999), AT, 120) is None


async def test_symbol_without_rows_in_the_longest_window_has_no_state(stores):
    lineage_id, run_id = await stores.lineage.start_lineage(AT)
    stores.sink.put(run_id, [make_ticker(BTC), make_ticker(ETH, AT + timedelta(seconds=100))])
    await stores.sink.flush()
    at = AT + timedelta(seconds=1800)

    cycle = await stores.state.read_cycle(await refresh(stores, lineage_id, run_id, at), at, 120)

    assert cycle is not None
    assert {ETH} == set(cycle.states)


@pytest.mark.parametrize(
    ("made", "bound"),
    [
        (["valid@0", "degraded@10"], 0),
        (["valid@0", "valid@10", "invalid@20"], 1),
        (["valid@-121", "degraded@10"], 1),
        (["valid@-121", "invalid@10"], None),
    ],
)
async def test_epoch_is_the_newest_valid_one_in_time_else_a_degraded_one(stores, made, bound):
    lineage_id, run_id = await stores.lineage.start_lineage(AT)
    epochs = []
    for word in made:
        status, _, second = word.partition("@")
        epochs.append(
            await publish(stores, lineage_id, run_id, EpochStatus(status), AT + timedelta(seconds=int(second)))
        )

    cycle = await stores.state.read_cycle(await refresh(stores, lineage_id, run_id), AT, 120)

    assert cycle is not None
    expected = (None, None) if bound is None else epochs[bound]
    assert expected == (cycle.epoch, cycle.universe)


async def test_epoch_ids_rise_across_lineages(stores):
    ids = []
    for _ in range(2):
        lineage_id, run_id = await stores.lineage.start_lineage(AT)
        for _ in range(2):
            epoch, _ = await publish(stores, lineage_id, run_id, EpochStatus.VALID)
            ids.append(epoch.epoch_id)
        await stores.lineage.end_run(run_id, AT)

    assert sorted(set(ids)) == ids


async def test_request_is_answered_with_its_generation(stores):
    lineage_id, run_id = await stores.lineage.start_lineage(AT)
    answers: list[GenerationId | None] = []

    async def ask():
        answers.append(await stores.state.request_refresh(AT, 5.0))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(ask)
        ids: list[int] = []
        while len(ids) < 2:
            ids = await stores.answers.wait_for_requests(5.0)
        generation_id = await refresh(stores, lineage_id, run_id)
        await stores.answers.answer(ids, generation_id)

    assert [generation_id, generation_id] == answers
    assert [] == await stores.answers.wait_for_requests(0.0)


async def test_waiting_ingest_is_woken_by_a_request(stores):
    found: list[list[int]] = []

    async def wait():
        with anyio.fail_after(3):
            found.append(await stores.answers.wait_for_requests(60.0))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.sleep(0.2)
        assert await stores.state.request_refresh(AT, 0.0) is None

    assert 1 == len(found[0])


async def test_request_without_an_answer_ends_in_time(stores):
    with anyio.fail_after(3):
        assert await stores.state.request_refresh(AT, 0.1) is None


async def test_cycle_and_status_are_kept(stores):
    outcome = OutcomeRow(
        symbol=BTC,
        code="SURPLUS",
        value=float("nan"),
        limit=5.0,
        unit="bps",
        detail="d",
        clears_when="c",
        since=AT,
        record={"surplus": float("inf"), "terms": [1.5]},
    )
    for at in (AT, AT + timedelta(days=1)):
        row = CycleRow(
            at=at,
            generation_id=GenerationId(3),
            epoch_id=EpochId(4),
            funnel={"loaded": 12},
            blockers={"SURPLUS": 11},
            duration_s=0.01,
            outcomes=(outcome,),
        )
        await stores.cycles.record_cycle(row)
    await stores.cycles.publish_status("ingest", AT, {"a": 1})
    await stores.cycles.publish_status("ingest", AT + timedelta(seconds=1), {"a": 2})

    if stores.url is not None:
        import psycopg

        async with await psycopg.AsyncConnection.connect(stores.url) as connection:
            rows = await connection.execute("SELECT funnel, blockers FROM krakenbot.decision_cycles")
            assert [({"loaded": 12}, {"SURPLUS": 11})] * 2 == await rows.fetchall()
            rows = await connection.execute("SELECT code, limit_value, record FROM krakenbot.decision_outcomes")
            assert [("SURPLUS", 5.0, {"surplus": "inf", "terms": [1.5]})] * 2 == await rows.fetchall()
            rows = await connection.execute("SELECT process, body FROM krakenbot.process_status")
            assert [("ingest", {"a": 2})] == await rows.fetchall()


async def test_latch_is_added_to_what_a_person_set_meanwhile(stores):
    await stores.safety.add_latches({"DAY_LOSS"})
    halted = EngineState(mode=EngineMode.HALTED, reason="a person", since=AT, latch="DAY_LOSS")
    await stores.safety.set_engine_state(halted)
    await stores.safety.add_latches({"DRAWDOWN", "DAY_LOSS"})
    lineage_id, run_id = await stores.lineage.start_lineage(AT)
    generation_id = await refresh(stores, lineage_id, run_id)
    read = await stores.state.read_cycle(generation_id, AT, 60.0)

    assert EngineMode.HALTED is read.engine_state.mode
    assert "DAY_LOSS,DRAWDOWN" == read.engine_state.latch


async def test_peak_only_rises_until_a_person_resets_the_latch_of_the_drawdown(stores):
    venue, other = VenueId("loopback:test"), VenueId("loopback:other")
    told = [await stores.safety.raise_peak(venue, Decimal(pnl)) for pnl in ("0", "-3", "2.5", "1")]
    told.append(await stores.safety.raise_peak(other, Decimal(-7)))
    for latch in ("DAY_LOSS,DRAWDOWN", "DRAWDOWN"):
        await stores.safety.set_engine_state(EngineState(mode=EngineMode.NORMAL, reason="", since=None, latch=latch))
    latched = await stores.safety.raise_peak(venue, Decimal(-5))
    await stores.safety.set_engine_state(EngineState(mode=EngineMode.NORMAL, reason="", since=None, latch="DAY_LOSS"))
    reset = await stores.safety.raise_peak(venue, Decimal(-5))
    await stores.safety.set_engine_state(EngineState(mode=EngineMode.NORMAL, reason="", since=None, latch=None))

    assert [Decimal(0), Decimal(0), Decimal("2.5"), Decimal("2.5"), Decimal(-7)] == told
    assert (Decimal("2.5"), Decimal(-5)) == (latched, reset)
    assert Decimal(-5) == await stores.safety.raise_peak(venue, Decimal(-6))
