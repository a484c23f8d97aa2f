"""Let a participant come back later.

In: delays in seconds. Out: calls `callback(now_ns, argument)` on the flow's event heap.
"""

from __future__ import annotations

from collections.abc import Callable

NS = 1_000_000_000
Callback = Callable[[int, int], None]
Schedule = Callable[[int, Callback, int], None]


class Timer:
    """Schedule callbacks a number of seconds after now."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def after(self, now_ns: int, delay_s: float, callback: Callback, argument: int = 0) -> None:
        """Have `callback(at_ns, argument)` called `delay_s` seconds later, at least one nanosecond."""
        self._schedule(now_ns + int(delay_s * NS) + 1, callback, argument)
