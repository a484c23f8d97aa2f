"""Readiness: is a symbol tradable now, or what stands first in the way.

Enters: one cycle's inputs and one symbol. Leaves: every blocker of system, safety, instrument and data, the dominant
one first. Called by the pipeline; all checks run, so that "why no order?" has a stable answer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from krakenbot.domain.decision.blocker import Blocker, BlockerCode
from krakenbot.domain.decision.inputs import PipelineInput, ReadinessSettings
from krakenbot.domain.state.epoch import EpochStatus
from krakenbot.domain.state.safety import EngineMode, SafetyMode
from krakenbot.domain.values import Asset, Symbol

ONLINE = "online"


def by_precedence(blockers: Iterable[Blocker]) -> tuple[Blocker, ...]:
    """Return blockers with the dominant one first; equal codes keep their order."""
    return tuple(sorted(blockers, key=lambda blocker: blocker.code.precedence))


def system_blockers(inputs: PipelineInput, settings: ReadinessSettings) -> list[Blocker]:
    """Return what stands in the way of every entry."""
    system, engine = inputs.system, inputs.engine_state
    found: list[Blocker] = []
    if engine.mode is not EngineMode.NORMAL or engine.latch is not None:
        why = f"latch {engine.latch}" if engine.latch is not None else engine.reason
        found.append(_no(BlockerCode.ENGINE_MODE, f"mode {engine.mode}: {why}", "the engine resumes"))
    if not system.lease_held:
        found.append(_no(BlockerCode.LEASE, "this process does not lead", "it holds the lease"))
    if system.venue_status != ONLINE:
        found.append(_no(BlockerCode.EXCHANGE_MODE, f"venue is {system.venue_status}", "the venue is online"))
    if not system.reconciled:
        found.append(_no(BlockerCode.RECONCILIATION, "orders are not reconciled", "reconciliation ends"))
    if inputs.lineage_id is None or system.asked_generation != inputs.generation_id:
        found.append(_no(BlockerCode.GENERATION, "not the generation that was asked for", "ingest answers a refresh"))
    age_s = system.account_age_s
    if age_s is None or age_s > settings.max_account_age_s:
        found.append(
            Blocker(
                code=BlockerCode.STALE_ACCOUNT,
                detail="balances are old or were never read",
                clears_when="the venue tells of them again",
                value=age_s,
                limit=settings.max_account_age_s,
                unit="s",
            )
        )
    return found + _epoch_blockers(inputs, settings)


def symbol_blockers(symbol: Symbol, inputs: PipelineInput, settings: ReadinessSettings) -> list[Blocker]:
    """Return what stands in the way in one symbol: rate, safety, unknown orders, instrument, universe, data, fees."""
    found = _rate_blockers(symbol, inputs)
    safety = inputs.safety.get(symbol)
    if safety is not None and safety.mode_at(inputs.at) is not SafetyMode.NORMAL:
        until = safety.until.isoformat() if safety.until else "it is lifted"
        found.append(_no(BlockerCode.SYMBOL_SAFETY, f"{safety.mode}: {safety.reason}", until))
    if symbol in inputs.account.unknown_symbols:
        found.append(_no(BlockerCode.UNKNOWN_ORDER, "an order's outcome is not known", "it is proven"))
    for asset in symbol.split("/"):
        untied = inputs.account.untied.get(Asset(asset))
        if untied is not None:
            found.append(_no(BlockerCode.TIE_OUT, f"{asset}: {untied}", "the venue's ledger explains the balance"))
    instrument = inputs.instruments.get(symbol)
    if instrument is None or not instrument.status.allows_entry:
        status = instrument.status.value if instrument else "not listed"
        found.append(_no(BlockerCode.INSTRUMENT_STATUS, f"instrument is {status}", "the venue opens it"))
    if inputs.universe is None or symbol not in inputs.universe.execution:
        found.append(_no(BlockerCode.NOT_IN_UNIVERSE, "not in the bound universe snapshot", "a snapshot holds it"))
    if symbol not in inputs.fees:
        found.append(_no(BlockerCode.STALE_ACCOUNT, "fees of the symbol are not known", "the venue tells them"))
    return found + data_blockers(symbol, inputs, settings)


def data_blockers(symbol: Symbol, inputs: PipelineInput, settings: ReadinessSettings) -> list[Blocker]:
    """Return what is wrong with a symbol's state; none means that it may be judged."""
    state = inputs.states.get(symbol)
    if state is None or state.generation_id != inputs.generation_id or state.lineage_id != inputs.lineage_id:
        return [_no(BlockerCode.STATE_MISSING, "no state in this generation", "a refresh holds it")]
    found: list[Blocker] = []
    age_s = (inputs.at - state.computed_at).total_seconds()
    if age_s > settings.max_state_age_s:
        found.append(_old(BlockerCode.STATE_STALE, "state is old", age_s, settings.max_state_age_s))
    if state.bid is None or state.ask is None or state.mid is None or not 0.0 < state.bid < state.ask:
        found.append(_no(BlockerCode.BOOK_INVALID, "no usable book in the window", "the book is valid again"))
    elif state.l2_age_s is None or state.l2_age_s > settings.max_l2_age_s:
        found.append(_old(BlockerCode.BOOK_STALE, "newest book sample is old", state.l2_age_s, settings.max_l2_age_s))
    if not state.feature_complete:
        found.append(
            Blocker(
                code=BlockerCode.INCOMPLETE,
                detail="too little history for the features",
                clears_when="the windows have filled",
                value=float(state.l2_samples),
                unit="samples",
            )
        )
    return found


def _rate_blockers(symbol: Symbol, inputs: PipelineInput) -> list[Blocker]:
    """Return a blocker when an entry and its cancel within 5 s would eat the points kept for cancels and exits."""
    rate = inputs.system.rate
    points = rate.points.get(symbol, 0.0)
    room = rate.limit_points - rate.entry_points
    if points <= room:
        return []
    wait_s = (points - room) / rate.decay_per_s if rate.decay_per_s > 0 else math.inf
    return [
        Blocker(
            code=BlockerCode.RATE_BUDGET,
            detail="the symbol's points are kept for cancels and exits",
            clears_when=f"the counter is down to {room:g}, in {wait_s:.0f} s",
            value=points,
            limit=room,
            unit="points",
        )
    ]


def _epoch_blockers(inputs: PipelineInput, settings: ReadinessSettings) -> list[Blocker]:
    epoch, universe = inputs.epoch, inputs.universe
    if epoch is None:
        return [_no(BlockerCode.EPOCH, "no epoch is bound", "ingest publishes a valid epoch")]
    age_s = (inputs.at - epoch.created_at).total_seconds()
    if epoch.status is not EpochStatus.VALID:
        why = "; ".join(epoch.reasons) or "no reason given"
        return [_no(BlockerCode.EPOCH, f"epoch is {epoch.status}: {why}", "a valid epoch follows")]
    if age_s > settings.max_epoch_age_s:
        return [_old(BlockerCode.EPOCH, "epoch is old", age_s, settings.max_epoch_age_s)]
    if epoch.lineage_id != inputs.lineage_id or universe is None or universe.epoch_id != epoch.epoch_id:
        return [_no(BlockerCode.EPOCH, "epoch, universe and state do not belong together", "the next cycle")]
    return []


def _no(code: BlockerCode, detail: str, clears_when: str) -> Blocker:
    return Blocker(code=code, detail=detail, clears_when=clears_when)


def _old(code: BlockerCode, detail: str, age_s: float | None, limit_s: float) -> Blocker:
    return Blocker(code=code, detail=detail, clears_when="fresh data arrives", value=age_s, limit=limit_s, unit="s")
