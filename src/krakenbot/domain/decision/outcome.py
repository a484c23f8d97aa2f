"""What a cycle decided for each symbol, and what it hands on. Made by the pipeline only."""

from __future__ import annotations

from attrs import Factory, frozen

from krakenbot.domain.decision.blocker import Blocker, BlockerCode
from krakenbot.domain.decision.plan import EntryPlan, RiskApproved
from krakenbot.domain.decision.views import PipelineMemory
from krakenbot.domain.values import Symbol

FUNNEL = ("loaded", "fresh", "ready", "ranked", "sized", "risk_approved", "executed")


@frozen(kw_only=True)
class Execute:
    """Enter this symbol now."""

    symbol: Symbol
    approved: RiskApproved[EntryPlan]


@frozen(kw_only=True)
class Blocked:
    """Do not enter. `blocker` dominates; `others` are the codes of the rest, `record` what was computed so far."""

    symbol: Symbol
    blocker: Blocker
    others: tuple[BlockerCode, ...] = ()
    record: dict[str, object] = Factory(dict)


Outcome = Execute | Blocked


@frozen(kw_only=True)
class CycleResult:
    """One outcome per symbol in symbol order, the funnel by stage, the memory for the next cycle.

    `to_execute` is the plan of the only Execute. `memory.latched` beyond what came in was tripped in this cycle:
    after reading it you must persist it as the engine's latch.
    """

    outcomes: tuple[Outcome, ...]
    funnel: dict[str, int]
    memory: PipelineMemory
    to_execute: RiskApproved[EntryPlan] | None
