"""Time and ids: the only source of both for the engine."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time, monotonic time and waiting."""

    def now(self) -> datetime:
        """Return the wall time as an aware UTC datetime."""

    def now_ns(self) -> int:
        """Return the wall time in nanoseconds since the epoch."""

    def mono(self) -> float:
        """Return monotonic seconds; only differences mean something."""

    async def sleep(self, duration_s: float) -> None:
        """Wait; cancellable."""


class IdSource(Protocol):
    """Unique ids."""

    def order_suffix(self) -> str:
        """Return 12 characters of [0-9a-z], unique among all orders ever made with this source."""
