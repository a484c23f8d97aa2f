"""What order flow may do in a market, and what the exchange needs of a flow.

The matching engine implements `Market` once per symbol; a flow implements `Flow` once per exchange.
Prices are integer ticks of 10^-price_precision, sizes integer lots of 10^-qty_precision. Times are
nanoseconds since the epoch, handed in by the caller.
"""

from __future__ import annotations

from typing import Literal, Protocol

from attrs import frozen

Side = Literal["buy", "sell"]
SIDES: tuple[Side, Side] = ("buy", "sell")


def opposite(side: Side) -> Side:
    """Return the other side."""
    return "sell" if side == "buy" else "buy"


def sign_of(side: Side) -> Literal[1, -1]:
    """Return 1 for buy and -1 for sell."""
    return 1 if side == "buy" else -1


@frozen(kw_only=True)
class InstrumentRules:
    """The figures of one instrument, as the venue's instrument snapshot states them.

    Increments and minimums are integers: ticks for prices, lots for quantities. `cost_min` is a decimal text
    in the quote currency.
    """

    symbol: str
    base: str
    quote: str
    status: str
    price_precision: int
    qty_precision: int
    cost_precision: int
    price_increment_ticks: int
    qty_increment_lots: int
    qty_min_lots: int
    cost_min: str
    has_index: bool


class Market(Protocol):
    """One symbol's market, as a participant sees it."""

    rules: InstrumentRules

    def best(self, side: Side) -> int | None:
        """Return the best price in ticks of that side of the book; None when the side is empty."""

    def levels(self, side: Side, count: int) -> list[tuple[int, int]]:
        """Return up to `count` best levels of a side as (price_ticks, size_lots), best first."""

    def size_at(self, side: Side, price_ticks: int) -> int:
        """Return the resting size in lots at one price of a side."""

    def client_size_at(self, side: Side, price_ticks: int) -> int:
        """Return the part of `size_at` that belongs to client accounts: what a flow may react to."""

    def place(self, side: Side, price_ticks: int, size_lots: int) -> int | None:
        """Rest a post-only limit order at the back of its level; None when it would cross."""

    def take(self, side: Side, size_lots: int, *, limit_ticks: int | None = None) -> int:
        """Trade at once as taker (`side` is the taker's) up to an optional limit; return the lots traded."""

    def cancel(self, order_id: int) -> bool:
        """Withdraw a flow order; False when it no longer rests."""

    def reduce(self, order_id: int, size_lots: int) -> bool:
        """Lower a flow order to a new remaining size, keeping its place; False when it no longer rests."""

    def remaining(self, order_id: int) -> int:
        """Return the remaining lots of a flow order; 0 when it no longer rests."""

    def ahead(self, order_id: int) -> int:
        """Return the lots that stand ahead of a flow order at its price; 0 when it no longer rests."""


class Flow(Protocol):
    """Everything that trades on the exchange besides its clients."""

    def open(self, now_ns: int) -> None:
        """Build the opening books of all markets."""

    def next_at_ns(self) -> int:
        """Return when the next event is due."""

    def step(self, now_ns: int) -> None:
        """Carry out every event due at or before `now_ns`."""

    def last_price_ticks(self, symbol: str) -> int:
        """Return a reference price for an index and for the opening ticker."""

    def parameters(self) -> dict[str, object]:
        """Return what was chosen or fitted, with its origin, ready for JSON."""
