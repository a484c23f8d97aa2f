from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from attrs import evolve

from krakenbot.domain.decision.edge import EdgeSettings
from krakenbot.domain.decision.pipeline import (
    AccountView,
    DecisionSettings,
    Fees,
    PipelineInput,
    SystemView,
)
from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.state.epoch import Epoch, EpochCriteria, EpochStatus, UniverseSnapshot
from krakenbot.domain.state.safety import EngineMode, EngineState
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.values import Asset, EpochId, GenerationId, LineageId, RunId, Symbol

AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
USD = Asset("USD")

MakeState = Callable[..., SymbolState]
MakeInputs = Callable[..., PipelineInput]


def state_of(name: str = "AAA", *, half_spread_bps: float = 200.0, mid: float = 10.0) -> SymbolState:
    """Make a complete state of a wide, quiet symbol: the kind that a rehearsal may trade."""
    bid = round(mid * (1 - half_spread_bps / 10_000), 4)
    ask = round(mid * (1 + half_spread_bps / 10_000), 4)
    mid = (bid + ask) / 2
    spread = (ask - bid) / mid * 10_000
    return SymbolState(
        lineage_id=LineageId(1),
        run_id=RunId(1),
        symbol=Symbol(f"{name}/USD"),
        generation_id=GenerationId(7),
        computed_at=AT - timedelta(seconds=1),
        bid=bid,
        ask=ask,
        mid=mid,
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


def instrument_of(symbol: Symbol) -> Instrument:
    return Instrument(
        symbol=symbol,
        base=Asset(symbol.split("/")[0]),
        quote=USD,
        status=InstrumentStatus.ONLINE,
        price_precision=4,
        qty_precision=6,
        cost_precision=5,
        price_increment=Decimal("0.0001"),
        qty_increment=Decimal("0.000001"),
        qty_min=Decimal("0.1"),
        cost_min=Decimal("0.5"),
    )


def inputs_of(*states: SymbolState) -> PipelineInput:
    symbols = tuple(sorted(state.symbol for state in states))
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
    return PipelineInput(
        at=AT,
        generation_id=GenerationId(7),
        lineage_id=LineageId(1),
        epoch=Epoch(
            epoch_id=EpochId(3),
            lineage_id=LineageId(1),
            run_id=RunId(1),
            status=EpochStatus.VALID,
            created_at=AT - timedelta(seconds=20),
            criteria=criteria,
            reasons=(),
        ),
        universe=UniverseSnapshot(epoch_id=EpochId(3), execution=symbols, l3=symbols, pinned=()),
        states={state.symbol: state for state in states},
        instruments={symbol: instrument_of(symbol) for symbol in symbols},
        engine_state=EngineState(mode=EngineMode.NORMAL, reason="", since=None),
        safety={},
        fees={symbol: Fees(maker_bps=Decimal(25), taker_bps=Decimal(40)) for symbol in symbols},
        system=SystemView(
            lease_held=True,
            venue_status="online",
            reconciled=True,
            account_age_s=1.0,
            asked_generation=GenerationId(7),
        ),
        account=AccountView(
            configured_quote={USD: Decimal(25_000)},
            balance_quote={USD: Decimal(25_000)},
            available_quote={USD: Decimal(25_000)},
            positions={},
            open_entries={},
            unknown_symbols=frozenset(),
            realized_today_quote=Decimal(0),
            realized_total_quote=Decimal(0),
            peak_pnl_quote=Decimal(0),
            entries_last_minute=0,
            entry_fills_last_minute=0,
            last_unseen_fill_age_s=None,
        ),
    )


@pytest.fixture
def make_state() -> MakeState:
    return state_of


@pytest.fixture
def make_inputs() -> MakeInputs:
    return inputs_of


@pytest.fixture
def settings() -> DecisionSettings:
    """Return production settings with the prior allowed, as a rehearsal has them."""
    return evolve(DecisionSettings(), edge=EdgeSettings(allow_prior=True))
