"""F40 to F44: what goes wrong with REST, seen by a client that shares no code with the exchange."""

from __future__ import annotations

import itertools
import json
from decimal import Decimal

import anyio
import httpx
import pytest

pytestmark = pytest.mark.anyio
FLOW = "still"
_ids = itertools.count(1)


@pytest.fixture
def cl_ord_id():
    return f"r-{next(_ids)}"


@pytest.fixture(autouse=True)
async def no_orders_left(client):
    yield
    await client.post("CancelAll")


def order(client, cl_ord_id):
    far = client.far_order()
    price = Decimal(str(far["limit_price"]))
    return {
        "pair": client.symbol,
        "type": "buy",
        "ordertype": "limit",
        "volume": "0.01",
        "price": str(price),
        "cl_ord_id": cl_ord_id,
    }


@pytest.mark.parametrize(
    ("line", "error", "is_there"),
    [
        ("at rest.AddOrder: hang", httpx.ReadTimeout, False),
        ("at rest.AddOrder: hang after executing", httpx.ReadTimeout, True),
        ("at rest.AddOrder: drop", httpx.TransportError, False),
        ("at rest.AddOrder: accept then drop the connection", httpx.TransportError, True),
        ("at rest.AddOrder: drop halfway", httpx.TransportError, True),
    ],
)
async def test_f40_no_answer_comes_and_the_order_is_there_or_not(client, cl_ord_id, line, error, is_there):
    async with client.fault(line, hits=1):
        with pytest.raises(error):
            await client.raw_post("AddOrder", timeout_s=0.4, **order(client, cl_ord_id))

    assert is_there == (await client.truth(cl_ord_id) is not None)


@pytest.mark.parametrize("status", [502, 503, 520])
@pytest.mark.parametrize("after", [False, True])
async def test_f41_a_page_instead_of_an_answer(client, cl_ord_id, status, after):
    async with client.fault(f"at rest.AddOrder: answer {status}{' after executing' if after else ''}", hits=1):
        answer = await client.raw_post("AddOrder", timeout_s=5, **order(client, cl_ord_id))

    assert status == answer.status_code
    assert answer.text.startswith("<!DOCTYPE html>")
    assert after == (await client.truth(cl_ord_id) is not None)


async def test_f41_a_page_with_status_200_and_nothing_at_all(client, cl_ord_id):
    async with client.fault("once at rest.AddOrder: answer html after executing", hits=1):
        answer = await client.raw_post("AddOrder", timeout_s=5, **order(client, cl_ord_id))

    assert 200 == answer.status_code
    assert answer.headers["content-type"].startswith("text/html")
    assert await client.truth(cl_ord_id) is not None
    async with client.fault("once at rest.Balance: answer empty", hits=1):
        answer = await client.raw_post("Balance", timeout_s=5)

    assert (200, b"") == (answer.status_code, answer.content)


async def test_f41_damaged_gzip_and_text_that_is_no_json(client):
    async with client.fault("at rest.Balance: damage gzip", hits=1):
        with pytest.raises(httpx.DecodingError):
            await client.raw_post("Balance", timeout_s=5)
    async with client.fault('at rest.Balance: answer text "{\\"error\\":["', hits=1):
        answer = await client.raw_post("Balance", timeout_s=5)

    with pytest.raises(json.JSONDecodeError):
        answer.json()


@pytest.mark.parametrize(
    "error",
    [
        "EService:Unavailable",
        "EService:Busy",
        "EGeneral:Internal error",
        "EAPI:Rate limit exceeded",
        "EAPI:Invalid nonce",
        "EGeneral:Temporary lockout",
        "EGeneral:Permission denied",
        "EService: Throttled: 1900000000",
    ],
)
async def test_f42_an_error_of_the_service_with_the_order_executed_or_not(client, cl_ord_id, error):
    async with client.fault(f'once at rest.AddOrder: refuse "{error}"', hits=1):
        answer = await client.post("AddOrder", **order(client, cl_ord_id))

    assert {"error": [error]} == answer
    assert await client.truth(cl_ord_id) is None
    async with client.fault(f'once at rest.AddOrder: refuse "{error}" after executing', hits=1):
        answer = await client.post("AddOrder", **order(client, cl_ord_id))

    assert {"error": [error]} == answer
    assert "new" == (await client.truth(cl_ord_id))["status"]


async def test_f43_an_order_is_invisible_for_a_while(client, cl_ord_id):
    await client.post("AddOrder", **order(client, cl_ord_id))
    async with client.fault("at rest.OpenOrders: hide orders for 1 s"):
        hidden = (await client.post("OpenOrders", cl_ord_id=cl_ord_id))["result"]["open"]
    await anyio.sleep(1)
    seen = (await client.post("OpenOrders", cl_ord_id=cl_ord_id))["result"]["open"]
    order_id = (await client.truth(cl_ord_id))["order_id"]

    assert {} == hidden
    assert [order_id] == list(seen)
    async with client.fault("at rest.QueryOrders: hide orders for 60 s", hits=1):
        assert ["EOrder:Unknown order"] == (await client.post("QueryOrders", txid=order_id))["error"]


async def test_f43_closed_orders_and_fills_are_invisible_for_a_while(client, cl_ord_id):
    sale = {"pair": client.symbol, "type": "sell", "ordertype": "market", "volume": "0.001", "cl_ord_id": cl_ord_id}
    await client.post("AddOrder", **sale)
    lines = ("at rest.TradesHistory: hide fills for 60 s", "at rest.ClosedOrders: hide orders for 60 s")
    async with client.fault(*lines, hits=1):
        closed = (await client.post("ClosedOrders"))["result"]
        fills = (await client.post("TradesHistory"))["result"]

    assert ({}, 0) == (closed["closed"], closed["count"])
    assert {} == fills["trades"]
    assert (await client.post("TradesHistory"))["result"]["count"] > 0


async def test_f43_a_row_comes_while_pages_are_read(client):
    await client.make_fills(53)
    first = list((await client.post("TradesHistory"))["result"]["trades"])
    async with client.fault("at rest.TradesHistory: shift pages by -1", hits=1):
        overlapping = list((await client.post("TradesHistory", ofs="50"))["result"]["trades"])
    async with client.fault("at rest.TradesHistory: shift pages by 1", hits=1):
        skipping = list((await client.post("TradesHistory", ofs="50"))["result"]["trades"])
    true = list((await client.post("TradesHistory", ofs="50"))["result"]["trades"])

    assert [first[-1], *true] == overlapping
    assert true[1:] == skipping


async def test_f44_rest_contradicts_the_feed(client, cl_ord_id):
    async with client.fault('at rest.QueryOrders: set result.*.status to "open"', hits=1):
        async with client.socket("private", "executions") as socket:
            await socket.send("add_order", **client.market_order(cl_ord_id=cl_ord_id))
            order_id = (await socket.rows("filled"))["data"][0]["order_id"]
        told = (await client.post("QueryOrders", txid=order_id))["result"][order_id]["status"]
    then = (await client.post("QueryOrders", txid=order_id))["result"][order_id]["status"]

    assert ("open", "closed") == (told, then)
    async with client.fault("at rest.BalanceEx: remove result.ZUSD", "at rest.Balance: delay by 50 ms", hits=1):
        assert "ZUSD" not in (await client.post("BalanceEx"))["result"]
        assert "ZUSD" in (await client.post("Balance"))["result"]
