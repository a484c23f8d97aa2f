"""Clocks that tests move."""

from __future__ import annotations

from datetime import UTC, datetime

import anyio
from attrs import define

from krakenbot.domain.values import NS_PER_S


@define
class WaitedClock:
    """Time that passes only by waiting, or by hand."""

    at_mono: float = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.at_mono, UTC)

    def mono(self) -> float:
        return self.at_mono

    def now_ns(self) -> int:
        return round(self.at_mono * NS_PER_S)

    async def sleep(self, duration_s: float) -> None:
        self.at_mono += duration_s
        await anyio.lowlevel.checkpoint()
