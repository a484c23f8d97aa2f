"""The time of day that no step of the wall clock moves.

Enters: a clock. Leaves: the wall time at which this was made, moved on by the steady clock. Called by what compares
times over minutes and hours: the exits and the tie-out.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from krakenbot.ports.clock import Clock


class SteadyTime:
    """Tells the time by the steady clock, from the wall time at which it was made."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began_at, self._began_mono = clock.now(), clock.mono()

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""
        return self._began_at + timedelta(seconds=self._clock.mono() - self._began_mono)
