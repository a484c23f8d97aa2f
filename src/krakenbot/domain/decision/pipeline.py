"""The pipeline: the one place that orders the stages of a decision.

Enters: one generation and the engine's views. Leaves: for every symbol an order or exactly one dominant blocker, the
funnel, and the memory for the next cycle. Called by the evaluation engine. Pure: the same input gives the same bytes.

load -> edge_score -> entry_filter -> readiness -> rank -> size_quote_from_edge -> risk_gate -> plan
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from decimal import Decimal

from attrs import evolve, frozen

from krakenbot.domain.decision.blocker import Blocker, BlockerCode
from krakenbot.domain.decision.candidate import Candidate, Scored, record_of
from krakenbot.domain.decision.inputs import DecisionSettings, PipelineInput
from krakenbot.domain.decision.outcome import FUNNEL, Blocked, CycleResult, Execute, Outcome
from krakenbot.domain.decision.plan import EntryPlan, RiskApproved, RiskRefused
from krakenbot.domain.decision.readiness import (
    by_precedence,
    data_blockers,
    symbol_blockers,
    system_blockers,
)
from krakenbot.domain.decision.regime import RegimeView
from krakenbot.domain.decision.risk import RiskContext, approve_entry, risk_context
from krakenbot.domain.decision.scoring import edge_score
from krakenbot.domain.decision.sizing import Sized, size_quote_from_edge
from krakenbot.domain.decision.views import AccountView, Fees, HeldPosition, PipelineMemory, SystemView
from krakenbot.domain.errors import InvariantViolated, invariant
from krakenbot.domain.values import Symbol

__all__ = [
    "AccountView",
    "Blocked",
    "CycleResult",
    "DecisionSettings",
    "Execute",
    "Fees",
    "HeldPosition",
    "Outcome",
    "PipelineInput",
    "PipelineMemory",
    "SystemView",
    "evaluate",
]


@frozen(kw_only=True)
class _Judged:
    """One symbol after scoring and readiness; `blockers` dominant first."""

    symbol: Symbol
    scored: Scored
    blockers: tuple[Blocker, ...]
    loaded: bool
    fresh: bool


def evaluate(inputs: PipelineInput, settings: DecisionSettings) -> CycleResult:
    """Decide one cycle. Without a universe the symbols of the states are explained, and none is entered."""
    symbols = sorted(inputs.universe.execution if inputs.universe else inputs.states)
    context = risk_context(inputs, settings.risk)
    shared = system_blockers(inputs, settings.readiness)
    judged = [_judge(symbol, inputs, context, shared, settings) for symbol in symbols]
    ranked = _rank(judged)
    funnel = Counter(dict.fromkeys(FUNNEL, 0))
    funnel["loaded"] = sum(one.loaded for one in judged)
    funnel["fresh"] = sum(one.fresh for one in judged)
    funnel["ready"] = funnel["ranked"] = len(ranked)
    outcomes: dict[Symbol, Outcome] = {}
    chosen: RiskApproved[EntryPlan] | None = None
    for candidate, scored in ranked:
        outcome, passed = _enter(candidate, scored, inputs, context, settings)
        funnel.update(passed)
        if isinstance(outcome, Execute) and chosen is not None:
            outcome = _outranked(outcome, chosen.plan)
        elif isinstance(outcome, Execute):
            chosen = outcome.approved
        outcomes[candidate.symbol] = outcome
    for one in judged:
        if one.blockers:
            outcomes[one.symbol] = Blocked(
                symbol=one.symbol,
                blocker=one.blockers[0],
                others=_other_codes(one.blockers),
                record=record_of(one.scored, allow_prior=settings.edge.allow_prior),
            )
    funnel["executed"] = int(chosen is not None)
    invariant(len(outcomes) == len(set(symbols)), "I-DECISION-ONE", "a symbol has no outcome")
    return CycleResult(
        outcomes=tuple(_with_since(outcomes[symbol], inputs.memory) for symbol in symbols),
        funnel=dict(funnel),
        memory=_remember(judged, outcomes, context, inputs),
        to_execute=chosen,
    )


def _judge(
    symbol: Symbol, inputs: PipelineInput, context: RiskContext, shared: list[Blocker], settings: DecisionSettings
) -> _Judged:
    instrument = inputs.instruments.get(symbol)
    equity = context.equity.get(instrument.quote, Decimal(0)) if instrument else Decimal(0)
    data = data_blockers(symbol, inputs, settings.readiness)
    # A state that may not be judged is not scored: half-filled windows would set regimes and their dwell.
    scored = Scored() if data else edge_score(symbol, inputs, equity, settings)
    found = [*shared, *symbol_blockers(symbol, inputs, settings.readiness), *scored.blockers]
    return _Judged(
        symbol=symbol,
        scored=scored,
        blockers=by_precedence(found),
        loaded=symbol in inputs.states,
        fresh=not data,
    )


def _rank(judged: list[_Judged]) -> list[tuple[Candidate, Scored]]:
    """Return the ready candidates by score, the best first, ties by symbol."""
    ready = [(one.scored.candidate, one.scored) for one in judged if not one.blockers and one.scored.candidate]
    return sorted(ready, key=lambda pair: (-pair[0].score, pair[0].symbol))


def _enter(
    candidate: Candidate,
    scored: Scored,
    inputs: PipelineInput,
    context: RiskContext,
    settings: DecisionSettings,
) -> tuple[Outcome, tuple[str, ...]]:
    """Return the outcome, and the stages of the funnel that the candidate passed."""
    symbol = candidate.symbol
    record = record_of(scored, allow_prior=settings.edge.allow_prior)
    instrument, fees = inputs.instruments[symbol], inputs.fees[symbol]
    sized = size_quote_from_edge(
        candidate,
        inputs.states[symbol],
        instrument,
        equity=context.equity.get(instrument.quote, Decimal(0)),
        fees=fees,
        settings=settings.sizing,
    )
    if isinstance(sized, Blocker):
        return Blocked(symbol=symbol, blocker=sized, record=record), ()
    plan = _plan(candidate, scored.regime, sized, record, inputs)
    verdict = approve_entry(plan, instrument, fees, context, settings.risk)
    if isinstance(verdict, RiskRefused):
        return Blocked(symbol=symbol, blocker=verdict.blocker, record=plan.record), ("sized",)
    return Execute(symbol=symbol, approved=verdict), ("sized", "risk_approved")


def _plan(
    candidate: Candidate, regime: RegimeView | None, sized: Sized, record: Mapping[str, object], inputs: PipelineInput
) -> EntryPlan:
    epoch, lineage_id, state = inputs.epoch, inputs.lineage_id, inputs.states[candidate.symbol]
    if epoch is None or lineage_id is None or regime is None:
        raise InvariantViolated("I-DECISION-EPOCH: a plan without epoch, lineage or regime")
    return EntryPlan(
        symbol=candidate.symbol,
        price=candidate.price,
        qty=sized.qty,
        action=candidate.action,
        strategy=candidate.proposal.strategy,
        regime=regime.regime.value,
        ttl_s=candidate.proposal.ttl_s,
        exit_profile=candidate.proposal.exit_profile,
        lineage_id=lineage_id,
        epoch_id=epoch.epoch_id,
        generation_id=inputs.generation_id,
        decided_at=inputs.at,
        state_at=state.computed_at,
        score=candidate.score,
        record={
            **record,
            "size": {
                "qty": str(sized.qty),
                "notional_quote": str(sized.notional_quote),
                "binding": sized.binding,
                "bounds_quote": dict(sized.bounds),
                "size_factor": candidate.proposal.size_factor,
                "variance": sized.variance,
            },
        },
    )


def _outranked(outcome: Execute, chosen: EntryPlan) -> Blocked:
    plan = outcome.approved.plan
    return Blocked(
        symbol=outcome.symbol,
        blocker=Blocker(
            code=BlockerCode.OUTRANKED,
            detail=f"{chosen.symbol} scores higher, or ties and comes first",
            clears_when="a later cycle, one entry each",
            value=plan.score,
            limit=chosen.score,
            unit="bps/s",
        ),
        record=plan.record,
    )


def _other_codes(blockers: tuple[Blocker, ...]) -> tuple[BlockerCode, ...]:
    """Return the codes behind the dominant one, each once, in order of precedence."""
    return tuple(dict.fromkeys(blocker.code for blocker in blockers if blocker.code is not blockers[0].code))


def _with_since(outcome: Outcome, memory: PipelineMemory) -> Outcome:
    if isinstance(outcome, Execute):
        return outcome
    code, since = memory.blockers.get(outcome.symbol, (None, None))
    if code is not outcome.blocker.code:
        return outcome
    return evolve(outcome, blocker=evolve(outcome.blocker, since=since))


def _remember(
    judged: list[_Judged], outcomes: Mapping[Symbol, Outcome], context: RiskContext, inputs: PipelineInput
) -> PipelineMemory:
    regimes = dict(inputs.memory.regimes)
    blockers = {}
    for one in judged:
        if one.scored.regime is not None:
            regimes[one.symbol] = one.scored.regime.memory
        outcome = outcomes[one.symbol]
        if isinstance(outcome, Blocked):
            code, since = inputs.memory.blockers.get(one.symbol, (None, inputs.at))
            blockers[one.symbol] = (outcome.blocker.code, since if code is outcome.blocker.code else inputs.at)
    return PipelineMemory(
        regimes={symbol: regimes[symbol] for symbol in sorted(regimes) if symbol in outcomes},
        blockers=blockers,
        hold_entries_until=context.hold_entries_until,
        latched=context.latched,
    )
