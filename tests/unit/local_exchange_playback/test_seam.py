"""The seam: what readers and resting orders see when the recording ends and seeded flow takes over."""

from __future__ import annotations

from typing import Any

import pytest

from krakenbot.adapters.local_exchange.playback.recording_format import RecordingError

UNIT = 10**6
# A realistic price: seeded flow knows what a coin is worth.
MID = 650_000
BIDS = {MID - 1 - n: (5 + n) * UNIT for n in range(25)}
ASKS = {MID + 1 + n: (5 + n) * UNIT for n in range(25)}
LEVEL3_BIDS = {price: [(f"O{price}1", lots - UNIT), (f"O{price}2", UNIT)] for price, lots in list(BIDS.items())[:10]}
LEVEL3_ASKS = {price: [(f"O{price}1", lots - UNIT), (f"O{price}2", UNIT)] for price, lots in list(ASKS.items())[:10]}


@pytest.fixture
def recorded(script: Any) -> Any:
    script.ack(0, "trade")
    script.ack(0, "book", depth=25)
    script.book(1, BIDS, ASKS, depth=25)
    script.trade(10, (77, "sell", MID - 1, UNIT))
    return script


def with_level3(script: Any) -> Any:
    script.ack(0, "level3", c="level3-1", depth=10)
    script.level3(1, LEVEL3_BIDS, LEVEL3_ASKS)
    return script


def end(script: Any, at_ms: float = 1000) -> Any:
    script.line(at_ms, '{"channel":"heartbeat"}')
    return script.close()


def seam_of(played: Any) -> dict[str, Any]:
    seam: dict[str, Any] = played.flow.parameters()["seam"]["BTC/USD"]
    return seam


@pytest.mark.parametrize("has_level3", [False, True])
def test_readers_of_every_depth_keep_right_books_over_the_seam(
    recorded: Any, play: Any, books_type: Any, *, has_level3: bool
) -> None:
    if has_level3:
        with_level3(recorded)
    played = play(end(recorded), at_end="seeded")
    wanted = [("book", 25), ("book", 10), *([("level3", 10)] if has_level3 else [])]
    readers = {(channel, depth): played.subscribe(channel, depth=depth) for channel, depth in wanted}
    tickers, trades = played.subscribe("ticker", more=',"event_trigger":"bbo"'), played.subscribe("trade")
    played.to(50)
    resting = played.order("buy", 3 * UNIT, MID - 2)
    inside = played.order("buy", 2 * UNIT, MID)
    played.to(1001)
    played.to(6000)

    for (channel, depth), reader in readers.items():
        books = books_type(depth)
        for text in reader.data(channel):
            books.read(text)
        assert books.frames > 20
        assert '"type":"snapshot"' in reader.data(channel)[0]
        assert not any('"type":"snapshot"' in text for text in reader.data(channel)[1:])
    assert len(tickers.data("ticker")) > 3
    assert len(trades.data("trade")) > 1
    assert resting.is_open or resting.filled_lots
    assert inside.is_open or inside.filled_lots
    # No match of the live part takes an id of the recorded one.
    assert all(trade.trade_id > 77 for trade in played.market.trades[1:])


def test_the_seam_is_reported(recorded: Any, play: Any) -> None:
    played = play(end(recorded), at_end="seeded")
    played.subscribe("book", depth=25)
    assert {} == played.flow.parameters()["seam"]
    played.to(50)
    played.order("buy", 3 * UNIT, MID - 2)
    played.order("buy", 3 * UNIT, MID - 3, account=played.bob)
    played.to(1000)
    seam = seam_of(played)

    assert (2.0, 2, 0) == (seam["at_s"], seam["client_orders"], seam["withdrawn_crossing_lots"])
    assert MID == seam["mid_before_ticks"] == seam["mid_after_ticks"]
    assert 1 == seam["books_with_differences"]
    streams = {"book": [25], "level3": [], "ticker": [], "trade": True, "places_by": "volume"}
    assert streams == played.flow.parameters()["streams"]["BTC/USD"]
    assert seam["adopted_orders"] >= 50
    assert played.flow.parameters()["has_ended"]


def test_without_clients_nothing_differs_at_the_seam(recorded: Any, play: Any) -> None:
    played = play(end(recorded), at_end="seeded")
    for depth in (10, 25):
        played.subscribe("book", depth=depth)
    played.to(1000)

    assert 0 == seam_of(played)["books_with_differences"]


@pytest.mark.parametrize("has_level3", [False, True])
def test_an_order_enters_the_live_book_behind_what_is_left_ahead_of_it(
    recorded: Any, play: Any, *, has_level3: bool
) -> None:
    if has_level3:
        with_level3(recorded)
    # One of the five at the best bid is gone before the order comes, two after it.
    recorded.trade(100, (78, "sell", MID - 1, 2 * UNIT))
    played = play(end(recorded), at_end="seeded")
    played.to(50)
    order = played.order("buy", 3 * UNIT, MID - 1)
    played.to(1000)

    level = played.market.book.bids.levels[MID - 1]
    ahead = 0
    for other in level.orders.values():
        if other is order.resting:
            break
        ahead += other.remaining_lots
    # With ids the two lots' trade took them from the front order of four.
    assert 3 * UNIT == ahead
    assert 8 * UNIT == level.size_lots
    assert 3 * UNIT == level.client_lots
    assert 0 == order.filled_lots


def test_volume_that_crosses_an_order_without_a_trade_is_withdrawn_at_the_seam(
    recorded: Any, play: Any, books_type: Any
) -> None:
    # The ask comes down to the client's price, and nobody trades.
    crossing = {price: lots for price, lots in ASKS.items() if price > MID + 5} | {MID: 4 * UNIT, MID + 1: UNIT}
    recorded.book(200, BIDS, crossing, depth=25)
    played = play(end(recorded), at_end="seeded")
    reader = played.subscribe("book", depth=25)
    played.to(50)
    order = played.order("buy", 3 * UNIT, MID)
    played.to(1000)

    assert 0 == order.filled_lots
    assert 4 * UNIT == seam_of(played)["withdrawn_crossing_lots"]
    assert MID == played.market.best("buy")
    assert played.market.best("sell") == MID + 1
    books = books_type(25)
    for text in reader.data("book"):
        books.read(text)


def test_deeper_recorded_levels_join_a_book_that_follows_level3(recorded: Any, play: Any) -> None:
    played = play(end(with_level3(recorded)), at_end="seeded")
    reader = played.subscribe("book", depth=25)
    played.to(999)
    assert len(played.market.levels("buy", 100)) == 10
    played.to(1000)

    assert 30 == seam_of(played)["deeper_levels"]
    assert list(BIDS.items()) == played.market.levels("buy", 25)
    assert 1 == len(reader.data("book"))


def test_seeded_flow_needs_a_price_of_every_asset(tmp_path: Any, script: Any, play: Any) -> None:
    pair = (
        b'{"pairs":[{"symbol":"BTC/USD","base":"NOCOIN","quote":"USD","status":"online","qty_precision":8,'
        b'"qty_increment":1e-08,"price_precision":1,"cost_precision":5,"cost_min":0.5,"price_increment":0.1,'
        b'"qty_min":5e-05}]}'
    )
    other = type(script)(tmp_path / "other", instruments=pair)
    other.book(1, BIDS, ASKS, depth=25)
    folder = other.close()

    with pytest.raises(RecordingError, match="no reference price of NOCOIN; use --at-end"):
        play(folder, at_end="seeded")
    assert play(folder, at_end="stop").market.rules.base == "NOCOIN"
