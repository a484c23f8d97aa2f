"""Keep the money of clients: balances, what open orders hold, fills and the ledger.

The venue calls it with every fill; REST, the balances channel and the record read it. Holds are computed from
the open orders, so they cannot drift from them.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from enum import StrEnum

from attrs import define, field, frozen

from krakenbot.adapters.local_exchange.digits import from_units
from krakenbot.adapters.local_exchange.matching.fees import Rates, TradedVolume
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, Fill
from krakenbot.adapters.local_exchange.matching.rate_counter import RateCounter
from krakenbot.adapters.local_exchange.matching.tiers import LIMITS, Tier, TierLimits

ZERO = Decimal(0)


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
    """One client: several API keys may act for it. `fixed_rates` stand in for the schedule when set."""

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
    fills: list[Fill] = field(factory=list)
    ledger: list[LedgerEntry] = field(factory=list)
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
        resting: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        waiting: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for order in self.open_orders.values():
            order_asset, amount = self._remembered_needs(order)
            if order_asset == asset:
                group = waiting if order.waits_for_trigger else resting
                group[order.rules.symbol, order.side] += amount
        match self.stop_holds:
            case StopHolds.RESERVE:
                return sum(resting.values(), ZERO) + sum(waiting.values(), ZERO)
            case StopHolds.NONE_REJECT_AT_TRIGGER:
                return sum(resting.values(), ZERO)
            case StopHolds.SHARED:
                keys = {*resting, *waiting}
                return sum((max(resting[key], waiting[key]) for key in keys), ZERO)

    def holds(self) -> dict[str, Decimal]:
        """Return every asset that is held, and how much."""
        assets = {self.needs(order)[0] for order in self.open_orders.values()}
        return {asset: held for asset in sorted(assets) if (held := self.held(asset))}

    def needs(self, order: ClientOrder, price_ticks: int | None = None) -> tuple[str, Decimal]:
        """Return the asset and amount that the rest of an order can still cost at its price.

        A sale costs base; a purchase costs quote and the dearer fee. `price_ticks` stands in for an order
        without a price of its own. What was already paid is not counted again.
        """
        rules = order.rules
        remaining = order.remaining_lots
        if order.side == "sell":
            lots = remaining
            if order.pays_fee_in_base:
                lots += order.fee_units(order.fee_raw + remaining * order.hold_ppm, up=True)
                lots -= order.fee_units(order.fee_raw)
            return rules.base, from_units(lots, rules.qty_precision)
        price = price_ticks or order.limit_ticks or order.trigger_ticks or 0
        raw = remaining * price
        return rules.quote, self.purchase_needs(order, raw)

    def _remembered_needs(self, order: ClientOrder) -> tuple[str, Decimal]:
        """Return what an order needs, worked out anew only when it changed: each new order asks for all."""
        figures = (
            order.qty_lots,
            order.filled_lots,
            order.limit_ticks,
            order.trigger_ticks,
            order.hold_ppm,
            order.cost_raw,
            order.fee_raw,
        )
        if order.needs is None or order.needs[0] != figures:
            order.needs = (figures, self.needs(order))
        return order.needs[1]

    def purchase_needs(self, order: ClientOrder, raw: int) -> Decimal:
        """Return the quote amount that a purchase of raw cost `raw` still needs, the dearer fee included."""
        units = order.cost_units(order.cost_raw + raw, up=True) - order.cost_units(order.cost_raw)
        if not order.pays_fee_in_base:
            units += order.fee_units(order.fee_raw + raw * order.hold_ppm, up=True)
            units -= order.fee_units(order.fee_raw)
        return from_units(units, order.rules.cost_precision)

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
        return entry

    def close(self, order: ClientOrder) -> None:
        """Take an order from the open ones."""
        self.open_orders.pop(order.order_id, None)
        cl_ord_id = order.request.cl_ord_id
        if cl_ord_id is not None:
            self.open_by_cl_ord_id.pop(cl_ord_id, None)
