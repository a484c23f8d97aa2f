"""Plans: intended orders before they have a row.

An `EntryPlan` becomes an order only as `RiskApproved[EntryPlan]`; a `ProtectiveExit` needs no approval, only sells,
and at most the position.
"""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal
from typing import Generic, TypeVar

from attrs import frozen

from krakenbot.domain.decision.blocker import Blocker
from krakenbot.domain.values import (
    ClOrdId,
    EpochId,
    GenerationId,
    LineageId,
    Symbol,
)


class ExitKind(enum.StrEnum):
    """Why a position is sold."""

    TAKE_PROFIT = "take_profit"
    STOP_LOSS = "stop_loss"
    TRAILING_STOP = "trailing_stop"
    TIME_STOP = "time_stop"
    PANIC = "panic"
    REGIME_EXIT = "regime_exit"
    OPERATOR = "operator"


class QueueAction(enum.StrEnum):
    """Where an entry is placed."""

    JOIN = "join"
    IMPROVE = "improve"
    STAY_OUT = "stay_out"


class StopTrigger(enum.StrEnum):
    """Reference price of a stop."""

    LAST = "last"
    INDEX = "index"


@frozen(kw_only=True)
class ExitProfile:
    """How a position from this entry is protected and left; distances in bps of the entry price, times in s."""

    stop_distance_bps: float
    take_profit_bps: float
    trail_distance_bps: float | None
    time_stop_s: float
    stop_trigger: StopTrigger


@frozen(kw_only=True)
class EntryPlan:
    """A maker buy that passed every stage up to the risk gate, with its whole decision record.

    `record` is the decision record as plain JSON values: regime, strategy, edge terms, fill estimate, sizing, prior
    or measured. `price` and `qty` are on the instrument's increments.
    """

    symbol: Symbol
    price: Decimal
    qty: Decimal
    action: QueueAction
    strategy: str
    regime: str
    ttl_s: float
    exit_profile: ExitProfile
    lineage_id: LineageId
    epoch_id: EpochId
    generation_id: GenerationId
    decided_at: datetime
    state_at: datetime
    score: float
    record: dict[str, object]


@frozen(kw_only=True)
class ProtectiveExit:
    """A sell of at most the position; no entry gate stands before it.

    `limit_price` rests a post-only take-profit; `trigger_price` makes a stop-loss; neither is a market sell.
    """

    symbol: Symbol
    qty: Decimal
    kind: ExitKind
    reason: str
    limit_price: Decimal | None = None
    trigger_price: Decimal | None = None
    trigger: StopTrigger = StopTrigger.LAST
    cl_ord_id: ClOrdId | None = None


PlanT = TypeVar("PlanT")


@frozen(kw_only=True)
class RiskApproved(Generic[PlanT]):
    """A plan that the risk gate let through; made by `domain.decision.risk` only."""

    plan: PlanT


@frozen(kw_only=True)
class RiskRefused(Generic[PlanT]):
    """A plan that the risk gate stopped, and why."""

    plan: PlanT
    blocker: Blocker
