"""Keep one symbol's resting orders in price-time order.

In: orders to rest, remove or shrink. Out: best prices, levels, and a list of changes since the last `drain`,
from which the feeds build their frames. Keys are signed prices so that the best level of either side is last.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, Final, Literal

from attrs import define, field

from krakenbot.adapters.local_exchange.flow.market import Side

if TYPE_CHECKING:
    from krakenbot.adapters.local_exchange.matching.orders import ClientOrder

Event = Literal["add", "modify", "delete"]
BOTTOM: Final = -(2**63)
"""A key below every price: the floor of a window that is not full."""


@define(eq=False)
class RestingOrder:
    """One order in a queue; `client` is None for an order of the flow.

    `shown_id` is None until level3 shows the order; `level3_row` is its row up to the time, with `level3_lots`.
    """

    number: int
    side: Side
    price_ticks: int
    remaining_lots: int
    since_ns: int
    client: ClientOrder | None = None
    shown_id: str | None = None
    level3_row: str = ""
    level3_lots: int = -1


@define(eq=False)
class Level:
    """One price: its orders in queue order."""

    size_lots: int = 0
    client_lots: int = 0
    orders: dict[int, RestingOrder] = field(factory=dict)


@define(eq=False)
class BookSide:
    """The levels of one side; `keys` ascend towards the best price."""

    sign: int
    keys: list[int] = field(factory=list)
    levels: dict[int, Level] = field(factory=dict)

    def best(self) -> int | None:
        """Return the best price in ticks; None when the side is empty."""
        return abs(self.keys[-1]) if self.keys else None


@define(eq=False)
class Trade:
    """One public print."""

    trade_id: int
    taker_side: Side
    price_ticks: int
    size_lots: int
    taker_type: str
    at_ns: int


@define(eq=False)
class SideChanges:
    """The touched levels of one side, and its order events with the size to show, in order."""

    keys: dict[int, None] = field(factory=dict)
    events: list[tuple[Event, RestingOrder, int, int]] = field(factory=list)

    def note(self, key: int, event: Event, order: RestingOrder) -> None:
        """Add one order event."""
        self.keys[key] = None
        self.events.append((event, order, key, order.remaining_lots))


@define(eq=False)
class Changes:
    """What happened to a book within one operation."""

    bids: SideChanges = field(factory=SideChanges)
    asks: SideChanges = field(factory=SideChanges)
    trades: list[Trade] = field(factory=list)

    def side(self, sign: int) -> SideChanges:
        """Return the changes of the bids (1) or the asks (-1)."""
        return self.bids if sign > 0 else self.asks

    def is_empty(self) -> bool:
        """Tell whether nothing happened."""
        return not (self.bids.keys or self.asks.keys or self.trades)


class Book:
    """Two sides, every order by its number, and the changes since the last `drain`."""

    def __init__(self) -> None:
        self.bids = BookSide(sign=1)
        self.asks = BookSide(sign=-1)
        self.orders: dict[int, RestingOrder] = {}
        self.changes = Changes()

    def side(self, side: Side) -> BookSide:
        """Return one side."""
        return self.bids if side == "buy" else self.asks

    def add(self, order: RestingOrder) -> None:
        """Rest an order at the back of its level."""
        side = self.side(order.side)
        key = order.price_ticks * side.sign
        level = side.levels.get(key)
        if level is None:
            level = side.levels[key] = Level()
            insort(side.keys, key)
        level.orders[order.number] = order
        self.orders[order.number] = order
        self._note(side, order, order.remaining_lots, "add")

    def remove(self, order: RestingOrder) -> None:
        """Take an order out, whatever remains of it."""
        side = self.side(order.side)
        key = order.price_ticks * side.sign
        level = side.levels[key]
        del level.orders[order.number]
        del self.orders[order.number]
        self._note(side, order, -order.remaining_lots, "delete")
        if not level.orders:
            del side.levels[key]
            del side.keys[bisect_left(side.keys, key)]

    def shrink(self, order: RestingOrder, remaining_lots: int) -> None:
        """Lower an order to `remaining_lots` (> 0), keeping its place."""
        side = self.side(order.side)
        change = remaining_lots - order.remaining_lots
        order.remaining_lots = remaining_lots
        self._note(side, order, change, "modify")

    def trade(self, order: RestingOrder, lots: int) -> None:
        """Lower an order by what it traded (at most what remains); it goes when nothing is left."""
        if lots == order.remaining_lots:
            self.remove(order)
        else:
            self.shrink(order, order.remaining_lots - lots)

    def drain(self) -> Changes:
        """Return the changes since the last call and start anew."""
        changes, self.changes = self.changes, Changes()
        return changes

    def _note(self, side: BookSide, order: RestingOrder, change_lots: int, event: Event) -> None:
        key = order.price_ticks * side.sign
        level = side.levels[key]
        level.size_lots += change_lots
        if order.client is not None:
            level.client_lots += change_lots
        self.changes.side(side.sign).note(key, event, order)
