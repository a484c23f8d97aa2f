"""Act as the venue's operator: what happens to clients without their asking.

Scripted faults and the control port call it. Each action is recorded before it takes effect, and listeners hear
of what follows. What makes no sense raises OperatorError and changes nothing.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, Literal

import attrs

from krakenbot.adapters.local_exchange.digits import plain_text
from krakenbot.adapters.local_exchange.matching import checks
from krakenbot.adapters.local_exchange.matching.accounts import Account, LedgerEntry
from krakenbot.adapters.local_exchange.matching.fees import Rates
from krakenbot.adapters.local_exchange.matching.listeners import Refusal, Validated
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, OrderRequest
from krakenbot.adapters.local_exchange.matching.tiers import Tier
from krakenbot.adapters.local_exchange.matching.venue import Venue

SYSTEM_MODES: Final = ("online", "maintenance", "cancel_only", "post_only")
PAIR_STATUSES: Final = (
    "online",
    "cancel_only",
    "post_only",
    "limit_only",
    "reduce_only",
    "maintenance",
    "work_in_progress",
    "delisted",
)
CHANGEABLE: Final = ("status", "price_increment_ticks", "qty_increment_lots", "qty_min_lots", "cost_min", "has_index")
"""Rules that may change while orders rest; a precision may not, since books count in its units."""
BookingKind = Literal["deposit", "withdrawal", "adjustment"]


class OperatorError(ValueError):
    """An action that makes no sense; the message says why."""


class Operator:
    """The venue's own hands."""

    def __init__(self, venue: Venue) -> None:
        self._venue = venue

    def cancel_order(self, order_id: str, reason: str) -> ClientOrder:
        """Cancel a client's open order with a reason text; it costs the client no transaction count."""
        accounts = self._venue.accounts.values()
        order = next((a.open_orders[order_id] for a in accounts if order_id in a.open_orders), None)
        if order is None:
            raise OperatorError(f"order {order_id} is not open")
        self._note("cancel_order", order_id=order_id, reason=reason)
        self._venue.withdraw(order, reason)
        return order

    def change_balance(self, account_name: str, asset: str, amount: Decimal, kind: BookingKind) -> LedgerEntry:
        """Book a deposit or withdrawal (amounts > 0), or a signed adjustment, on an account.

        What open orders hold cannot leave.
        """
        account = self._account(account_name)
        if not amount.is_finite() or (kind != "adjustment" and amount <= 0):
            raise OperatorError(f"{amount}: a {kind} needs a positive amount")
        signed = -amount if kind == "withdrawal" else amount
        if signed < 0 and -signed > account.available(asset):
            raise OperatorError(f"only {account.available(asset)} {asset} is free")
        self._note("change_balance", account=account_name, asset=asset, amount=plain_text(signed), kind=kind)
        venue = self._venue
        entry = account.book(
            ledger_id=venue.next_id("ledger", "L"),
            ref_id=venue.next_id("transfer", "F"),
            at_ns=venue.now_ns,
            kind=kind,
            asset=asset,
            amount=signed,
            fee=Decimal(0),
        )
        for listener in venue.listeners:
            listener.on_ledger(account, entry)
        return entry

    def place_order(self, account_name: str, request: OrderRequest) -> ClientOrder | Validated | Refusal:
        """Place an order in an account as if another program of the owner had; all rules apply to it."""
        account = self._account(account_name)
        self._note("place_order", account=account_name, symbol=request.symbol, side=request.side)
        return self._venue.add_order(account, request)

    def change_rules(self, symbol: str, **changes: Any) -> VenueMarket:
        """Change the rules or the status of an instrument while it trades.

        Resting orders stay as they are, on the old grid too; amendments meet the new rules. A delisted pair loses
        every order. Allowed names are those of `CHANGEABLE`.
        """
        market = self._market(symbol)
        unknown = sorted(set(changes) - set(CHANGEABLE))
        if unknown or not changes:
            raise OperatorError(f"{', '.join(unknown) or 'nothing'}: changeable are {', '.join(CHANGEABLE)}")
        self._check_rules(changes)
        self._note("change_rules", symbol=symbol, **{name: str(value) for name, value in sorted(changes.items())})
        market.rules = attrs.evolve(market.rules, **changes)
        for account in self._venue.accounts.values():
            for order in account.open_orders.values():
                if order.rules.symbol == symbol:
                    order.rules = market.rules
        self._venue.gate(market)
        for listener in self._venue.listeners:
            listener.on_rules(market)
        if market.rules.status == "delisted":
            self._clear(market)
        elif market.rules.status != "maintenance":
            self._venue.endings.resume(market)
        self._venue.stops.fire(market)
        return market

    def set_status(self, symbol: str, status: str) -> VenueMarket:
        """Change the status of an instrument."""
        return self.change_rules(symbol, status=status)

    def set_system(self, mode: str) -> None:
        """Change the mode of the engine; going into maintenance may end the waiting stops, by the switch."""
        if mode not in SYSTEM_MODES:
            raise OperatorError(f"{mode}: modes are {', '.join(SYSTEM_MODES)}")
        venue = self._venue
        self._note("set_system", mode=mode)
        if mode == "maintenance" and venue.settings.stops_in_maintenance == "cancelled":
            for order in [o for market in venue.markets.values() for o in market.stops.values()]:
                venue.withdraw(order, checks.MAINTENANCE_REASON)
        # Listeners first: what fires on the way back online happens after the mode is known.
        for listener in venue.listeners:
            listener.on_system(mode)
        venue.set_system(mode)

    def set_tier(self, account_name: str, tier: Tier) -> None:
        """Move an account to another verification tier."""
        account = self._account(account_name)
        self._note("set_tier", account=account_name, tier=tier)
        account.set_tier(tier, self._venue.now_ns)

    def set_fee_rates(self, account_name: str, rates: Rates | None) -> None:
        """Give an account rates of its own; None returns it to the schedule."""
        account = self._account(account_name)
        self._note("set_fee_rates", account=account_name, rates=_text(rates))
        account.fixed_rates = rates

    def set_pair_fees(self, symbol: str, rates: Rates | None) -> None:
        """Give a pair rates of its own; None returns it to the schedule."""
        self._market(symbol)
        self._note("set_pair_fees", symbol=symbol, rates=_text(rates))
        self._venue.fee_book.set_pair(symbol, rates)

    def set_volume(self, account_name: str, volume_usd: Decimal) -> None:
        """Set the 30-day volume of an account, and so its fee tier."""
        account = self._account(account_name)
        if not volume_usd.is_finite() or volume_usd < 0:
            raise OperatorError(f"{volume_usd}: a volume is not negative")
        self._note("set_volume", account=account_name, volume_usd=plain_text(volume_usd))
        now_ns = self._venue.now_ns
        account.volume.add(volume_usd - account.volume.at(now_ns), now_ns)

    def _clear(self, market: VenueMarket) -> None:
        """End every order of a delisted pair, those of the flow too."""
        for account in self._venue.accounts.values():
            for order in [o for o in account.open_orders.values() if o.rules.symbol == market.rules.symbol]:
                self._venue.withdraw(order, checks.DELISTED_REASON, commit=False)
        for resting in list(market.book.orders.values()):
            market.book.remove(resting)
        market.commit()

    def _check_rules(self, changes: dict[str, Any]) -> None:
        if changes.get("status", "online") not in PAIR_STATUSES:
            raise OperatorError(f"{changes['status']}: statuses are {', '.join(PAIR_STATUSES)}")
        for name in ("price_increment_ticks", "qty_increment_lots", "qty_min_lots"):
            value = changes.get(name, 1)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise OperatorError(f"{name} {value}: a whole number of at least 1")
        if not isinstance(changes.get("has_index", False), bool):
            raise OperatorError(f"has_index {changes['has_index']}: true or false")
        try:
            least = Decimal(changes.get("cost_min", "0"))
        except (ArithmeticError, TypeError, ValueError) as error:
            raise OperatorError(f"cost_min {changes['cost_min']}: a decimal text") from error
        if not least.is_finite() or least < 0:
            raise OperatorError(f"cost_min {least}: not negative")

    def _account(self, name: str) -> Account:
        account = self._venue.accounts.get(name)
        if account is None:
            raise OperatorError(f"no account {name}")
        return account

    def _market(self, symbol: str) -> VenueMarket:
        market = self._venue.markets.get(symbol)
        if market is None:
            raise OperatorError(f"no pair {symbol}")
        return market

    def _note(self, action: str, **detail: str) -> None:
        for listener in self._venue.listeners:
            listener.on_operator(action, detail, self._venue.now_ns)


def _text(rates: Rates | None) -> str:
    return "schedule" if rates is None else f"maker {rates.maker_ppm} ppm, taker {rates.taker_ppm} ppm"
