"""Name the verification tiers and what each allows in the engine (FACTS: rate limits).

Accounts carry a tier; the rate counters, the open order limit and `maxratecount` follow from it.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from attrs import frozen


class Tier(StrEnum):
    """How far an account is verified."""

    STARTER = "starter"
    INTERMEDIATE = "intermediate"
    PRO = "pro"


@frozen(kw_only=True)
class TierLimits:
    """What one tier may do per pair: counts, hundredths of a count per second, orders."""

    threshold: int
    decay_hundredths_per_s: int
    open_orders: int


LIMITS: Final = {
    Tier.STARTER: TierLimits(threshold=60, decay_hundredths_per_s=100, open_orders=60),
    Tier.INTERMEDIATE: TierLimits(threshold=125, decay_hundredths_per_s=234, open_orders=80),
    Tier.PRO: TierLimits(threshold=180, decay_hundredths_per_s=375, open_orders=225),
}
