"""F20 to F30: what goes wrong with executions and tokens, seen by a client that shares no code with the exchange."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from decimal import Decimal

import anyio
import pytest
import websockets

pytestmark = pytest.mark.anyio
FLOW = "still"
_ids = itertools.count(1)


@pytest.fixture
def cl_ord_id():
    return f"p-{next(_ids)}"


@pytest.fixture(autouse=True)
async def no_orders_left(client):
    yield
    await client.post("CancelAll")


async def test_f20_gap_in_the_sequence(client, cl_ord_id):
    async with (
        client.fault("at executions.new: skip sequence by 2", hits=1),
        client.socket("private", "executions") as socket,
    ):
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        pending = await socket.rows("pending_new")
        new = await socket.rows("new")
        await socket.send("cancel_order", cl_ord_id=[cl_ord_id])
        cancelled = await socket.rows("canceled")

    assert [2, 5, 6] == [frame["sequence"] for frame in (pending, new, cancelled)]


async def test_f20_sequence_said_twice_and_started_again(client, cl_ord_id):
    async with (
        client.fault("at executions.pending_new: duplicate", "at executions.canceled: restart sequence", hits=1),
        client.socket("private", "executions") as socket,
    ):
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        frames = [await socket.rows("pending_new"), await socket.rows("pending_new"), await socket.rows("new")]
        await socket.send("cancel_order", cl_ord_id=[cl_ord_id])
        frames.append(await socket.rows("canceled"))

    assert [2, 2, 3, 1] == [frame["sequence"] for frame in frames]
    assert frames[0] == frames[1]


async def test_f21_ack_after_the_fill(client, cl_ord_id):
    async with (
        client.fault("at add_order.ack: delay by 700 ms", hits=1),
        client.socket("private", "executions") as socket,
    ):
        await socket.send("add_order", **client.market_order(cl_ord_id=cl_ord_id))
        await socket.rows("filled")

        assert not any('"method":"add_order"' in text for text in socket.texts)
        assert (await socket.ack("add_order"))["success"]


async def test_f21_fill_after_the_ack(client, cl_ord_id):
    async with (
        client.fault("at executions.trade: delay by 700 ms"),
        client.socket("private", "executions") as socket,
    ):
        await socket.send("add_order", **client.market_order(cl_ord_id=cl_ord_id))
        await socket.ack("add_order")

        assert not any('"exec_type":"trade"' in text for text in socket.texts)
        assert cl_ord_id == (await socket.rows("trade"))["data"][0]["cl_ord_id"]


async def test_f21_cancel_report_before_the_ack_of_the_order(client, cl_ord_id):
    async with (
        client.fault("at add_order.ack: delay by 700 ms", "add_order: delay by 1 ms", hits=1),
        client.socket("private", "executions") as socket,
    ):
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        await socket.rows("new")
        await socket.send("cancel_order", cl_ord_id=[cl_ord_id])
        await socket.rows("canceled")

        assert not any('"method":"add_order"' in text for text in socket.texts)
        await socket.ack("add_order")


async def test_f22_pending_new_lost_and_a_trade_with_the_order_id_only(client, cl_ord_id):
    keep = "exec_type order_id exec_id last_qty last_price cost fees order_status"
    lines = ("at executions.pending_new: lose", f"at executions.trade: keep only {keep}")
    async with client.fault(*lines), client.socket("private", "executions") as socket:
        await socket.send("add_order", **client.market_order(cl_ord_id=cl_ord_id))
        trade = await socket.rows("trade")
        ack = await socket.ack("add_order")

    assert not any("pending_new" in text for text in socket.texts)
    assert not {"cl_ord_id", "symbol", "side"} & set(trade["data"][0])
    assert ack["result"]["order_id"] == trade["data"][0]["order_id"]


async def test_f23_the_same_execution_twice_in_one_frame_and_in_two(client, cl_ord_id):
    async with (
        client.fault("on 1st executions.trade: double rows", hits=1),
        client.socket("private", "executions") as socket,
    ):
        await socket.send("add_order", **client.market_order(cl_ord_id=cl_ord_id))
        rows = (await socket.rows("trade"))["data"]
    history = (await client.post("TradesHistory"))["result"]["trades"]

    assert 2 == len(rows)
    assert rows[0] == rows[1]
    assert rows[0]["exec_id"] in history
    async with (
        client.fault("once at executions.trade: duplicate", hits=1),
        client.socket("private", "executions") as socket,
    ):
        await socket.send("add_order", **client.market_order())

        assert await socket.rows("trade") == await socket.rows("trade")


async def test_f24_more_fills_than_a_snapshot_holds_while_the_feed_is_away(client):
    async with client.socket("private", "executions") as socket, client.fault("from 1st private.upgrade: answer 503"):
        missed = await client.make_fills(51)
        with pytest.raises(websockets.InvalidStatus):
            async with client.connect("private"):
                pass
        assert socket.raw.state is websockets.protocol.State.OPEN
    async with client.socket("private", "executions", snap_trades=True) as socket:
        snapshot = await socket.data("executions", "snapshot")

    assert 50 == len([row for row in snapshot["data"] if row["exec_type"] == "trade"])
    assert missed > 50


async def test_f25_partial_fill_races_the_cancel(client, cl_ord_id):
    async with (
        client.fault("at cancel_order: fill 50 % of the order of trader", hits=1),
        client.socket("private", "executions") as socket,
    ):
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        await socket.ack("add_order")
        await socket.send("cancel_order", cl_ord_id=[cl_ord_id])
        trade = await socket.rows("trade")
        cancelled = await socket.rows("canceled")
    order = await client.truth(cl_ord_id)

    assert Decimal("0.005") == trade["data"][0]["last_qty"] == cancelled["data"][0]["cum_qty"]
    assert ("canceled", Decimal("0.005")) == (order["status"], Decimal(order["filled_qty"]))


async def test_f25_fill_races_the_amendment(client, cl_ord_id):
    async with (
        client.fault("at amend_order: fill the order of trader", hits=1),
        client.socket("private", "executions") as socket,
    ):
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        await socket.ack("add_order")
        await socket.send("amend_order", cl_ord_id=cl_ord_id, order_qty=0.02)
        reply = await socket.ack("amend_order")

    assert "EOrder:Unknown order" == reply["error"]
    assert "filled" == (await client.truth(cl_ord_id))["status"]


async def test_f25_fill_before_the_expiry_is_told_late(client, cl_ord_id):
    expires = datetime.fromtimestamp(client.exchange.clock_ns() // 10**9 + 2, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    order = client.far_order(levels=20, cl_ord_id=cl_ord_id, time_in_force="gtd", expire_time=expires)
    lines = ("at executions.trade: delay by 2.2 s", "at ping: fill 50 % of the order of trader")
    async with client.fault(*lines, hits=1), client.socket("private", "executions") as socket:
        await socket.send("add_order", **order)
        assert (await socket.ack("add_order"))["success"]
        await socket.send("ping")
        expired = await socket.rows("expired")
        trade = await socket.rows("trade")

    assert Decimal("0.005") == expired["data"][0]["cum_qty"] == trade["data"][0]["last_qty"]
    assert trade["sequence"] < expired["sequence"]


async def test_f26_a_trade_and_the_filled_report_are_lost_and_cum_qty_jumps(client, cl_ord_id):
    lines = ("on 1st executions.trade: lose", "at executions.filled: lose")
    async with client.fault(*lines, hits=1), client.socket("private", "executions") as socket:
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        await socket.ack("add_order")
        for percent in (40, 50, 100):
            await client.script(f"after 1 ms: fill {percent} % of the order of trader")
            await anyio.sleep(0.1)
        second, third = await socket.rows("trade"), await socket.rows("trade")
        await socket.send("ping")
        await socket.ack("pong")

    assert second["data"][0]["cum_qty"] > second["data"][0]["last_qty"]
    assert "0.01" == str(third["data"][0]["cum_qty"]).rstrip("0")
    assert not any('"exec_type":"filled"' in text for text in socket.texts)


async def test_f27_unknown_exec_type(client, cl_ord_id):
    async with (
        client.fault('at executions.new: set data.0.exec_type to "mystery"', hits=1),
        client.socket("private", "executions") as socket,
    ):
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        row = (await socket.rows("mystery"))["data"][0]

    assert cl_ord_id == row["cl_ord_id"]


async def test_f28_the_venue_cancels_our_order_with_a_reason(client, cl_ord_id):
    async with client.socket("private", "executions") as socket:
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        await socket.ack("add_order")
        async with client.fault('after 1 ms: cancel order of trader reason "Market halted"', hits=1):
            row = (await socket.rows("canceled"))["data"][0]

    assert (cl_ord_id, "Market halted") == (row["cl_ord_id"], row["reason"])


async def test_f28_the_venue_cancels_all_orders(client, cl_ord_id):
    async with client.socket("private", "executions") as socket:
        for name in (cl_ord_id, f"{cl_ord_id}-b"):
            await socket.send("add_order", **client.far_order(cl_ord_id=name))
            await socket.ack("add_order")
        async with client.fault("after 1 ms: cancel orders of trader", hits=1):
            rows = [(await socket.rows("canceled"))["data"][0] for _ in range(2)]

    assert {cl_ord_id, f"{cl_ord_id}-b"} == {row["cl_ord_id"] for row in rows}


async def test_f28_a_foreign_order_appears(client):
    price = client.far_order()["limit_price"]
    async with client.socket("private", "executions") as socket:
        await socket.data("executions", "snapshot")
        line = f"after 1 ms: place order of trader buy 0.01 {client.symbol} at {price}"
        async with client.fault(line, hits=1):
            row = (await socket.rows("pending_new"))["data"][0]

    assert "cl_ord_id" not in row
    assert client.symbol == row["symbol"]


async def test_f29_token_expired_before_its_use(client):
    token = (await client.post("GetWebSocketsToken"))["result"]["token"]
    async with client.fault("at private.subscribe: expire tokens", hits=1), client.socket("private") as socket:
        await socket.raw.send(f'{{"method":"subscribe","params":{{"channel":"executions","token":"{token}"}}}}')
        reply = await socket.ack("subscribe")

    assert "ESession:Invalid session" == reply["error"]


async def test_f29_key_revoked_in_mid_session(client, cl_ord_id):
    token = (await client.post("GetWebSocketsToken", key="spare"))["result"]["token"]
    async with client.socket("private") as socket:
        async with client.fault("after 1 ms: revoke key spare", hits=1):
            await anyio.sleep(0.05)
            order = client.far_order(cl_ord_id=cl_ord_id, token=token)
            socket._token = {}
            await socket.send("add_order", **order)
            reply = await socket.ack("add_order")
        answer = await client.post("Balance", key="spare")

    assert "ESession:Invalid session" == reply["error"]
    assert ["EAPI:Invalid key"] == answer["error"]


@pytest.mark.parametrize(
    ("line", "kind", "status"),
    [
        ("add_order: drop", "far", None),
        ("add_order: accept then drop the connection", "far", "new"),
        ("add_order: accept then drop the connection", "market", "filled"),
    ],
)
async def test_f30_connection_dies_between_order_and_ack(client, cl_ord_id, line, kind, status):
    order = client.far_order(cl_ord_id=cl_ord_id) if kind == "far" else client.market_order(cl_ord_id=cl_ord_id)
    async with client.fault(line, hits=1), client.socket("private", "executions") as socket:
        await socket.data("executions", "snapshot")
        await socket.send("add_order", **order)
        texts = await socket.frames_until_end()
    found = await client.truth(cl_ord_id)

    assert status == (found and found["status"])
    assert not any(cl_ord_id in text for text in texts)
