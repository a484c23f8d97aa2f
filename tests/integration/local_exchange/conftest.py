from __future__ import annotations

import base64
import hashlib
import hmac
import itertools
import json
import time
import urllib.parse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import websockets

from krakenbot.adapters.local_exchange.keys import AccountEntry, parse_accounts
from krakenbot.adapters.local_exchange.latency import LatencySettings
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.server import Endpoints, serving
from krakenbot.apps.exchange_building import build, steady_clock
from krakenbot.apps.exchange_options import ExchangeOptions

SECRET = base64.b64encode(b"a secret of the tests").decode()
_nonces = itertools.count(time.time_ns())


def accounts_text() -> str:
    everything = ["query-funds", "query-open-trades", "query-closed-trades", "modify-trades", "query-ledger"]
    trader = [
        {"api_key": "full", "api_secret": SECRET, "permissions": [*everything, "create-ws-token"]},
        {"api_key": "reader", "api_secret": SECRET, "permissions": ["query-funds"]},
    ]
    other = [{"api_key": "other", "api_secret": SECRET}]
    return json.dumps(
        [
            {"name": "trader", "keys": trader, "balances": {"USD": "25000", "BTC": "1"}},
            {"name": "other", "keys": other, "balances": {"USD": "500"}},
        ]
    )


class Api:
    """The REST side of a running exchange, signed by hand."""

    def __init__(self, endpoints: Endpoints) -> None:
        self.urls = endpoints.urls()
        self._client = httpx.AsyncClient(base_url=self.urls["rest_url"], trust_env=False)

    async def get(self, path, **params):
        return (await self._client.get(path, params=params)).json()

    async def post(
        self,
        name: str,
        *,
        key: str = "full",
        nonce: int | None = None,
        secret: str = SECRET,
        as_json: bool = False,
        **params: str,
    ) -> Any:
        text = str(nonce or next(_nonces))
        params = {"nonce": text, **params}
        body = json.dumps(params) if as_json else urllib.parse.urlencode(params)
        path = f"/0/private/{name}"
        digest = hashlib.sha256((text + body).encode()).digest()
        signature = hmac.new(base64.b64decode(secret), path.encode() + digest, hashlib.sha512).digest()
        headers = {
            "API-Key": key,
            "API-Sign": base64.b64encode(signature).decode(),
            "Content-Type": "application/json" if as_json else "application/x-www-form-urlencoded",
        }
        return (await self._client.post(path, content=body, headers=headers)).json()

    async def token(self, key="full"):
        return (await self.post("GetWebSocketsToken", key=key))["result"]["token"]

    def connect(self, path, **options):
        return websockets.connect(self.urls[f"ws_{path}_url"], proxy=None, **options)

    async def close(self) -> None:
        await self._client.aclose()


@asynccontextmanager
async def running(
    latency_ms: tuple[float, float] = (0.0, 0.0), record: Any = None, **more: Any
) -> AsyncIterator[tuple[Api, Exchange]]:
    options = ExchangeOptions(symbols=2, **more)
    entries: list[AccountEntry] = parse_accounts(accounts_text())
    exchange, flow = build(options, entries, steady_clock(), record)
    latency = LatencySettings(median_ms=latency_ms[0], p99_ms=latency_ms[1])
    async with serving(exchange, flow, latency, host="127.0.0.1", port=0, seed=1) as endpoints:
        api = Api(endpoints)
        try:
            yield api, exchange
        finally:
            await api.close()


@pytest.fixture
def run_exchange():
    return running


@pytest.fixture
def make_api():
    return Api


@pytest.fixture
def accounts_file(tmp_path):
    path = tmp_path / "accounts.json"
    path.write_text(accounts_text())
    return path


@pytest.fixture
def secret() -> str:
    return SECRET
