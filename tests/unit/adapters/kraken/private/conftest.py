"""Builders for the private Kraken tests: a clock that is set by hand, an event sink that remembers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import anyio.lowlevel
import pytest
from attrs import define, field


@define
class ManualClock:
    """A clock that moves when told, and when slept on."""

    wall_ns: int = 1_800_000_000_000_000_000
    mono_s: float = 100.0
    slept_s: list[float] = field(factory=list)

    def now(self) -> datetime:
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self.wall_ns // 1000)

    def now_ns(self) -> int:
        return self.wall_ns

    def mono(self) -> float:
        return self.mono_s

    async def sleep(self, duration_s: float) -> None:
        self.slept_s.append(duration_s)
        self.mono_s += duration_s
        await anyio.lowlevel.checkpoint()


@define
class RememberedEvents:
    """An event sink that keeps what was said."""

    said: list[tuple[str, dict[str, object]]] = field(factory=list)

    def emit(self, name: str, **fields: object) -> None:
        self.said.append((name, fields))

    def names(self) -> list[str]:
        return [name for name, _ in self.said]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def events() -> RememberedEvents:
    return RememberedEvents()
