"""Recorded sequences, restated in our own files: every checksum verifies through the session, frame by frame."""

from __future__ import annotations

from typing import Any

import pytest

from krakenbot.domain.values import Side

L2_SEQUENCES = {
    "btcusd-d10-a.tsv": 41,
    "btcusd-d10-b.tsv": 20,
    "btcusd-d25.tsv": 43,
    "vendor-btcusd.tsv": 1,
    "vendor-maticusd.tsv": 2,
    "ethusdt-d10.tsv": 1,
}


def desk_for(make_desk: Any, found: Any) -> Any:
    return make_desk(found.symbol, found.price_precision, found.qty_precision, found.depth)


@pytest.mark.parametrize(("name", "frames"), L2_SEQUENCES.items())
def test_every_checksum_of_a_recorded_l2_sequence_verifies(make_desk, sequence, name, frames):
    found = sequence(name)
    desk = desk_for(make_desk, found)
    for index, text in enumerate(found.frames):
        desk.public.receive(text, desk.now)

        assert index + 1 == desk.state.l2.ok
    assert frames == desk.state.l2.ok
    assert 0 == desk.state.l2.bad
    assert {} == desk.state.errors


def test_recorded_resync_asks_for_what_the_recording_client_asked(make_desk, sequence):
    found = sequence("minagbp-d25-resync.tsv")
    desk = desk_for(make_desk, found)
    asked = []
    for step in found.steps:
        if step == "unsubscribed":
            desk.public.resync(found.symbol, "asked by the test", desk.now)
            asked += desk.pump(desk.public)
            desk.ack(desk.public, "unsubscribe", "book")
            asked += desk.pump(desk.public)
        elif step == "subscribed":
            desk.ack(desk.public, "subscribe", "book")
        else:
            desk.public.receive(step, desk.now)

    assert (19, 0) == (desk.state.l2.ok, desk.state.l2.bad)
    assert {} == desk.state.errors
    assert ["unsubscribe", "subscribe"] == [request["method"] for request in asked]
    assert [25, 25] == [request["params"]["depth"] for request in asked]
    validity = [(valid, reason) for _, _, valid, reason in desk.listener.of("validity")]
    assert [(True, ""), (False, "asked by the test"), (True, "")] == validity


# at depth 25 most updates concern levels that no checksum covers
@pytest.mark.parametrize(
    ("name", "caught_at_least"), [("btcusd-d10-a.tsv", 21), ("btcusd-d10-b.tsv", 11), ("btcusd-d25.tsv", 11)]
)
def test_without_one_of_its_updates_a_recorded_sequence_ends_invalid_or_right(
    make_desk, sequence, name, caught_at_least
):
    found = sequence(name)
    whole = desk_for(make_desk, found)
    for text in found.frames:
        whole.public.receive(text, whole.now)
    invalid = 0
    for lost in range(1, len(found.frames)):
        desk = desk_for(make_desk, found)
        for index, text in enumerate(found.frames):
            if index != lost:
                desk.public.receive(text, desk.now)
        book = desk.state.books[found.symbol]
        if not book.is_valid:
            invalid += 1
        elif lost < len(found.frames) - 1:
            expected = whole.state.books[found.symbol]

            assert expected.levels(Side.BUY, 10) == book.levels(Side.BUY, 10)
            assert expected.levels(Side.SELL, 10) == book.levels(Side.SELL, 10)

    assert invalid >= caught_at_least


def test_every_checksum_of_the_level3_sequence_verifies(make_desk, sequence):
    found = sequence("level3-btcusd-d10.tsv")
    desk = desk_for(make_desk, found)
    session = desk.level3()
    for text in found.frames:
        session.receive(text, desk.now)

    assert (4, 0) == (desk.state.l3.ok, desk.state.l3.bad)
    assert {} == desk.state.errors


def test_vendor_level3_example_is_read_into_queues(make_desk, sequence):
    found = sequence("level3-btcusd-d10.tsv")
    desk = desk_for(make_desk, found)
    desk.level3().receive(found.frames[0], desk.now)
    queue = desk.state.queues[found.symbol]
    touch = queue.orders(Side.SELL, 449395)

    assert 449395 == queue.best(Side.SELL)
    assert [452308393, 111261, 100000, 1000000] == [lots for _, lots in touch[:4]]
    position = queue.position_of(touch[2][0])
    assert position is not None
    assert (452308393 + 111261, 2) == (position.ahead_lots, position.ahead_orders)
