"""Move a venue whose time is stepped: events in order of time, heartbeats when due, frames sent in between.

The control port calls `Stepper.advance`; between calls nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio

from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.venue_clock import SteppedClock

LONGEST_STEP_NS: Final = 1_000_000_000
LONGEST_ADVANCE_S: Final = 7 * 24 * 3600
EVENTS_PER_TURN: Final = 200
MAX_BACKLOG_FRAMES: Final = 1000
READER_PATIENCE_S: Final = 5.0
"""Real seconds that an advance waits in all for readers that lag; after that they are treated as slow readers."""
_TURNS_TO_SETTLE: Final = 3


class StoppedError(Exception):
    """The exchange ends before the time has passed."""


class Stepper:
    """Advances one exchange; `backlog` tells how many frames the slowest open connection has still to send."""

    def __init__(self, exchange: Exchange, clock: SteppedClock, backlog: Callable[[], int]) -> None:
        self._exchange = exchange
        self._clock = clock
        self._backlog = backlog
        self._turn = anyio.Lock()
        self._is_stopped = False

    def stop(self) -> None:
        """End the advance that is under way, and refuse every later one."""
        self._is_stopped = True

    async def advance(self, duration_s: float) -> int:
        """Let venue time pass and return what it is then, in nanoseconds.

        Raises ValueError when the duration is not in 0 to 7 days, StoppedError when the exchange ends meanwhile.
        """
        if not 0 <= duration_s <= LONGEST_ADVANCE_S:
            raise ValueError(f"seconds: allowed are 0 to {LONGEST_ADVANCE_S}")
        async with self._turn:
            await self._advance_to(self._clock.now_ns() + round(duration_s * 1e9))
        return self._clock.now_ns()

    async def _advance_to(self, end_ns: int) -> None:
        patience_s = READER_PATIENCE_S
        while True:
            due_ns = self._clock.next_due_ns()
            now_ns = min(end_ns, self._clock.now_ns() + LONGEST_STEP_NS, end_ns if due_ns is None else due_ns)
            # The venue goes first: a heartbeat follows what happened before it.
            while not self._exchange.venue.advance(now_ns, max_steps=EVENTS_PER_TURN):
                await self._pause()
            self._clock.move_to(now_ns)
            self._exchange.record.flush()
            for _ in range(_TURNS_TO_SETTLE):
                await self._pause()
            while self._backlog() > MAX_BACKLOG_FRAMES and patience_s > 0:
                await self._pause(0.005)
                patience_s -= 0.005
            if now_ns >= end_ns:
                return

    async def _pause(self, duration_s: float = 0) -> None:
        await anyio.sleep(duration_s)
        if self._is_stopped:
            raise StoppedError("the exchange ends")
