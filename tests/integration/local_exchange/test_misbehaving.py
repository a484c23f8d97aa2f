"""A hundred misbehaving clients at once on real sockets, and the 101st, who must not notice."""

from __future__ import annotations

import json
import zlib
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import anyio
import pytest
import websockets

pytestmark = pytest.mark.anyio
MISBEHAVE_S = 4.0


async def half_open(api: Any) -> None:
    """Begin an upgrade and never finish it."""
    host, port = api.urls["rest_url"].removeprefix("http://").split(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(b"GET /public/v2 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n")
        await anyio.sleep(MISBEHAVE_S)


async def flood(api: Any) -> None:
    """Send far more than the message rate allows."""
    async with api.connect("public", max_queue=1) as socket:
        for _ in range(3000):
            await socket.send('{"method":"ping"}')


async def garbage(api: Any) -> None:
    """Send what is no request."""
    async with api.connect("private") as socket:
        for text in (b"\x00\xff" * 50, "{" * 2000, "null", '{"method":"add_order","params":{"token":5}}', "\ud7ff"):
            await socket.send(text)
            await socket.recv()
        await socket.send("x" * (2 << 20))
        await socket.recv()


async def never_reading(api: Any) -> None:
    """Subscribe to everything and read nothing."""
    socket = await api.connect("public", max_queue=1, compression=None)
    for channel, extra in (("book", {"depth": 1000}), ("trade", {}), ("ticker", {"event_trigger": "bbo"})):
        params = {"channel": channel, "symbol": ["BTC/USD", "ETH/USD"], **extra}
        await socket.send(json.dumps({"method": "subscribe", "params": params}))
    await anyio.sleep(MISBEHAVE_S)
    socket.transport.abort()


async def reconnecting(api: Any) -> None:
    """Come and go without a goodbye."""
    for _ in range(10):
        socket = await api.connect("level3")
        await socket.recv()
        socket.transport.abort()


async def forging(api: Any) -> None:
    """Call with bad signatures and broken bodies."""
    for number in range(10):
        answer = await api.post("Balance", key="other", secret="Zm9yZ2Vk", as_json=number % 2 == 0)
        assert answer["error"][0] in ("EAPI:Invalid signature", "EGeneral:Temporary lockout")


KINDS: list[Callable[[Any], Awaitable[None]]] = [half_open, flood, garbage, never_reading, reconnecting, forging]


async def misbehave(kind: Callable[[Any], Awaitable[None]], api: Any) -> None:
    try:
        await kind(api)
    except (websockets.ConnectionClosed, OSError, anyio.BrokenResourceError):
        return


class WellBehaved:
    """A client that checks every book message and waits for every answer."""

    def __init__(self, public: Any, private: Any, token: str) -> None:
        self.public = public
        self.private = private
        self.token = token
        self.books: dict[str, dict[str, str]] = {"bids": {}, "asks": {}}
        self.verified = 0
        self.requests = 0
        self.heard: list[Any] = []

    async def read_book(self) -> None:
        params = {"channel": "book", "symbol": ["BTC/USD"]}
        await self.public.send(json.dumps({"method": "subscribe", "params": params}))
        while True:
            frame = json.loads(await self.public.recv(), parse_float=str, parse_int=str)
            if frame.get("channel") == "book":
                self.verify(frame["data"][0])

    def verify(self, data: dict[str, Any]) -> None:
        text = ""
        for name in ("asks", "bids"):
            side = self.books[name]
            for row in data[name]:
                side[row["price"]] = row["qty"]
                if Decimal(row["qty"]) == 0:
                    del side[row["price"]]
            best = sorted(side, key=Decimal, reverse=name == "bids")
            for price in best[10:]:
                del side[price]
            text += "".join(
                price.replace(".", "").lstrip("0") + side[price].replace(".", "").lstrip("0") for price in best[:10]
            )
        assert str(zlib.crc32(text.encode())) == data["checksum"]
        self.verified += 1

    async def ask(self, method: str, **params: Any) -> Any:
        """Send a request and return its reply."""
        self.requests += 1
        req_id = self.requests
        await self.private.send(
            json.dumps({"method": method, "params": params | {"token": self.token}, "req_id": req_id})
        )
        return await self.until(lambda frame: frame.get("req_id") == req_id)

    async def until(self, wanted: Callable[[Any], bool]) -> Any:
        """Return the first frame that is wanted, of those that came or will come."""
        for frame in self.heard:
            if wanted(frame):
                return frame
        with anyio.fail_after(15):
            while True:
                self.heard.append(json.loads(await self.private.recv()))
                if wanted(self.heard[-1]):
                    return self.heard[-1]


def says(exec_type: str, cl_ord_id: str) -> Callable[[Any], bool]:
    return lambda frame: any(
        (row.get("exec_type"), row.get("cl_ord_id")) == (exec_type, cl_ord_id) for row in frame.get("data", [])
    )


async def test_a_hundred_misbehaving_clients_do_not_disturb_the_101st(run_exchange):
    async with (
        run_exchange() as (api, exchange),
        api.connect("public") as public,
        api.connect("private") as private,
        anyio.create_task_group() as tasks,
    ):
        good = WellBehaved(public, private, await api.token())
        tasks.start_soon(good.read_book)
        assert (await good.ask("subscribe", channel="executions"))["success"]
        before = exchange.counters["connections"]
        async with anyio.create_task_group() as bad:
            for number in range(100):
                bad.start_soon(misbehave, KINDS[number % len(KINDS)], api)
            trades = 0
            for number in range(8):
                order = {"symbol": "BTC/USD", "order_qty": 0.001, "cl_ord_id": f"order-{number}"}
                if number % 2:
                    placed = await good.ask("add_order", order_type="market", side="buy", **order)
                    await good.until(says("filled", f"order-{number}"))
                    trades += 1
                else:
                    placed = await good.ask("add_order", order_type="limit", side="buy", limit_price=1000.0, **order)
                    assert placed["success"], placed
                    assert (await good.ask("cancel_order", cl_ord_id=[f"order-{number}"]))["success"]
                    await good.until(says("canceled", f"order-{number}"))
                assert placed["success"], placed
                await anyio.sleep(0.3)
        verified = good.verified
        with anyio.fail_after(10):
            while good.verified < verified + 3:
                await anyio.sleep(0.05)
        tasks.cancel_scope.cancel()

    account = exchange.record.truth()["accounts"][0]
    assert ["canceled", "filled"] * 4 == [order["status"] for order in account["orders"]]
    assert trades == 4
    assert good.verified > 10
    assert exchange.counters["internal_errors"] == 0
    assert exchange.counters["connections"] >= before + 60
    assert exchange.counters["messages_over_rate"] > 1000
    assert exchange.record.truth()["accounts"][1]["orders"] == []
