"""Own money between two reads of the balances: what is there, and what of it is free.

Enters: the venue's balances with holds, own orders, own fills as they are booked. Leaves: balance and free money of an
asset, and what came or went without an own fill. Called by the account keeper.

A hold is seen when the venue knew the order before the balances were asked for. An entry that is in flight, unknown or
newer than that is not in the holds yet, so its cost and a taker's fee on it are taken off here, and so is what its
fills have paid since.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from krakenbot.domain.execution.fills import Fill, assets_of, balance_deltas
from krakenbot.domain.execution.order import Order, OrderRole, OrderState
from krakenbot.domain.execution.reports import VenueBalance
from krakenbot.domain.state.exposure import reserve_quote
from krakenbot.domain.values import Asset, ClOrdId, Side

_ZERO = Decimal(0)
_KNOWN_TO_VENUE = frozenset(
    {
        OrderState.ACKED,
        OrderState.OPEN,
        OrderState.PARTIALLY_FILLED,
        OrderState.PENDING_AMEND,
        OrderState.PENDING_CANCEL,
    }
)


def open_cost(order: Order) -> Decimal:
    """Return what an entry can still cost, without its fee; zero for every other order."""
    if order.role is not OrderRole.ENTRY or order.side is not Side.BUY or order.limit_price is None:
        return _ZERO
    return order.open_qty * order.limit_price


class Funds:
    """Balances as last read, moved on by own fills. A read is `begin_read`, then `end_read` or nothing."""

    def __init__(self) -> None:
        self._balances: dict[Asset, VenueBalance] = {}
        self._has_read = False
        self._seen: frozenset[ClOrdId] = frozenset()
        self._seen_next: frozenset[ClOrdId] = frozenset()
        # since the last end of a read; since its beginning
        self._moved: dict[Asset, Decimal] = {}
        self._paid_next: dict[Asset, Decimal] = {}
        self._spent: list[tuple[ClOrdId, Asset, Decimal]] = []
        self._spent_next: list[tuple[ClOrdId, Asset, Decimal]] = []

    @property
    def balances(self) -> Mapping[Asset, VenueBalance]:
        """Return the balances as last read."""
        return self._balances

    def begin_read(self, live: Iterable[Order]) -> None:
        """Note which orders' holds the answer to a question asked now must contain."""
        self._seen_next = frozenset(order.cl_ord_id for order in live if order.state in _KNOWN_TO_VENUE)
        self._spent_next = []
        self._paid_next = {}

    def end_read(self, balances: Mapping[Asset, VenueBalance]) -> dict[Asset, Decimal]:
        """Take the answer; return by asset what came or went since the last read without an own fill.

        A fill that is on its way to us shows here, and again with the other sign at the next read. The answer may lack
        a purchase that was booked since the question, so what that paid is taken off until the next read.
        """
        strange: dict[Asset, Decimal] = {}
        if self._has_read:
            for asset in sorted({*balances, *self._balances}):
                after = balances[asset].balance if asset in balances else _ZERO
                change = after - self.balance(asset)
                if change:
                    strange[asset] = change
        self._balances = dict(balances)
        self._has_read = True
        self._seen, self._spent, self._moved = self._seen_next, self._spent_next, self._paid_next
        self._spent_next, self._paid_next = list(self._spent), {}
        return strange

    def take(self, fill: Fill) -> None:
        """Take notice of an own fill."""
        for asset, delta in zip(assets_of(fill.symbol), balance_deltas(fill), strict=True):
            self._moved[asset] = self._moved.get(asset, _ZERO) + delta
            if delta < 0 and fill.side is Side.BUY:
                self._paid_next[asset] = self._paid_next.get(asset, _ZERO) + delta
            if delta < 0:
                for spent in (self._spent, self._spent_next):
                    spent.append((fill.cl_ord_id, asset, -delta))

    def balance(self, asset: Asset) -> Decimal:
        """Return what is there of an asset, holds included, with every fill that was booked since the read."""
        read = self._balances.get(asset)
        return (_ZERO if read is None else read.balance) + self._moved.get(asset, _ZERO)

    def available(self, quote: Asset, live: Iterable[Order], taker_fee_bps: Decimal) -> Decimal:
        """Return what a new entry may reserve: balance - hold - what is not yet in the holds; never below zero."""
        read = self._balances.get(quote)
        free = _ZERO if read is None else read.available
        for order in live:
            if assets_of(order.symbol)[1] == quote and order.cl_ord_id not in self._seen:
                free -= reserve_quote(open_cost(order), taker_fee_bps)
        free -= sum(
            (amount for cl_ord_id, asset, amount in self._spent if asset == quote and cl_ord_id not in self._seen),
            _ZERO,
        )
        return max(_ZERO, free)
