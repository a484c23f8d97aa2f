"""Orders and positions of one venue in memory, found by our id, by the venue's, and by symbol.

Enters: rows as they are after each step. Leaves: what is alive, what closed not long ago, what is held. The tracker is
built on it; everybody else reads it through the tracker. Closed orders are kept up to a bound, for late reports.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from krakenbot.domain.errors import invariant
from krakenbot.domain.execution.fills import assets_of
from krakenbot.domain.execution.order import Order
from krakenbot.domain.execution.position import Position, flat_position
from krakenbot.domain.values import Asset, ClOrdId, Symbol, VenueOrderId


class OrderIndex:
    """The rows; `closed_max` bounds the closed orders kept."""

    def __init__(self, *, closed_max: int) -> None:
        self._orders: dict[ClOrdId, Order] = {}
        self._live: set[ClOrdId] = set()
        self._last_entry: dict[Symbol, ClOrdId] = {}
        self._ids: dict[VenueOrderId, ClOrdId] = {}
        self._names: dict[ClOrdId, list[VenueOrderId]] = {}
        self._closed: dict[ClOrdId, None] = {}
        self._positions: dict[Symbol, Position] = {}
        self._closed_max = closed_max

    def get(self, cl_ord_id: ClOrdId) -> Order | None:
        """Return an order that is live, or closed not long ago."""
        return self._orders.get(cl_ord_id)

    def find(self, order_id: VenueOrderId) -> Order | None:
        """Return the order that the venue knows by this id."""
        cl_ord_id = self._ids.get(order_id)
        return None if cl_ord_id is None else self._orders.get(cl_ord_id)

    def live(self, symbol: Symbol | None = None) -> list[Order]:
        """Return orders that are not terminal, in the order of their ids; of one symbol or of all."""
        found = [self._orders[cl_ord_id] for cl_ord_id in sorted(self._live)]
        return [order for order in found if symbol is None or order.symbol == symbol]

    def last_entry(self, symbol: Symbol) -> ClOrdId | None:
        """Return the entry of the newest buy fill of a symbol; after a restart, of the position."""
        return self._last_entry.get(symbol) or self.position(symbol).entry_id

    def position(self, symbol: Symbol) -> Position:
        """Return the position of a symbol; flat when it was never traded."""
        return self._positions.get(symbol) or flat_position(symbol)

    def positions(self) -> list[Position]:
        """Return positions with a quantity, by symbol."""
        return [self._positions[symbol] for symbol in sorted(self._positions) if self._positions[symbol].qty]

    def realized_quote(self, quote: Asset) -> Decimal:
        """Return the profit and loss of all time in a quote asset, closed positions included."""
        found = (p.realized_quote for p in self._positions.values() if assets_of(p.symbol)[1] == quote)
        return sum(found, Decimal(0))

    def _put_positions(self, positions: Iterable[Position]) -> None:
        self._positions.update((position.symbol, position) for position in positions)

    def _put(self, order: Order) -> Order:
        before = self._orders.get(order.cl_ord_id)
        invariant(before is None or before.cum_qty <= order.cum_qty, "I8", f"{order.cl_ord_id}: cum_qty fell")
        invariant(
            before is None or not before.state.is_terminal or before.state is order.state,
            "I7",
            f"{order.cl_ord_id}: a terminal state was left",
        )
        self._orders[order.cl_ord_id] = order
        (self._live.discard if order.state.is_terminal else self._live.add)(order.cl_ord_id)
        if order.venue_order_id is not None:
            self._name(order.venue_order_id, order.cl_ord_id)
        if order.state.is_terminal and order.cl_ord_id not in self._closed:
            self._closed[order.cl_ord_id] = None
            while len(self._closed) > self._closed_max:
                self._forget(next(iter(self._closed)))
        return order

    def _name(self, order_id: VenueOrderId, cl_ord_id: ClOrdId) -> None:
        """Take an id of the venue for an order; the venue may have two by mistake, and both are its words of it."""
        if order_id not in self._ids:
            self._ids[order_id] = cl_ord_id
            self._names.setdefault(cl_ord_id, []).append(order_id)

    def _forget(self, cl_ord_id: ClOrdId) -> None:
        del self._closed[cl_ord_id]
        del self._orders[cl_ord_id]
        for order_id in self._names.pop(cl_ord_id, ()):
            del self._ids[order_id]
