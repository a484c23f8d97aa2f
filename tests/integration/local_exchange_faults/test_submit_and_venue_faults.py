"""F50 to F62: lost answers to orders, refusals, the dead man's switch, and the venue's own changes."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import anyio
import pytest

pytestmark = pytest.mark.anyio
FLOW = "still"
_ids = itertools.count(1)


@pytest.fixture
def cl_ord_id():
    return f"s-{next(_ids)}"


@pytest.fixture(autouse=True)
async def no_orders_left(client):
    yield
    await client.post("CancelAll")


async def no_answer(socket):
    """Wait until a ping is answered, and tell that no answer to an order was."""
    await socket.send("ping")
    await socket.ack("pong")

    assert not any('"method":"add_order"' in text for text in socket.texts)


# F50: six outcomes of an order whose answer is lost.


@pytest.mark.parametrize(
    ("lines", "kind", "outcome"),
    [
        (["at add_order.ack: lose"], "far", ("new", "0")),
        (["at add_order.ack: lose"], "market", ("filled", "0.01")),
        (["at add_order.ack: lose", "at ping: fill 50 % of the order of trader"], "far", ("partially_filled", "0.005")),
        (["at add_order.ack: lose"], "too small", None),
        (["add_order: lose"], "far", None),
    ],
)
async def test_f50_lost_answer(client, cl_ord_id, lines, kind, outcome):
    order = client.market_order() if kind == "market" else client.far_order()
    order["cl_ord_id"] = cl_ord_id
    if kind == "too small":
        order["order_qty"] = 0.00000001
    async with client.fault(*lines, hits=1), client.socket("private") as socket:
        await socket.send("add_order", **order)
        await no_answer(socket)
    found = await client.truth(cl_ord_id)

    assert outcome == (found and (found["status"], f"{Decimal(found['filled_qty']).normalize():f}"))


async def test_f50_delayed_to_just_before_the_deadline_and_past_it(client, cl_ord_id):
    late = f"{cl_ord_id}-late"
    async with (
        client.fault("on 1st add_order: delay by 300 ms", "on 2nd add_order: delay by 1600 ms", hits=1),
        client.socket("private") as socket,
    ):
        for name in (cl_ord_id, late):
            now_ns = client.exchange.clock_ns()
            deadline = f"{_rfc3339(now_ns + 1_500_000_000)}"
            await socket.send("add_order", **client.far_order(cl_ord_id=name, deadline=deadline))
            reply = await socket.ack("add_order")

    assert "EService:Deadline elapsed" == reply["error"]
    assert "new" == (await client.truth(cl_ord_id))["status"]
    assert await client.truth(late) is None


def _rfc3339(at_ns):
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_ns // 1000)).isoformat()


# F52 to F54: refusals, failing cancels, the dead man's switch.


@pytest.mark.parametrize(
    "error",
    [
        "EOrder:Insufficient funds",
        "EOrder:Post only order",
        "EOrder:Order minimum not met",
        "EOrder:Tick size check failed",
        "EOrder:Rate limit exceeded",
        "EOrder:Orders limit exceeded",
        "EGeneral:Invalid arguments:cl_ord_id",
    ],
)
async def test_f52_reject_codes(client, cl_ord_id, error):
    async with client.fault(f'add_order: refuse "{error}"', hits=1), client.socket("private") as socket:
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        reply = await socket.ack("add_order")

    assert (False, error, 7) == (reply["success"], reply["error"], reply["req_id"])
    assert await client.truth(cl_ord_id) is None


async def test_f53_cancel_fails_because_the_order_was_filled(client, cl_ord_id):
    async with (
        client.fault("at cancel_order: fill the order of trader", hits=1),
        client.socket("private") as socket,
    ):
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        await socket.ack("add_order")
        await socket.send("cancel_order", cl_ord_id=[cl_ord_id])
        reply = await socket.ack("cancel_order")

    assert "EOrder:Unknown order" == reply["error"]
    assert "filled" == (await client.truth(cl_ord_id))["status"]


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ('at cancel_order: refuse "EService:Unavailable"', "new"),
        ('at cancel_order: refuse "EService:Unavailable" after executing', "canceled"),
    ],
)
async def test_f53_cancel_is_refused_and_was_executed_or_not(client, cl_ord_id, line, status):
    async with client.fault(line, hits=1), client.socket("private") as socket:
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        await socket.ack("add_order")
        await socket.send("cancel_order", cl_ord_id=[cl_ord_id])
        reply = await socket.ack("cancel_order")

    assert "EService:Unavailable" == reply["error"]
    assert status == (await client.truth(cl_ord_id))["status"]


async def test_f53_cancel_gets_no_answer(client, cl_ord_id):
    async with client.fault("at cancel_order: lose", hits=1), client.socket("private") as socket:
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        await socket.ack("add_order")
        await socket.send("cancel_order", cl_ord_id=[cl_ord_id])
        await socket.send("ping")
        await socket.ack("pong")

    assert not any('"method":"cancel_order"' in text for text in socket.texts)
    assert "new" == (await client.truth(cl_ord_id))["status"]


async def test_f54_dead_mans_switch_fires_while_we_live(client, cl_ord_id):
    async with client.socket("private", "executions") as socket:
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        await socket.ack("add_order")
        async with client.fault("after 1 ms: fire the dead-man-switch of trader", hits=1):
            row = (await socket.rows("canceled"))["data"][0]

    assert cl_ord_id == row["cl_ord_id"]


async def test_f54_dead_mans_switch_fires_while_we_are_down(client, cl_ord_id):
    async with client.socket("private") as socket:
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        await socket.ack("add_order")
        async with client.fault("at ping: drop private", "after 50 ms: fire the dead-man-switch of trader", hits=1):
            await socket.send("ping")
            await socket.frames_until_end()
            await anyio.sleep(0.1)
    async with client.socket("private", "executions") as socket:
        snapshot = await socket.data("executions", "snapshot")

    assert [] == snapshot["data"]
    assert "canceled" == (await client.truth(cl_ord_id))["status"]


async def test_f54_arming_is_lost_and_disarming_comes_late(client, cl_ord_id):
    lines = ("on 1st cancel_all_orders_after: lose", "on 3rd cancel_all_orders_after: delay by 1.3 s")
    async with client.fault(*lines, hits=1), client.socket("private", "executions") as socket:
        account = client.exchange.venue.accounts["trader"]
        await socket.send("add_order", **client.far_order(cl_ord_id=cl_ord_id))
        await socket.ack("add_order")
        await socket.send("cancel_all_orders_after", timeout=60)
        await socket.send("ping")
        await socket.ack("pong")
        armed_at_ns = account.cancel_all_at_ns
        await socket.send("cancel_all_orders_after", timeout=1)
        await socket.ack("cancel_all_orders_after")
        await socket.send("cancel_all_orders_after", timeout=0)
        row = (await socket.rows("canceled"))["data"][0]
        reply = await socket.ack("cancel_all_orders_after")

    assert armed_at_ns is None
    assert cl_ord_id == row["cl_ord_id"]
    assert "0" == reply["result"]["triggerTime"]


# F60 to F62: modes, instruments, fees, balances.


async def test_f60_a_sequence_of_modes_with_an_open_order(client, cl_ord_id):
    order = client.far_order(post_only=True)
    outcomes = {}
    async with client.socket("private", "executions") as socket:
        await socket.send("add_order", **{**order, "cl_ord_id": cl_ord_id})
        await socket.ack("add_order")
        for mode in ("cancel_only", "maintenance", "post_only", "online"):
            async with client.fault(f"after 1 ms: mode {mode}", hits=1):
                status = await socket.frame(lambda frame: frame.get("channel") == "status")
                while status["data"][0]["system"] != mode:
                    status = await socket.frame(lambda frame: frame.get("channel") == "status")
            await socket.send("add_order", **order)
            outcomes[mode] = (await socket.ack("add_order")).get("error")
            if mode == "maintenance":
                await socket.send("cancel_order", cl_ord_id=[cl_ord_id])
                outcomes["cancel"] = (await socket.ack("cancel_order")).get("error")
    await client.post("CancelAll")

    assert "EService:Market in cancel_only mode" == outcomes["cancel_only"]
    assert "EService:Unavailable" == outcomes["maintenance"] == outcomes["cancel"]
    assert (None, None) == (outcomes["post_only"], outcomes["online"])


async def test_f61_instrument_and_fees_change_while_trading(client, cl_ord_id):
    symbol = list(client.exchange.venue.markets)[1]
    async with client.socket("public", "instrument") as socket:
        await socket.data("instrument", "snapshot")
        async with client.fault(f"after 1 ms: instrument {symbol} minimum 7", hits=1):
            minimum = (await socket.data("instrument", "update"))["data"]["pairs"][0]
        async with client.fault(f"after 1 ms: instrument {symbol} price step 1", hits=1):
            step = (await socket.data("instrument", "update"))["data"]["pairs"][0]
        async with client.fault(f"after 1 ms: instrument {symbol} status delisted", hits=1):
            status = (await socket.data("instrument", "update"))["data"]["pairs"][0]

    assert (symbol, 7) == (minimum["symbol"], minimum["qty_min"])
    assert 1 == step["price_increment"]
    assert "delisted" == status["status"]
    async with client.fault("at rest.AddOrder: fees of trader maker 1 taker 100 bps", hits=1):
        sale = {"pair": client.symbol, "type": "sell", "ordertype": "market", "volume": "0.01"}
        await client.post("AddOrder", cl_ord_id=cl_ord_id, **sale)
    order = await client.truth(cl_ord_id)

    assert abs(Decimal(order["fee"]) / Decimal(order["cost"]) - Decimal("0.01")) < Decimal("0.00001")


async def test_f62_balance_changes_from_outside(client):
    before = (await client.post("Balance"))["result"]["ZUSD"]
    async with client.socket("private", "balances") as socket:
        await socket.data("balances", "snapshot")
        async with client.fault("after 1 ms: change balance of trader by -100.5 USD", hits=1):
            row = (await socket.data("balances", "update"))["data"][0]
    after = (await client.post("Balance"))["result"]["ZUSD"]

    assert ("USD", Decimal("-100.5")) == (row["asset"], row["amount"])
    assert Decimal(before) - Decimal("100.5") == Decimal(after) == row["balance"]


async def test_an_action_that_finds_nothing_to_act_on_is_counted_so(client):
    ids = await client.script(
        "after 1 ms: cancel order of trader\nafter 1 ms: change balance of trader by -1000000000 USD"
    )
    await anyio.sleep(0.1)
    counts = [await client.hits(rule_id) for rule_id in ids]
    await client.clear()

    assert [(1, 1), (1, 1)] == counts
