"""The feeds remember texts and recompute little; a reference that remembers nothing must give the same bytes."""

from __future__ import annotations

import hashlib
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.digits import venue_id
from krakenbot.adapters.local_exchange.flow.instruments import choose_symbols, load_instruments
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.keys import KeyRing
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import AmendRequest, ClientOrder, OrderRequest
from krakenbot.adapters.local_exchange.matching.venue import Venue, VenueSettings
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.record import RecordOfTruth
from krakenbot.adapters.local_exchange.venue_clock import SteppedClock

START_NS = 1_790_000_000_000_000_000
SECONDS = 25
SEED = 4
LOWEST = -(10**30)
NAMES = ("bids", "asks")


class Hashed:
    """A reader that keeps a hash, and the last frames to show where two readers part."""

    def __init__(self) -> None:
        self.hash = hashlib.sha256()
        self.texts: list[str] = []

    def push(self, text: str) -> None:
        self.hash.update(text.encode() + b"\n")
        self.texts.append(text)


def moment(at_ns: int, digits: int) -> str:
    second, rest = divmod(at_ns, 10**9)
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}.{str(rest).zfill(9)[:digits]}Z"


def text(units: int, precision: int) -> str:
    return format(Decimal(units).scaleb(-precision), "f")


class Reference:
    """Encode one symbol's book and level3 at one depth anew for every operation."""

    def __init__(self, market: VenueMarket, depth: int) -> None:
        self.market, self.depth = market, depth
        self.book, self.level3 = Hashed(), Hashed()
        self.held = {name: self.top(name) for name in NAMES}

    def side(self, name: str) -> Any:
        return getattr(self.market.book, name)

    def top(self, name: str) -> dict[int, int]:
        side = self.side(name)
        return {key: side.levels[key].size_lots for key in sorted(side.levels, reverse=True)[: self.depth]}

    def floor(self, held: dict[int, int]) -> int:
        return min(held) if len(held) == self.depth else LOWEST

    def price(self, key: int) -> str:
        return text(abs(key), self.market.rules.price_precision)

    def qty(self, lots: int) -> str:
        return text(lots, self.market.rules.qty_precision)

    def on_book(self, market: VenueMarket, changes: Any, now_ns: int) -> None:
        if market is not self.market:
            return
        level2, level3 = [], []
        for name in NAMES:
            now, changed = self.top(name), getattr(changes, name)
            level2.append(",".join(self.level2_rows(name, now, changed)))
            level3.append(",".join(self.level3_rows(name, now, changed, now_ns)))
            if changed.keys:
                self.held[name] = now
        symbol = market.rules.symbol
        if any(level2):
            self.book.push(
                f'{{"channel":"book","type":"update","data":[{{"symbol":"{symbol}","bids":[{level2[0]}],'
                f'"asks":[{level2[1]}],"checksum":{self.checksum(each_order=False)},'
                f'"timestamp":"{moment(now_ns, 6)}"}}]}}'
            )
        if any(level3):
            self.level3.push(
                f'{{"channel":"level3","type":"update","data":[{{"symbol":"{symbol}",'
                f'"checksum":{self.checksum(each_order=True)},"bids":[{level3[0]}],"asks":[{level3[1]}],'
                f'"timestamp":"{moment(now_ns, 9)}"}}]}}'
            )

    def level2_rows(self, name: str, now: dict[int, int], changed: Any) -> list[str]:
        held = self.held[name]
        gone = {key for key in held if key not in self.side(name).levels}
        keys = [key for key in changed.keys if key in gone or (key in now and now[key] != held.get(key))]
        keys += [key for key in sorted(now) if key not in held and key not in keys]
        return [f'{{"price":{self.price(key)},"qty":{self.qty(now.get(key, 0))}}}' for key in keys]

    def level3_rows(self, name: str, now: dict[int, int], changed: Any, now_ns: int) -> list[str]:
        if not changed.events:
            return []
        old, new = self.floor(self.held[name]), self.floor(now)
        rows = [
            (event, order, lots)
            for event, order, key, lots in changed.events
            if key >= old and (key >= new or event == "delete")
        ]
        for key in sorted(key for key in now if key < old):
            rows += [("add", order, order.remaining_lots) for order in self.side(name).levels[key].orders.values()]
        return [
            f'{{"event":"{event}","order_id":"{self.order_id(order)}","limit_price":{self.price(order.price_ticks)},'
            f'"order_qty":{self.qty(lots)},"timestamp":"{moment(order.since_ns if event == "add" else now_ns, 9)}"}}'
            for event, order, lots in rows
        ]

    def order_id(self, order: Any) -> str:
        return order.client.order_id if order.client else venue_id("O", order.number, SEED)

    def checksum(self, *, each_order: bool) -> int:
        digits = []
        for name in reversed(NAMES):
            levels = self.side(name).levels
            for key in sorted(levels, reverse=True)[:10]:
                orders = levels[key].orders.values()
                sizes = [order.remaining_lots for order in orders]
                digits += [f"{abs(key)}{size}" for size in (sizes if each_order else [sum(sizes)])]
        return zlib.crc32("".join(digits).encode())

    def on_order(self, *arguments: Any) -> None: ...
    def on_fill(self, *arguments: Any) -> None: ...
    def on_refusal(self, *arguments: Any) -> None: ...


def trade(venue: Venue, symbol: str, step: int) -> None:
    """Let a client join queues, grow an order in its queue, cross and leave."""
    account, market = venue.accounts["trader"], venue.markets[symbol]
    rules, bid = market.rules, market.best("buy")
    if bid is None:
        return
    qty = Decimal(10 * rules.qty_min_lots).scaleb(-rules.qty_precision)
    price = Decimal(bid - step % 3 * rules.price_increment_ticks).scaleb(-rules.price_precision)
    kind = "market" if step % 7 == 0 else "limit"
    limit = price if kind == "limit" else None
    request = OrderRequest(symbol=symbol, side="buy", order_type=kind, qty=qty, limit_price=limit)
    order = venue.add_order(account, request)
    if isinstance(order, ClientOrder) and order.is_open:
        venue.amend_order(account, AmendRequest(order_id=order.order_id, qty=qty * 2))
        venue.amend_order(account, AmendRequest(order_id=order.order_id, qty=qty))
    if step % 5 == 0:
        venue.cancel_all(account)


@pytest.mark.parametrize("profile", ["edge", "toxic"])
def test_frames_are_those_of_an_encoder_that_remembers_nothing(profile):
    symbols = choose_symbols(3)
    listed = load_instruments()
    venue = Venue({symbol: listed[symbol] for symbol in symbols}, VenueSettings(seed=SEED))
    venue.open_account("trader", {"USD": Decimal(10**9)})
    exchange = Exchange(venue, KeyRing(SEED), RecordOfTruth(venue, None), SteppedClock(START_NS))
    venue.open(SeededFlow(dict(venue.markets), profile=profile, seed=SEED), START_NS)
    pairs = []
    for symbol in symbols:
        for depth in (10, 100):
            reference: Any = Reference(venue.markets[symbol], depth)
            venue.listeners.append(reference)
            book, level3 = Hashed(), Hashed()
            exchange.public.symbols[symbol].read_book(book, depth, START_NS)
            exchange.public.symbols[symbol].read_level3(level3, depth, START_NS)
            pairs += [(reference.book, book), (reference.level3, level3)]

    for step in range(1, SECONDS * 4 + 1):
        venue.advance(START_NS + step * 250_000_000)
        trade(venue, symbols[step % 3], step)

    for expected, actual in pairs:
        assert len(actual.texts) > 20
        if expected.hash.digest() != actual.hash.digest():
            assert expected.texts == actual.texts
