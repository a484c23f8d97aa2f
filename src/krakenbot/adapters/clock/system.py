"""The machine's own clocks and random ids: the production implementation of `ports.clock`."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime, timedelta
from typing import Final

import anyio

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ALPHABET: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_SUFFIX_LENGTH: Final = 12


class SystemClock:
    """Wall and monotonic time of this machine."""

    def now(self) -> datetime:
        """Return the wall time as an aware UTC datetime, cut to microseconds."""
        # integer arithmetic: a float of seconds is off by up to 0.2 microseconds
        return _EPOCH + timedelta(microseconds=time.time_ns() // 1000)

    def now_ns(self) -> int:
        """Return the wall time in nanoseconds since the epoch."""
        return time.time_ns()

    def mono(self) -> float:
        """Return monotonic seconds; only differences mean something."""
        return time.monotonic()  # noqa: TID251 - this is the Clock port

    async def sleep(self, duration_s: float) -> None:
        """Wait; cancellable. Zero or less only lets other tasks run."""
        await anyio.sleep(max(0.0, duration_s))


class RandomIdSource:
    """Ids from the operating system's randomness.

    36^12 suffixes: among ten million orders two are alike with a probability of 1 in 100 000.
    """

    def order_suffix(self) -> str:
        """Return 12 random characters of [0-9a-z]."""
        return "".join(secrets.choice(_ALPHABET) for _ in range(_SUFFIX_LENGTH))
