"""Errors that only a scripted refusal produces: of funding, margin and accounts not here, or of a broken venue."""

from __future__ import annotations

from decimal import Decimal

import pytest

pytestmark = pytest.mark.anyio
FLOW = "still"
SCRIPTED = [
    "EAccount:Invalid permissions:BTC trading restricted",
    "EAuth:Account temporary disabled",
    "EAuth:Account unconfirmed",
    "EAuth:Failed",
    "EAuth:Rate limit exceeded",
    "EAuth:Too many requests",
    "EOrder:Domain rate limit exceeded",
    "EOrder:Positions limit exceeded",
    "EOrder:Scheduled orders limit exceeded",
    "EService:Busy",
    "EGeneral:Internal error",
    "EGeneral:Internal error:42",
    "EOrder:Cannot open opposing position",
    "EOrder:Margin allowance exceeded",
    "EOrder:Margin level too low",
    "EOrder:Margin position size exceeded",
    "EOrder:Insufficient margin",
    "EBM:limit exceeded:CAL",
    "ETrade:Invalid request",
    "ETrade:Locked",
    "EAPI:Feature disabled",
    "EFunding:Unknown withdraw key",
]


def rest_order(client):
    price = Decimal(str(client.far_order()["limit_price"]))
    return {"pair": client.symbol, "type": "buy", "ordertype": "limit", "volume": "0.01", "price": str(price)}


@pytest.mark.parametrize("error", SCRIPTED)
async def test_a_script_produces_the_text_once_on_both_ways(client, error):
    order = rest_order(client)
    lines = [f'once at add_order: refuse "{error}"', f'once at rest.AddOrder: refuse "{error}"']
    async with client.socket("private") as socket, client.fault(*lines, hits=1):
        key = client.exchange.keys.keys["full"]
        before = (client.exchange.record.sequence, key.last_nonce)
        await socket.send("add_order", **client.far_order())
        over_ws = await socket.ack("add_order")
        over_rest = await client.post("AddOrder", **order)
        after = (client.exchange.record.sequence, key.last_nonce)

    assert (False, error) == (over_ws["success"], over_ws["error"])
    assert {"error": [error]} == over_rest
    assert before == after


async def test_a_request_after_the_refused_one_passes(client):
    async with client.fault('once at rest.Balance: refuse "EService:Busy"', hits=1):
        refused = await client.post("Balance")
        passed = await client.post("Balance")

    assert {"error": ["EService:Busy"]} == refused
    assert ([], {"XXBT", "XETH", "ZUSD"}) == (passed["error"], set(passed["result"]))
