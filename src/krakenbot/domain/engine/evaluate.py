"""The evaluation cycle: asks for a generation, reads it, decides, records why, and hands at most one entry to the desk.

Enters: one generation of the decision database and the engine's own views. Leaves: one cycle row, and an order where
the pipeline said so. Everything it decides from is bound to the generation that this cycle asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime

import anyio
from attrs import evolve

from krakenbot.domain.decision.blocker import BlockerCode
from krakenbot.domain.decision.edge import Calibration
from krakenbot.domain.decision.inputs import DecisionSettings, PipelineInput
from krakenbot.domain.decision.outcome import Blocked, CycleResult, Outcome
from krakenbot.domain.decision.pipeline import evaluate
from krakenbot.domain.decision.plan import EntryPlan, RiskApproved
from krakenbot.domain.decision.views import PipelineMemory, SystemView
from krakenbot.domain.engine.account import AccountKeeper
from krakenbot.domain.engine.desk import OrderDesk
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.errors import StoreUnavailable
from krakenbot.domain.state.safety import EngineState
from krakenbot.domain.values import Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.cycle_store import CycleRow, CycleStore, OutcomeRow
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.safety_store import SafetyStore
from krakenbot.ports.state_store import CycleInput, StateStore

EXECUTE = "EXECUTE"
_FULL_RECORDS = 5


class Evaluator:
    """Runs one cycle every `cycle_s`.

    `system` returns the engine's view of itself but for the generation. `blockers` counts outcomes by code since
    start.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        state_store: StateStore,
        cycle_store: CycleStore,
        safety_store: SafetyStore,
        account: AccountKeeper,
        desk: OrderDesk,
        system: Callable[[], SystemView],
        settings: ExecutionSettings,
        decision_settings: DecisionSettings,
        calibration: Callable[[], Calibration],
        event_sink: EventSink,
    ) -> None:
        self._clock = clock
        self._states = state_store
        self._cycles = cycle_store
        self._safety = safety_store
        self._account = account
        self._desk = desk
        self._system = system
        self._settings = settings
        self._decision_settings = decision_settings
        self._calibration = calibration
        self._sink = event_sink
        self._memory = PipelineMemory()
        self._told: dict[Symbol, tuple[str, datetime]] = {}
        self._unstored_latches: frozenset[BlockerCode] = frozenset()
        self.cycles = 0
        self.failed = 0
        self.blockers: dict[str, int] = {}
        self.last_funnel: dict[str, int] = {}
        self.last_generation: int | None = None
        self.epoch: dict[str, object] = {}

    async def run(self) -> None:
        """Run cycles until cancelled."""
        while True:
            started_mono = self._clock.mono()
            try:
                await self.cycle()
            except (StoreUnavailable, TimeoutError) as error:
                self.failed += 1
                self._sink.emit("cycle_failed", error=str(error) or "timeout")
            await self._clock.sleep(max(0.05, self._settings.cycle_s - (self._clock.mono() - started_mono)))

    async def cycle(self) -> CycleResult | None:
        """Run one cycle; None when no generation could be read, which is recorded as a GENERATION blocker."""
        started_mono, asked_at = self._clock.mono(), self._clock.now()
        read = await self._read(asked_at)
        if read is None:
            await self._record_without_generation(asked_at, started_mono)
            return None
        symbols = read.universe.execution if read.universe is not None else tuple(read.states)
        quote = self._settings.quote_asset
        self._account.want_fees(s for s in symbols if s in read.instruments and read.instruments[s].quote == quote)
        inputs = await self._inputs(read)
        result = evaluate(inputs, self._decision_settings)
        self._memory = result.memory
        await self._store_latches(inputs.engine_state, result)
        held_until = result.memory.hold_entries_until
        if held_until is not None and held_until > inputs.at:
            await self._desk.cancel_entries("correlated fills")
        if result.to_execute is not None:
            await self._enter(result.to_execute, read)
        await self._record(read, result, asked_at, started_mono)
        return result

    async def _read(self, at: datetime) -> CycleInput | None:
        with anyio.fail_after(self._settings.refresh_wait_s + self._settings.store_timeout_s):
            generation_id = await self._states.request_refresh(at, self._settings.refresh_wait_s)
        if generation_id is None:
            return None
        with anyio.fail_after(self._settings.store_timeout_s):
            return await self._states.read_cycle(generation_id, self._clock.now(), self._settings.max_epoch_age_s)

    async def _inputs(self, read: CycleInput) -> PipelineInput:
        latched = _latches(read.engine_state) | self._unstored_latches
        return PipelineInput(
            at=self._clock.now(),
            generation_id=read.generation_id,
            lineage_id=read.lineage_id,
            epoch=read.epoch,
            universe=read.universe,
            states=read.states,
            instruments=read.instruments,
            engine_state=read.engine_state,
            safety=read.safety,
            fees=self._account.fees,
            system=evolve(self._system(), asked_generation=read.generation_id),
            account=await self._account.view(),
            # The stored latch is the one that counts, so that a person can reset it.
            memory=evolve(self._memory, latched=latched),
            calibration=self._calibration(),
        )

    async def _enter(self, approved: RiskApproved[EntryPlan], read: CycleInput) -> None:
        plan = approved.plan
        self._sink.emit(
            "entry",
            symbol=plan.symbol,
            price=str(plan.price),
            qty=str(plan.qty),
            action=plan.action,
            strategy=plan.strategy,
            regime=plan.regime,
            score=plan.score,
        )
        await self._desk.enter(approved, read.instruments[plan.symbol])

    async def _store_latches(self, engine_state: EngineState, result: CycleResult) -> None:
        """Persist what was tripped in this cycle; until that succeeds it holds in memory."""
        known = _latches(engine_state)
        tripped = result.memory.latched - known
        self._unstored_latches = frozenset(tripped)
        if not tripped:
            return
        self._sink.emit("latch", latch=",".join(sorted(tripped)))
        with anyio.fail_after(self._settings.store_timeout_s):
            await self._safety.add_latches(tripped)
        self._unstored_latches = frozenset()

    async def _record(self, read: CycleInput, result: CycleResult, at: datetime, started_mono: float) -> None:
        self.cycles += 1
        self.last_funnel = dict(result.funnel)
        self.last_generation = read.generation_id
        if read.epoch is not None:
            self.epoch = {"epoch_id": read.epoch.epoch_id, "status": read.epoch.status.value}
        codes: dict[str, int] = {}
        rows = []
        full = _symbols_in_full(result)
        for outcome in result.outcomes:
            code = _code(outcome)
            codes[code] = codes.get(code, 0) + 1
            row = self._row(outcome, code, at, with_record=outcome.symbol in full)
            if row is not None:
                rows.append(row)
        for code, count in codes.items():
            self.blockers[code] = self.blockers.get(code, 0) + count
        cycle = CycleRow(
            at=at,
            generation_id=read.generation_id,
            epoch_id=None if read.epoch is None else read.epoch.epoch_id,
            funnel=result.funnel,
            blockers={code: count for code, count in sorted(codes.items()) if code != EXECUTE},
            duration_s=self._clock.mono() - started_mono,
            outcomes=tuple(rows),
        )
        with anyio.fail_after(self._settings.store_timeout_s):
            await self._cycles.record_cycle(cycle)

    def _row(self, outcome: Outcome, code: str, at: datetime, *, with_record: bool) -> OutcomeRow | None:
        """Return a row when the code changed, an order was made, or the full record is wanted."""
        told, since = self._told.get(outcome.symbol, ("", at))
        is_new = told != code
        since = at if is_new else since
        self._told[outcome.symbol] = (code, since)
        if isinstance(outcome, Blocked):
            if is_new:
                self._sink.emit(
                    "blocked",
                    symbol=outcome.symbol,
                    code=code,
                    value=outcome.blocker.value,
                    limit=outcome.blocker.limit,
                    unit=outcome.blocker.unit,
                    detail=outcome.blocker.detail,
                )
            if not is_new and not with_record:
                return None
            blocker = outcome.blocker
            return OutcomeRow(
                symbol=outcome.symbol,
                code=code,
                value=_finite(blocker.value),
                limit=_finite(blocker.limit),
                unit=blocker.unit,
                detail=blocker.detail,
                clears_when=blocker.clears_when,
                since=since,
                record=outcome.record if with_record else None,
            )
        plan = outcome.approved.plan
        return OutcomeRow(
            symbol=outcome.symbol,
            code=code,
            value=_finite(plan.score),
            limit=None,
            unit="bps/s",
            detail=f"{plan.action} {plan.qty} at {plan.price}",
            clears_when="",
            since=since,
            record=plan.record,
        )

    async def _record_without_generation(self, at: datetime, started_mono: float) -> None:
        self.cycles += 1
        code = BlockerCode.GENERATION.value
        self.blockers[code] = self.blockers.get(code, 0) + 1
        self._sink.emit("no_generation", waited_s=self._clock.mono() - started_mono)
        row = CycleRow(
            at=at,
            generation_id=None,
            epoch_id=None,
            funnel={},
            blockers={code: 1},
            duration_s=self._clock.mono() - started_mono,
            outcomes=(),
        )
        with anyio.fail_after(self._settings.store_timeout_s):
            await self._cycles.record_cycle(row)


def _code(outcome: Outcome) -> str:
    return outcome.blocker.code.value if isinstance(outcome, Blocked) else EXECUTE


def _symbols_in_full(result: CycleResult) -> set[Symbol]:
    """Return the five symbols that came furthest: the latest blocker by precedence, ties by symbol."""
    blocked = [outcome for outcome in result.outcomes if isinstance(outcome, Blocked)]
    blocked.sort(key=lambda outcome: (-outcome.blocker.code.precedence, outcome.symbol))
    return {outcome.symbol for outcome in blocked[:_FULL_RECORDS]}


def _latches(state: EngineState) -> frozenset[BlockerCode]:
    return frozenset(BlockerCode(name) for name in state.latches if name in BlockerCode.__members__)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
