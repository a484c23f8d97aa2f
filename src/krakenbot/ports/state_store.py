"""State: refreshed in the ingest database, synced to the decision database, read by the cycle.

`StateRefresher` and `RefreshAnswers` are ingest's side, `StateStore` is execution's.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from attrs import frozen

from krakenbot.domain.instrument import Instrument
from krakenbot.domain.state.epoch import Epoch, UniverseSnapshot
from krakenbot.domain.state.safety import EngineState, SymbolSafety
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.values import GenerationId, LineageId, RunId, Symbol


@frozen(kw_only=True)
class Refreshed:
    """What one refresh did."""

    generation_id: GenerationId
    symbols: int
    duration_s: float


@frozen(kw_only=True)
class CycleInput:
    """What one evaluation cycle reads, from one generation in one REPEATABLE READ transaction.

    `epoch` is the newest valid one within `max_epoch_age`, else the newest degraded one, else None.
    """

    generation_id: GenerationId
    lineage_id: LineageId | None
    states: dict[Symbol, SymbolState]
    instruments: dict[Symbol, Instrument]
    epoch: Epoch | None
    universe: UniverseSnapshot | None
    engine_state: EngineState
    safety: dict[Symbol, SymbolSafety]
    read_at: datetime


class StateRefresher(Protocol):
    """The ingest side of state."""

    async def refresh(self, lineage_id: LineageId, run_id: RunId, at: datetime) -> Refreshed:
        """Compute the state of all symbols of a run as one new generation in the ingest database."""

    async def sync(self, generation_id: GenerationId) -> None:
        """Copy a generation to the decision database, whole or not at all, and notify execution."""

    async def publish_instruments(self, instruments: Sequence[Instrument]) -> None:
        """Write instruments to the decision database."""


class RefreshAnswers(Protocol):
    """Ingest's side of the refresh requests."""

    async def wait_for_requests(self, wait_s: float) -> list[int]:
        """Return ids of open requests, waiting for one at most `wait_s`."""

    async def answer(self, request_ids: Sequence[int], generation_id: GenerationId) -> None:
        """Stamp requests with the generation that answers them, and notify."""


class StateStore(Protocol):
    """Execution's side: asks for a generation and reads it."""

    async def request_refresh(self, at: datetime, wait_s: float) -> GenerationId | None:
        """Ask ingest for a new generation and wait; None when none came in time."""

    async def read_cycle(self, generation_id: GenerationId, at: datetime, max_epoch_age_s: float) -> CycleInput | None:
        """Read one generation and what it is bound to; None when it is not the one in the database."""
