"""How old market data is: the venue's timestamps, and the lag of a connection.

Enters: RFC 3339 texts and times of receipt. Leaves: nanoseconds, and seconds of lag. Called by the books and the
sessions. A slow reader is not dropped by the venue but served late: its book is valid and old.
"""

from __future__ import annotations

import math
from collections import deque
from datetime import UTC, datetime
from functools import lru_cache

from krakenbot.domain.values import NS_PER_S

_MEDIAN_OF = 3
# far above what quartz drifts
_DRIFT = 200e-6


def utc_ns(text: str) -> int:
    """Return the nanoseconds since the epoch of an RFC 3339 text in UTC ("Z"), with 0 to 9 digits of fraction.

    Raises ValueError for anything else, and for years outside 1970 to 2261, whose nanoseconds no bigint holds.
    """
    if text[-1:] != "Z" or text[10:11] != "T" or text[13:14] != ":" or text[16:17] != ":":
        raise ValueError(f"not a UTC timestamp: {text[:40]!r}")
    seconds = _day_start_s(text[:10]) + int(text[11:13]) * 3600 + int(text[14:16]) * 60 + int(text[17:19])
    if len(text) == 20:
        return seconds * NS_PER_S
    fraction = text[20:-1]
    if text[19] != "." or not 0 < len(fraction) <= 9 or not (fraction.isascii() and fraction.isdigit()):
        raise ValueError(f"not a UTC timestamp: {text[:40]!r}")
    return seconds * NS_PER_S + int(fraction.ljust(9, "0"))


@lru_cache(maxsize=64)
def _day_start_s(day: str) -> int:
    if not "1970" <= day[:4] <= "2261":
        raise ValueError(f"no year of ours: {day!r}")
    return int(datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC).timestamp())


class LagMeter:
    """Measure how far a connection has fallen behind: the growth of (receipt - venue time) over its least value.

    The absolute difference means nothing, since the two clocks differ; its growth does. One sample a second is
    enough. Each reading is the median of three samples, so that one odd timestamp moves nothing. The least value may
    rise by `_DRIFT` only, as clocks drift: a backlog that stays is never taken for normal.
    """

    def __init__(self) -> None:
        self._recent_s: deque[float] = deque(maxlen=_MEDIAN_OF)
        self._received_mono = 0.0
        self._least_s: float | None = None

    def observe(self, venue_at_ns: int, received_mono: float) -> None:
        """Take a frame's venue time and our monotonic time of its receipt; the same frame again tells nothing."""
        if self._recent_s and received_mono <= self._received_mono:
            return
        self._recent_s.append(received_mono - venue_at_ns / NS_PER_S)
        if len(self._recent_s) == _MEDIAN_OF:
            typical_s = self._typical_s()
            drifted_s = math.inf
            if self._least_s is not None:
                drifted_s = self._least_s + _DRIFT * (received_mono - self._received_mono)
            self._least_s = min(drifted_s, typical_s)
        self._received_mono = received_mono

    @property
    def lag_s(self) -> float | None:
        """Return the seconds by which the last samples were later than the quickest; None before the third."""
        return None if self._least_s is None else self._typical_s() - self._least_s

    def clock_offset_s(self, now_ns: int, now_mono: float) -> float | None:
        """Return our clock minus the venue's, the quickest delivery included; None before the third sample."""
        return None if self._least_s is None else self._least_s + now_ns / NS_PER_S - now_mono

    def _typical_s(self) -> float:
        return sorted(self._recent_s)[_MEDIAN_OF // 2]
