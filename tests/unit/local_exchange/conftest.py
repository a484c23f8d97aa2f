from __future__ import annotations

import json
import zlib
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.flow.market import InstrumentRules
from krakenbot.adapters.local_exchange.keys import PERMISSIONS, ApiKey, KeyRing
from krakenbot.adapters.local_exchange.matching.orders import OrderRequest
from krakenbot.adapters.local_exchange.matching.venue import Venue, VenueSettings
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.record import RecordOfTruth
from krakenbot.adapters.local_exchange.venue_clock import RunningClock

START_NS = 1_790_000_000_000_000_000
SYMBOL = "ABC/USD"


class Desk:
    """One symbol with a tick of 0.1 and a lot of 0.0001, and accounts with round balances."""

    symbol = SYMBOL
    start_ns = START_NS

    def __init__(self, file: Any = None, **settings: Any) -> None:
        rules = InstrumentRules(
            symbol=SYMBOL,
            base="ABC",
            quote="USD",
            status="online",
            price_precision=1,
            qty_precision=4,
            cost_precision=5,
            price_increment_ticks=5,
            qty_increment_lots=1,
            qty_min_lots=100,
            cost_min="0.5",
            has_index=settings.pop("has_index", True),
        )
        self.venue = Venue({SYMBOL: rules}, VenueSettings(**settings))
        self.venue.now_ns = START_NS
        self.market = self.venue.markets[SYMBOL]
        self.alice = self.venue.open_account("alice", {"USD": Decimal(1000), "ABC": Decimal(10)})
        self.bob = self.venue.open_account("bob", {"USD": Decimal(1000), "ABC": Decimal(10)})
        self.keys = KeyRing(1)
        for account in (self.alice, self.bob):
            key = ApiKey(api_key=account.name, secret=b"s", permissions=frozenset(PERMISSIONS), account=account)
            self.keys.add(key)
        self.record = RecordOfTruth(self.venue, file)
        self.exchange = Exchange(self.venue, self.keys, self.record, RunningClock(read_ns=lambda: self.venue.now_ns))

    def order(self, account, side, qty, price=None, order_type="limit", **fields):
        if "trigger_price" in fields:
            fields["trigger_price"] = Decimal(fields["trigger_price"])
        return self.venue.add_order(
            account,
            OrderRequest(
                symbol=SYMBOL,
                side=side,
                order_type=order_type,
                qty=Decimal(qty),
                limit_price=None if price is None else Decimal(price),
                **fields,
            ),
        )

    def token(self, account):
        return self.keys.issue_token(self.keys.keys[account.name], self.venue.now_ns)


class StillFlow:
    """A flow in which nothing happens."""

    def open(self, now_ns) -> None:
        pass

    def next_at_ns(self):
        return 2**63 - 1

    def step(self, now_ns) -> None:
        pass

    def last_price_ticks(self, symbol):
        return 1000

    def parameters(self):
        return {}


class Frames:
    """A connection that keeps its frames."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def push(self, text):
        self.texts.append(text)

    def take(self):
        texts, self.texts = self.texts, []
        return [json.loads(text, parse_float=Decimal) for text in texts]


def crc(parts: Iterable[str]) -> int:
    return zlib.crc32("".join(parts).encode())


def token(text: str) -> str:
    return text.replace(".", "").lstrip("0")


class NaiveBook:
    """A book reader written from the protocol's description alone: apply, sort, truncate, check."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: dict[str, dict[str, Any]] = {"bids": {}, "asks": {}}
        self.checked = 0

    def feed(self, text: str) -> None:
        frame = json.loads(text, parse_float=str, parse_int=str)
        for data in frame["data"]:
            for name, side in self.sides.items():
                if frame["type"] == "snapshot":
                    side.clear()
                for row in data[name]:
                    if Decimal(row["qty"]) == 0:
                        side.pop(row["price"], None)
                    else:
                        side[row["price"]] = row["qty"]
                best = sorted(side, key=Decimal, reverse=name == "bids")
                for price in best[self.depth :]:
                    del side[price]
            assert str(self.checksum()) == data["checksum"], frame
            self.checked += 1

    def best(self, name: str, count: int) -> list[tuple[str, str]]:
        side = self.sides[name]
        return [(p, side[p]) for p in sorted(side, key=Decimal, reverse=name == "bids")[:count]]

    def checksum(self) -> int:
        rows = self.best("asks", 10) + self.best("bids", 10)
        return crc(token(price) + token(qty) for price, qty in rows)


class NaiveLevel3:
    """A level3 reader written from the protocol's description alone."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: dict[str, dict[str, Any]] = {"bids": {}, "asks": {}}
        self.checked = 0

    def feed(self, text: str) -> None:
        frame = json.loads(text, parse_float=str, parse_int=str)
        for data in frame["data"]:
            for name, side in self.sides.items():
                if frame["type"] == "snapshot":
                    side.clear()
                self._apply(side, data[name])
                for price in sorted(side, key=Decimal, reverse=name == "bids")[self.depth :]:
                    del side[price]
            assert str(self.checksum()) == data["checksum"], frame
            self.checked += 1

    def _apply(self, side: dict[str, dict[str, str]], rows: list[dict[str, str]]) -> None:
        adds = [i for i, row in enumerate(rows) if row.get("event", "add") == "add"]
        ordered = sorted((rows[i] for i in adds), key=lambda row: row["timestamp"])
        rows = list(rows)
        for i, row in zip(adds, ordered, strict=True):
            rows[i] = row
        for row in rows:
            level = side.setdefault(row["limit_price"], {})
            match row.get("event", "add"):
                case "add":
                    for other in side.values():
                        other.pop(row["order_id"], None)
                    level[row["order_id"]] = row["order_qty"]
                case "modify":
                    assert row["order_id"] in level, row
                    level[row["order_id"]] = row["order_qty"]
                case "delete":
                    assert row["order_id"] in level, row
                    del level[row["order_id"]]
            for price in [p for p, orders in side.items() if not orders]:
                del side[price]

    def checksum(self) -> int:
        parts: list[str] = []
        for name in ("asks", "bids"):
            side = self.sides[name]
            for price in sorted(side, key=Decimal, reverse=name == "bids")[:10]:
                parts.extend(token(price) + token(qty) for qty in side[price].values())
        return crc(parts)


@pytest.fixture
def make_desk():
    return Desk


@pytest.fixture
def make_frames():
    return Frames


@pytest.fixture
def naive_book():
    return NaiveBook


@pytest.fixture
def naive_level3():
    return NaiveLevel3


@pytest.fixture
def desk():
    return Desk()


@pytest.fixture
def still_flow():
    return StillFlow()
