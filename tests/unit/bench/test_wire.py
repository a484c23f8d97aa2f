"""The file of the ingest benchmark: a turn ends where the next begins, as a market would get there."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

from tests.bench._wire import Wire, content_of, wire_of

from krakenbot.adapters.kraken.codec.market import decode_frame
from krakenbot.adapters.local_exchange.playback.recording_format import SocketPath
from krakenbot.adapters.local_exchange.playback.writer import RecordingWriter
from krakenbot.domain.market.book import L2Book, Verdict
from krakenbot.domain.values import Side

START_NS = 1_700_000_000_000_000_000


def _time(at_s: float) -> str:
    return f"2023-11-14T22:13:{20 + at_s:09.6f}Z"


def _ticker(kind: str, symbol: str, last: float, at_s: float) -> str:
    row = {"symbol": symbol, "bid": 1.0, "ask": 2.0, "last": last, "volume": 1.0, "timestamp": _time(at_s)}
    return json.dumps({"channel": "ticker", "type": kind, "data": [row]}, separators=(",", ":"))


def _trade(symbol: str, price: float, trade_id: int, at_s: float) -> str:
    row = {"symbol": symbol, "side": "buy", "price": price, "qty": 0.5, "ord_type": "market", "trade_id": trade_id}
    data = [row | {"timestamp": _time(at_s)}]
    return json.dumps({"channel": "trade", "type": "update", "data": data}, separators=(",", ":"))


def _wire(folder: Path, frames: list[tuple[float, str]]) -> Wire:
    path: SocketPath = "public"
    with RecordingWriter(folder / "recording", symbols=["A/USD", "B/USD"]) as writer:
        for at_s, text in frames:
            writer.write(START_NS + int(at_s * 1e9), "public-0", path, "in", text)
    return Wire(wire_of(folder / "recording", len(frames)))


def _played(wire: Wire) -> list[dict[str, Any]]:
    """Return one turn."""
    content, at, frames = wire.file.read_bytes(), 0, []
    for size in wire.frame_sizes:
        frames.append(json.loads(content_of(content[at : at + size])))
        at += size
    return frames


FRAMES = [
    (0.0, _ticker("snapshot", "A/USD", 1.5, 0.0)),
    (0.0, _ticker("snapshot", "B/USD", 1.5, 0.0)),
    (0.1, _ticker("update", "B/USD", 1.5, 0.1)),
    (0.2, _trade("A/USD", 1.75, 1, 0.2)),
    (0.3, _ticker("update", "A/USD", 1.75, 0.3)),
    (0.9, _ticker("update", "B/USD", 1.5, 0.9)),
]


def test_a_turn_leads_the_last_price_back_by_a_trade(tmp_path):
    wire = _wire(tmp_path, FRAMES)
    last, moved_alone, traded = {"A/USD": 1.5, "B/USD": 1.5}, [], {}
    for frame in _played(wire) * 2:
        row = frame["data"][0]
        if frame["channel"] == "trade":
            traded[row["symbol"]] = row["price"]
        elif row["last"] != last[row["symbol"]]:
            last[row["symbol"]] = row["last"]
            if row["last"] != traded.get(row["symbol"]):
                moved_alone.append(row["symbol"])

    assert moved_alone == []
    assert traded == {"A/USD": 1.5}


def test_a_turn_uses_up_the_id_of_the_trade_that_leads_back(tmp_path):
    wire = _wire(tmp_path, FRAMES)
    ids = [frame["data"][0]["trade_id"] for frame in _played(wire) if frame["channel"] == "trade"]

    assert ids == [1, 2]
    assert wire.trades == {"A/USD": 2}
    assert wire.messages == len(_played(wire))


def test_the_way_back_comes_right_after_the_last_of_trade_and_ticker(tmp_path):
    played = _played(_wire(tmp_path, FRAMES))

    assert [(frame["channel"], frame["data"][0]["symbol"]) for frame in played] == [
        ("ticker", "B/USD"),
        ("trade", "A/USD"),
        ("ticker", "A/USD"),
        ("trade", "A/USD"),
        ("ticker", "A/USD"),
        ("ticker", "B/USD"),
    ]
    assert played[3]["data"][0]["timestamp"] == played[2]["data"][0]["timestamp"]


def _checksum(bids: dict[str, str], asks: dict[str, str]) -> int:
    def text(levels: dict[str, str], *, best_is_high: bool) -> str:
        ordered = sorted(levels, key=float, reverse=best_is_high)[:10]
        return "".join(n.replace(".", "").lstrip("0") for price in ordered for n in (price, levels[price]))

    return crc32((text(asks, best_is_high=False) + text(bids, best_is_high=True)).encode())


def _books() -> Iterator[tuple[float, str]]:
    """Record four books of 12 to 14 levels a side, whose levels come and go."""
    for number in range(4):
        bids = {f"{90 - level}.0": "1.00" for level in range(12)}
        asks = {f"{91 + level}.0": "2.00" for level in range(12)}

        def frame(kind: str, at_s: float, changed: dict[str, str], books: Any = (bids, asks), n: int = number) -> str:
            is_bid = {price: float(price) < 90.5 for price in changed}
            row: dict[str, Any] = {"symbol": f"{n}/USD"}
            for name, wanted in (("bids", True), ("asks", False)):
                row[name] = [{"price": p, "qty": q} for p, q in changed.items() if is_bid[p] is wanted]
            row |= {"checksum": _checksum(*books), "timestamp": _time(at_s)}
            text = json.dumps({"channel": "book", "type": kind, "data": [row]}, separators=(",", ":"))
            return re.sub(r'"(price|qty)":"([0-9.]+)"', r'"\1":\2', text)

        yield 0.0, frame("snapshot", 0.0, bids | asks)
        for step, (price, qty) in enumerate(
            [("78.0", "3.00"), ("103.0", "1.00"), ("88.0", "0.00"), ("78.0", "0.00"), ("92.0", "0.00")]
        ):
            side = bids if float(price) < 90.5 else asks
            side[price] = qty
            if not float(qty):
                del side[price]
            yield 0.1 + step / 10, frame("update", 0.1 + step / 10, {price: qty})


def test_a_fourth_of_the_books_has_100_levels_at_every_time_and_passes_every_checksum(tmp_path):
    wire = _wire(tmp_path, sorted(_books(), key=lambda frame: frame[0]))
    books = {symbol: L2Book(price_precision=1, qty_precision=2, depth=100) for _, symbol in wire.snapshots}
    verdicts: Counter[Verdict] = Counter()
    counts: dict[str, set[int]] = {symbol: set() for symbol in books}
    content, at, texts = wire.file.read_bytes(), 0, []
    for size in wire.frame_sizes:
        texts.append(content_of(content[at : at + size]))
        at += size
    later = [text.replace(b"2000-", b"2001-") for text in texts]
    snapshots = [text.encode() for text in wire.snapshots.values()]
    for text in [*snapshots, *texts, *later]:
        frame: Any = decode_frame(text)
        row = frame.data[0]
        book = books[row.symbol]
        put = book.load if frame.type == "snapshot" else book.apply
        verdicts[put(row.bids, row.asks, row.checksum, row.timestamp, 0.0)] += 1
        counts[row.symbol].add(len(book.levels(Side.BUY, 200)))
        counts[row.symbol].add(len(book.levels(Side.SELL, 200)))

    assert verdicts == {Verdict.GOOD: 4 + 2 * 4 * 6}
    assert wire.deep_books == 1
    assert sorted(map(max, counts.values())) == [13, 13, 13, 100]
    assert {100} in counts.values()
