"""Keep the money of clients: balances, what open orders hold, fills and the ledger.

The venue calls it with every fill; REST, the balances channel and the record read it. Holds are computed from
the open orders, so they cannot drift from them.
"""

from __future__ import annotations

from collections import Counter, deque
from decimal import Decimal
from enum import StrEnum
from typing import Final, TypeVar

from attrs import define, field, frozen

from krakenbot.adapters.local_exchange.matching.claims import ZERO, Claims
from krakenbot.adapters.local_exchange.matching.fees import Rates, TradedVolume
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, Fill
from krakenbot.adapters.local_exchange.matching.rate_counter import RateCounter
from krakenbot.adapters.local_exchange.matching.tiers import LIMITS, Tier, TierLimits

KEEP_CLOSED: Final = 50_000
T = TypeVar("T")


class StopHolds(StrEnum):
    """How an untriggered stop binds funds; the venue's rule is not documented (FACTS 20)."""

    RESERVE = "reserve"
    NONE_REJECT_AT_TRIGGER = "none_reject_at_trigger"
    SHARED = "shared"


@frozen(kw_only=True)
class LedgerEntry:
    """One booking: `amount` is signed and before `fee`; `balance` is after both."""

    ledger_id: str
    ref_id: str
    at_ns: int
    kind: str
    asset: str
    amount: Decimal
    fee: Decimal
    balance: Decimal


@define(eq=False, kw_only=True)
class Account:
    """One client: several API keys may act for it. `fixed_rates` stand in for the schedule when set.

    Of its closed orders, of its fills and of its bookings the latest `keep_closed` stay; `dropped` counts the others.
    """

    name: str
    stop_holds: StopHolds
    tier: Tier = Tier.PRO
    fixed_rates: Rates | None = None
    volume: TradedVolume = field(factory=TradedVolume)
    counters: dict[str, RateCounter] = field(factory=dict)
    balances: dict[str, Decimal] = field(factory=dict)
    orders: dict[str, ClientOrder] = field(factory=dict)
    open_orders: dict[str, ClientOrder] = field(factory=dict)
    open_by_cl_ord_id: dict[str, ClientOrder] = field(factory=dict)
    open_counts: Counter[str] = field(factory=Counter)
    claims: Claims = field(factory=Claims)
    keep_closed: int = KEEP_CLOSED
    fills: deque[Fill] = field(factory=deque)
    ledger: deque[LedgerEntry] = field(factory=deque)
    dropped: Counter[str] = field(factory=Counter)
    _closed: deque[str] = field(factory=deque)
    cancel_all_at_ns: int | None = None

    @property
    def limits(self) -> TierLimits:
        """Return what the tier allows per pair."""
        return LIMITS[self.tier]

    def counter(self, symbol: str) -> RateCounter:
        """Return the transaction counter of a pair."""
        found = self.counters.get(symbol)
        if found is None:
            found = self.counters[symbol] = RateCounter(limits=self.limits)
        return found

    def rate_counts(self, now_ns: int) -> dict[str, int]:
        """Return the transaction counts by pair, rounded up, those at zero left out."""
        counts = ((symbol, counter.count(now_ns)) for symbol, counter in sorted(self.counters.items()))
        return {symbol: count for symbol, count in counts if count}

    def set_tier(self, tier: Tier, now_ns: int) -> None:
        """Move to another tier; counts go on from where they stand."""
        self.tier = tier
        for counter in self.counters.values():
            counter.settle(now_ns)
            counter.limits = self.limits

    def balance(self, asset: str) -> Decimal:
        """Return the balance of an asset, holds included."""
        return self.balances.get(asset, ZERO)

    def available(self, asset: str) -> Decimal:
        """Return what a new order may use."""
        return max(ZERO, self.balance(asset) - self.claimed(asset))

    def held(self, asset: str) -> Decimal:
        """Return what the open orders hold of an asset: what they claim, as far as it is there.

        Where a stop shares its funds with a resting order that then trades, the stop's claim stays, its hold shrinks.
        """
        claimed = self.claimed(asset)
        return min(claimed, self.balance(asset)) if self.stop_holds is StopHolds.SHARED else claimed

    def claimed(self, asset: str) -> Decimal:
        """Return what the open orders need of an asset together, by the rule for untriggered stops."""
        sums = self.claims.sums(asset)
        match self.stop_holds:
            case StopHolds.RESERVE:
                return sum((one.resting + one.waiting for one in sums), ZERO)
            case StopHolds.NONE_REJECT_AT_TRIGGER:
                return sum((one.resting for one in sums), ZERO)
            case StopHolds.SHARED:
                return sum((max(one.resting, one.waiting) for one in sums), ZERO)

    def holds(self) -> dict[str, Decimal]:
        """Return every asset that is held, and how much."""
        return {asset: held for asset in self.claims.assets() if (held := self.held(asset))}

    def book(
        self, *, ledger_id: str, ref_id: str, at_ns: int, kind: str, asset: str, amount: Decimal, fee: Decimal
    ) -> LedgerEntry:
        """Change a balance by `amount - fee` and return the entry that says so."""
        balance = self.balance(asset) + amount - fee
        self.balances[asset] = balance
        entry = LedgerEntry(
            ledger_id=ledger_id,
            ref_id=ref_id,
            at_ns=at_ns,
            kind=kind,
            asset=asset,
            amount=amount,
            fee=fee,
            balance=balance,
        )
        self.ledger.append(entry)
        self._drop_oldest("ledger", self.ledger)
        return entry

    def keep_fill(self, fill: Fill) -> None:
        """Keep an execution."""
        self.fills.append(fill)
        self._drop_oldest("fills", self.fills)

    def open(self, order: ClientOrder) -> None:
        """Count an accepted order among the open ones."""
        self.orders[order.order_id] = self.open_orders[order.order_id] = order
        if order.request.cl_ord_id is not None:
            self.open_by_cl_ord_id[order.request.cl_ord_id] = order
        self.open_counts[order.rules.symbol] += 1
        self.claims.add(order)

    def close(self, order: ClientOrder) -> None:
        """Take an order from the open ones."""
        del self.open_orders[order.order_id]
        if order.request.cl_ord_id is not None:
            del self.open_by_cl_ord_id[order.request.cl_ord_id]
        self.open_counts[order.rules.symbol] -= 1
        self.claims.remove(order)
        self._closed.append(order.order_id)
        for order_id in self._drop_oldest("orders", self._closed):
            del self.orders[order_id]

    def _drop_oldest(self, kind: str, kept: deque[T]) -> list[T]:
        """Drop what is more than may be kept, and return it."""
        gone = [kept.popleft() for _ in range(len(kept) - self.keep_closed)]
        if gone:
            self.dropped[kind] += len(gone)
        return gone
