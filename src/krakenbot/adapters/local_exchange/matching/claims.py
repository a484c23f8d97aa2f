"""Work out what open orders need, and keep the sums by asset, pair and side as they change.

An order tells its claims of every change of a figure that counts; the sums follow when they are next asked for, so
that judging a new order costs the same beside one open order as beside a thousand.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from attrs import define

from krakenbot.adapters.local_exchange.digits import from_units
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder

ZERO = Decimal(0)
Place = tuple[str, str, str]
"""Asset, symbol and side."""


@define(eq=False)
class Sums:
    """What the orders of one pair and side need together: those in force, and the stops that wait."""

    resting: Decimal = ZERO
    waiting: Decimal = ZERO
    orders: int = 0


class Claims:
    """What the open orders of one account need."""

    def __init__(self) -> None:
        self._counted: dict[ClientOrder, tuple[Place, Decimal, bool]] = {}
        self._changed: dict[ClientOrder, None] = {}
        self._sums: dict[str, dict[tuple[str, str], Sums]] = {}

    def __contains__(self, order: ClientOrder) -> bool:
        """Tell whether an order counts."""
        return order.claims is self

    def add(self, order: ClientOrder) -> None:
        """Count an order from now on."""
        order.claims = self
        self._changed[order] = None

    def remove(self, order: ClientOrder) -> None:
        """Count an order no longer."""
        order.claims = None
        self._changed.pop(order, None)
        self._uncount(order)

    def touch(self, order: ClientOrder) -> None:
        """Note that a figure of an order changed."""
        self._changed[order] = None

    def sums(self, asset: str) -> Iterable[Sums]:
        """Return what is needed of an asset, for each pair and side with open orders."""
        self._settle()
        return self._sums.get(asset, {}).values()

    def assets(self) -> list[str]:
        """Return the assets that open orders need, in the order of their names."""
        self._settle()
        return sorted(self._sums)

    def _settle(self) -> None:
        for order in self._changed:
            self._uncount(order)
            asset, amount = needs(order)
            place = (asset, order.rules.symbol, order.side)
            sums = self._sums.setdefault(asset, {}).setdefault(place[1:], Sums())
            self._add(sums, amount, waits=order.waits_for_trigger, orders=1)
            self._counted[order] = (place, amount, order.waits_for_trigger)
        self._changed.clear()

    def _uncount(self, order: ClientOrder) -> None:
        counted = self._counted.pop(order, None)
        if counted is None:
            return
        (asset, *group), amount, waits = counted
        groups = self._sums[asset]
        sums = groups[group[0], group[1]]
        self._add(sums, -amount, waits=waits, orders=-1)
        # An empty sum would keep the digits of orders that are gone.
        if not sums.orders:
            del groups[group[0], group[1]]
        if not groups:
            del self._sums[asset]

    def _add(self, sums: Sums, amount: Decimal, *, waits: bool, orders: int) -> None:
        sums.orders += orders
        if waits:
            sums.waiting += amount
        else:
            sums.resting += amount


def needs(order: ClientOrder) -> tuple[str, Decimal]:
    """Return the asset and amount that the rest of an order can still cost at its price.

    A sale costs base; a purchase costs quote and the dearer fee. What was already paid is not counted again.
    """
    rules = order.rules
    remaining = order.remaining_lots
    if order.side == "sell":
        lots = remaining
        if order.pays_fee_in_base:
            lots += order.fee_units(order.fee_raw + remaining * order.hold_ppm, up=True)
            lots -= order.fee_units(order.fee_raw)
        return rules.base, from_units(lots, rules.qty_precision)
    price = order.limit_ticks or order.trigger_ticks or 0
    return rules.quote, purchase_needs(order, remaining * price)


def purchase_needs(order: ClientOrder, raw: int) -> Decimal:
    """Return the quote amount that a purchase of raw cost `raw` still needs, the dearer fee included."""
    units = order.cost_units(order.cost_raw + raw, up=True) - order.cost_units(order.cost_raw)
    if not order.pays_fee_in_base:
        units += order.fee_units(order.fee_raw + raw * order.hold_ppm, up=True)
        units -= order.fee_units(order.fee_raw)
    return from_units(units, order.rules.cost_precision)
