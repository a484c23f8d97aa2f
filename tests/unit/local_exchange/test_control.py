"""The operator's paths, without sockets: what they change, and what they refuse."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from krakenbot.adapters.local_exchange.control import Control
from krakenbot.adapters.local_exchange.protocol.session import Session


class Caller:
    """Someone at an address who calls the control port."""

    def __init__(self, desk: Any, address: str, routes: list[Route] | None = None) -> None:
        app = Starlette(routes=routes or Control(desk.exchange).routes())
        self._transport = httpx.ASGITransport(app=app, client=(address, 5000))

    def post(self, path: str, **content: Any) -> httpx.Response:
        return self._call("POST", path, **content)

    def get(self, path: str) -> httpx.Response:
        return self._call("GET", path)

    def _call(self, method: str, path: str, **content: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="http://exchange") as client:
                return await client.request(method, path, **content)

        return anyio.run(call)


@pytest.fixture
def client(desk):
    return Caller(desk, "127.0.0.1")


def test_the_operator_changes_modes_instruments_balances_orders_tiers_and_keys(desk, client):
    order = desk.order(desk.alice, "buy", "0.5", "100.0")
    mode = client.post("/control/mode", json={"system": "post_only"})
    pair = client.post("/control/instrument", json={"symbol": desk.symbol, "status": "cancel_only", "qty_min": "0.02"})
    paid = client.post("/control/balance", json={"account": "alice", "asset": "USD", "amount": "12.5"})
    gone = client.post("/control/order", json={"order_id": order.order_id})
    tier = client.post("/control/tier", json={"account": "alice", "tier": "starter"})
    key = client.post("/control/key", json={"api_key": "alice"})

    assert {"system": "post_only"} == mode.json()
    assert ({"symbol": desk.symbol, "status": "cancel_only"}, 200) == (pair.json(), desk.market.rules.qty_min_lots)
    assert ("1012.5", Decimal("1012.5")) == (paid.json()["balance"], desk.alice.balance("USD"))
    assert ("canceled", "Cancelled by the venue") == (gone.json()["status"], gone.json()["reason"])
    assert ("starter", "starter") == (tier.json()["tier"], desk.alice.tier)
    assert ({"revoked": "alice"}, True) == (key.json(), desk.keys.keys["alice"].is_revoked)


def test_a_bare_text_is_sent_to_every_connection(desk, client, make_frames):
    readers = [make_frames(), make_frames()]
    for reader in readers:
        Session(desk.exchange, "public", reader).open()
    standard = client.post("/control/text")
    chosen = client.post("/control/text", json={"text": "{"})

    assert {"connections": 2} == standard.json() == chosen.json()
    assert [["CloudFlare WebSocket proxy restarting", "{"]] * 2 == [reader.texts[1:] for reader in readers]


def test_the_state_of_the_limits_can_be_read(desk, client):
    desk.exchange.limits.private_call("alice", "pro", "Ledgers", desk.venue.now_ns)
    desk.order(desk.alice, "buy", "0.5", "100.0")
    state = client.get("/control/limits").json()

    assert {"alice": 400} == state["rest_counters_centi"]
    assert {"tier": "pro", "rate_counts": {desk.symbol: 1}} == state["accounts"]["alice"]


def test_the_clock_that_clients_see_steps_and_is_put_right(desk, client):
    stepped = client.post("/control/clock", json={"step_s": -3600}).json(), desk.exchange.step_s
    right = client.post("/control/clock", json={"step_s": 0}).json(), desk.exchange.step_s

    assert ({"step_s": -3600}, -3600) == stepped
    assert ({"step_s": 0}, 0) == right


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("clock", {"step_s": 86_401}, "step_s: whole seconds"),
        ("clock", {"step_s": "60"}, "step_s: whole seconds"),
        ("mode", {"system": "asleep"}, "asleep: modes are"),
        ("mode", {}, "system: missing"),
        ("mode", {"system": 5}, "system: a text in quotes is needed"),
        ("mode", {"system": "online", "upcoming_maintenance": [5]}, "a list of objects"),
        ("mode", {"mode": "online"}, "mode: known are system"),
        ("instrument", {"symbol": "NO/USD", "status": "online"}, "no pair NO/USD"),
        ("instrument", {"symbol": "ABC/USD"}, "changeable are"),
        ("instrument", {"symbol": "ABC/USD", "status": "odd"}, "odd: statuses are"),
        ("instrument", {"symbol": "ABC/USD", "price_increment": "0.01"}, "at most 1 digits"),
        ("instrument", {"symbol": "ABC/USD", "price_increment": "0"}, "at least 1"),
        ("instrument", {"symbol": "ABC/USD", "cost_min": "1e400"}, "cost_min"),
        ("instrument", {"symbol": "ABC/USD", "has_index": "yes"}, "true or false"),
        ("balance", {"account": "nobody", "asset": "USD", "amount": "1"}, "no account nobody"),
        ("balance", {"account": "alice", "asset": "USD", "amount": 1}, "amount: a text in quotes is needed"),
        ("balance", {"account": "alice", "asset": "USD", "amount": "NaN"}, "a finite decimal"),
        ("balance", {"account": "alice", "asset": "USD", "amount": "-1"}, "positive amount"),
        ("balance", {"account": "alice", "asset": "USD", "amount": "1001", "kind": "withdrawal"}, "is free"),
        ("balance", {"account": "alice", "asset": "USD", "amount": "1", "kind": "gift"}, "kind: deposit"),
        ("order", {"order_id": "O"}, "is not open"),
        ("tier", {"account": "alice", "tier": "gold"}, "gold: tiers are"),
        ("key", {"api_key": "nobody"}, "no key nobody"),
        ("text", {"text": 5}, "text: a text in quotes is needed"),
        ("key", [], "must be a JSON object"),
    ],
)
def test_what_makes_no_sense_is_refused_and_changes_nothing(desk, client, path, body, words):
    before = desk.record.truth(), desk.market.rules, desk.venue.system
    answer = client.post(f"/control/{path}", json=body)

    assert (400, True) == (answer.status_code, words in answer.json()["error"]), answer.json()
    assert before == (desk.record.truth(), desk.market.rules, desk.venue.system)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 50_000, b"x" * 100_000])
def test_bodies_that_cannot_be_read_are_refused(client, content):
    answer = client.post("/control/mode", content=content)

    assert (400, ["error"]) == (answer.status_code, list(answer.json()))


def test_strangers_are_refused(desk):
    stranger = Caller(desk, "10.0.0.1")

    assert 403 == stranger.post("/control/mode", json={"system": "maintenance"}).status_code
    assert 403 == stranger.get("/control/limits").status_code
    assert "online" == desk.venue.system


def test_the_index_lists_the_paths_with_their_methods(desk):
    control = Control(desk.exchange)
    others = [Route("/control/other", lambda _request: None, methods=["DELETE"]), Route("/0/x", lambda _request: None)]
    answer = Caller(desk, "127.0.0.1", [control.index(others)]).get("/control/").json()

    assert ["DELETE"] == answer["paths"]["/control/other"]
    assert ["POST"] == answer["paths"]["/control/mode"]
    assert {route.path for route in control.routes()} | {"/control/other"} == set(answer["paths"])
