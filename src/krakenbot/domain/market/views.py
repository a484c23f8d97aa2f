"""What may be read of a live book and of its queues; implemented by the books of this package."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from krakenbot.domain.market.places import QueuePlaces
from krakenbot.domain.values import Side


@frozen(kw_only=True)
class QueuePosition:
    """What stands ahead of an order: at its price, and at better prices, which trade before it.

    `level_lots` is the whole level, `size_lots` the order itself; notional in quote units.
    """

    ahead_lots: int
    ahead_orders: int
    ahead_notional_quote: float
    level_lots: int
    better_lots: int
    better_orders: int
    size_lots: int


@frozen(kw_only=True)
class LevelQueue:
    """The FIFO queue of one price level; ages in seconds at the time given to the call."""

    price_ticks: int
    size_lots: int
    orders: int
    mean_age_s: float
    largest_share: float


class BookView(Protocol):
    """One L2 book. Every reading is None or empty while the book is not valid."""

    @property
    def is_valid(self) -> bool:
        """Tell whether every message since the last snapshot had a right checksum."""

    @property
    def invalid_reason(self) -> str:
        """Return why the book is not valid; empty when it is."""

    @property
    def updated_at_ns(self) -> int:
        """Return the venue's time of the last message; 0 before the first."""

    @property
    def received_mono(self) -> float:
        """Return our monotonic time of the last message."""

    def best_bid(self) -> tuple[int, int] | None:
        """Return the best bid as (price_ticks, size_lots); the same object as long as it does not change."""

    def best_ask(self) -> tuple[int, int] | None:
        """Return the best ask as (price_ticks, size_lots); the same object as long as it does not change."""

    def levels(self, side: Side, count: int) -> list[tuple[int, int]]:
        """Return up to `count` best levels of a side (BUY: bids) as (price_ticks, size_lots), best first."""

    def levels_near(self, side: Side, distance_bps: float, least: int) -> list[tuple[int, int]]:
        """Return the levels within a distance of the side's own best price, but the `least` best ones at any rate."""


class QueueView(Protocol):
    """One L3 book: the order queue at every price."""

    @property
    def is_valid(self) -> bool:
        """Tell whether every message since the last snapshot had a right checksum."""

    @property
    def invalid_reason(self) -> str:
        """Return why the book is not valid; empty when it is."""

    @property
    def received_mono(self) -> float:
        """Return our monotonic time of the last message."""

    @property
    def updated_at_ns(self) -> int:
        """Return the venue's time of the last message; 0 before the first."""

    def best(self, side: Side) -> int | None:
        """Return the best price in ticks of a side (BUY: bids)."""

    def level(self, side: Side, price_ticks: int, at_ns: int) -> LevelQueue | None:
        """Return the queue at a price; None when the level does not exist."""

    def position_of(self, order_id: str) -> QueuePosition | None:
        """Return what stands ahead of an order; None when the book does not hold it."""

    def position_at(self, side: Side, price_ticks: int, size_lots: int = 0) -> QueuePosition | None:
        """Return what would stand ahead of a new order; None when it would take or nobody can tell."""

    @property
    def places(self) -> QueuePlaces:
        """Return the places that are followed through this book, to join, follow and leave them."""

    def take_touch_counters(self) -> tuple[float, float, float, float]:
        """Return and reset (bid_added, bid_removed, ask_added, ask_removed) at the touch, in lots."""
