"""Whatever a venue sends, the sessions answer with an event or a counted error, never with an exception."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from krakenbot.domain.values import Side, Symbol

BTC = Symbol("BTC/USD")
FIXTURES = [HealthCheck.function_scoped_fixture]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
channels = st.sampled_from(["book", "level3", "ticker", "trade", "instrument", "status", "heartbeat", "executions"])
odd_numbers = st.sampled_from([0, -1, 1e-12, 1e17, 9e17, 1e300, 2**63, 2**70, "1", None, True, 0.1, 99.9, float("nan")])
odd_levels = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "price": odd_numbers, "qty": odd_numbers, "limit_price": odd_numbers, "order_qty": odd_numbers,
            "order_id": st.sampled_from(["A", "B", "", None, 7]),
            "event": st.sampled_from(["add", "modify", "delete", "x", ""]),
            "timestamp": st.sampled_from(["2026-11-22T10:00:00.000000001Z", "", "zzz", None]),
        },
    ),
    max_size=4,
)  # fmt: skip
odd_rows = st.fixed_dictionaries(
    {"symbol": st.sampled_from(["BTC/USD", "ETH/USD", "", 7])},
    optional={
        "bids": odd_levels, "asks": odd_levels, "checksum": odd_numbers | st.integers(0, 2**32),
        "timestamp": st.sampled_from(["2026-11-22T10:00:00.000001Z", "2020-01-01T00:00:00Z", "", "zzz", None]),
        "bid": odd_numbers, "ask": odd_numbers, "last": odd_numbers, "volume": odd_numbers,
        "side": st.sampled_from(["buy", "x"]),
        "price": odd_numbers, "qty": odd_numbers, "trade_id": odd_numbers,
        "system": st.sampled_from(["online", "odd", 1]),
        "pairs": json_values,
    },
)  # fmt: skip
odd_frames = st.fixed_dictionaries(
    {},
    optional={
        "channel": channels, "type": st.sampled_from(["snapshot", "update", "x"]),
        "data": st.lists(odd_rows, max_size=3) | json_values,
        "method": st.sampled_from(["subscribe", "unsubscribe", "pong", "error", 1]),
        "success": st.booleans() | st.none(),
        "req_id": odd_numbers, "result": json_values | st.just({"channel": "book", "symbol": "BTC/USD"}),
        "error": st.text(max_size=30) | st.none(), "symbol": st.just("BTC/USD"), "Error": st.text(max_size=5),
    },
).map(json.dumps)  # fmt: skip


def follow_places(queue):
    """Follow what can be followed, as probes and own orders do: their accounts are written in the receive loop."""
    for side in Side:
        for price in queue.prices(side, 2):
            queue.places.join(side, price, 1)
            for order_id, _ in queue.orders(side, price)[:2]:
                queue.places.follow(order_id)


def feed_both(make_desk, texts):
    desk = make_desk(BTC, 1, 8)
    level3 = desk.level3()
    for text in texts:
        desk.now += 0.1
        follow_places(desk.state.queues[BTC])
        for session in (desk.public, level3):
            session.receive(text, desk.now)
            session.on_deadline(desk.now)
            session.to_send()
            session.next_deadline()
            desk.quarantined()
    for book in [*desk.state.books.values(), *desk.state.queues.values()]:
        if not book.is_valid:
            assert book.invalid_reason
    queue = desk.state.queues[BTC]
    for side in Side:
        for price in queue.prices(side, 10):
            assert queue.level(side, price, 0) is not None
        desk.state.books[BTC].levels(side, 10)
    assert desk.state.books[BTC].updated_at_ns >= 0
    return desk


@settings(max_examples=100, deadline=None, suppress_health_check=FIXTURES)
@given(texts=st.lists(st.text(max_size=60) | st.binary(max_size=60), max_size=5))
def test_any_text_or_bytes(make_desk, texts):
    feed_both(make_desk, texts)


@settings(max_examples=200, deadline=None, suppress_health_check=FIXTURES)
@given(texts=st.lists(odd_frames, min_size=1, max_size=8))
def test_any_frame_of_the_right_outline(make_desk, texts):
    feed_both(make_desk, texts)


@settings(max_examples=100, deadline=None, suppress_health_check=FIXTURES)
@given(data=st.data())
def test_recorded_frames_with_bytes_changed(make_desk, sequence, data):
    frames = [text.encode() for text in sequence("btcusd-d10-a.tsv").frames[:6]]
    frames += [text.encode() for text in sequence("level3-btcusd-d10.tsv").frames[:3]]
    for index, frame in enumerate(frames):
        at = data.draw(st.integers(0, len(frame) - 1))
        cut = data.draw(st.integers(0, 3))
        frames[index] = frame[:at] + data.draw(st.binary(max_size=2)) + frame[at + cut :]
    feed_both(make_desk, frames)


def test_deep_nesting_and_huge_exponents_are_counted(make_desk):
    deep = '{"channel":"book","data":' + "[" * 100_000 + "]" * 100_000 + "}"
    huge = '{"channel":"trade","type":"update","data":[{"symbol":"BTC/USD","price":1e99999999}]}'
    desk = feed_both(make_desk, [deep, huge])

    assert 2 == desk.state.errors["public: malformed book"] + desk.state.errors["public: malformed trade"]
