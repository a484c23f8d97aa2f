"""Engine mode and symbol safety, persisted."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Protocol

from krakenbot.domain.state.safety import EngineState, SymbolSafety
from krakenbot.domain.values import VenueId


class SafetyStore(Protocol):
    """Where modes are kept across restarts."""

    async def set_engine_state(self, state: EngineState) -> None:
        """Replace the engine's mode."""

    async def add_latches(self, latches: Collection[str]) -> None:
        """Latch the engine by these codes; its mode, and what is latched already, stay as they are at this moment."""

    async def set_symbol_safety(self, safety: SymbolSafety) -> None:
        """Replace a symbol's mode."""

    async def raise_peak(self, venue_id: VenueId, pnl_quote: Decimal) -> Decimal:
        """Store a profit and loss if it is the highest of a venue so far, and return the highest.

        It begins anew when a person has reset the latch DRAWDOWN.
        """
