"""Records of decision cycles, and the status that processes publish; a pool apart from orders."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from attrs import frozen

from krakenbot.domain.values import EpochId, GenerationId, Symbol


@frozen(kw_only=True)
class OutcomeRow:
    """A symbol's outcome, stored when its code changed or when the full record is wanted.

    `code` is a blocker code or "EXECUTE".
    """

    symbol: Symbol
    code: str
    value: float | None
    limit: float | None
    unit: str
    detail: str
    clears_when: str
    since: datetime
    record: dict[str, object] | None


@frozen(kw_only=True)
class CycleRow:
    """One evaluation cycle: the funnel and the count of outcomes by code."""

    at: datetime
    generation_id: GenerationId | None
    epoch_id: EpochId | None
    funnel: dict[str, int]
    blockers: dict[str, int]
    duration_s: float
    outcomes: Sequence[OutcomeRow]


class CycleStore(Protocol):
    """Where cycles and process status go."""

    async def record_cycle(self, row: CycleRow) -> None:
        """Append a cycle and its outcome rows."""

    async def publish_status(self, process: str, at: datetime, body: dict[str, object]) -> None:
        """Replace the status of a process ("ingest" or "execution")."""
