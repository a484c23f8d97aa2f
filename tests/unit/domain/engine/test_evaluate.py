"""The cycle: one generation in, one recorded outcome per symbol out, at most one entry."""

# mypy: disable-error-code="arg-type, dict-item"
from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import anyio
import pytest
from attrs import evolve

from krakenbot.domain.decision.edge import EdgeSettings
from krakenbot.domain.decision.inputs import DecisionSettings
from krakenbot.domain.execution.order import OrderState
from krakenbot.domain.state.epoch import Epoch, EpochCriteria, EpochStatus, UniverseSnapshot
from krakenbot.domain.state.safety import EngineMode, EngineState
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.ports.state_store import CycleInput

ABC = "ABC/USD"


def state_of(world, generation_id, *, half_spread=2.0):
    """Make the state of a wide and quiet symbol, in which a maker may earn."""
    bid, ask = 100.0 - half_spread, 100.0 + half_spread
    spread = (ask - bid) / 100.0 * 10_000
    return SymbolState(
        lineage_id=1,
        run_id=1,
        symbol=ABC,
        generation_id=generation_id,
        computed_at=world.clock.now(),
        bid=bid,
        ask=ask,
        mid=100.0,
        spread_bps=spread,
        spread_p50_bps=spread,
        spread_p90_bps=spread * 1.05,
        microprice_dev_bps=0.0,
        imbalance_5=0.0,
        bid_depth_10_quote=2500.0,
        bid_depth_25_quote=6000.0,
        bid_depth_50_quote=12_000.0,
        ask_depth_10_quote=2500.0,
        ask_depth_25_quote=6000.0,
        ask_depth_50_quote=12_000.0,
        sigma_bps_sqrt_min=8.0,
        bipower_sigma_bps_sqrt_min=7.0,
        drift_t=0.3,
        jumps=0,
        return_long_bps=2.0,
        trades_per_min=240.0,
        buy_volume_quote=4000.0,
        sell_volume_quote=4000.0,
        ofi_z=0.1,
        trade_size_mean_quote=100.0,
        trade_size_m2_quote=25_000.0,
        sell_to_bid_per_s_quote=200.0,
        buy_to_ask_per_s_quote=200.0,
        bid_queue_quote=1000.0,
        bid_queue_orders=5,
        ask_queue_quote=1000.0,
        ask_queue_orders=5,
        bid_add_per_s_quote=50.0,
        bid_cancel_per_s_quote=40.0,
        ask_add_per_s_quote=50.0,
        ask_cancel_per_s_quote=40.0,
        bid_markout_5s_bps=-3.0,
        bid_markout_30s_bps=-4.0,
        bid_markout_count=80,
        l2_samples=20,
        l3_samples=20,
        trades=80,
        l2_age_s=0.5,
        l3_age_s=0.5,
        ticker_age_s=1.0,
        trade_age_s=0.4,
        feature_complete=True,
    )


class States:
    """A state store that answers each request with a generation of its own."""

    def __init__(self, world) -> None:
        self._world = world
        self.generation_id = 0
        self.overtaken = False
        self.half_spread = 2.0
        self.engine_state = EngineState(mode=EngineMode.NORMAL, reason="", since=None)

    async def request_refresh(self, at, wait_s):
        await anyio.sleep(0.05)
        self._world.store._check()
        self.generation_id += 1
        return self.generation_id

    async def read_cycle(self, generation_id, at, max_epoch_age_s):
        if self.overtaken or generation_id != self.generation_id:
            return None
        criteria = EpochCriteria(
            symbols=12,
            l2_fresh=12,
            l3_set=12,
            l3_fresh=12,
            pinned=0,
            pinned_l2_fresh=0,
            pinned_l3_fresh=0,
            writer_lag_s=0.1,
            symbols_configured=None,
            l3_enabled=True,
        )
        epoch = Epoch(
            epoch_id=3,
            lineage_id=1,
            run_id=1,
            status=EpochStatus.VALID,
            created_at=at - timedelta(seconds=20),
            criteria=criteria,
            reasons=(),
        )
        return CycleInput(
            generation_id=generation_id,
            lineage_id=1,
            states={ABC: state_of(self._world, generation_id, half_spread=self.half_spread)},
            instruments={ABC: self._world.instrument},
            epoch=epoch,
            universe=UniverseSnapshot(epoch_id=3, execution=(ABC,), l3=(ABC,), pinned=()),
            engine_state=self.engine_state,
            safety=self._world.store.safety,
            read_at=at,
        )


@pytest.fixture
async def market(world):
    """A world whose ingest answers, and where the prior is allowed as a rehearsal allows it."""
    world.states = States(world)
    world.cycles = []
    world.gates = []
    world.instrument = evolve(world.instrument, qty_min=Decimal("0.01"), cost_min=Decimal("0.5"))
    world.bid, world.ask = Decimal("98.0"), Decimal("102.0")

    async def record(row):
        world.store._check()
        world.cycles.append(row)

    insert = world.store.insert_entry

    async def insert_entry(order, protective, gate):
        world.gates.append(gate)
        await insert(order, protective, gate)

    world.store.record_cycle, world.store.insert_entry = record, insert_entry
    world.engine = world.make_engine()
    evaluator = world.engine.evaluator
    evaluator._states = world.states
    evaluator._decision_settings = evolve(DecisionSettings(), edge=EdgeSettings(allow_prior=True))
    return world


async def test_cycle_enters_once_cites_its_generation_and_explains_itself(market):
    async with market.running():
        await market.until(lambda: market.venue.submitted)
        await anyio.sleep(10.0)
        codes = [row.code for cycle in market.cycles for row in cycle.outcomes]
        executed = next(c for c in market.cycles if any(r.code == "EXECUTE" for r in c.outcomes))

        assert 1 == len(market.gates)
        assert market.gates[0].generation_id == executed.generation_id
        assert 1 == executed.funnel["executed"]
        assert "OPEN_ORDER" in codes
        assert {ABC} == {row.symbol for cycle in market.cycles for row in cycle.outcomes}


async def test_filled_entry_is_protected_and_blocks_the_next(market):
    async with market.running():
        await market.until(lambda: market.venue.orders)
        entry_id, resting = next(iter(market.venue.orders.items()))
        market.venue.fill(entry_id, resting.qty, resting.order.limit_price)
        await market.until(lambda: market.stop() is not None)
        await anyio.sleep(6.0)

        resting_sells = [r.qty for r in market.venue.orders.values() if r.order.side == "sell" and r.status == "new"]

        assert [resting.qty] == resting_sells
        assert market.engine.monitor.seconds["bare"] < 1.0
        assert 1 == len(market.gates)
        assert market.engine.evaluator.blockers["OPEN_POSITION"] >= 1


async def test_generation_that_was_overtaken_starts_nothing(market):
    market.states.overtaken = True
    async with market.running():
        await anyio.sleep(10.0)

        assert [] == market.venue.submitted
        assert {"GENERATION": 1} == market.cycles[-1].blockers


async def test_store_that_goes_away_stops_cycles_and_not_the_engine(market):
    async with market.running():
        market.store.is_away = True
        await anyio.sleep(20.0)

        assert market.engine.evaluator.failed >= 5

        market.store.is_away = False
        await market.until(lambda: market.cycles)


async def test_engine_mode_is_a_blocker_that_dominates(market):
    market.states.engine_state = EngineState(mode=EngineMode.HALTED, reason="by hand", since=None)
    async with market.running():
        await anyio.sleep(5.0)

        assert [] == market.venue.submitted
        assert {"ENGINE_MODE": 1} == market.cycles[-1].blockers


async def test_day_loss_is_latched_in_the_store_and_a_person_resets_it(market):
    async def lost(since):
        return Decimal(-100)

    real = market.store.realized_since
    market.store.realized_since = lost
    async with market.running():
        await market.until(lambda: getattr(market.store, "engine_state", None) is not None)
        market.states.engine_state = market.store.engine_state
        await anyio.sleep(5.0)

        assert "DAY_LOSS" == market.store.engine_state.latch
        assert {"ENGINE_MODE": 1} == market.cycles[-1].blockers

        market.store.realized_since = real
        await anyio.sleep(15.0)
        market.states.engine_state = evolve(market.store.engine_state, latch=None)
        await market.until(lambda: market.venue.submitted)


async def test_quiet_flow_without_edge_enters_nothing_and_says_why(market):
    market.states.half_spread = 0.1
    market.bid, market.ask = Decimal("99.9"), Decimal("100.1")
    async with market.running():
        await anyio.sleep(20.0)

        assert [] == market.venue.submitted
        assert {"HURDLE"} == set(market.cycles[-1].blockers)


async def test_unknown_entry_blocks_its_symbol(market):
    market.venue.script = ["lost"]
    async with market.running():
        await market.until(lambda: market.venue.submitted)
        await anyio.sleep(10.0)
        entry_id = market.venue.submitted[0]

        assert [entry_id] == market.venue.submitted
        assert OrderState.UNKNOWN is market.state(entry_id)
        assert {"UNKNOWN_ORDER": 1} == market.cycles[-1].blockers


async def test_entries_filled_together_cancel_the_entries_that_rest(market):
    async with market.running():
        await market.until(lambda: market.venue.orders)
        entry_id = next(iter(market.venue.orders))
        at = market.clock.now()
        market.engine.account._entry_fills.extend((at, f"kbe{n:012d}") for n in range(3))
        await market.until(lambda: market.state(entry_id) is OrderState.CANCELED, timeout_s=10.0)

        assert {"CORRELATED_FILLS", "OPEN_ORDER"} & set(market.engine.evaluator.blockers)
