"""Run the venue as its clock runs: step to what is due, and let the flow fall behind rather than the clients wait."""

from __future__ import annotations

import time
from typing import Final

import anyio
import anyio.lowlevel

from krakenbot.adapters.local_exchange.flow.market import Flow
from krakenbot.adapters.local_exchange.matching.venue import Venue
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.venue_clock import RunningClock

MAX_LAG_NS: Final = 1_000_000_000
"""Of real time, as the longest sleep is."""
TURN_NS: Final = 500_000
"""Of real time, measured between a few steps each: requests and their answers go in between."""
STEPS_PER_LOOK: Final = 2
SHORTEST_SLEEP_S: Final = 0.002
"""Events of so long a time go out together: what is woken and written once costs less. Requests do not wait for it."""
LONGEST_SLEEP_S: Final = 0.02


class PacedFlow:
    """A flow whose clock can be set back: after a stall it goes on late instead of in a burst."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self.behind_ns = 0

    def open(self, now_ns: int) -> None:
        """Build the opening books of all markets."""
        self._flow.open(now_ns - self.behind_ns)

    def next_at_ns(self) -> int:
        """Return when the next event is due."""
        return self._flow.next_at_ns() + self.behind_ns

    def step(self, now_ns: int) -> None:
        """Carry out every event due at or before `now_ns`."""
        self._flow.step(now_ns - self.behind_ns)

    def last_price_ticks(self, symbol: str) -> int:
        """Return a reference price for an index and for the opening ticker."""
        return self._flow.last_price_ticks(symbol)

    def parameters(self) -> dict[str, object]:
        """Return what was chosen or fitted, with its origin, ready for JSON."""
        return self._flow.parameters()


async def run_venue(exchange: Exchange, flow: PacedFlow, clock: RunningClock) -> None:
    """Advance the venue for ever; ends by cancellation."""
    venue = exchange.venue
    while True:
        caught_up = _take_turn(venue, clock.now_ns())
        exchange.record.flush()
        if caught_up:
            wait_s = (venue.next_at_ns() - clock.now_ns()) / 1e9 / clock.speed
            await anyio.sleep(min(max(wait_s, SHORTEST_SLEEP_S), LONGEST_SLEEP_S))
            continue
        # Other things that are late are caught up with: the flow is put off for its own lateness only.
        lag_ns = clock.now_ns() - venue.flow_next_at_ns()
        if lag_ns > MAX_LAG_NS * clock.speed:
            flow.behind_ns += lag_ns
            exchange.counters["flow_held_back_ms"] += lag_ns // 1_000_000
        await anyio.lowlevel.checkpoint()


def _take_turn(venue: Venue, now_ns: int) -> bool:
    """Carry out what is due for as long as one turn lasts; tell whether that was all."""
    until_ns = time.perf_counter_ns() + TURN_NS
    while not venue.advance(now_ns, max_steps=STEPS_PER_LOOK):
        if time.perf_counter_ns() >= until_ns:
            return False
    return True
