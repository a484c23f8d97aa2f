"""What subscribers of a played-back market see: recorded texts, snapshots for late ones, other depths, gaps."""

from __future__ import annotations

import json
import zlib
from decimal import Decimal
from typing import Any

import pytest

BIDS = {1000 - n: 10**8 + n for n in range(10)}
ASKS = {1001 + n: 2 * 10**8 + n for n in range(10)}


def record_books(
    script: Any, *, depth: int = 10, bids: dict[int, int] = BIDS, asks: dict[int, int] = ASKS
) -> list[str]:
    """Write one connection's ack, snapshot and six updates, 100 ms apart; return the frames."""
    script.ack(0, "book", depth=depth)
    texts = [script.book(1, bids, asks, depth=depth)]
    for step in range(1, 7):
        bids = {price: lots + step * 1000 for price, lots in bids.items() if price != 1000 - step}
        bids[1000 - depth - step] = step * 10**7
        asks = asks | {1001: 10**8 * step}
        if step == 4:
            asks = {price: lots for price, lots in asks.items() if price != 1001} | {1100: 5}
        texts.append(script.book(step * 100, bids, asks, depth=depth))
    return texts


class Reader:
    """Keeps a book by the public rules from frames alone, and checks every checksum; raises on the first wrong one."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.sides: dict[str, dict[Decimal, tuple[str, str]]] = {"bids": {}, "asks": {}}

    def read(self, text: str) -> None:
        frame = json.loads(text, parse_float=str)
        row = frame["data"][0]
        if frame["type"] == "snapshot":
            self.sides = {"bids": {}, "asks": {}}
        for name, side in self.sides.items():
            for level in row[name]:
                price = Decimal(level["price"])
                side.pop(price, None)
                if Decimal(level["qty"]):
                    side[price] = (level["price"], level["qty"])
            for price in self._best(name)[self.depth :]:
                del side[price]
        digits = "".join(
            text.replace(".", "").lstrip("0")
            for name in ("asks", "bids")
            for price in self._best(name)[:10]
            for text in self.sides[name][price]
        )
        assert row["checksum"] == zlib.crc32(digits.encode())

    def _best(self, name: str) -> list[Decimal]:
        return sorted(self.sides[name], reverse=name == "bids")


def test_a_subscriber_before_the_start_gets_the_recording_byte_for_byte_at_its_spacing(script: Any, play: Any) -> None:
    texts = record_books(script)
    played = play(script.close())
    reader = played.subscribe("book", depth=10)
    seen = [len(reader.data("book"))]
    for step in range(1, 7):
        played.to(step * 100 - 1)
        seen.append(len(reader.data("book")))
    played.to(600)

    assert texts == reader.data("book")
    # The first frame of the recording is its start.
    assert [1, 1, 2, 3, 4, 5, 6] == seen
    assert played.counts["frames_played"] == 7
    assert "checksum_mismatches" not in played.counts


@pytest.mark.parametrize("joins_at", [50, 150, 450])
def test_a_later_subscriber_gets_a_snapshot_of_the_replayed_state_and_then_recorded_frames(
    script: Any, play: Any, joins_at: int
) -> None:
    texts = record_books(script)
    played = play(script.close())
    played.to(joins_at)
    reader = played.subscribe("book", depth=10)
    played.to(600)

    frames, model = reader.data("book"), Reader(10)
    for text in frames:
        model.read(text)
    assert texts[1 + joins_at // 100 :] == frames[1:]
    assert '"type":"snapshot"' in frames[0]
    assert (frames[0] in texts) == (joins_at == 50)


def test_smaller_depths_are_made_from_the_recorded_one_and_larger_ones_refused(script: Any, play: Any) -> None:
    levels = {1000 - n: 10**8 + n for n in range(25)}, {1001 + n: 10**8 + n for n in range(25)}
    record_books(script, depth=25, bids=levels[0], asks=levels[1])
    played = play(script.close())
    exact, made, refused, absent = (
        played.subscribe(channel, depth=depth)
        for channel, depth in (("book", 25), ("book", 10), ("book", 100), ("level3", 10))
    )
    played.to(350)
    late = played.subscribe("book", depth=10)
    played.to(600)

    for reader, depth in ((exact, 25), (made, 10), (late, 10)):
        model = Reader(depth)
        for text in reader.data("book"):
            model.read(text)
    assert len(made.data("book")) == 7
    for reader in (refused, absent):
        answer = json.loads(reader.texts[-1])
        assert (False, "Subscription depth not supported") == (answer["success"], answer["error"])


@pytest.mark.parametrize("ends_by", ["unsubscribe", "close"])
def test_who_leaves_hears_nothing_more(script: Any, play: Any, ends_by: str) -> None:
    levels = {1000 - n: 10**8 + n for n in range(25)}, {1001 + n: 10**8 + n for n in range(25)}
    script.ack(0, "trade")
    script.ack(0, "ticker")
    script.trade(1, (1, "buy", 1001, 5), kind="snapshot")
    script.ticker(1, "100.1", kind="snapshot")
    record_books(script, depth=25, bids=levels[0], asks=levels[1])
    script.trade(500, (2, "buy", 1001, 5))
    script.ticker(500, "100.2")
    played = play(script.close())
    asked = [("book", ',"depth":25'), ("book", ',"depth":10'), ("trade", ""), ("ticker", "")]
    asked.append(("ticker", ',"event_trigger":"bbo"'))
    readers = [played.subscribe(channel, more=more) for channel, more in asked]
    played.to(150)
    for (channel, more), reader in zip(asked, readers, strict=True):
        if ends_by == "close":
            reader.close()
        else:
            params = f'{{"channel":"{channel}","symbol":["BTC/USD"]{more}}}'
            reader.ask(f'{{"method":"unsubscribe","params":{params}}}')
    before = [len(reader.texts) for reader in readers]
    played.to(700)

    assert before == [len(reader.texts) for reader in readers]
    assert all('"success":true' in text for reader in readers for text in reader.texts if '"method"' in text)


def test_trades_and_tickers_are_handed_on_untouched(script: Any, play: Any) -> None:
    script.ack(0, "trade", snapshot="true")
    script.ack(0, "ticker", event_trigger='"bbo"')
    trades = [script.trade(1, (7, "buy", 1001, 10**8), (8, "sell", 1000, 5), kind="snapshot")]
    tickers = [script.ticker(2, "100.1", kind="snapshot")]
    record_books(script)
    for step in range(3):
        trades.append(script.trade(700 + 20 * step, (9 + step, "buy", 1002, 10**7)))
        tickers.append(script.ticker(710 + 20 * step, f"100.{step}"))
    played = play(script.close())
    early = [
        played.subscribe("trade", more=',"snapshot":true'),
        played.subscribe("ticker", more=',"event_trigger":"bbo"'),
    ]
    made = played.subscribe("ticker")
    played.to(725)
    late = [
        played.subscribe("trade", more=',"snapshot":true'),
        played.subscribe("ticker", more=',"event_trigger":"bbo"'),
    ]
    played.to(800)

    assert trades == early[0].data("trade")
    assert tickers == early[1].data("ticker")
    snapshot = json.loads(late[0].data("trade")[0])
    assert [7, 8, 9, 10] == [row["trade_id"] for row in snapshot["data"]]
    assert trades[-1:] == late[0].data("trade")[1:]
    row = json.loads(tickers[1])["data"]
    assert ("snapshot", row) == tuple(json.loads(late[1].data("ticker")[0])[name] for name in ("type", "data"))
    # The trigger that was not recorded is made: one update per print.
    assert len(made.data("ticker")) == 4
    assert json.loads(made.data("ticker")[-1])["data"][0]["last"] == 100.2


def test_a_resnapshot_inside_the_recording_resets_the_state_and_reaches_every_depth(script: Any, play: Any) -> None:
    script.ack(0, "book", depth=25)
    script.book(1, BIDS, ASKS, depth=25)
    script.book(100, BIDS | {1000: 5}, ASKS, depth=25)
    script.line(150, "", d="close")
    script.ack(900, "book", c="public-2", depth=25)
    late = script.book(901, {500: 7}, {501: 8}, c="public-2", depth=25)
    stale = script.book(902, BIDS | {1000: 6}, ASKS, depth=25)
    last = script.book(903, {500: 9}, {501: 8}, c="public-2", depth=25)
    played = play(script.close())
    exact, made = played.subscribe("book", depth=25), played.subscribe("book", depth=10)
    played.to(1000)

    assert [late, last] == exact.data("book")[-2:]
    assert stale not in exact.data("book")
    model = Reader(10)
    for text in made.data("book"):
        model.read(text)
    assert {Decimal("50.0"): ("50.0", "0.00000009")} == model.sides["bids"]
    assert (1, 1) == (played.counts["resnapshots"], played.counts["dropped_without_snapshot"])


def test_frames_that_cannot_be_played_are_counted_and_harm_nobody(script: Any, play: Any) -> None:
    script.line(0, "CloudFlare WebSocket proxy restarting")
    script.line(1, '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[]}]}')
    script.line(
        2, '{"channel":"book","type":"snapshot","data":[{"symbol":"ETH/USD","bids":[],"asks":[],"checksum":0}]}'
    )
    script.line(3, '{"channel":"book","type":"update","data":[{"symbol":"BTC/USD","bids":[],"asks":[],"checksum":0}]}')
    script.line(4, '{"channel":"heartbeat"}')
    script.line(5, '{"method":"subscribe","params":{"token":"..."}}', d="out")
    script.line(6, '{"channel":"executions","type":"snapshot","data":[]}', p="private")
    record_books(script)
    played = play(script.close())
    reader = played.subscribe("book")
    played.to(700)

    assert len(reader.data("book")) == 7
    assert (2, 1, 1) == tuple(
        played.counts[name] for name in ("not_understood", "symbol_not_listed", "dropped_without_snapshot")
    )


def test_level3_is_handed_on_and_late_readers_get_the_queues(script: Any, play: Any) -> None:
    queue = [("O1", 10**8), ("O2", 10**8), ("O3", 10**8)]
    script.ack(0, "level3", c="level3-1", depth=10)
    texts = [
        script.level3(1, {1000: queue}, {1001: [("O9", 5)]}),
        script.level3(100, {1000: [("O1", 10**8), ("O3", 10**8), ("O4", 7)]}, {1001: [("O9", 5)]}),
        script.level3(200, {1000: [("O1", 5), ("O3", 10**8), ("O4", 7)]}, {1001: [("O9", 5)]}),
    ]
    played = play(script.close())
    early = played.subscribe("level3", depth=10)
    played.to(150)
    late = played.subscribe("level3", depth=10)
    book = played.subscribe("book", depth=10)
    played.to(300)

    assert texts == early.data("level3")
    assert texts[-1:] == late.data("level3")[1:]
    snapshot = json.loads(late.data("level3")[0])["data"][0]
    assert ["O1", "O3", "O4"] == [row["order_id"] for row in snapshot["bids"]]
    assert snapshot["checksum"] == json.loads(texts[1])["data"][0]["checksum"]
    # No book was recorded, and none is made up from level3.
    assert json.loads(book.texts[-1])["error"] == "Subscription depth not supported"


def test_level3_of_a_smaller_depth_is_made_from_the_recorded_one(script: Any, play: Any) -> None:
    queues = {1000 - n: [(f"O{n * 2 + 1}", 10**8), (f"O{n * 2 + 2}", 50)] for n in range(12)}
    asks = {1001: [("O900", 5)]}
    script.ack(0, "level3", c="level3-1", depth=100)
    script.level3(1, queues, asks)
    after = {price: queue for price, queue in queues.items() if price != 999} | {1000: [("O2", 50), ("O800", 9)]}
    script.level3(100, after, asks)
    played = play(script.close())
    made = played.subscribe("level3", depth=10)
    played.to(200)

    snapshot, update = (json.loads(text)["data"][0] for text in made.data("level3"))
    assert 20 == len(snapshot["bids"])
    events = {(row["event"], row["order_id"]) for row in update["bids"]}
    assert {
        ("delete", "O1"), ("add", "O800"), ("delete", "O3"), ("delete", "O4"), ("add", "O21"), ("add", "O22")
    } == events  # fmt: skip


def test_a_loop_plays_the_recording_again(script: Any, play: Any) -> None:
    texts = record_books(script)
    played = play(script.close(), at_end="loop")
    reader = played.subscribe("book", depth=10)
    played.to(5000)

    assert texts * 3 == reader.data("book")[:21]
    assert played.counts["times_played"] >= 2


def test_a_recording_that_stops_leaves_its_last_books(script: Any, play: Any) -> None:
    record_books(script)
    played = play(script.close(), at_end="stop")
    played.to(600)
    last = played.market.levels("buy", 3)
    played.to(100_000)
    late = played.subscribe("book", depth=10)

    assert last == played.market.levels("buy", 3)
    Reader(10).read(late.data("book")[0])
    assert played.flow.parameters()["has_ended"]


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"instruments": b"null"}, "no instrument snapshot"),
        ({"symbols": ("BTC/USD", "XYZ/USD")}, "instrument snapshot lacks XYZ/USD"),
        ({"symbols": ()}, "names no symbol"),
        ({"instruments": b'{"pairs":[{"symbol":1}]}'}, "instrument snapshot: Expected `str`"),
    ],
)
def test_a_recording_without_its_instruments_is_refused(
    tmp_path: Any, play: Any, script: Any, header: dict[str, Any], why: str
) -> None:
    other = type(script)(tmp_path / "other", **header)
    record_books(other)

    with pytest.raises(ValueError, match=why):
        play(other.close())


def test_instruments_are_found_among_the_frames(tmp_path: Any, play: Any, script: Any) -> None:
    other = type(script)(tmp_path / "other", instruments=b"null")
    pair = json.dumps(json.loads(other_instruments()))
    other.line(0, f'{{"channel":"instrument","type":"snapshot","data":{pair}}}')
    record_books(other)

    assert play(other.close()).market.rules.qty_min_lots == 5000


def other_instruments() -> str:
    return (
        '{"assets":[],"pairs":[{"symbol":"BTC/USD","base":"BTC","quote":"USD","status":"online","qty_precision":8,'
        '"qty_increment":1e-08,"price_precision":1,"cost_precision":5,"has_index":true,"cost_min":0.5,'
        '"price_increment":0.1,"qty_min":5e-05}]}'
    )


def test_frames_that_do_not_fit_their_instrument_are_refused_by_name(tmp_path: Any, play: Any, script: Any) -> None:
    coarse = other_instruments().replace('"price_precision":1', '"price_precision":0').replace("0.1,", "1,")
    other = type(script)(tmp_path / "other", instruments=coarse.encode())
    record_books(other, bids={1005: 7})

    with pytest.raises(ValueError, match=r"the first book snapshot of BTC/USD: 100\.5 has more than 0 decimals"):
        play(other.close())
