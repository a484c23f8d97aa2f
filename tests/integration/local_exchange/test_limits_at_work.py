"""Limits and the operator on real sockets: what is closed, what is refused at the door, what is told to all."""

from __future__ import annotations

import json

import anyio
import attrs
import httpx
import pytest
import websockets

from krakenbot.adapters.local_exchange.limits.limiter import Limiter
from krakenbot.adapters.local_exchange.limits.settings import LimitSettings

pytestmark = pytest.mark.anyio


async def test_idle_and_bare_private_connections_are_closed_and_subscribed_ones_stay(run_exchange):
    async with run_exchange() as (api, exchange):
        exchange.limits = Limiter(attrs.evolve(LimitSettings(), idle_s=1, private_unsubscribed_s=1))
        async with api.connect("public") as idle, api.connect("private") as bare, api.connect("public") as held:
            request = {"method": "subscribe", "params": {"channel": "trade", "symbol": ["BTC/USD"]}}
            await held.send(json.dumps(request))
            with anyio.fail_after(10):
                await idle.wait_closed()
                await bare.wait_closed()
            await held.send('{"method":"ping","req_id":5}')
            with anyio.fail_after(10):
                while json.loads(await held.recv()).get("req_id") != 5:
                    pass

    assert 2 == exchange.counters["idle_closed"]


async def test_an_address_with_too_many_connections_is_refused_at_the_door(run_exchange):
    async with run_exchange() as (api, exchange):
        exchange.limits = Limiter(attrs.evolve(LimitSettings(), connections=2))
        statuses = []
        for _ in range(4):
            try:
                async with api.connect("public"):
                    statuses.append(101)
            except websockets.InvalidStatus as error:
                statuses.append(error.response.status_code)

    assert [101, 101, 429, 429] == statuses
    assert 2 == exchange.counters["connections_refused"]


async def test_calls_of_one_key_at_once_are_throttled_beyond_their_number(run_exchange):
    async with run_exchange(latency_ms=(50.0, 60.0)) as (api, exchange):
        exchange.limits = Limiter(attrs.evolve(LimitSettings(), concurrent_calls=2))
        answers = []

        async def call() -> None:
            answers.append(await api.post("BalanceEx"))

        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(call)
        errors = [answer["error"][0] for answer in answers if answer["error"]]
        after = await api.post("BalanceEx")

    assert errors
    assert all(error.startswith("EService: Throttled: ") for error in errors)
    assert [] == after["error"]
    assert {} == exchange.limits.state(exchange.venue.now_ns)["calls_under_way"]


async def test_the_operator_is_heard_by_clients(run_exchange):
    async with run_exchange() as (api, exchange), api.connect("public") as socket:
        first = json.loads(await socket.recv())
        async with httpx.AsyncClient(base_url=api.urls["rest_url"], trust_env=False) as client:
            done = await client.post("/control/mode", json={"system": "maintenance"})
            refused = await client.post("/control/mode", json={"system": "asleep"})
            limits = (await client.get("/control/limits")).json()
        with anyio.fail_after(5):
            second = json.loads(await socket.recv())
        status = await api.get("/0/public/SystemStatus")

    assert ("online", "maintenance") == (first["data"][0]["system"], second["data"][0]["system"])
    assert "connection_id" not in second["data"][0]
    assert (200, 400, "maintenance") == (done.status_code, refused.status_code, status["result"]["status"])
    assert {"full", "reader", "other"} >= set(limits["rest_counters_centi"])
    assert "maintenance" == exchange.venue.system
