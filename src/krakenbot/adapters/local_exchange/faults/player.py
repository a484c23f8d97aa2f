"""Carry out the actions that are about the venue itself or every connection of a path.

The plan calls `play` between operations of the venue, never within one. What is done to the venue is part of its
record of truth like anything else that happens there.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Final, Literal, cast

from krakenbot.adapters.local_exchange.digits import to_units
from krakenbot.adapters.local_exchange.faults.link import DROP, Special
from krakenbot.adapters.local_exchange.faults.plan import FaultPlan, Names
from krakenbot.adapters.local_exchange.faults.rules import Action
from krakenbot.adapters.local_exchange.matching.accounts import Account
from krakenbot.adapters.local_exchange.matching.fees import Rates
from krakenbot.adapters.local_exchange.matching.listeners import Refusal
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.operator import Operator, OperatorError
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, OrderRequest

if TYPE_CHECKING:
    from krakenbot.adapters.local_exchange.protocol.exchange import Exchange

DEFAULT_REASON: Final = "Cancelled by the venue"
PPM_PER_BP: Final = 100


class VenuePlayer:
    """Acts on one exchange."""

    def __init__(self, exchange: Exchange, plan: FaultPlan) -> None:
        self._exchange = exchange
        self._plan = plan
        self._operator = Operator(exchange.venue)

    def names(self) -> Names:
        """Return what a script may name."""
        venue = self._exchange.venue
        return Names(accounts=list(venue.accounts), symbols=list(venue.markets), keys=list(self._exchange.keys.keys))

    def play(self, action: Action) -> bool:
        """Carry out an action; False when there was nothing to act on."""
        if action.name in ("stall", "drop_path", "close_path", "silence_path"):
            return self._on_path(action)
        self._exchange.catch_up()
        try:
            return self._on_venue(action)
        except OperatorError:
            # What makes no sense now, such as taking money that is not there, changes nothing.
            return False

    def _on_path(self, action: Action) -> bool:
        path = action.text("path")
        if action.name == "stall":
            self._plan.stall(path, action.text("way"), action.whole("duration"))
            return True
        links = [link for link in self._plan.links if link.path == path]
        for link in links:
            match action.name:
                case "drop_path":
                    link.end(DROP)
                case "close_path":
                    link.end(Special("close", code=action.whole("code", 1000)))
                case _:
                    link.silence()
        return bool(links)

    def _on_venue(self, action: Action) -> bool:
        operator, keys, account = self._operator, self._exchange.keys, action.text("account")
        symbol = action.text("symbol")
        match action.name:
            case "expire_tokens":
                return keys.expire_tokens()
            case "revoke_key":
                return keys.revoke(action.text("key"))
            case "mode":
                operator.set_system(action.text("mode"))
            case "cancel_order" | "cancel_orders":
                return self._cancel(action, account)
            case "place_order":
                return not isinstance(operator.place_order(account, _order(action)), Refusal)
            case "fill_order":
                return self._fill(self._exchange.venue.accounts[account], Decimal(action.text("percent", "100")))
            case "dead_man":
                return self._fire_dead_man(self._exchange.venue.accounts[account])
            case "balance":
                amount = Decimal(action.text("amount"))
                operator.change_balance(account, action.text("asset"), amount, "adjustment")
            case "fees":
                maker, taker = (round(Decimal(action.text(name)) * PPM_PER_BP) for name in ("maker", "taker"))
                operator.set_fee_rates(account, Rates(maker_ppm=maker, taker_ppm=taker))
            case "pair_status":
                operator.set_status(symbol, action.text("status"))
            case "pair_price_step":
                precision = self._exchange.venue.markets[symbol].rules.price_precision
                operator.change_rules(symbol, price_increment_ticks=_units(action.text("price"), precision))
            case _:
                precision = self._exchange.venue.markets[symbol].rules.qty_precision
                operator.change_rules(symbol, qty_min_lots=_units(action.text("qty"), precision))
        return True

    def _cancel(self, action: Action, account: str) -> bool:
        """Cancel the oldest open order of an account, or all of them."""
        orders = list(self._exchange.venue.accounts[account].open_orders.values())
        for order in orders if action.name == "cancel_orders" else orders[:1]:
            self._operator.cancel_order(order.order_id, action.text("text", DEFAULT_REASON))
        return bool(orders)

    def _fire_dead_man(self, account: Account) -> bool:
        had_orders = bool(account.open_orders)
        account.cancel_all_at_ns = self._exchange.venue.now_ns
        self._exchange.catch_up()
        return had_orders

    def _fill(self, account: Account, percent: Decimal) -> bool:
        """Trade through the book up to the oldest resting order and into it."""
        order = next((order for order in account.open_orders.values() if order.resting is not None), None)
        if order is None or order.limit_ticks is None:
            return False
        market = self._exchange.venue.markets[order.rules.symbol]
        wanted = max(1, int(order.remaining_lots * min(percent, Decimal(100)) / 100))
        traded = market.take(_other(order), _ahead(market, order) + wanted, limit_ticks=order.limit_ticks)
        return traded > 0


def _order(action: Action) -> OrderRequest:
    return OrderRequest(
        symbol=action.text("symbol"),
        side=cast("Literal['buy', 'sell']", action.text("side")),
        order_type="limit",
        qty=Decimal(action.text("qty")),
        limit_price=Decimal(action.text("price")),
    )


def _units(text: str, precision: int) -> int:
    """Return a number in units of 10^-precision; 0, which the operator refuses, when it has more digits."""
    return to_units(Decimal(text), precision) or 0


def _other(order: ClientOrder) -> Literal["buy", "sell"]:
    return "sell" if order.side == "buy" else "buy"


def _ahead(market: VenueMarket, order: ClientOrder) -> int:
    """Return the lots that trade before an order does: better prices, and who came earlier at its own."""
    side = market.book.side(order.side)
    own = (order.limit_ticks or 0) * side.sign
    lots = sum(side.levels[key].size_lots for key in side.keys if key > own)
    for resting in side.levels[own].orders.values():
        if resting is order.resting:
            break
        lots += resting.remaining_lots
    return lots
