"""Engine modes and symbol safety modes; modes only restrict entries."""

from __future__ import annotations

import enum
from datetime import datetime

from attrs import frozen

from krakenbot.domain.values import Symbol


class EngineMode(enum.StrEnum):
    """What the whole engine may do; exits and cancels are never blocked by it."""

    NORMAL = "normal"
    NO_NEW_ENTRIES = "no_new_entries"
    EXIT_ONLY = "exit_only"
    HALTED = "halted"


class SafetyMode(enum.StrEnum):
    """What may be done in one symbol."""

    NORMAL = "normal"
    QUIET = "quiet"
    EXIT_ONLY = "exit_only"
    HARD_BLOCKED = "hard_blocked"


@frozen(kw_only=True)
class EngineState:
    """The engine's mode, why, and since when; `latch` holds codes, parted by commas, that a person must reset."""

    mode: EngineMode
    reason: str
    since: datetime | None
    latch: str | None = None

    @property
    def latches(self) -> frozenset[str]:
        """Return the codes in the latch."""
        return frozenset(code for code in (self.latch or "").split(",") if code)


@frozen(kw_only=True)
class SymbolSafety:
    """A symbol's safety mode; `until` None means until it is lifted."""

    symbol: Symbol
    mode: SafetyMode
    reason: str
    since: datetime
    until: datetime | None

    def mode_at(self, at: datetime) -> SafetyMode:
        """Return the mode in force at a time: an expired one is normal."""
        return SafetyMode.NORMAL if self.until is not None and at >= self.until else self.mode
