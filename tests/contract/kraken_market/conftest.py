"""Own fixtures of recorded sequences, and where the other recordings are."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen

from krakenbot.adapters.kraken.protocol.budget import Budget
from krakenbot.adapters.kraken.protocol.level3 import Level3Session
from krakenbot.adapters.kraken.protocol.market_session import SessionSettings
from krakenbot.adapters.kraken.protocol.market_state import MarketState, Outage, Pacing
from krakenbot.adapters.kraken.protocol.public import PublicSession
from krakenbot.domain.values import Symbol
from krakenbot.ports.market_feed import Quarantine

OWN = Path(__file__).parents[2] / "data" / "kraken" / "market"


@define
class Listener:
    """Remembers what it was told."""

    events: list[tuple[Any, ...]] = field(factory=list)

    def on_instruments(self, instruments):
        self.events.append(("instruments", list(instruments)))

    def on_book(self, symbol):
        self.events.append(("book", symbol))

    def on_queue(self, symbol):
        self.events.append(("queue", symbol))

    def on_trades(self, trades, *, is_snapshot):
        self.events.append(("trades", list(trades), is_snapshot))

    def on_ticker(self, ticker):
        self.events.append(("ticker", ticker))

    def on_validity(self, symbol, source, *, valid, reason):
        self.events.append(("validity", symbol, source, valid, reason))

    def on_connection(self, stream, *, up, reason):
        self.events.append(("connection", stream, up, reason))

    def on_reconnect(self, reconnect):
        self.events.append(("reconnect", reconnect))

    def of(self, kind):
        return [event[1:] for event in self.events if event[0] == kind]


@frozen
class Sequence:
    """One recorded sequence: `steps` are wire texts of data frames, or the words subscribed and unsubscribed."""

    name: str
    symbol: Symbol
    price_precision: int
    qty_precision: int
    depth: int
    steps: list[str]

    @property
    def frames(self) -> list[str]:
        return [step for step in self.steps if step.startswith("{")]


def read_sequence(path: Path) -> Sequence:
    lines = [line.split("\t") for line in path.read_text().splitlines() if not line.startswith("#")]
    _, symbol, price_precision, qty_precision, depth = lines[0]
    digits = (int(price_precision), int(qty_precision))
    steps: list[str] = []
    for line in lines[1:]:
        match line:
            case [("snapshot" | "update") as kind, checksum, at]:
                steps.append(_Frame(symbol, kind, checksum, at, []).text())
                frame = _Frame(symbol, kind, checksum, at, [])
            case [("bid" | "ask"), *_]:
                frame.rows.append((line, digits))
                steps[-1] = frame.text()
            case [word]:
                steps.append(word)
    return Sequence(path.name, Symbol(symbol), *digits, int(depth), steps)


@frozen
class _Frame:
    symbol: str
    kind: str
    checksum: str
    at: str
    rows: list[tuple[list[str], tuple[int, int]]]

    def text(self) -> str:
        sides: dict[str, list[str]] = {"bid": [], "ask": []}
        channel = "book"
        for row, digits in self.rows:
            if len(row) > 3:
                channel = "level3"
            sides[row[0]].append(_level(row, digits) if len(row) == 3 else _order(row, digits))
        stamp = "" if self.at == "-" else f',"timestamp":"{self.at}"'
        return (
            f'{{"channel":"{channel}","type":"{self.kind}","data":[{{"symbol":"{self.symbol}",'
            f'"bids":[{",".join(sides["bid"])}],"asks":[{",".join(sides["ask"])}],"checksum":{self.checksum}{stamp}}}]}}'
        )


def _digits(whole: str, precision: int) -> str:
    return f"{Decimal(whole).scaleb(-precision):.{precision}f}"


def _level(row: list[str], digits: tuple[int, int]) -> str:
    return f'{{"price":{_digits(row[1], digits[0])},"qty":{_digits(row[2], digits[1])}}}'


def _order(row: list[str], digits: tuple[int, int]) -> str:
    _, event, order_id, ticks, lots, at = row
    named = "" if event == "-" else f'"event":"{event}",'
    return (
        f'{{{named}"order_id":"{order_id}","limit_price":{_digits(ticks, digits[0])},'
        f'"order_qty":{_digits(lots, digits[1])},"timestamp":"{at}"}}'
    )


def instrument_text(symbol: str, price_precision: int, qty_precision: int) -> str:
    base, quote = symbol.split("/")
    pair = {
        "symbol": symbol, "base": base, "quote": quote, "status": "online", "price_precision": price_precision,
        "qty_precision": qty_precision, "cost_precision": 5, "price_increment": float(f"1e-{price_precision}"),
        "qty_increment": float(f"1e-{qty_precision}"), "qty_min": 1e-05, "cost_min": 0.5,
    }  # fmt: skip
    return json.dumps({"channel": "instrument", "type": "snapshot", "data": {"assets": [], "pairs": [pair]}})


@define
class Desk:
    """Sessions over one state, fed by hand; time is a number."""

    symbol: Symbol
    price_precision: int
    qty_precision: int
    depth: int = 10
    listener: Listener = field(factory=Listener)
    state: MarketState = field(factory=MarketState)
    public: PublicSession = field(init=False)
    wanted: list[Symbol] = field(factory=list)
    now: float = 1000.0

    def __attrs_post_init__(self) -> None:
        self.wanted = [self.symbol]
        self.public = self.connect()
        self.public.receive(instrument_text(self.symbol, self.price_precision, self.qty_precision), self.now)
        self.pump(self.public)

    def connect(self, outage: Outage | None = None) -> PublicSession:
        return PublicSession(
            state=self.state,
            listener=self.listener,
            settings=SessionSettings(book_depth=self.depth),
            pacing=self._pacing(),
            instruments_changed=self._on_instruments,
            symbols=self.wanted,
            outage=outage,
            now_mono=self.now,
        )

    def want(self, *symbols: Symbol) -> None:
        self.wanted = list(symbols)
        self.public.follow_symbols(self.wanted, self.now)

    def quarantined(self) -> dict[Symbol, Quarantine]:
        return {each.symbol: each for each in self.state.troubles.quarantined(self.now)}

    def _on_instruments(self, reshaped: Mapping[Symbol, str], now_mono: float) -> None:
        """Do what the feed does for each of its sessions."""
        for symbol, reason in reshaped.items():
            self.public.reshape(symbol, reason, now_mono)
        self.public.follow_symbols(self.wanted, now_mono)

    def level3(self) -> Level3Session:
        session = Level3Session(
            state=self.state,
            listener=self.listener,
            settings=SessionSettings(level3_depth=self.depth),
            pacing=self._pacing(),
            token="a-token",
            symbols=[self.symbol],
            now_mono=self.now,
        )
        self.pump(session)
        return session

    def pump(self, session: PublicSession | Level3Session) -> list[dict[str, Any]]:
        """Let the session do what is due, and return its requests, pings left out."""
        session.on_deadline(self.now)
        requests = [json.loads(text) for text in session.to_send()]
        return [each for each in requests if each["method"] != "ping"]

    def ack(self, session: PublicSession | Level3Session, method: str, channel: str, req_id: int | None = None) -> None:
        result = {"channel": channel, "symbol": self.symbol}
        reply = {"method": method, "success": True, "result": result, "req_id": req_id}
        session.receive(json.dumps(reply), self.now)

    def ack_all(self, session: PublicSession | Level3Session, requests: list[dict[str, Any]]) -> None:
        """Acknowledge requests symbol by symbol."""
        for request in requests:
            for symbol in request["params"].get("symbol", [""]):
                result = {"channel": request["params"]["channel"]} | ({"symbol": symbol} if symbol else {})
                reply = {"method": request["method"], "success": True, "result": result}
                session.receive(json.dumps(reply), self.now)

    def refuse(
        self, session: PublicSession | Level3Session, request: dict[str, Any], error: str, symbol: str = ""
    ) -> None:
        reply = {"method": "subscribe", "success": False, "req_id": request["req_id"], "error": error}
        session.receive(json.dumps(reply | ({"symbol": symbol} if symbol else {})), self.now)

    def beat(self, session: PublicSession | Level3Session, seconds: int) -> list[dict[str, Any]]:
        """Let seconds pass with a heartbeat in each; return the requests."""
        asked = []
        for _ in range(seconds):
            self.now += 1
            session.receive('{"channel":"heartbeat"}', self.now)
            asked += self.pump(session)
        return asked

    @staticmethod
    def asked(requests: list[dict[str, Any]], channel: str) -> list[tuple[str, list[str]]]:
        """Return method and symbols of the requests of a channel."""
        params = [(each["method"], each["params"]) for each in requests]
        return [(method, each.get("symbol", [])) for method, each in params if each["channel"] == channel]

    @staticmethod
    def _pacing() -> Pacing:
        return Pacing(
            budget=Budget(rate_per_s=100, burst=100), resync_budget=Budget(rate_per_s=5, burst=5), jitter=lambda: 0.0
        )


@pytest.fixture
def make_desk():
    return Desk


@pytest.fixture
def sequence():
    return lambda name: read_sequence(OWN / name)


@pytest.fixture
def payloads() -> Path:
    """The folder of recorded payloads, or a skip."""
    root = Path(os.environ.get("KRAKENBOT_RECORDINGS", Path(__file__).parents[3].parent / "shared" / "kraken"))  # noqa: TID251  # tests find recordings by it
    folder = root / "payloads"
    if not folder.is_dir():
        pytest.skip("recorded payloads are absent: set KRAKENBOT_RECORDINGS to the folder that holds payloads/")
    return folder
