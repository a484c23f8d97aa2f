"""One place in a queue: what stands ahead of it and why that changed.

Written by `market.places` and `market.front` only; read by whoever follows resting orders and by the queue probes.
"""

from __future__ import annotations

from attrs import Factory, define

from krakenbot.domain.values import Side


@define(slots=True)
class Amount:
    """A number of orders and their lots; a change of part of an order counts lots and no order."""

    orders: int = 0
    lots: int = 0

    def add(self, orders: int, lots: int) -> None:
        """Add an amount; negative ones subtract."""
        self.orders += orders
        self.lots += lots


@define(kw_only=True, eq=False, slots=True)
class Place:
    """A place in the queue at one price, of a held order or (`order_id` empty) of an imagined one.

    Always `ahead = joined - (traded + cancelled + amended + unseen + pending)`, in lots and in orders. `amended` is
    what orders ahead gave up by amending (negative when they grew), moves to another place included. `unseen` is what
    changed while the level was out of sight: out of the window of levels, or the book invalid; meanwhile `is_seen` is
    False and `ahead` is the last known. `gaps` counts such times.
    `reached` is what traded at this price with nothing ahead left: volume that an imagined order of `size_lots` would
    have met first, or, of a held order, its own fills; `reached_at_ns` is the latest of those trades (0: none yet).
    `through_lots` traded at prices worse than this one.
    `is_over`: a held order has left the book, or the instrument was reshaped; nothing will change any more.
    """

    side: Side
    price_ticks: int
    size_lots: int
    joined_at_ns: int
    joined: Amount
    ahead: Amount
    rank: int
    quote_per_lot: float
    order_id: str = ""
    is_seen: bool = True
    is_over: bool = False
    gaps: int = 0
    traded: Amount = Factory(Amount)
    cancelled: Amount = Factory(Amount)
    amended: Amount = Factory(Amount)
    unseen: Amount = Factory(Amount)
    pending: Amount = Factory(Amount)
    reached: Amount = Factory(Amount)
    reached_at_ns: int = 0
    through_lots: int = 0

    @property
    def ahead_notional_quote(self) -> float:
        """Return the notional ahead in quote units."""
        return self.ahead.lots * self.quote_per_lot

    @property
    def lots_to_fill(self) -> int:
        """Return what has to trade at this price until an order of this size is filled whole; 0 when it is."""
        return max(self.ahead.lots + self.size_lots - self.reached.lots, 0)
