"""Positions: the fold over fills, with fees."""

from __future__ import annotations

import enum
from datetime import datetime
from decimal import Decimal

from attrs import frozen

from krakenbot.domain.values import ClOrdId, Symbol


class Protection(enum.StrEnum):
    """How a position is covered at this moment."""

    FLAT = "flat"
    PROTECTED = "protected"
    GUARDED = "guarded"
    BARE = "bare"
    UNPROTECTABLE = "unprotectable"


@frozen(kw_only=True)
class Position:
    """The own position in one symbol. `cost_quote` is what the held quantity cost, entry fees included.

    `realized_quote` is the sum of closed profit and loss, net of both sides' fees.
    """

    symbol: Symbol
    qty: Decimal
    cost_quote: Decimal
    realized_quote: Decimal
    opened_at: datetime | None
    entry_id: ClOrdId | None

    @property
    def average_price(self) -> Decimal | None:
        """Return cost per unit including entry fees; None when flat."""
        return self.cost_quote / self.qty if self.qty else None


@frozen(kw_only=True)
class ProtectionEvent:
    """A change of a symbol's protection, kept so that seconds can be counted."""

    symbol: Symbol
    at: datetime
    protection: Protection
    position_qty: Decimal
    protected_qty: Decimal
    reason: str
