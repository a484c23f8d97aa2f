"""Carry out the actions that are about the venue itself or every connection of a path.

The plan calls `play` between operations of the venue, never within one. What is done to the venue is part of its
record of truth like anything else that happens there.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Literal, cast

from krakenbot.adapters.local_exchange.faults.link import DROP, Special
from krakenbot.adapters.local_exchange.faults.plan import FaultPlan, Names
from krakenbot.adapters.local_exchange.faults.rules import Action
from krakenbot.adapters.local_exchange.matching.accounts import Account
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, OrderRequest
from krakenbot.adapters.local_exchange.matching.venue import Refusal

if TYPE_CHECKING:
    from krakenbot.adapters.local_exchange.protocol.exchange import Exchange


class VenuePlayer:
    """Acts on one exchange."""

    def __init__(self, exchange: Exchange, plan: FaultPlan) -> None:
        self._exchange = exchange
        self._plan = plan

    def names(self) -> Names:
        """Return what a script may name."""
        venue = self._exchange.venue
        return Names(accounts=list(venue.accounts), symbols=list(venue.markets), keys=list(self._exchange.keys.keys))

    def play(self, action: Action) -> bool:
        """Carry out an action; False when there was nothing to act on."""
        if action.name in ("stall", "drop_path", "close_path", "silence_path"):
            return self._on_path(action)
        self._exchange.catch_up()
        match action.name:
            case "expire_tokens":
                return self._exchange.keys.expire_tokens()
            case "revoke_key":
                return self._exchange.keys.revoke(action.text("key"))
            case "mode":
                return self._mode(action.text("mode"))
            case _:
                return self._on_account(action, self._exchange.venue.accounts[action.text("account")])

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

    def _mode(self, mode: str) -> bool:
        venue = self._exchange.venue
        changed = venue.system != mode
        venue.system = mode
        for session in list(self._exchange.sessions):
            session.show_system()
        return changed

    def _on_account(self, action: Action, account: Account) -> bool:
        match action.name:
            case "place_order":
                return self._place(action, account)
            case "fill_order":
                return self._fill(account, Decimal(action.text("percent", "100")))
            case "dead_man":
                account.cancel_all_at_ns = self._exchange.venue.now_ns
                had_orders = bool(account.open_orders)
                self._exchange.catch_up()
                return had_orders
            case _:
                raise AssertionError(action.name)

    def _place(self, action: Action, account: Account) -> bool:
        """Place an order that no client of this exchange sent."""
        request = OrderRequest(
            symbol=action.text("symbol"),
            side=cast("Literal['buy', 'sell']", action.text("side")),
            order_type="limit",
            qty=Decimal(action.text("qty")),
            limit_price=Decimal(action.text("price")),
        )
        return not isinstance(self._exchange.venue.add_order(account, request), Refusal)

    def _fill(self, account: Account, percent: Decimal) -> bool:
        """Trade through the book up to the oldest resting order and into it."""
        order = next((order for order in account.open_orders.values() if order.resting is not None), None)
        if order is None or order.limit_ticks is None:
            return False
        market = self._exchange.venue.markets[order.rules.symbol]
        wanted = max(1, int(order.remaining_lots * min(percent, Decimal(100)) / 100))
        traded = market.take(_other(order), _ahead(market, order) + wanted, limit_ticks=order.limit_ticks)
        return traded > 0


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
