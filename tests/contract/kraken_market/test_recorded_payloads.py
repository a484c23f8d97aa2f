"""All recorded payloads of the types that we read: parsed to the same figures, or refused as documented."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from krakenbot.adapters.kraken.codec.envelope import decode_reply
from krakenbot.adapters.kraken.codec.market import InstrumentFrame, decode_frame, decode_instruments
from krakenbot.domain.values import Symbol

# precisions of the symbols that occur in payloads
PRECISIONS = {"BTC/USD": (1, 8), "ETH/USD": (2, 8), "MATIC/USD": (4, 8), "ETH/USDT": (4, 8), "MINA/GBP": (4, 8)}
# shortened or edited by those who published them (README of the recordings): their checksums cannot match
BOOKS_THAT_CANNOT_VERIFY = {"krakenasyncrs-1.json"}
LEVEL3_THAT_CANNOT_VERIFY = {"krakenasyncrs-1.json", "krakennet-2.json"}
ROQ_PRECISIONS = {"roq-1.json": (2, 8)}


def files(payloads: Path, kind: str) -> list[tuple[str, str]]:
    found = sorted((payloads / "ws" / kind).glob("*.json"))
    assert found
    return [(path.name, path.read_text()) for path in found]


def exact(text: str) -> Any:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def test_statuses_are_read(payloads, make_desk):
    for name, text in files(payloads, "status"):
        desk = make_desk(Symbol("BTC/USD"), 1, 8)
        desk.public.receive(text, desk.now)

        assert (name, exact(text)["data"][0]["system"]) == (name, desk.state.venue_status)
        assert {} == desk.state.errors


def test_heartbeats_and_pongs_are_counted(payloads, make_desk):
    for kind in ("heartbeat", "pong"):
        for _, text in files(payloads, kind):
            desk = make_desk(Symbol("BTC/USD"), 1, 8)
            desk.public.receive(text, desk.now)

            assert 1 == desk.state.frames[kind]
            assert {} == desk.state.errors


def test_refused_ping_and_malformed_request_are_named_errors(payloads, make_desk):
    refused = [text for _, text in files(payloads, "ping") if "error" in text]
    refused += [text for _, text in files(payloads, "error-resp")]

    assert len(refused) >= 2
    for text in refused:
        desk = make_desk(Symbol("BTC/USD"), 1, 8)
        desk.public.receive(text, desk.now)

        assert [f"public: {exact(text)['error'][:60]}"] == list(desk.state.errors)


@pytest.mark.parametrize("kind", ["subscribe-resp", "unsubscribe-resp"])
def test_replies_say_what_the_venue_said(payloads, kind):
    for name, text in files(payloads, kind):
        reply, said = decode_reply(text), exact(text)

        assert (name, said["success"]) == (name, reply.success)
        assert said["method"] == reply.method
        assert said.get("error", "") == reply.error
        assert said.get("symbol", "") == reply.symbol
        if said["success"]:
            assert reply.result is not None
            assert said["result"]["channel"] == reply.result.channel
            assert said["result"].get("symbol", "") == reply.result.symbol


def test_instruments_keep_every_figure_exactly(payloads):
    texts = files(payloads, "instrument")
    texts += [
        (name, text)
        for name, text in captured(payloads, "book-d25-btcusd-k2-head.jsonl")
        if '"instrument"' in text and '"method"' not in text
    ]
    for name, text in texts:
        frame = decode_frame(text)
        assert isinstance(frame, InstrumentFrame)
        instruments, refused = decode_instruments(frame.data)
        pairs = {pair["symbol"]: pair for pair in exact(text)["data"]["pairs"]}

        assert (name, 0) == (name, refused)
        assert set(pairs) == {each.symbol for each in instruments}
        for each in instruments:
            pair = pairs[each.symbol]
            for key in ("price_increment", "qty_increment", "qty_min", "cost_min", "price_precision", "qty_precision"):
                assert (key, pair[key]) == (key, getattr(each, key))
            assert pair["status"] == each.status.value


def test_full_instrument_snapshot_of_the_live_venue_is_read(payloads):
    text = (payloads.parent / "recordings" / "instrument-snapshot.json").read_text()
    frame = decode_frame(text)
    assert isinstance(frame, InstrumentFrame)
    instruments, refused = decode_instruments(frame.data)

    assert (683, 0) == (len(instruments), refused)


def test_tickers_are_read_or_refused_when_fields_are_missing(payloads, make_desk):
    for name, text in files(payloads, "ticker"):
        rows = exact(text)["data"]
        symbol = rows[0].get("symbol", "BTC/USD")
        desk = make_desk(Symbol(symbol), *PRECISIONS[symbol])
        desk.public.receive(text, desk.now)
        if "symbol" not in rows[0]:
            assert (name, {"public: malformed ticker": 1}) == (name, desk.state.errors)
            continue
        [(ticker,)] = desk.listener.of("ticker")

        assert {} == desk.state.errors
        for key in ("bid", "ask", "last"):
            assert (name, float(rows[0][key])) == (name, getattr(ticker, key))
        assert float(rows[0]["volume"]) == ticker.volume_24h


def test_trades_are_read_exactly(payloads, make_desk):
    for name, text in files(payloads, "trade"):
        rows = exact(text)["data"]
        desk = make_desk(Symbol(rows[0]["symbol"]), 4, 8)
        desk.public.receive(text, desk.now)
        [(trades, is_snapshot)] = desk.listener.of("trades")

        assert {} == desk.state.errors
        assert (exact(text)["type"] == "snapshot") == is_snapshot
        said = [(row["trade_id"], row["side"], row["price"] * 10**4, row["qty"] * 10**8) for row in rows]
        assert (name, said) == (name, [(t.trade_id, t.side, t.price_ticks, t.size_lots) for t in trades])


def test_book_snapshots_verify_but_for_those_that_were_shortened(payloads, make_desk):
    verified = set()
    for name, text in files(payloads, "book"):
        frame = exact(text)
        symbol = frame["data"][0]["symbol"]
        precisions = ROQ_PRECISIONS.get(name) or PRECISIONS.get(symbol, (1, 8))
        desk = make_desk(Symbol(symbol), *precisions, 25)
        desk.public.receive(text, desk.now)
        if frame["type"] != "snapshot":
            # there is no book to apply it to: not applied, and said so
            assert (name, 1) == (name, desk.state.frames["book before resubscription"])
        elif name in BOOKS_THAT_CANNOT_VERIFY:
            assert (name, {"book: checksum mismatch": 1}) == (name, desk.state.errors)
        else:
            assert (name, {}) == (name, desk.state.errors)
            verified.add(name)

    assert verified >= {"docs-1.json", "docs-2.json", "gctfork-1.json", "wo008b-1.json", "k2-1.json", "roq-1.json"}


def test_level3_payloads_verify_but_for_those_that_were_shortened(payloads, make_desk):
    for name, text in files(payloads, "level3"):
        frame = exact(text)
        symbol = frame["data"][0]["symbol"]
        desk = make_desk(Symbol(symbol), *PRECISIONS[symbol])
        desk.level3().receive(text, desk.now)
        if frame["type"] != "snapshot":
            assert (name, 1) == (name, desk.state.frames["level3 before resubscription"])
        elif name in LEVEL3_THAT_CANNOT_VERIFY:
            assert (name, {"level3: checksum mismatch": 1}) == (name, desk.state.errors)
        else:
            assert (name, 1) == (name, desk.state.l3.ok)
            assert {} == desk.state.errors


@pytest.mark.parametrize(
    ("name", "frames", "depth"),
    [
        ("book-d10-btcusd-wo008b.jsonl", 41, 10),
        ("book-d10-btcusd-gctfork.jsonl", 20, 10),
        ("book-d25-btcusd-k2-head.jsonl", 43, 25),
    ],
)
def test_captures_verify_frame_by_frame_as_sent(payloads, make_desk, name, frames, depth):
    desk = make_desk(Symbol("BTC/USD"), 1, 8, depth)
    for _, text in captured(payloads, name):
        if '"channel":"book"' in text and '"method"' not in text:
            desk.public.receive(text, desk.now)

    assert (frames, 0) == (desk.state.l2.ok, desk.state.l2.bad)
    assert {} == desk.state.errors


def test_capture_with_a_resync_verifies_as_sent(payloads, make_desk):
    symbol = Symbol("MINA/GBP")
    desk = make_desk(symbol, 4, 8, 25)
    for _, text in captured(payloads, "book-d25-minagbp-resync-depthcharge.jsonl"):
        frame = exact(text)
        if frame.get("method") == "unsubscribe" and "success" in frame:
            desk.public.resync(symbol, "as recorded", desk.now)
            desk.pump(desk.public)
        if "params" not in frame:
            desk.public.receive(text, desk.now)
            desk.pump(desk.public)

    assert (19, 0) == (desk.state.l2.ok, desk.state.l2.bad)
    assert {} == desk.state.errors


def test_level3_capture_verifies_as_sent(payloads, make_desk):
    desk = make_desk(Symbol("BTC/USD"), 1, 8)
    session = desk.level3()
    for _, text in captured(payloads, "level3-d10-btcusd-gctfork.jsonl"):
        session.receive(text, desk.now)

    assert (4, 0) == (desk.state.l3.ok, desk.state.l3.bad)


def captured(payloads: Path, name: str) -> list[tuple[str, str]]:
    return [(name, frame_text(line)) for line in (payloads / "captures" / name).read_text().splitlines()]


def frame_text(line: str) -> str:
    """Return the frame as sent, out of the wrapper that some recorders put around it."""
    marker = '"frame":'
    return line[line.index(marker) + len(marker) : line.rindex("}")] if line.startswith('{"dir"') else line
