"""Trade with a recorded book: a `VenueMarket` whose clients' orders stand beside the book, not in it.

While the recording plays, the book is the recorded one and nothing that a client does alters it. A crossing order
takes displayed volume, each account the same volume once; a resting one waits in its place (`places`). From
`go_live` on it is a plain `VenueMarket`, clients' orders in the book.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from krakenbot.adapters.local_exchange.flow.market import InstrumentRules, Side
from krakenbot.adapters.local_exchange.matching.book import Book, RestingOrder, Trade
from krakenbot.adapters.local_exchange.matching.market import Desk, VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder
from krakenbot.adapters.local_exchange.playback.places import Places, TakenVolume

OWN_TRADES_FROM: Final = 10**15
"""Ids of matches that no recording has start here, far beyond the venue's and within 2^53."""


class PlaybackBook(Book):
    """The recorded book; clients' orders go to their places beside it until it goes live."""

    def __init__(self) -> None:
        super().__init__()
        self.places = Places(self)
        self.is_live = False

    def add(self, order: RestingOrder) -> None:
        """Rest an order: a client's beside the book, a recorded one in it."""
        if order.client is None or self.is_live:
            super().add(order)
        else:
            self.orders[order.number] = order
            self.places.rest(order)

    def remove(self, order: RestingOrder) -> None:
        """Take an order out, whatever remains of it."""
        if order in self.places:
            del self.orders[order.number]
            self.places.leave(order)
        else:
            super().remove(order)

    def shrink(self, order: RestingOrder, remaining_lots: int) -> None:
        """Lower an order to `remaining_lots` (> 0), keeping its place."""
        if order in self.places:
            order.remaining_lots = remaining_lots
        else:
            super().shrink(order, remaining_lots)


class PlaybackMarket(VenueMarket):
    """One recorded symbol."""

    def __init__(self, rules: InstrumentRules, desk: Desk) -> None:
        super().__init__(rules, desk)
        self.recorded = PlaybackBook()
        self.book = self.recorded
        self.places = self.recorded.places
        self._taken = TakenVolume(self.book)
        self._own_trades = OWN_TRADES_FROM

    @property
    def is_live(self) -> bool:
        """Tell whether the recording is over and the book is that of all."""
        return self.recorded.is_live

    def open_prices(self, price_ticks: int) -> None:
        """Set the opening price of the statistics once one is known."""
        if not self.stats.open_ticks:
            self.stats.open(price_ticks)

    def show_book(self, at_ns: int) -> None:
        """Take in that a recorded frame changed the book; `at_ns` is the venue's time of that frame."""
        self.places.on_book(at_ns)
        self._taken.on_book()
        self.commit()

    def show_trades(self, trades: list[Trade]) -> None:
        """Print recorded trades, and fill the clients' orders that they reach."""
        for trade in trades:
            self._print(trade)
            for maker, lots in self.places.on_trade(trade.taker_side, trade.price_ticks, trade.size_lots, trade.at_ns):
                self._fill_resting(maker, lots, trade)
        self.commit()

    def go_live(self, last_trade_id: int) -> None:
        """End the recorded part; the caller has emptied the places."""
        self.recorded.is_live = True
        self._trade_id = max(self._trade_id, last_trade_id)

    def rest_flow(self, side: Side, price_ticks: int, lots: int) -> int:
        """Rest an order of the flow without publishing yet; return its number."""
        return self.rest(self._desk.next_number(), side, price_ticks, lots, client=None).number

    def crosses(self, side: Side, price_ticks: int) -> bool:
        """Tell whether an order at this price would trade at once, with the book or with a client."""
        limits = (maker.price_ticks for maker in self._clients_against(side))
        return super().crosses(side, price_ticks) or any(
            price_ticks >= limit if side == "buy" else price_ticks <= limit for limit in limits
        )

    def match(
        self,
        side: Side,
        size_lots: int,
        limit_ticks: int | None,
        *,
        taker: ClientOrder | None,
        order_type: str,
    ) -> int:
        """Trade an incoming order; a client's takes from the displayed book without altering it.

        At one price the displayed volume comes first, then clients in the order of arrival.
        """
        if self.is_live or taker is None:
            return super().match(side, size_lots, limit_ticks, taker=taker, order_type=order_type)
        if taker.request.time_in_force == "fok" and self._reachable(taker) < size_lots:
            return 0
        left = size_lots
        for price, maker in self._offers(side):
            if not left or (limit_ticks is not None and _is_worse(side, price, limit_ticks)):
                break
            if maker.client is not None and maker.client.account == taker.account:
                if not self._desk.self_trade(taker, maker.client):
                    break
                continue
            traded = min(left, self._lots_offered(taker.account, maker))
            if traded:
                left -= traded
                self._trade_with(
                    maker, Trade(self._own_trade_id(), side, price, traded, order_type, self._desk.now_ns), taker
                )
        return size_lots - left

    def _offers(self, side: Side) -> Iterator[tuple[int, RestingOrder]]:
        """Yield (price, maker) best first; of a displayed level its first order stands for all of it."""
        book_side = self.book.side("sell" if side == "buy" else "buy")
        sign = 1 if side == "buy" else -1
        levels = [(abs(key), next(iter(book_side.levels[key].orders.values()))) for key in reversed(book_side.keys)]
        clients = [(maker.price_ticks, maker) for maker in self._clients_against(side)]
        yield from sorted((*levels, *clients), key=lambda offer: offer[0] * sign)

    def _clients_against(self, side: Side) -> list[RestingOrder]:
        return [place.order for place in self.places if place.order.side != side]

    def _reachable(self, taker: ClientOrder) -> int:
        """Return what a client's order could trade at once."""
        limit = taker.limit_ticks
        return sum(
            self._lots_offered(taker.account, maker)
            for price, maker in self._offers(taker.side)
            if limit is None or not _is_worse(taker.side, price, limit)
        )

    def _lots_offered(self, account: str, maker: RestingOrder) -> int:
        if maker.client is not None:
            return maker.remaining_lots
        return self._taken.available(account, maker.side, maker.price_ticks)

    def _trade_with(self, maker: RestingOrder, trade: Trade, taker: ClientOrder) -> None:
        if maker.client is None:
            self._taken.take(taker.account, maker.side, maker.price_ticks, trade.size_lots)
        else:
            self.book.trade(maker, trade.size_lots)
        self._desk.settle(self, trade, taker, maker)

    def _fill_resting(self, maker: RestingOrder, lots: int, trade: Trade) -> None:
        """Fill a client's order at its own price, under the id of the recorded trade."""
        self.book.trade(maker, lots)
        fill = Trade(trade.trade_id, trade.taker_side, maker.price_ticks, lots, trade.taker_type, self._desk.now_ns)
        self._desk.settle(self, fill, None, maker)

    def _own_trade_id(self) -> int:
        self._own_trades += 1
        return self._own_trades


def _is_worse(side: Side, price_ticks: int, limit_ticks: int) -> bool:
    return price_ticks > limit_ticks if side == "buy" else price_ticks < limit_ticks
