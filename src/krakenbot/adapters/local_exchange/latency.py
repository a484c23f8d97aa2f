"""Delay messages as a network does: lognormal each way, seeded, never out of order on one connection."""

from __future__ import annotations

from math import exp, log
from random import Random
from typing import Final

from attrs import frozen

# The 99 % point of the standard normal distribution.
Z99: Final = 2.3263478740408408
REDRAW_NS: Final = 250_000_000


@frozen(kw_only=True)
class LatencySettings:
    """Milliseconds one way; a median of 0 turns latency off."""

    median_ms: float = 30.0
    p99_ms: float = 150.0

    def __attrs_post_init__(self) -> None:
        """Refuse what is no distribution.

        Raises ValueError with what is allowed.
        """
        if not 0 <= self.median_ms <= 10_000 or not self.median_ms <= self.p99_ms <= 60_000:
            raise ValueError("latency needs 0 <= median <= 10000 ms and median <= p99 <= 60000 ms")


class Leg:
    """One direction of one connection.

    The delay is redrawn at most every 250 ms: drawn for every message, a busy connection would always show the
    longest of its recent delays, because no message overtakes another.
    """

    def __init__(self, settings: LatencySettings, seed: str) -> None:
        self._settings = settings
        self._random = Random(seed)  # noqa: S311, a network is not cryptography
        self._delay_ns = 0
        self._redraw_ns = 0
        self._last_due_ns = 0

    def due_ns(self, now_ns: int) -> int:
        """Return when a message sent now arrives; never before an earlier one."""
        if self._settings.median_ms <= 0:
            return now_ns
        if now_ns >= self._redraw_ns:
            self._redraw_ns = now_ns + REDRAW_NS
            sigma = log(self._settings.p99_ms / self._settings.median_ms) / Z99
            self._delay_ns = int(1e6 * self._settings.median_ms * exp(sigma * self._random.gauss(0, 1)))
        self._last_due_ns = max(self._last_due_ns, now_ns + self._delay_ns)
        return self._last_due_ns
