"""The file of the ingest benchmark: a turn ends where the next begins, as a market would get there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.bench._wire import Wire, content_of, wire_of

from krakenbot.adapters.local_exchange.playback.recording_format import SocketPath
from krakenbot.adapters.local_exchange.playback.writer import RecordingWriter

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
