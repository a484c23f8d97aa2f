"""Questions to the venue; reads only, safe to repeat. Raises VenueUnavailable or VenueRejected."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from attrs import frozen

from krakenbot.domain.execution.ledger import LedgerEntry
from krakenbot.domain.execution.rate import AccountTier
from krakenbot.domain.execution.reports import VenueBalance, VenueFill, VenueOrder
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.values import Asset, Symbol


@frozen(kw_only=True)
class FeeRates:
    """The account's own fees of a symbol, in bps; a maker fee may be negative."""

    maker_bps: Decimal
    taker_bps: Decimal


@frozen(kw_only=True)
class QueryBudget:
    """The counter of reads: points, its threshold, and how long the venue refuses every read (a lockout), seconds."""

    points: float
    threshold: float
    closed_s: float


class VenueQuery(Protocol):
    """What the engine asks the venue about."""

    async def system_status(self) -> str:
        """Return online, post_only, cancel_only or maintenance."""

    async def instruments(self) -> Sequence[Instrument]:
        """Return all instruments."""

    async def balances(self) -> dict[Asset, VenueBalance]:
        """Return all balances with holds."""

    async def fee_rates(self, symbols: Sequence[Symbol]) -> dict[Symbol, FeeRates]:
        """Return the account's own fees."""

    async def open_orders(self) -> Sequence[VenueOrder]:
        """Return all open orders, untriggered stops included."""

    async def closed_orders(self, since: datetime) -> Sequence[VenueOrder]:
        """Return orders closed since a time, newest first, all pages up to a stated bound."""

    async def fills(self, since: datetime) -> Sequence[VenueFill]:
        """Return fills since a time, all pages up to a stated bound."""

    async def ledger(self, since: datetime) -> Sequence[LedgerEntry]:
        """Return the bookings of all assets since a time, all pages up to a stated bound."""

    @property
    def budget(self) -> QueryBudget:
        """Return where the counter of reads stands."""

    def set_tier(self, tier: AccountTier) -> None:
        """Count reads by the limits of another tier from now on; what was counted stays."""
