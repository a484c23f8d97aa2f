"""Whether a connection lives: frames, a ping when they stay away, and the end when that is not answered.

Enters: the time of the last frame. Leaves: when to look again, whether to ping, why the connection is dead. Called by
the market sessions.
"""

from __future__ import annotations

import math


class Liveness:
    """One connection's signs of life.

    Heartbeats come at 1 Hz, but only once something is subscribed: half of `timeout_s` without a frame asks for one.
    `open_timeout_s` is how long the first frame may take.
    """

    def __init__(self, *, open_timeout_s: float, timeout_s: float, now_mono: float) -> None:
        self._opened_by_mono = now_mono + open_timeout_s
        self._timeout_s = timeout_s
        self._pinged_mono = -math.inf

    def due_mono(self, last_frame_mono: float | None) -> float:
        """Return when to look again."""
        if last_frame_mono is None:
            return self._opened_by_mono
        is_pinged = self._pinged_mono >= last_frame_mono
        return last_frame_mono + (self._timeout_s if is_pinged else self._timeout_s / 2)

    def why_dead(self, last_frame_mono: float | None, now_mono: float) -> str:
        """Return why the connection is dead; empty while it is not."""
        if last_frame_mono is None:
            return "no frame after connecting" if now_mono >= self._opened_by_mono else ""
        silent_s = now_mono - last_frame_mono
        return f"no frame for {silent_s:.1f} s" if silent_s >= self._timeout_s else ""

    def wants_ping(self, last_frame_mono: float | None, now_mono: float) -> bool:
        """Tell, once in each silence, that a ping is due."""
        if last_frame_mono is None or self._pinged_mono >= last_frame_mono:
            return False
        if now_mono < self.due_mono(last_frame_mono):
            return False
        self._pinged_mono = now_mono
        return True
