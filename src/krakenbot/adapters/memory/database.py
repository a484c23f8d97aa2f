"""What the in-memory stores share: the rows of both databases in plain containers.

Enters: values from the stores of this package. Leaves: the same values. One object stands for one pair of databases;
it outlives the stores that are opened on it, as a server outlives its clients.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import anyio
from attrs import define, field, frozen

from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order
from krakenbot.domain.execution.position import Position, ProtectionEvent
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.samples import Sample
from krakenbot.domain.state.epoch import Epoch, UniverseSnapshot
from krakenbot.domain.state.safety import EngineMode, EngineState, SymbolSafety
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.values import (
    ClOrdId,
    ExecId,
    GenerationId,
    JournalId,
    LeaseEpoch,
    LineageId,
    RunId,
    Symbol,
    VenueId,
)
from krakenbot.ports.cycle_store import CycleRow
from krakenbot.ports.order_store import OrderEventRow


@frozen(kw_only=True)
class Generation:
    """One whole generation as synced."""

    generation_id: GenerationId
    lineage_id: LineageId
    computed_at: datetime
    states: dict[Symbol, SymbolState]


@define
class LeaseRow:
    """The lease; `holder` None when nobody has it."""

    holder: str | None = None
    lease_epoch: LeaseEpoch = field(factory=lambda: LeaseEpoch(0))
    expires_at: datetime | None = None


@define
class MemoryDatabase:
    """Rows of the ingest and the decision database."""

    # ingest
    lineages: dict[LineageId, datetime] = field(factory=dict)
    runs: dict[RunId, LineageId] = field(factory=dict)
    run_starts: dict[RunId, datetime] = field(factory=dict)
    ended_runs: dict[RunId, datetime] = field(factory=dict)
    samples: dict[RunId, list[Sample]] = field(factory=dict)
    refreshed: Generation | None = None
    generations: int = 0
    # decision
    epochs: list[Epoch] = field(factory=list)
    universes: dict[int, UniverseSnapshot] = field(factory=dict)
    generation: Generation | None = None
    instruments: dict[Symbol, Instrument] = field(factory=dict)
    requests: dict[int, GenerationId | None] = field(factory=dict)
    orders: dict[ClOrdId, Order] = field(factory=dict)
    events: list[OrderEventRow] = field(factory=list)
    journaled: set[JournalId] = field(factory=set)
    fills: dict[tuple[VenueId, ExecId], Fill] = field(factory=dict)
    positions: dict[tuple[VenueId, Symbol], Position] = field(factory=dict)
    realized: list[tuple[VenueId, datetime, Decimal]] = field(factory=list)
    reconciled: dict[VenueId, datetime] = field(factory=dict)
    protection: list[ProtectionEvent] = field(factory=list)
    accounts: list[tuple[VenueId, datetime, dict[str, Decimal], Decimal]] = field(factory=list)
    markouts: dict[tuple[VenueId, ExecId, float], float] = field(factory=dict)
    lease: LeaseRow = field(factory=LeaseRow)
    engine_state: EngineState = field(factory=lambda: EngineState(mode=EngineMode.NORMAL, reason="", since=None))
    safety: dict[Symbol, SymbolSafety] = field(factory=dict)
    peaks: dict[VenueId, Decimal] = field(factory=dict)
    cycles: list[CycleRow] = field(factory=list)
    status: dict[str, tuple[datetime, dict[str, object]]] = field(factory=dict)
    changed: anyio.Event = field(factory=anyio.Event)

    def notify(self) -> None:
        """Wake all who wait for requests or answers."""
        event, self.changed = self.changed, anyio.Event()
        event.set()
