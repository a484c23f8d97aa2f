"""Every error text of Kraken's that the venue's own rules produce, made to come out by a real request.

Those that only a scripted refusal can produce are tested over sockets, with the fault scripts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import pytest

from krakenbot.adapters.local_exchange.digits import rfc3339_us
from krakenbot.adapters.local_exchange.keys import sign
from krakenbot.adapters.local_exchange.limits.limiter import Limiter
from krakenbot.adapters.local_exchange.limits.settings import LimitSettings
from krakenbot.adapters.local_exchange.matching.operator import Operator
from krakenbot.adapters.local_exchange.matching.tiers import Tier
from krakenbot.adapters.local_exchange.protocol.rest_gate import RestCall, RestGate
from krakenbot.adapters.local_exchange.protocol.rest_public import RestError
from krakenbot.adapters.local_exchange.protocol.session import Session

S = 1_000_000_000
ORDER: dict[str, Any] = {"pair": "ABCUSD", "type": "buy", "ordertype": "limit", "volume": "0.5", "price": "100.0"}


class Bench:
    """A client that signs and sends; every method returns the text of the refusal."""

    def __init__(self, desk: Any, frames: Any) -> None:
        self.desk = desk
        self.frames = frames
        self.gate = RestGate(desk.exchange)
        self.nonce = 0

    def rest(self, name: str, secret: bytes = b"s", key: str = "alice", nonce: int | None = None, **params: str) -> str:
        self.nonce += 1
        text = str(self.nonce if nonce is None else nonce)
        body = urlencode({"nonce": text, **params}).encode()
        path = f"/0/private/{name}"
        signature = sign(secret, path, body, text).decode()
        call = RestCall(path=path, body=body, query={}, api_key=key, signature=signature, address="127.0.0.1")
        return self._refusal(lambda: self.gate.private(call))

    def public(self, name: str, **params: str) -> str:
        return self._refusal(lambda: self.gate.public(RestCall(path=f"/0/public/{name}", query=params)))

    def ws(self, path: Any, method: str, received_ns: int | None = None, **params: Any) -> str:
        return self.raw(path, json.dumps({"method": method, "params": params}), received_ns)

    def raw(self, path: Any, text: str, received_ns: int | None = None) -> str:
        session = Session(self.desk.exchange, path, self.frames)
        now_ns = self.desk.venue.now_ns
        session.receive(text, now_ns if received_ns is None else received_ns, now_ns)
        (reply,) = self.frames.take()
        assert not reply["success"]
        return str(reply["error"])

    def too_long(self) -> str:
        return self._refusal(lambda: self.gate.public(RestCall(path="/0/public/Time", body=None, query={})))

    def order(self, **changes: Any) -> str:
        order: dict[str, Any] = {"order_type": "limit", "side": "buy", "symbol": "ABC/USD", "order_qty": 0.5}
        order |= {"limit_price": 100.0, "token": self.token()} | changes
        return self.ws("private", "add_order", **{name: value for name, value in order.items() if value is not None})

    def token(self) -> str:
        return str(self.desk.token(self.desk.alice))

    def operator(self) -> Operator:
        return Operator(self.desk.venue)

    def limit(self, **settings: Any) -> None:
        self.desk.exchange.limits = Limiter(LimitSettings(**settings))

    def _refusal(self, call: Callable[[], Any]) -> str:
        with pytest.raises(RestError) as caught:
            call()
        return caught.value.text


def locked_out(bench: Bench) -> str:
    bench.limit(bad_credentials=2)
    assert "EAPI:Invalid signature" == bench.rest("Balance", secret=b"wrong")
    assert "EAPI:Invalid signature" == bench.rest("Balance", secret=b"wrong")
    return bench.rest("Balance")


def over_the_counter(bench: Bench) -> str:
    bench.operator().set_tier("alice", Tier.STARTER)
    for _ in range(3):
        bench.gate.private(signed(bench, "Ledgers"))
    return bench.rest("Ledgers")


def signed(bench: Bench, name: str) -> RestCall:
    bench.nonce += 1
    body = f"nonce={bench.nonce}".encode()
    path = f"/0/private/{name}"
    signature = sign(b"s", path, body, str(bench.nonce)).decode()
    return RestCall(path=path, body=body, query={}, api_key="alice", signature=signature)


def throttled(bench: Bench) -> str:
    bench.limit(concurrent_calls=1)
    assert bench.gate.enter("alice") is None
    return bench.gate.enter("alice") or ""


def too_many_transactions(bench: Bench) -> str:
    desk = bench.desk
    bench.operator().set_tier("alice", Tier.STARTER)
    for _ in range(40):
        order = desk.order(desk.alice, "buy", "0.01", "90.0")
        if not hasattr(order, "order_id"):
            return str(order.error)
        desk.venue.cancel_order(desk.alice, order.order_id, None)
    raise AssertionError("nothing was refused")


def too_many_orders(bench: Bench) -> str:
    desk = bench.desk
    bench.operator().set_tier("alice", Tier.STARTER)
    for _ in range(60):
        desk.venue.advance(desk.venue.now_ns + 2 * S)
        order = desk.order(desk.alice, "buy", "0.01", "90.0")
        assert hasattr(order, "order_id"), order
    desk.venue.advance(desk.venue.now_ns + 60 * S)
    return bench.order(limit_price=90.0, order_qty=0.01)


def no_permission(bench: Bench) -> str:
    bench.desk.keys.keys["alice"].permissions = frozenset({"query-funds"})
    return bench.rest("AddOrder", **ORDER)


def replayed(bench: Bench) -> str:
    bench.gate.private(signed(bench, "Balance"))
    return bench.rest("Balance", nonce=bench.nonce)


def late(bench: Bench) -> str:
    now_ns = bench.desk.venue.now_ns
    deadline = rfc3339_us(now_ns - S)
    order = {"order_type": "limit", "side": "buy", "symbol": "ABC/USD", "order_qty": 0.5, "limit_price": 100.0}
    return bench.ws("private", "add_order", received_ns=now_ns - 3 * S, token=bench.token(), deadline=deadline, **order)


def in_mode(system: str) -> Callable[[Bench], str]:
    def ask(bench: Bench) -> str:
        bench.operator().set_system(system)
        return bench.order()

    return ask


def in_status(status: str, **order: Any) -> Callable[[Bench], str]:
    def ask(bench: Bench) -> str:
        bench.operator().set_status("ABC/USD", status)
        return bench.order(**order)

    return ask


def crossing(bench: Bench) -> str:
    bench.desk.market.place("sell", 1000, 9000)
    return bench.order(post_only=True)


def without_index(bench: Bench) -> str:
    bench.operator().change_rules("ABC/USD", has_index=False)
    return bench.order(
        order_type="stop-loss", side="sell", limit_price=None, triggers={"price": 90.0, "reference": "index"}
    )


def twice(bench: Bench) -> str:
    session = Session(bench.desk.exchange, "public", bench.frames)
    text = json.dumps({"method": "subscribe", "params": {"channel": "trade", "symbol": ["ABC/USD", "ABC/USD"]}})
    session.receive(text, bench.desk.venue.now_ns, bench.desk.venue.now_ns)
    _ack, refused = bench.frames.take()
    return str(refused["error"])


REAL: list[tuple[str, Callable[[Bench], str]]] = [
    ("EAPI:Invalid key", lambda b: b.rest("Balance", key="nobody")),
    ("EAPI:Invalid signature", lambda b: b.rest("Balance", secret=b"wrong")),
    ("EAPI:Invalid nonce", replayed),
    ("EGeneral:Permission denied", no_permission),
    ("EGeneral:Temporary lockout", locked_out),
    ("EAPI:Rate limit exceeded", over_the_counter),
    ("EService: Throttled: 1790000001", throttled),
    ("EOrder:Rate limit exceeded", too_many_transactions),
    ("EOrder:Orders limit exceeded", too_many_orders),
    ("EService:Unavailable", in_mode("maintenance")),
    ("EService:Market in cancel_only mode", in_mode("cancel_only")),
    ("EService:Market in post_only mode", in_mode("post_only")),
    ("EService:Market in limit_only mode", in_status("limit_only", order_type="market", limit_price=None)),
    ("EService:Market in reduce_only mode", in_status("reduce_only")),
    ("EService:Deadline elapsed", late),
    ("EOrder:Insufficient funds", lambda b: b.order(order_qty=11)),
    ("EOrder:Order minimum not met", lambda b: b.rest("AddOrder", **ORDER | {"volume": "0.001"})),
    ("EGeneral:Invalid arguments:volume minimum not met", lambda b: b.order(order_qty=0.001)),
    ("EOrder:Cost minimum not met", lambda b: b.order(order_qty=0.01, limit_price=1.0)),
    ("EOrder:Tick size check failed", lambda b: b.order(limit_price=100.1)),
    ("EOrder:Invalid price", lambda b: b.order(limit_price=100.05)),
    ("EGeneral:Invalid arguments", lambda b: b.public("Depth")),
    ("EGeneral:Invalid arguments:volume", lambda b: b.order(order_qty=-1)),
    ("EGeneral:Invalid arguments:Index unavailable", without_index),
    ("EOrder:Post only order", crossing),
    ("EOrder:Unknown order", lambda b: b.ws("private", "cancel_order", token=b.token(), order_id=["O"])),
    ("EOrder:Reduce only:No position exists", lambda b: b.order(reduce_only=True)),
    ("EOrder:Cannot open position", lambda b: b.rest("AddOrder", **ORDER, leverage="5")),
    ("EOrder:Unknown position", lambda b: b.order(order_type="settle-position")),
    ("EQuery:Unknown asset pair", lambda b: b.public("Ticker", pair="NOPE")),
    ("EQuery:Unknown asset", lambda b: b.public("Assets", asset="NOPE")),
    ("Currency pair not supported XBT/USD", lambda b: b.ws("public", "subscribe", channel="trade", symbol=["XBT/USD"])),
    ("ESession:Invalid session", lambda b: b.ws("private", "cancel_all", token="old")),
    ("Token(s) not found", lambda b: b.ws("private", "cancel_all")),
    (
        "Subscription depth not supported",
        lambda b: b.ws("public", "subscribe", channel="book", symbol=["ABC/USD"], depth=11),
    ),
    ("Unsupported event", lambda b: b.ws("public", "dance")),
    ("Unsupported field: 'params' for the given msg type: ping", lambda b: b.ws("public", "ping")),
    ("Limit_price field must be a number_float", lambda b: b.order(limit_price="100.0")),
    ("Cash_order_qty field must be a number_float", lambda b: b.order(cash_order_qty="5")),
    ("Malformed request", lambda b: b.raw("public", "{")),
    ("Already subscribed", twice),
    ("EGeneral:Unknown method", lambda b: b.rest("EditOrder")),
    ("EAPI:Bad request", lambda b: b.too_long()),
]


@pytest.fixture
def bench(desk, make_frames):
    return Bench(desk, make_frames())


@pytest.mark.parametrize(("error", "ask"), REAL, ids=[error for error, _ask in REAL])
def test_the_venues_rules_produce_the_text(bench, error, ask):
    assert error == ask(bench)


def test_a_message_beyond_the_rate_gets_the_bare_error(bench):
    bench.limit(message_burst=1, messages_per_s=1)
    session = Session(bench.desk.exchange, "public", bench.frames)
    for _ in range(2):
        session.receive('{"method":"ping"}', bench.desk.venue.now_ns, bench.desk.venue.now_ns)

    assert {"Error": "Exceeded msg rate"} == bench.frames.take()[1]


def test_requests_for_margin_leave_the_account_as_it_was(bench):
    before = bench.desk.record.truth()
    bench.order(margin=True)
    bench.rest("AddOrder", **ORDER, reduce_only="true")

    assert before == bench.desk.record.truth()
    assert Decimal(1000) == bench.desk.alice.balance("USD")
