"""A fixed, seeded script of order events for the local exchange's benches.

The mix is that of real flow: 47 % adds, 45 % cancels, 3 % amends, 5 % market orders, over books of more than twenty
levels with several orders a level; one event in fifty is a client's. The script is drawn once against a venue that
nobody reads; replaying it on a fresh venue does the same again, because order numbers are counters.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any, BinaryIO

from krakenbot.adapters.local_exchange.flow.market import InstrumentRules, Side
from krakenbot.adapters.local_exchange.keys import KeyRing
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import AmendRequest, ClientOrder, OrderRequest
from krakenbot.adapters.local_exchange.matching.venue import Venue, VenueSettings
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.record import RecordOfTruth
from krakenbot.adapters.local_exchange.venue_clock import SteppedClock

START_NS = 1_790_000_000_000_000_000
GAP_NS = 50_000
"""Twenty thousand events a second."""
LEVELS = 30
ORDERS_PER_LEVEL = 5
CLIENT_EVERY = 50
SIDES: tuple[Side, Side] = ("buy", "sell")
Event = tuple[str, tuple[Any, ...]]


def make_exchange(symbols: int, file: BinaryIO | None = None) -> Exchange:
    """Return an exchange with opened books and one rich account, time standing at START_NS."""
    rules = [_rules(number) for number in range(symbols)]
    venue = Venue({one.symbol: one for one in rules}, VenueSettings(seed=7))
    venue.now_ns = START_NS
    funds = {one.base: Decimal(10**9) for one in rules} | {"USD": Decimal(10**12)}
    venue.open_account("client", funds)
    exchange = Exchange(venue, KeyRing(1), RecordOfTruth(venue, file), SteppedClock(START_NS))
    exchange.record.deposits()
    rng = random.Random(11)
    for number, market in enumerate(venue.markets.values()):
        mid = _mid(number)
        market.stats.open(mid)
        for level in range(1, LEVELS + 1):
            for _ in range(ORDERS_PER_LEVEL):
                market.place("buy", mid - level, _lots(rng))
                market.place("sell", mid + level, _lots(rng))
    return exchange


def draw_script(symbols: int, events: int, seed: int = 5) -> list[Event]:
    """Return the events, drawn against a venue of their own."""
    exchange = make_exchange(symbols)
    rng = random.Random(seed)
    authors = [
        _Author(market, exchange.venue, rng, _mid(number))
        for number, market in enumerate(exchange.venue.markets.values())
    ]
    player = Player(exchange)
    script: list[Event] = []
    while len(script) < events:
        event = rng.choice(authors).write(is_client=len(script) % CLIENT_EVERY == 0)
        if event is not None:
            script.append(event)
            player.play([event])
    return script


class Player:
    """Play a script on an exchange; time goes on by GAP_NS an event."""

    def __init__(self, exchange: Exchange) -> None:
        self._venue = venue = exchange.venue
        self._at_ns = venue.now_ns
        account = venue.accounts["client"]
        self._calls: dict[str, Callable[..., Any]] = {
            "add": lambda request: venue.add_order(account, request),
            "amend": lambda request: venue.amend_order(account, request),
            "cancel": lambda order_id: venue.cancel_order(account, order_id, None),
        }
        for symbol, market in venue.markets.items():
            self._calls[f"place {symbol}"] = market.place
            self._calls[f"pull {symbol}"] = market.cancel
            self._calls[f"reduce {symbol}"] = market.reduce
            self._calls[f"take {symbol}"] = market.take

    def play(self, script: list[Event]) -> None:
        """Carry out the events."""
        venue, calls, at_ns = self._venue, self._calls, self._at_ns
        for name, arguments in script:
            at_ns += GAP_NS
            venue.now_ns = at_ns
            calls[name](*arguments)
        self._at_ns = at_ns


class _Author:
    """Draw events for one market, given its present state."""

    def __init__(self, market: VenueMarket, venue: Venue, rng: random.Random, mid: int) -> None:
        self._market, self._venue, self._rng, self._mid = market, venue, rng, mid

    def write(self, *, is_client: bool) -> Event | None:
        draw = self._rng.random()
        if is_client:
            return self._client(draw)
        symbol = self._market.rules.symbol
        if draw < 0.47:
            side = self._rng.choice(SIDES)
            return (f"place {symbol}", (side, self._price(side), _lots(self._rng)))
        if draw < 0.52:
            return (f"take {symbol}", (self._rng.choice(SIDES), _lots(self._rng) // 2 + 1))
        numbers = [number for number, order in self._market.book.orders.items() if order.client is None]
        # The young go first: half of the cancels hit one of the last forty orders.
        number = self._rng.choice(numbers[-40:] if self._rng.random() < 0.5 else numbers)
        if draw < 0.55:
            return (f"reduce {symbol}", (number, max(1, self._market.remaining(number) * 2 // 3)))
        return (f"pull {symbol}", (number,))

    def _client(self, draw: float) -> Event | None:
        rules, account = self._market.rules, self._venue.accounts["client"]
        mine = [order for order in account.open_orders.values() if order.rules is rules]
        if draw < 0.5 or not mine:
            side = self._rng.choice(SIDES)
            request = OrderRequest(
                symbol=rules.symbol,
                side=side,
                order_type="limit",
                qty=Decimal(_lots(self._rng)).scaleb(-rules.qty_precision),
                limit_price=Decimal(self._price(side)).scaleb(-rules.price_precision),
                post_only=True,
            )
            return ("add", (request,))
        order: ClientOrder = self._rng.choice(mine)
        if draw < 0.9:
            return ("cancel", (order.order_id,))
        price = Decimal(self._price(order.side)).scaleb(-rules.price_precision)
        return ("amend", (AmendRequest(order_id=order.order_id, limit_price=price),))

    def _price(self, side: Side) -> int:
        """Return a price near the touch: a third at the best, some inside, the rest a few ticks behind."""
        sign = 1 if side == "buy" else -1
        best = self._market.best(side)
        other = self._market.best("sell" if side == "buy" else "buy")
        if best is None or other is None:
            return self._mid - sign
        if self._rng.random() < 0.33:
            inside = best + sign
            return inside if inside != other and self._rng.random() < 0.4 else best
        return best - sign * min(int(self._rng.expovariate(1 / 6)), 40)


def _rules(number: int) -> InstrumentRules:
    return InstrumentRules(
        symbol=f"S{number:02d}/USD",
        base=f"S{number:02d}",
        quote="USD",
        status="online",
        price_precision=(1, 2, 4, 5)[number % 4],
        qty_precision=(8, 8, 5, 4)[number % 4],
        cost_precision=5,
        price_increment_ticks=1,
        qty_increment_lots=1,
        qty_min_lots=1,
        cost_min="0.000001",
        has_index=True,
    )


def _mid(number: int) -> int:
    return 20_000 + 137 * number


def _lots(rng: random.Random) -> int:
    return int(1_000_000 * rng.paretovariate(1.8))
