"""How much of what is over an account keeps in memory."""

from __future__ import annotations

import io
import json
from decimal import Decimal

import pytest

from krakenbot.adapters.local_exchange.protocol.rest_history import History
from krakenbot.adapters.local_exchange.protocol.rest_public import RestError

ROUNDS = 5


def trade_and_cancel(desk):
    """Close two orders a round: one filled, one cancelled; each fill makes two bookings."""
    closed = []
    for _ in range(ROUNDS):
        desk.market.place("sell", 1000, 1000)
        closed.append(desk.order(desk.alice, "buy", "0.1", "100.0"))
        order = desk.order(desk.alice, "buy", "0.1", "90.0")
        desk.venue.cancel_order(desk.alice, order.order_id, None)
        closed.append(order)
        desk.venue.advance(desk.venue.now_ns + 10_000_000_000)
    return closed


def test_the_oldest_of_what_is_over_leaves_memory(make_desk):
    desk = make_desk(keep_closed=3)
    resting = desk.order(desk.alice, "buy", "0.1", "89.0")
    closed = trade_and_cancel(desk)
    truth = desk.record.truth()
    alice = truth["accounts"][0]

    assert [resting.order_id, *(order.order_id for order in closed[-3:])] == [o["order_id"] for o in alice["orders"]]
    assert [closed[-6].order_id, closed[-4].order_id, closed[-2].order_id] == [f["order_id"] for f in alice["fills"]]
    assert {"orders": 7, "fills": 2, "ledger": 7} == alice["dropped"]
    assert (11, 1, 5) == tuple(truth["counts"][name] for name in ("orders", "open_orders", "fills"))
    assert 3 == len(desk.alice.ledger)
    assert desk.alice.balance("ABC") == Decimal("10.5")


def test_dropped_orders_are_unknown_and_their_fills_are_left_out_of_snapshots(make_desk, make_frames):
    desk = make_desk(keep_closed=3)
    closed = trade_and_cancel(desk)
    key = desk.keys.keys["alice"]
    reader = make_frames()
    desk.exchange.private.read_executions(reader, desk.alice, snap_orders=True, snap_trades=True, order_status=True)
    (snapshot,) = reader.take()

    assert [closed[-2].order_id] == [row["order_id"] for row in snapshot["data"]]
    assert 3 == History(desk.exchange).closed_orders(key, {})["count"]
    with pytest.raises(RestError, match="Unknown order"):
        History(desk.exchange).query_orders(key, {"txid": closed[0].order_id})


def test_the_record_is_the_same_whatever_is_kept(make_desk):
    files = [io.BytesIO(), io.BytesIO()]
    for file, keep_closed in zip(files, (1, 50_000), strict=True):
        trade_and_cancel(make_desk(file, keep_closed=keep_closed))

    assert files[0].getvalue() == files[1].getvalue()
    assert ROUNDS == sum(json.loads(line)["kind"] == "traded" for line in files[0].getvalue().splitlines())
