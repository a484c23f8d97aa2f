"""Tell the venue's time: as fast as real time, faster by a factor, or only when told to.

Everything that waits or stamps inside the exchange asks a `VenueClock`. The command line chooses one.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Final, Protocol

import anyio
import anyio.lowlevel

MIN_SPEED: Final = 0.001
MAX_SPEED: Final = 1000
_PER_MILLE: Final = 1000


class VenueClock(Protocol):
    """The time of the venue, in nanoseconds since the epoch; it never steps back."""

    def now_ns(self) -> int:
        """Return the venue's time."""

    async def sleep_until_ns(self, due_ns: int) -> None:
        """Wait until the venue's time is at least `due_ns`; give way once when it already is."""

    def call_at_ns(self, due_ns: int, callback: Callable[[], object]) -> None:
        """Have the event loop call back at `due_ns`, in its next turn when that has passed; no task has to wake."""


class RunningClock:
    """Venue time that runs by itself, `speed` times as fast as real time.

    It starts at the present. `speed` is taken to three digits after the point.
    """

    def __init__(self, speed: float = 1.0, read_ns: Callable[[], int] | None = None) -> None:
        """Start the clock; `read_ns` is the source of real time in nanoseconds, by default one that never steps back.

        Raises ValueError when the speed is not in 0.001 to 1000.
        """
        if not MIN_SPEED <= speed <= MAX_SPEED:
            raise ValueError(f"the speed of time {speed:g}: allowed are {MIN_SPEED} to {MAX_SPEED}")
        self._per_mille = round(speed * _PER_MILLE)
        self._read_ns = read_ns or _steady_ns()
        self._start_ns = self._read_ns()

    @property
    def speed(self) -> float:
        """Return how many seconds of venue time pass in one of real time."""
        return self._per_mille / _PER_MILLE

    def now_ns(self) -> int:
        """Return the venue's time."""
        return self._start_ns + (self._read_ns() - self._start_ns) * self._per_mille // _PER_MILLE

    async def sleep_until_ns(self, due_ns: int) -> None:
        """Wait until the venue's time is at least `due_ns`; give way once when it already is."""
        await anyio.sleep(max(0, due_ns - self.now_ns()) / 1e9 / self.speed)

    def call_at_ns(self, due_ns: int, callback: Callable[[], object]) -> None:
        """Have the event loop call back at `due_ns`, in its next turn when that has passed; perhaps ns early."""
        delay_ns, loop = due_ns - self.now_ns(), asyncio.get_running_loop()
        if delay_ns > 0:
            loop.call_later(delay_ns / 1e9 / self.speed, callback)
        else:
            loop.call_soon(callback)


class SteppedClock:
    """Venue time that stands still until `move_to` is called."""

    def __init__(self, start_ns: int | None = None) -> None:
        self._now_ns = _steady_ns()() if start_ns is None else start_ns
        self._sleepers: list[tuple[int, int, Callable[[], object]]] = []
        self._numbers = itertools.count()

    def now_ns(self) -> int:
        """Return the venue's time."""
        return self._now_ns

    async def sleep_until_ns(self, due_ns: int) -> None:
        """Wait until the venue's time is at least `due_ns`; give way once when it already is."""
        if due_ns <= self._now_ns:
            await anyio.lowlevel.checkpoint()
            return
        woken = anyio.Event()
        self.call_at_ns(due_ns, woken.set)
        await woken.wait()

    def call_at_ns(self, due_ns: int, callback: Callable[[], object]) -> None:
        """Call back when the time is moved to `due_ns` or beyond, in the event loop's next turn when it already is."""
        if due_ns <= self._now_ns:
            asyncio.get_running_loop().call_soon(callback)
        else:
            heapq.heappush(self._sleepers, (due_ns, next(self._numbers), callback))

    def next_due_ns(self) -> int | None:
        """Return when the next sleeper wants to wake; None when nobody sleeps."""
        return self._sleepers[0][0] if self._sleepers else None

    def move_to(self, now_ns: int) -> None:
        """Set the time, never back, and wake everybody whose time has come."""
        self._now_ns = max(self._now_ns, now_ns)
        while self._sleepers and self._sleepers[0][0] <= self._now_ns:
            heapq.heappop(self._sleepers)[2]()


def _steady_ns() -> Callable[[], int]:
    base_ns = time.time_ns() - time.monotonic_ns()
    return lambda: base_ns + time.monotonic_ns()
