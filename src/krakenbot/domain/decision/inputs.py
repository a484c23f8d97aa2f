"""The one value that a decision is made from, and the settings of all its stages.

Enters: a cycle's reading, the engine's views, the memory of the cycle before. Leaves: what `pipeline.evaluate` takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from attrs import field, frozen
from attrs.validators import gt, le

from krakenbot.domain.decision.edge import Calibration, EdgeSettings
from krakenbot.domain.decision.fill_probability import FillSettings
from krakenbot.domain.decision.queue_decision import QueueSettings
from krakenbot.domain.decision.regime import RegimeSettings
from krakenbot.domain.decision.risk_settings import RiskSettings
from krakenbot.domain.decision.sizing import SizingSettings
from krakenbot.domain.decision.strategy import StrategySettings
from krakenbot.domain.decision.views import AccountView, Fees, PipelineMemory, SystemView
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.state.epoch import Epoch, UniverseSnapshot
from krakenbot.domain.state.safety import EngineState, SymbolSafety
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.values import GenerationId, LineageId, Symbol


@frozen(kw_only=True)
class ReadinessSettings:
    """Ages beyond which data or account do not carry an entry; seconds."""

    max_state_age_s: float = field(default=45.0, validator=[gt(0.0), le(45.0)])
    max_l2_age_s: float = field(default=5.0, validator=[gt(0.0), le(30.0)])
    max_account_age_s: float = field(default=30.0, validator=[gt(0.0), le(120.0)])
    max_epoch_age_s: float = field(default=120.0, validator=[gt(0.0), le(600.0)])


@frozen(kw_only=True)
class DecisionSettings:
    """The settings of every stage."""

    regime: RegimeSettings = field(factory=RegimeSettings)
    strategy: StrategySettings = field(factory=StrategySettings)
    edge: EdgeSettings = field(factory=EdgeSettings)
    fill: FillSettings = field(factory=FillSettings)
    queue: QueueSettings = field(factory=QueueSettings)
    readiness: ReadinessSettings = field(factory=ReadinessSettings)
    sizing: SizingSettings = field(factory=SizingSettings)
    risk: RiskSettings = field(factory=RiskSettings)


@frozen(kw_only=True)
class PipelineInput:
    """One generation, and everything else that a decision at `at` may depend on."""

    at: datetime
    generation_id: GenerationId
    lineage_id: LineageId | None
    epoch: Epoch | None
    universe: UniverseSnapshot | None
    states: Mapping[Symbol, SymbolState]
    instruments: Mapping[Symbol, Instrument]
    engine_state: EngineState
    safety: Mapping[Symbol, SymbolSafety]
    fees: Mapping[Symbol, Fees]
    system: SystemView
    account: AccountView
    memory: PipelineMemory = field(factory=PipelineMemory)
    calibration: Calibration = field(factory=Calibration)
