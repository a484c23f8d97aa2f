"""Say which limits apply, and with which figures.

The figures are documented ones where Kraken documents them (FACTS 1, 8, 14); the rest is chosen and marked so
in docs/exchange_differences.md. A figure of 0 turns its limit off.
"""

from __future__ import annotations

from typing import Final, Literal

from attrs import frozen

Tier = Literal["starter", "intermediate", "pro"]
LimitsKind = Literal["off", "default", "documented"]

REST_COUNTERS: Final[dict[str, tuple[int, int]]] = {"starter": (15, 33), "intermediate": (20, 50), "pro": (20, 100)}
"""Threshold, and decay in hundredths per second, of the REST counter by tier."""

LEVEL3_BUDGETS: Final[dict[str, int]] = {"starter": 200, "intermediate": 200, "pro": 500}
"""Subscribe budget per second of a level3 connection by tier: standard 200, pro 500."""

LEVEL3_COSTS: Final[dict[int, int]] = {10: 5, 100: 25, 1000: 100}
"""Cost of one level3 symbol by depth."""

UNCOUNTED: Final = frozenset({"AddOrder", "AmendOrder", "CancelOrder", "CancelAll", "CancelAllOrdersAfter"})
"""Private endpoints outside the REST counter: the trading counter has them."""

COSTLY: Final = frozenset({"Ledgers", "QueryLedgers", "TradesHistory", "QueryTrades"})
"""The ledger and history family."""


@frozen(kw_only=True)
class LimitSettings:
    """The limits of one exchange; those per address are off by default, since rehearsals share one address."""

    rest_counter: bool = True
    history_cost: int = 4
    concurrent_calls: int = 32
    public_calls_per_s: int = 0
    public_burst: int = 15
    connections: int = 0
    connection_window_s: int = 600
    messages_per_s: int = 500
    message_burst: int = 1000
    level3_symbols: int = 200
    level3_budget: bool = True
    bad_credentials: int = 20
    bad_credentials_window_s: int = 60
    lockout_s: int = 900
    idle_s: int = 60
    private_unsubscribed_s: int = 60

    @classmethod
    def of(cls, kind: LimitsKind) -> LimitSettings:
        """Return the limits by name; `documented` adds those per address."""
        match kind:
            case "off":
                return cls(
                    rest_counter=False,
                    concurrent_calls=0,
                    messages_per_s=0,
                    level3_symbols=0,
                    level3_budget=False,
                    bad_credentials=0,
                    idle_s=0,
                    private_unsubscribed_s=0,
                )
            case "default":
                return cls()
            case "documented":
                return cls(public_calls_per_s=1, connections=150, messages_per_s=100, message_burst=200)
