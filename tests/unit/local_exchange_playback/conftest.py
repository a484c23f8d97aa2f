"""Recordings made by hand, and an exchange that plays them without a socket."""

from __future__ import annotations

import io
import json
import zlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.digits import rfc3339_ns, rfc3339_us
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules
from krakenbot.adapters.local_exchange.keys import PERMISSIONS, ApiKey, KeyRing
from krakenbot.adapters.local_exchange.matching.book import Book, RestingOrder
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, OrderRequest
from krakenbot.adapters.local_exchange.matching.venue import Venue, VenueSettings
from krakenbot.adapters.local_exchange.playback.catalog import survey
from krakenbot.adapters.local_exchange.playback.flow import AtEnd, PlaybackFlow, make_playback_markets
from krakenbot.adapters.local_exchange.playback.reader import Recording
from krakenbot.adapters.local_exchange.playback.recording_format import SocketPath
from krakenbot.adapters.local_exchange.playback.rows import Level2Rows, Level3Rows
from krakenbot.adapters.local_exchange.playback.writer import RecordingWriter
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.session import Path as SessionPath
from krakenbot.adapters.local_exchange.protocol.session import Session
from krakenbot.adapters.local_exchange.record import RecordOfTruth
from krakenbot.adapters.local_exchange.venue_clock import RunningClock

SYMBOL = "BTC/USD"
RECORDED_NS = 1_700_000_000_000_000_000
NOW_NS = 1_790_000_000_000_000_000
MS = 1_000_000
INSTRUMENTS = b"""{"assets":[],"pairs":[{"symbol":"BTC/USD","base":"BTC","quote":"USD","status":"online",
"qty_precision":8,"qty_increment":1e-08,"price_precision":1,"cost_precision":5,"marginable":false,"has_index":true,
"cost_min":0.5,"tick_size":0.1,"price_increment":0.1,"qty_min":5e-05}]}"""
RULES = InstrumentRules(
    symbol=SYMBOL,
    base="BTC",
    quote="USD",
    status="online",
    price_precision=1,
    qty_precision=8,
    cost_precision=5,
    price_increment_ticks=1,
    qty_increment_lots=1,
    qty_min_lots=5000,
    cost_min="0.5",
    has_index=True,
)
COIN = 10**8


class Script:
    """Writes what a recorder would have received of one symbol; times are ms since the start of the recording.

    Books are given as {price in ticks: lots} and written as differences; queues as {price: [(id, lots), ...]}.
    """

    def __init__(self, folder: Path, *, instruments: bytes = INSTRUMENTS, symbols: tuple[str, ...] = (SYMBOL,)) -> None:
        self.folder = folder
        self.texts: list[str] = []
        self._writer = RecordingWriter(folder, symbols=list(symbols), instruments=instruments)
        self._books: dict[tuple[str, int], Level2Rows] = {}
        self._level3: dict[str, Level3Rows] = {}

    def line(self, at_ms: float, text: str, *, c: str = "public-1", p: SocketPath = "public", d: Any = "in") -> str:
        self._writer.write(RECORDED_NS + round(at_ms * MS), c, p, d, text)
        self.texts.append(text)
        return text

    def ack(self, at_ms: float, channel: str, c: str = "public-1", method: str = "subscribe", **more: Any) -> None:
        figures = "".join(f',"{name}":{value}' for name, value in more.items())
        path: SocketPath = "level3" if channel == "level3" else "public"
        result = f'{{"channel":"{channel}","symbol":"{SYMBOL}"{figures}}}'
        self.line(at_ms, f'{{"method":"{method}","result":{result},"success":true}}', c=c, p=path)

    def book(
        self,
        at_ms: float,
        bids: dict[int, int],
        asks: dict[int, int],
        *,
        c: str = "public-1",
        depth: int = 10,
        is_snapshot: bool = False,
    ) -> str:
        book, number = Book(), 0
        for side, levels in (("buy", bids), ("sell", asks)):
            for price, lots in levels.items():
                number += 1
                book.add(order_of(number, side, (price, lots), ""))
        stamp = rfc3339_us(RECORDED_NS + round(at_ms * MS))
        rows = self._books.get((c, depth))
        if rows is None or is_snapshot:
            rows = self._books[c, depth] = Level2Rows(RULES, depth)
            text: str | None = rows.snapshot(book, stamp)
        else:
            text = rows.update(book, stamp)
        assert text is not None
        return self.line(at_ms, text, c=c)

    def level3(
        self,
        at_ms: float,
        bids: dict[int, list[tuple[str, int]]],
        asks: dict[int, list[tuple[str, int]]],
        c: str = "level3-1",
    ) -> str:
        book, number = Book(), 0
        for side, levels in (("buy", bids), ("sell", asks)):
            for price, queue in levels.items():
                for order_id, lots in queue:
                    number += 1
                    since = RECORDED_NS - 10**9 + int(order_id[1:])
                    book.add(order_of(number, side, (price, lots), order_id, since))
        stamp = rfc3339_ns(RECORDED_NS + round(at_ms * MS))
        rows = self._level3.get(c)
        if rows is None:
            rows = self._level3[c] = Level3Rows(RULES, 10, lambda order: order.shown_id or "")
            text: str | None = rows.snapshot(book, stamp)
        else:
            text = rows.update(book, stamp)
        assert text is not None
        return self.line(at_ms, text, c=c, p="level3")

    def trade(self, at_ms: float, *prints: tuple[int, str, int, int], c: str = "public-1", kind: str = "update") -> str:
        """Each print is (trade_id, taker side, price in ticks, lots)."""
        stamp = rfc3339_us(RECORDED_NS + round(at_ms * MS))
        rows = ",".join(
            f'{{"symbol":"{SYMBOL}","side":"{side}","price":{Decimal(price).scaleb(-1)},'
            f'"qty":{Decimal(lots).scaleb(-8):f},"ord_type":"limit","trade_id":{number},"timestamp":"{stamp}"}}'
            for number, side, price, lots in prints
        )
        return self.line(at_ms, f'{{"channel":"trade","type":"{kind}","data":[{rows}]}}', c=c)

    def ticker(self, at_ms: float, last: str, *, kind: str = "update", c: str = "public-1") -> str:
        row = f'{{"symbol":"{SYMBOL}","bid":1.0,"last":{last},"unknown":[1,{{}}]}}'
        return self.line(at_ms, f'{{"channel":"ticker","type":"{kind}","data":[{row}]}}', c=c)

    def close(self) -> Path:
        self._writer.close()
        return self.folder


def order_of(number: int, side: Any, level: tuple[int, int], order_id: str, since_ns: int = 0) -> RestingOrder:
    return RestingOrder(
        number=number, side=side, price_ticks=level[0], remaining_lots=level[1], since_ns=since_ns, shown_id=order_id
    )


class Socket:
    """A connection without a socket: requests in, texts out."""

    def __init__(self, played: Played, path: SessionPath) -> None:
        self.texts: list[str] = []
        self._played = played
        self._session = Session(played.exchange, path, self)
        self._session.open()

    def push(self, text: str) -> None:
        self.texts.append(text)

    def ask(self, text: str) -> None:
        now = self._played.venue.now_ns
        self._session.receive(text, now, now)

    def close(self) -> None:
        self._session.close()

    def data(self, channel: str) -> list[str]:
        return [text for text in self.texts if text.startswith(f'{{"channel":"{channel}"')]


class Played:
    """An exchange that plays a recording; `to(ms)` moves time, counted from the start of the playback."""

    def __init__(self, folder: Path, at_end: AtEnd = "stop", starts_after_ms: int = 1000) -> None:
        catalog = survey(Recording(folder))
        self.venue = Venue(catalog.rules, VenueSettings())
        self.venue.now_ns = NOW_NS
        make_playback_markets(self.venue)
        self.keys = KeyRing(1)
        self.alice = self.venue.open_account("alice", {"USD": Decimal(10**9), "BTC": Decimal(10**4)})
        self.bob = self.venue.open_account("bob", {"USD": Decimal(10**9), "BTC": Decimal(10**4)})
        key = ApiKey(api_key="alice", secret=b"s", permissions=frozenset(PERMISSIONS), account=self.alice)
        self.keys.add(key)
        self.token = self.keys.issue_token(key, NOW_NS)
        self.file = io.BytesIO()
        self.record = RecordOfTruth(self.venue, self.file)
        clock = RunningClock(read_ns=lambda: self.venue.now_ns)
        self.exchange = Exchange(self.venue, self.keys, self.record, clock)
        self.flow = PlaybackFlow(
            self.venue,
            self.exchange.public,
            catalog,
            at_end=at_end,
            seed=1,
            profile="edge",
            starts_after_ns=starts_after_ms * MS,
        )
        self._start_ns = NOW_NS + starts_after_ms * MS
        self.venue.open(self.flow, NOW_NS)
        self.market = self.venue.markets[SYMBOL]

    def to(self, at_ms: float) -> None:
        assert self.venue.advance(self._start_ns + round(at_ms * MS))

    def socket(self, path: SessionPath = "public") -> Socket:
        return Socket(self, path)

    def subscribe(self, channel: str, *, depth: int | None = None, more: str = "") -> Socket:
        socket = self.socket("level3" if channel == "level3" else "public")
        depth_text = "" if depth is None else f',"depth":{depth}'
        token = f',"token":"{self.token}"' if channel == "level3" else ""
        params = f'{{"channel":"{channel}","symbol":["{SYMBOL}"]{depth_text}{token}{more}}}'
        socket.ask(f'{{"method":"subscribe","params":{params}}}')
        return socket

    def order(
        self, side: Any, lots: int, ticks: int | None, *, account: Any = None, order_type: str = "limit", **more: Any
    ) -> ClientOrder:
        request = OrderRequest(
            symbol=SYMBOL,
            side=side,
            order_type=order_type,
            qty=Decimal(lots).scaleb(-8),
            limit_price=None if ticks is None else Decimal(ticks).scaleb(-1),
            **more,
        )
        answer = self.venue.add_order(account or self.alice, request)
        assert isinstance(answer, ClientOrder), answer
        return answer

    @property
    def counts(self) -> dict[str, int]:
        counts = self.flow.parameters()["counts"]
        assert isinstance(counts, dict)
        return counts


class Books:
    """Keeps every book by the public rules from frames alone; raises on the first wrong checksum."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: dict[str, dict[Decimal, dict[str, tuple[str, str]]]] = {"bids": {}, "asks": {}}
        self.frames = 0

    def read(self, text: str) -> None:
        frame = json.loads(text, parse_float=str)
        row = frame["data"][0]
        self.frames += 1
        if frame["type"] == "snapshot":
            self.sides = {"bids": {}, "asks": {}}
        for name, side in self.sides.items():
            adds = iter(sorted((r for r in row[name] if r.get("event") == "add"), key=lambda r: r["timestamp"]))
            for place in row[name]:
                self._apply(side, next(adds) if place.get("event") == "add" else place)
            for price in self._best(name)[self.depth :]:
                del side[price]
        digits = "".join(
            text.replace(".", "").lstrip("0")
            for name in ("asks", "bids")
            for price in self._best(name)[:10]
            for pair in self.sides[name][price].values()
            for text in pair
        )
        assert row["checksum"] == zlib.crc32(digits.encode())

    def _apply(self, side: dict[Decimal, dict[str, tuple[str, str]]], row: dict[str, str]) -> None:
        if "order_id" not in row:
            price = Decimal(row["price"])
            side.pop(price, None)
            if Decimal(row["qty"]):
                side[price] = {"": (row["price"], row["qty"])}
            return
        price = Decimal(row["limit_price"])
        level = side.setdefault(price, {})
        if row.get("event") != "modify":
            level.pop(row["order_id"], None)
        if row.get("event") != "delete":
            level[row["order_id"]] = (row["limit_price"], row["order_qty"])
        if not level:
            del side[price]

    def _best(self, name: str) -> list[Decimal]:
        return sorted(self.sides[name], reverse=name == "bids")


@pytest.fixture(scope="session")
def books_type() -> type[Books]:
    return Books


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path / "recording")


@pytest.fixture(scope="session")
def play() -> type[Played]:
    return Played


@pytest.fixture(scope="session")
def script_type() -> type[Script]:
    return Script
