"""One exchange per module, without latency, and clients that share no code with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import time
import urllib.parse
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Literal

import anyio
import httpx
import pytest
import websockets

from krakenbot.adapters.local_exchange.keys import parse_accounts
from krakenbot.adapters.local_exchange.latency import LatencySettings
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.server import Endpoints, serving
from krakenbot.adapters.local_exchange.venue_clock import RunningClock, VenueClock
from krakenbot.apps.exchange_building import build
from krakenbot.apps.exchange_options import ExchangeOptions, FlowKind

SECRET = base64.b64encode(b"a secret of the tests").decode()
ACCOUNTS = [
    {
        "name": "trader",
        "keys": [{"api_key": "full", "api_secret": SECRET}, {"api_key": "spare", "api_secret": SECRET}],
        "balances": {"USD": "2500000", "BTC": "100", "ETH": "1000"},
    }
]
_nonces = itertools.count(time.time_ns())
Frame = Any
Side = Literal["buy", "sell"]


class Client:
    """A raw client of one exchange: signed REST by hand, plain WebSockets, and the control port."""

    def __init__(self, endpoints: Endpoints, exchange: Exchange) -> None:
        self.urls = endpoints.urls()
        self.exchange = exchange
        self.symbol = next(iter(exchange.venue.markets))
        self._http = httpx.AsyncClient(base_url=self.urls["rest_url"], trust_env=False, timeout=5)

    async def script(self, text: str) -> list[int]:
        answer = await self._http.post("/control/faults", content=text)

        assert answer.status_code == 200, answer.text
        return list(answer.json()["ids"])

    async def control(self, method: str, path: str, content: bytes = b"") -> httpx.Response:
        return await self._http.request(method, f"/control/{path}", content=content)

    async def faults(self) -> Any:
        return (await self._http.get("/control/faults")).json()

    async def hits(self, rule_id: int) -> tuple[int, int]:
        """Return how often a rule was hit, and how many of those hits changed nothing."""
        rule = next(rule for rule in (await self.faults())["rules"] if rule["id"] == rule_id)
        return rule["hits"], rule["without_effect"]

    @asynccontextmanager
    async def fault(self, *lines: str, hits: int | None = None) -> AsyncIterator[None]:
        """Play a script; in the end every rule was hit (as often as told), and no hit was without effect."""
        ids = await self.script("\n".join(lines))
        try:
            yield
            for rule_id in ids:
                found, without_effect = await self.hits(rule_id)

                assert found == hits if hits is not None else found > 0, f"{lines}: hit {found} times"
                assert without_effect == 0, f"{lines}: a hit changed nothing"
        finally:
            await self.clear()

    async def clear(self) -> None:
        await self._http.delete("/control/faults")

    async def raw_post(self, name: str, *, timeout_s: float, key: str = "full", **params: str) -> httpx.Response:
        text = str(next(_nonces))
        body = urllib.parse.urlencode({"nonce": text, **params})
        path = f"/0/private/{name}"
        digest = hashlib.sha256((text + body).encode()).digest()
        signature = hmac.new(base64.b64decode(SECRET), path.encode() + digest, hashlib.sha512).digest()
        headers = {
            "API-Key": key,
            "API-Sign": base64.b64encode(signature).decode(),
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return await self._http.post(path, content=body, headers=headers, timeout=timeout_s)

    async def post(self, name: str, *, key: str = "full", **params: str) -> Any:
        return (await self.raw_post(name, timeout_s=5, key=key, **params)).json()

    async def get(self, path: str, **params: str) -> httpx.Response:
        return await self._http.get(path, params=params)

    def connect(self, path: str) -> Any:
        return websockets.connect(
            self.urls[f"ws_{path}_url"], proxy=None, ping_interval=None, max_size=None, max_queue=None
        )

    @asynccontextmanager
    async def socket(self, path: str, *channels: str, **params: Any) -> AsyncIterator[Socket]:
        """Connect and subscribe to channels; private ones with a fresh token."""
        token = {}
        if path != "public":
            token = {"token": (await self.post("GetWebSocketsToken"))["result"]["token"]}
        async with self.connect(path) as raw:
            socket = Socket(raw, token)
            for channel in channels:
                symbol = {"symbol": [self.symbol]} if channel in ("book", "trade", "ticker", "level3") else {}
                await socket.send("subscribe", channel=channel, **symbol, **params)
            yield socket

    def far_order(self, levels: int = 10, **more: Any) -> dict[str, Any]:
        """Return an order that rests some levels behind the best bid."""
        market = self.exchange.venue.markets[self.symbol]
        bids, ask = market.levels("buy", levels), market.best("sell")
        # A test before may have taken all bids.
        ticks = bids[-1][0] if bids else (ask or 1) - 100 * market.rules.price_increment_ticks
        price = Decimal(ticks).scaleb(-market.rules.price_precision)
        return {
            "order_type": "limit",
            "side": "buy",
            "symbol": self.symbol,
            "order_qty": 0.01,
            "limit_price": float(price),
            **more,
        }

    def market_order(self, **more: Any) -> dict[str, Any]:
        return {"order_type": "market", "side": "buy", "symbol": self.symbol, "order_qty": 0.01, **more}

    async def truth(self, cl_ord_id: str) -> Any:
        """Return what the record of truth knows of an order; None when it never arrived."""
        truth = (await self._http.get("/control/truth")).json()
        orders = [order for account in truth["accounts"] for order in account["orders"]]
        return next((order for order in orders if order["cl_ord_id"] == cl_ord_id), None)

    async def make_fills(self, count: int) -> int:
        """Take three levels of the other pair, on both sides in turn, until there were that many fills more."""
        symbol = list(self.exchange.venue.markets)[1]
        market = self.exchange.venue.markets[symbol]
        fills = self.exchange.venue.accounts["trader"].fills
        before = len(fills)
        for number in range(60):
            if len(fills) >= before + count:
                break
            side: Side = "buy" if number % 2 else "sell"
            lots = sum(size for _price, size in market.levels("sell" if side == "buy" else "buy", 3))
            volume = Decimal(lots).scaleb(-market.rules.qty_precision)
            await self.post("AddOrder", pair=symbol, type=side, ordertype="market", volume=f"{volume:f}")
        return len(fills) - before

    async def close(self) -> None:
        await self._http.aclose()


class Socket:
    """A WebSocket whose frames are read as they come."""

    def __init__(self, raw: Any, token: dict[str, str]) -> None:
        self.raw = raw
        self._token = token
        self.texts: list[str | bytes] = []

    async def send(self, method: str, **params: Any) -> None:
        request: dict[str, Any] = {"method": method, "req_id": 7}
        if method != "ping":
            request["params"] = params | self._token
        await self.raw.send(json.dumps(request))

    async def text(self, timeout_s: float = 3) -> str | bytes:
        with anyio.fail_after(timeout_s):
            text: str | bytes = await self.raw.recv()
        self.texts.append(text)
        return text

    async def frame(self, wanted: Callable[[Frame], bool], timeout_s: float = 3) -> Frame:
        """Return the next JSON frame that `wanted` accepts."""
        with anyio.fail_after(timeout_s):
            while True:
                frame = json.loads(await self.text(), parse_float=Decimal)
                if wanted(frame):
                    return frame

    async def ack(self, method: str) -> Frame:
        return await self.frame(lambda frame: frame.get("method") == method)

    async def data(self, channel: str, kind: str | None = None) -> Frame:
        return await self.frame(lambda frame: frame.get("channel") == channel and kind in (None, frame.get("type")))

    async def rows(self, exec_type: str) -> Frame:
        """Return the next executions frame with a row of a type."""
        return await self.frame(
            lambda frame: (
                frame.get("channel") == "executions" and any(r.get("exec_type") == exec_type for r in frame["data"])
            )
        )

    async def frames_until_end(self, timeout_s: float = 3) -> list[str | bytes]:
        """Return all texts until the connection ends."""
        with anyio.fail_after(timeout_s):
            try:
                while True:
                    await self.text()
            except websockets.ConnectionClosed:
                return self.texts

    async def frames_for(self, duration_s: float) -> list[Frame]:
        """Return the JSON frames of a while."""
        frames = []
        with anyio.move_on_after(duration_s):
            while True:
                frames.append(json.loads(await self.raw.recv(), parse_float=Decimal))
        return frames


@asynccontextmanager
async def running(
    seed: int = 1, clock: VenueClock | None = None, record: Any = None, flow: FlowKind = "seeded"
) -> AsyncIterator[Client]:
    options = ExchangeOptions(symbols=2, seed=seed, limits="off", flow=flow)
    exchange, paced = build(options, parse_accounts(json.dumps(ACCOUNTS)), clock or RunningClock(), record)
    latency = LatencySettings(median_ms=0, p99_ms=0)
    async with serving(exchange, paced, latency, host="127.0.0.1", port=0, seed=seed) as endpoints:
        client = Client(endpoints, exchange)
        try:
            yield client
        finally:
            await client.close()


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Client]:
    """Run one exchange per module; with `FLOW = "still"` nobody but the tests trades there."""
    async with running(flow=getattr(request.module, "FLOW", "seeded")) as running_client:
        yield running_client


@pytest.fixture
def run_exchange() -> Any:
    return running
