"""Seconds in which positions were protected, guarded or bare, and how long protection took.

Enters: changes of protection as the decision database holds them. Leaves: sums and quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from attrs import frozen

BARE, PROTECTED, GUARDED, UNPROTECTABLE = "bare", "protected", "guarded", "unprotectable"
"""As the decision database names them; unprotectable is what is too small for any order."""


@frozen(kw_only=True)
class ProtectionChange:
    """From `at` on, the position in `symbol` was covered in this way."""

    symbol: str
    at: datetime
    protection: str
    position_qty: Decimal


def seconds_by_protection(changes: Sequence[ProtectionChange], until: datetime) -> dict[str, float]:
    """Return the seconds of all symbols in each state with a position, up to `until`."""
    totals = {PROTECTED: 0.0, GUARDED: 0.0, BARE: 0.0, UNPROTECTABLE: 0.0}
    last: dict[str, ProtectionChange] = {}
    for change in sorted(changes, key=lambda item: item.at):
        _add(totals, last.get(change.symbol), change.at)
        last[change.symbol] = change
    for change in last.values():
        _add(totals, change, until)
    return {name: round(total, 3) for name, total in totals.items()}


def seconds_to_protection(changes: Sequence[ProtectionChange]) -> list[float]:
    """Return, for each time a position became bare, the seconds until it was protected or guarded, sorted."""
    bare_since: dict[str, datetime] = {}
    taken: list[float] = []
    for change in sorted(changes, key=lambda item: item.at):
        if change.protection == BARE:
            bare_since.setdefault(change.symbol, change.at)
        elif (since := bare_since.pop(change.symbol, None)) is not None and change.protection in (PROTECTED, GUARDED):
            taken.append((change.at - since).total_seconds())
    return sorted(taken)


def quantiles(values: Sequence[float]) -> dict[str, float | None]:
    """Return p50, p99 and max by nearest rank; None without values."""
    if not values:
        return {"p50": None, "p99": None, "max": None}
    ordered = sorted(values)

    def rank(share: float) -> float:
        return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 4)

    return {"p50": rank(0.50), "p99": rank(0.99), "max": round(ordered[-1], 4)}


def _add(totals: dict[str, float], change: ProtectionChange | None, until: datetime) -> None:
    if change is not None and change.protection in totals:
        totals[change.protection] += max(0.0, (until - change.at).total_seconds())
