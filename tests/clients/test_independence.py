"""The engine and the exchange share no code: a wrong checksum rule in either one is noticed by the other."""

from __future__ import annotations

import json
import tomllib
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from krakenbot.adapters.local_exchange import checksum as exchange_rule
from krakenbot.adapters.local_exchange.flow.instruments import load_instruments
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.keys import KeyRing
from krakenbot.adapters.local_exchange.matching.venue import Venue, VenueSettings
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.record import RecordOfTruth
from krakenbot.adapters.local_exchange.venue_clock import RunningClock
from krakenbot.domain.market import book as engine_books
from krakenbot.domain.market import queue as engine_queues
from krakenbot.domain.market.book import L2Book, Verdict
from krakenbot.domain.market.queue import L3Book

# The one has prices below one, the other sizes below one: digits with leading zeros to lose.
SYMBOLS = {"book": "DOGE/USD", "level3": "BTC/USD"}
START_NS = 1_790_000_000_000_000_000
WRONG_RULES = ["leading zeros stay", "trailing zeros go", "bids before asks", "nine levels"]


class Engine:
    """The engine's book at the end of the exchange's feed."""

    def __init__(self, book: Any) -> None:
        self._book = book
        self.verdicts: list[Verdict] = []

    def push(self, text: str) -> None:
        if Verdict.BAD in self.verdicts:
            return
        frame = json.loads(text, parse_float=float)
        (row,) = frame["data"]
        bids, asks = ([SimpleNamespace(**{"event": ""} | level) for level in row[side]] for side in ("bids", "asks"))
        put = self._book.load if frame["type"] == "snapshot" else self._book.apply
        self.verdicts.append(put(bids, asks, row["checksum"], row.get("timestamp", ""), 0.0))


def verdicts(channel: str) -> list[Verdict]:
    """Return what the engine says of a minute of the exchange's frames."""
    symbol = SYMBOLS[channel]
    rules = load_instruments()[symbol]
    venue = Venue({symbol: rules}, VenueSettings(seed=7))
    exchange = Exchange(venue, KeyRing(7), RecordOfTruth(venue, None), RunningClock(read_ns=lambda: venue.now_ns))
    venue.open(SeededFlow(dict(venue.markets), profile="edge", seed=7), START_NS)
    feed = exchange.public.symbols[symbol]
    kind = L2Book if channel == "book" else L3Book
    reader = Engine(kind(price_precision=rules.price_precision, qty_precision=rules.qty_precision, depth=10))
    reader.push((feed.read_book if channel == "book" else feed.read_level3)(reader, 10, START_NS))
    venue.advance(START_NS + 60 * 10**9)
    return reader.verdicts


class AsksPart(int):
    """The checksum of the asks, with the digits that it is of."""

    text: bytes


def bids_first(text: bytes, before: int | None = None) -> int:
    """Chain the two sides the wrong way round."""
    if isinstance(before, AsksPart):
        return zlib.crc32(before.text, zlib.crc32(text))
    part = AsksPart(zlib.crc32(text, before or 0))
    part.text = text
    return part


def padded(number: int, precision: int) -> str:
    return f"{number:0{precision + 1}d}"


def spoil_exchange(monkeypatch: pytest.MonkeyPatch, rule: str, rules: InstrumentRules) -> None:
    def price_and_lots(price: int, lots: int) -> str:
        if rule == "leading zeros stay":
            return padded(price, rules.price_precision) + padded(lots, rules.qty_precision)
        return f"{price}{lots}".rstrip("0")

    def level(self: Any, key: int) -> str:
        return price_and_lots(abs(key), self._side.levels[key].size_lots)

    def orders(self: Any, key: int) -> str:
        return "".join(price_and_lots(abs(key), o.remaining_lots) for o in self._side.levels[key].orders.values())

    match rule:
        case "nine levels":
            monkeypatch.setattr(exchange_rule, "LEVELS", 9)
        case "bids before asks":
            monkeypatch.setattr(exchange_rule, "crc32", bids_first)
        case _:
            monkeypatch.setattr(exchange_rule.Level2Digits, "_level", level)
            monkeypatch.setattr(exchange_rule.Level3Digits, "_level", orders)


def spoil_engine(monkeypatch: pytest.MonkeyPatch, rule: str, rules: InstrumentRules) -> None:
    right_price = L2Book._price
    is_padded = rule == "leading zeros stay"

    def price(self: Any, key: float) -> str:
        text = right_price(self, key)
        self._prices[key] = text = padded(int(text), rules.price_precision) if is_padded else text.rstrip("0")
        return text

    def text(self: Any) -> bytes:
        queues = [(abs(key), self.levels[key].values()) for key in self.keys[:10]]
        spoilt = [(price, padded(int(lots), rules.qty_precision), lots) for price, queue in queues for lots in queue]
        return "".join(f"{price}{long if is_padded else lots.rstrip('0')}" for price, long, lots in spoilt).encode()

    match rule:
        case "nine levels":
            monkeypatch.setattr(engine_books, "CHECKSUM_LEVELS", 9)
            monkeypatch.setattr(engine_queues, "CHECKSUM_LEVELS", 9)
        case "bids before asks":
            monkeypatch.setattr(engine_books, "crc32", bids_first)
            monkeypatch.setattr(engine_queues, "crc32", bids_first)
        case _:
            monkeypatch.setattr(L2Book, "_price", price)
            monkeypatch.setattr(engine_queues._QueueSide, "text", text)


@pytest.mark.parametrize("channel", ["book", "level3"])
def test_both_right_rules_agree_on_every_frame(channel):
    found = verdicts(channel)

    assert {Verdict.GOOD} == set(found)
    assert len(found) > 100


@pytest.mark.parametrize("channel", ["book", "level3"])
@pytest.mark.parametrize("rule", WRONG_RULES)
@pytest.mark.parametrize("spoil", [spoil_exchange, spoil_engine])
def test_a_wrong_rule_on_one_side_is_noticed(channel, rule, spoil, monkeypatch):
    spoil(monkeypatch, rule, load_instruments()[SYMBOLS[channel]])

    assert Verdict.BAD in verdicts(channel)


def test_the_import_contract_keeps_both_apart():
    document = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    forbidden = {
        (source, target)
        for contract in document["tool"]["importlinter"]["contracts"]
        if contract["type"] == "forbidden"
        for source in contract["source_modules"]
        for target in contract["forbidden_modules"]
    }
    exchange = "krakenbot.adapters.local_exchange"
    engine = ["krakenbot.domain", "krakenbot.ports", "krakenbot.adapters.kraken", "krakenbot.adapters.postgres"]

    assert {(exchange, part) for part in engine} <= forbidden
    assert {(part, exchange) for part in engine} <= forbidden
