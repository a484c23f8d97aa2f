"""Match orders of one symbol by price and time, and keep its statistics and index.

The flow sees it as its `Market`; the venue calls `rest` and `match` for client orders. Every operation ends in
`commit`, which hands the changes to the venue for publishing and for stop triggers.
"""

from __future__ import annotations

from typing import Protocol

from krakenbot.adapters.local_exchange.flow.market import InstrumentRules, Side
from krakenbot.adapters.local_exchange.matching.book import Book, Changes, RestingOrder, Trade
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder

INDEX_SCALE = 1000
INDEX_SMOOTHING = 20
"""The index moves by 1/20 of its distance to the mid at every sample."""
TRADES_KEPT = 1000


class Desk(Protocol):
    """What a market needs of its venue."""

    now_ns: int

    def next_number(self) -> int:
        """Return a fresh order number."""

    def settle(self, market: VenueMarket, trade: Trade, taker: ClientOrder | None, maker: RestingOrder) -> None:
        """Book a match for the clients in it; the maker's remaining size is already lowered."""

    def self_trade(self, taker: ClientOrder, maker: ClientOrder) -> bool:
        """Apply self-trade prevention; tell whether the taker goes on."""

    def publish(self, market: VenueMarket, changes: Changes) -> None:
        """Tell the listeners, then fire the stops that the trades reached."""


class Statistics:
    """Running figures of the ticker, since the exchange opened (it stands in for 24 h)."""

    def __init__(self) -> None:
        self.open_ticks = 0
        self.last_ticks = 0
        self.last_lots = 0
        self.high_ticks = 0
        self.low_ticks = 0
        self.volume_lots = 0
        self.turnover_raw = 0
        self.count = 0

    def open(self, price_ticks: int) -> None:
        """Set the opening price."""
        self.open_ticks = self.last_ticks = self.high_ticks = self.low_ticks = price_ticks

    def add(self, trade: Trade) -> None:
        """Count one trade."""
        self.last_ticks = trade.price_ticks
        self.last_lots = trade.size_lots
        self.high_ticks = max(self.high_ticks, trade.price_ticks)
        self.low_ticks = min(self.low_ticks, trade.price_ticks)
        self.volume_lots += trade.size_lots
        self.turnover_raw += trade.size_lots * trade.price_ticks
        self.count += 1

    def vwap_ticks(self) -> int:
        """Return the average price weighted by size; the last price before any trade."""
        if not self.volume_lots:
            return self.last_ticks
        return (self.turnover_raw + self.volume_lots // 2) // self.volume_lots


class VenueMarket:
    """One symbol; implements the flow's `Market`."""

    def __init__(self, rules: InstrumentRules, desk: Desk) -> None:
        self.rules = rules
        self.book = Book()
        self.stats = Statistics()
        self.trades: list[Trade] = []
        self.stops: dict[str, ClientOrder] = {}
        self.index_milliticks = 0
        self.is_matching = True
        self._desk = desk
        self._trade_id = 0
        self._stamp_ns = 0

    def best(self, side: Side) -> int | None:
        """Return the best price in ticks of that side of the book; None when the side is empty."""
        return self.book.side(side).best()

    def levels(self, side: Side, count: int) -> list[tuple[int, int]]:
        """Return up to `count` best levels of a side as (price_ticks, size_lots), best first."""
        book_side = self.book.side(side)
        keys = book_side.keys[-count:] if count > 0 else []
        return [(abs(key), book_side.levels[key].size_lots) for key in reversed(keys)]

    def size_at(self, side: Side, price_ticks: int) -> int:
        """Return the resting size in lots at one price of a side."""
        book_side = self.book.side(side)
        level = book_side.levels.get(price_ticks * book_side.sign)
        return level.size_lots if level else 0

    def client_size_at(self, side: Side, price_ticks: int) -> int:
        """Return the part of `size_at` that belongs to client accounts."""
        book_side = self.book.side(side)
        level = book_side.levels.get(price_ticks * book_side.sign)
        return level.client_lots if level else 0

    def place(self, side: Side, price_ticks: int, size_lots: int) -> int | None:
        """Rest a post-only limit order at the back of its level; None when it would cross or nothing matches.

        A price off the grid, as after a change of the tick size, moves away from the market.
        """
        off_grid = price_ticks % self.rules.price_increment_ticks
        if off_grid:
            price_ticks += -off_grid if side == "buy" else self.rules.price_increment_ticks - off_grid
        if not self.is_matching or size_lots <= 0 or price_ticks <= 0 or self.crosses(side, price_ticks):
            return None
        number = self._desk.next_number()
        self.rest(number, side, price_ticks, size_lots, client=None)
        self.commit()
        return number

    def take(self, side: Side, size_lots: int, *, limit_ticks: int | None = None) -> int:
        """Trade at once as taker (`side` is the taker's) up to an optional limit; return the lots traded."""
        if not self.is_matching:
            return 0
        order_type = "market" if limit_ticks is None else "limit"
        traded = self.match(side, size_lots, limit_ticks, taker=None, order_type=order_type)
        self.commit()
        return traded

    def cancel(self, order_id: int) -> bool:
        """Withdraw a flow order; False when it no longer rests."""
        order = self._flow_order(order_id)
        if order is None:
            return False
        self.book.remove(order)
        self.commit()
        return True

    def reduce(self, order_id: int, size_lots: int) -> bool:
        """Lower a flow order to a new remaining size, keeping its place; False when it no longer rests."""
        order = self._flow_order(order_id)
        if order is None:
            return False
        if size_lots <= 0:
            return self.cancel(order_id)
        if size_lots < order.remaining_lots:
            self.book.shrink(order, size_lots)
            self.commit()
        return True

    def remaining(self, order_id: int) -> int:
        """Return the remaining lots of a flow order; 0 when it no longer rests."""
        order = self._flow_order(order_id)
        return order.remaining_lots if order else 0

    def ahead(self, order_id: int) -> int:
        """Return the lots that stand ahead of a flow order at its price; 0 when it no longer rests."""
        order = self._flow_order(order_id)
        if order is None:
            return 0
        side = self.book.side(order.side)
        total = 0
        for other in side.levels[order.price_ticks * side.sign].orders.values():
            if other is order:
                break
            total += other.remaining_lots
        return total

    def crosses(self, side: Side, price_ticks: int) -> bool:
        """Tell whether an order at this price would trade at once."""
        opposite = self.best("sell" if side == "buy" else "buy")
        if opposite is None:
            return False
        return price_ticks >= opposite if side == "buy" else price_ticks <= opposite

    def rest(
        self, number: int, side: Side, price_ticks: int, size_lots: int, *, client: ClientOrder | None
    ) -> RestingOrder:
        """Put an order at the back of its level; times within a market strictly increase, as queues do."""
        self._stamp_ns = max(self._desk.now_ns, self._stamp_ns + 1)
        order = RestingOrder(
            number=number,
            side=side,
            price_ticks=price_ticks,
            remaining_lots=size_lots,
            since_ns=self._stamp_ns,
            client=client,
        )
        self.book.add(order)
        return order

    def match(
        self,
        side: Side,
        size_lots: int,
        limit_ticks: int | None,
        *,
        taker: ClientOrder | None,
        order_type: str,
    ) -> int:
        """Trade an incoming order against the book; return the lots traded.

        Stops early when self-trade prevention cancels the taker: its status then says so.
        """
        opposite = self.book.asks if side == "buy" else self.book.bids
        left = size_lots
        while left > 0 and opposite.keys:
            key = opposite.keys[-1]
            if limit_ticks is not None and (abs(key) > limit_ticks if side == "buy" else abs(key) < limit_ticks):
                break
            maker = next(iter(opposite.levels[key].orders.values()))
            if taker is not None and maker.client is not None and maker.client.account == taker.account:
                if not self._desk.self_trade(taker, maker.client):
                    break
                continue
            traded = min(left, maker.remaining_lots)
            left -= traded
            self.book.trade(maker, traded)
            self._print(Trade(self._next_trade_id(), side, abs(key), traded, order_type, self._desk.now_ns))
            self._desk.settle(self, self.trades[-1], taker, maker)
        return size_lots - left

    def commit(self) -> None:
        """Hand the changes of this operation to the venue."""
        changes = self.book.drain()
        if not changes.is_empty():
            self._desk.publish(self, changes)

    def sample_index(self) -> None:
        """Move the index towards the mid: an exponential average, the stand-in for the venue's index feed."""
        bid, ask = self.best("buy"), self.best("sell")
        if bid is None or ask is None:
            return
        mid = (bid + ask) * INDEX_SCALE // 2
        if not self.index_milliticks:
            self.index_milliticks = mid
        self.index_milliticks += (mid - self.index_milliticks) // INDEX_SMOOTHING

    def _flow_order(self, number: int) -> RestingOrder | None:
        order = self.book.orders.get(number)
        return order if order is not None and order.client is None else None

    def _next_trade_id(self) -> int:
        self._trade_id += 1
        return self._trade_id

    def _print(self, trade: Trade) -> None:
        self.stats.add(trade)
        self.trades.append(trade)
        self.book.changes.trades.append(trade)
        if len(self.trades) > 2 * TRADES_KEPT:
            del self.trades[:TRADES_KEPT]
