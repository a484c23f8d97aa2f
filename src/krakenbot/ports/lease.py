"""The execution leader's fenced lease."""

from __future__ import annotations

from typing import Protocol

from krakenbot.domain.values import LeaseEpoch


class Lease(Protocol):
    """One leader at a time; the epoch rises with every takeover and fences order rows."""

    async def acquire(self, holder: str, ttl_s: float) -> LeaseEpoch:
        """Take the lease; raises LeaseLost naming the holder and its expiry when another process holds it."""

    async def renew(self, lease_epoch: LeaseEpoch, ttl_s: float) -> None:
        """Extend our lease; raises LeaseLost when it is not ours any more."""

    async def release(self, lease_epoch: LeaseEpoch) -> None:
        """Give the lease up; harmless when it is not ours."""
