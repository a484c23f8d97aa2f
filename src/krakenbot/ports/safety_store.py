"""Engine mode and symbol safety, persisted."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from krakenbot.domain.state.safety import EngineState, SymbolSafety


class SafetyStore(Protocol):
    """Where modes are kept across restarts."""

    async def set_engine_state(self, state: EngineState) -> None:
        """Replace the engine's mode."""

    async def add_latches(self, latches: Collection[str]) -> None:
        """Latch the engine by these codes; its mode, and what is latched already, stay as they are at this moment."""

    async def set_symbol_safety(self, safety: SymbolSafety) -> None:
        """Replace a symbol's mode."""
