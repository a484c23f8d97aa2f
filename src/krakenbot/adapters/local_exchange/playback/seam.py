"""Turn a recorded market into a live one: clients' orders enter the book where they stood in its queues.

In: a market at the end of its recording, and perhaps a deeper recorded book. Out: a plain book, the flow's orders in
it, and counts of what had to be changed.
"""

from __future__ import annotations

from attrs import define, field

from krakenbot.adapters.local_exchange.flow.market import Side
from krakenbot.adapters.local_exchange.flow.playback import split_level
from krakenbot.adapters.local_exchange.matching.book import Book
from krakenbot.adapters.local_exchange.playback.market import PlaybackMarket
from krakenbot.adapters.local_exchange.playback.places import Place

FOREVER_NS = 2**63 - 1
SIDES: tuple[Side, Side] = ("buy", "sell")


@define(eq=False)
class Seam:
    """What the seam did: recorded orders taken over, clients' orders entered, crossing volume withdrawn."""

    resting: list[tuple[int, Side, int]] = field(factory=list)
    entered: int = 0
    withdrawn_lots: int = 0
    deeper_levels: int = 0


def go_live(market: PlaybackMarket, deeper: Book | None, last_trade_id: int) -> Seam:
    """Make the market live; `deeper` is a recorded book that shows more levels than the market's own."""
    seam = Seam()
    places = list(market.places)
    for place in places:
        market.book.remove(place.order)
    market.go_live(last_trade_id)
    _withdraw_crossing(market, places, seam)
    for side in SIDES:
        own: dict[int, list[Place]] = {}
        for place in places:
            if place.order.side == side:
                own.setdefault(place.order.price_ticks, []).append(place)
        displayed = {price for price, _ in market.levels(side, len(market.book.orders))}
        for price in sorted(displayed | own.keys()):
            _rebuild_level(market, side, price, own.get(price, []), seam)
        if deeper is not None:
            _add_deeper_levels(market, side, deeper, seam)
    market.commit()
    return seam


def _withdraw_crossing(market: PlaybackMarket, places: list[Place], seam: Seam) -> None:
    """Withdraw recorded orders at or beyond a client's price: no recorded trade reached the client."""
    for place in places:
        own = place.order
        sign = 1 if own.side == "buy" else -1
        opposite: Side = "sell" if own.side == "buy" else "buy"
        for order in list(market.book.orders.values()):
            if order.side == opposite and order.price_ticks * sign <= own.price_ticks * sign:
                seam.withdrawn_lots += order.remaining_lots
                market.book.remove(order)


def _rebuild_level(market: PlaybackMarket, side: Side, price: int, own: list[Place], seam: Seam) -> None:
    """Put a level's orders back in queue order, clients' between them, in fresh order of time."""
    book_side = market.book.side(side)
    level = book_side.levels.get(price * book_side.sign)
    recorded = list(level.orders.values()) if level is not None else []
    if market.places.has_ids and not own:
        seam.resting.extend((order.number, side, price) for order in recorded)
        return
    pieces: list[int] = []
    for order in recorded:
        market.book.remove(order)
        # An aggregated level is one order: participants hold it in several.
        pieces.extend(
            [order.remaining_lots] if market.places.has_ids else split_level(order.remaining_lots, market.rules)
        )
    waiting = sorted(own, key=lambda place: FOREVER_NS if (ahead := place.ahead_at(FOREVER_NS)) is None else ahead)
    passed = 0
    for place in waiting:
        ahead = place.ahead_at(FOREVER_NS)
        while pieces and (ahead is None or passed < ahead):
            lots = pieces.pop(0)
            if ahead is not None and passed + lots > ahead:
                pieces.insert(0, passed + lots - ahead)
                lots = ahead - passed
            passed += lots
            _rest(market, side, price, lots, seam)
        client, order = place.order.client, place.order
        if client is not None:
            client.resting = market.rest(order.number, side, price, order.remaining_lots, client=client)
            seam.entered += 1
    for lots in pieces:
        _rest(market, side, price, lots, seam)


def _add_deeper_levels(market: PlaybackMarket, side: Side, deeper: Book, seam: Seam) -> None:
    book_side, deep_side = market.book.side(side), deeper.side(side)
    worst = book_side.keys[0] if book_side.keys else None
    for key in deep_side.keys:
        if worst is None or key < worst:
            seam.deeper_levels += 1
            for lots in split_level(deep_side.levels[key].size_lots, market.rules):
                _rest(market, side, abs(key), lots, seam)


def _rest(market: PlaybackMarket, side: Side, price: int, lots: int, seam: Seam) -> None:
    seam.resting.append((market.rest_flow(side, price, lots), side, price))
