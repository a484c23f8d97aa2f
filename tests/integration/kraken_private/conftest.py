"""A scripted private venue on a real socket, and the stream, feed and gateway that talk to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import pytest
from attrs import define, evolve, field
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.kraken.execution_feed import ExecutionFeedSettings, KrakenExecutionFeed
from krakenbot.adapters.kraken.order_gateway import KrakenOrderGateway, OrderGatewaySettings
from krakenbot.adapters.kraken.private_stream import LateReply, PrivateStream, PrivateStreamSettings
from krakenbot.adapters.kraken.protocol.private import PrivateSessionSettings
from krakenbot.domain.errors import VenueError
from krakenbot.domain.execution.order import Order, OrderRole, OrderState, OrderType
from krakenbot.domain.execution.reports import ExecutionBatch
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import ClOrdId, Side, Symbol, VenueId

Answer = Callable[[ServerConnection, dict[str, Any]], Awaitable[None]]
STAMP = "2026-11-01T00:00:00.000001Z"


@define
class RememberedEvents:
    """An event sink that keeps what was said."""

    said: list[tuple[str, dict[str, object]]] = field(factory=list)

    def emit(self, name: str, **fields: object) -> None:
        self.said.append((name, fields))

    def fields_of(self, name: str) -> list[dict[str, object]]:
        return [fields for said, fields in self.said if said == name]


@define
class PrivateVenue:
    """Subscribes whoever comes with a token it gave out, and answers requests as a test scripts.

    `tokens_given` are good once; `requests` holds every trading request in order of arrival, as text and as parsed.
    """

    answers: dict[str, Answer] = field(factory=dict)
    sockets: list[ServerConnection] = field(factory=list)
    tokens_given: list[str] = field(factory=list)
    tokens_seen: list[str] = field(factory=list)
    requests: list[dict[str, Any]] = field(factory=list)
    texts: list[str] = field(factory=list)
    snapshot_rows: list[dict[str, Any]] = field(factory=list)
    sequence: int = 0
    silent: bool = False
    ban_s: int | None = None
    token_error: VenueError | None = None
    subscribe_error: str | None = None

    async def give_token(self) -> Secret:
        if self.token_error is not None:
            raise self.token_error
        self.tokens_given.append(f"token-canary{len(self.tokens_given)}")
        return Secret(self.tokens_given[-1])

    def admit(self, socket: ServerConnection, _: Request) -> Response | None:
        """Refuse the upgrade with HTTP 429 while the address is banned."""
        if self.ban_s is None:
            return None
        response = socket.respond(429, "too many")
        response.headers["Retry-After"] = str(self.ban_s)
        return response

    async def serve_socket(self, socket: ServerConnection) -> None:
        self.sockets.append(socket)
        self.sequence = 0
        await self.send(socket, {"channel": "status", "type": "update", "data": [{"system": "online"}]})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.beat, socket)
            async for text in socket:
                request = json.loads(text)
                await self.take(socket, request, str(text))
            tasks.cancel_scope.cancel()

    async def beat(self, socket: ServerConnection) -> None:
        while not self.silent:
            await self.send(socket, {"channel": "heartbeat"})
            await anyio.sleep(0.05)

    async def take(self, socket: ServerConnection, request: dict[str, Any], text: str) -> None:
        if request["method"] != "subscribe":
            self.requests.append(request)
            self.texts.append(text)
            await self.answers.get(request["method"], self.acknowledge)(socket, request)
            return
        channel = request["params"]["channel"]
        self.tokens_seen.append(request["params"]["token"])
        if self.subscribe_error is not None:
            await self.reply(socket, request, error=self.subscribe_error)
            return
        await self.reply(socket, request, result={"channel": channel, "maxratecount": 125})
        if channel == "executions":
            await self.report(socket, *self.snapshot_rows, kind="snapshot")
        else:
            await self.send(socket, {"channel": "balances", "type": "snapshot", "data": [], "sequence": 1})

    async def acknowledge(self, socket: ServerConnection, request: dict[str, Any]) -> None:
        ids = request["params"]["cl_ord_id"]
        cl_ord_id = ids[0] if isinstance(ids, list) else ids
        await self.reply(socket, request, result={"order_id": f"O-{cl_ord_id}", "cl_ord_id": cl_ord_id})

    async def reply(self, socket: ServerConnection, request: dict[str, Any], **fields: object) -> None:
        is_success = "error" not in fields
        await self.send(
            socket,
            {"method": request["method"], "req_id": request["req_id"], "success": is_success, **fields},
        )

    async def report(self, socket: ServerConnection, *rows: dict[str, Any], kind: str = "update") -> None:
        self.sequence += 1
        frame = {"channel": "executions", "type": kind, "data": list(rows), "sequence": self.sequence}
        await self.send(socket, frame)

    async def send(self, socket: ServerConnection, frame: dict[str, Any]) -> None:
        await socket.send(json.dumps(frame))


def refusing(venue: PrivateVenue, error: str) -> Answer:
    async def answer(socket: ServerConnection, request: dict[str, Any]) -> None:
        await venue.reply(socket, request, error=error)

    return answer


@define
class Rig:
    """Everything of one test; the feed is open while the rig is."""

    venue: PrivateVenue
    stream: PrivateStream
    feed: KrakenExecutionFeed
    gateway: KrakenOrderGateway
    events: RememberedEvents
    late: list[LateReply]
    batches: AsyncIterator[ExecutionBatch] | None = None

    async def wait_until(self, condition: Callable[[], object], timeout_s: float = 5.0) -> None:
        with anyio.fail_after(timeout_s):
            while not condition():
                await anyio.sleep(0.005)

    async def next_batch(self) -> ExecutionBatch:
        assert self.batches is not None
        with anyio.fail_after(5):
            return await anext(self.batches)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Rig]:
        async with self.feed.open() as batches:
            self.batches = batches
            await self.wait_until(lambda: self.feed.is_connected)
            yield self


@pytest.fixture
async def make_rig() -> AsyncIterator[Callable[..., Awaitable[Rig]]]:
    servers = []

    async def make(*, reply_timeout_s: float = 0.3, buffer_batches: int = 100, silence_timeout_s: float = 5.0) -> Rig:
        venue, events = PrivateVenue(), RememberedEvents()
        late: list[LateReply] = []
        server = await serve(venue.serve_socket, "127.0.0.1", 0, process_request=venue.admit)
        servers.append(server)
        port = next(iter(server.sockets)).getsockname()[1]
        stream = PrivateStream(
            url=f"ws://127.0.0.1:{port}/private/v2",
            tokens=lambda: venue.give_token(),  # noqa: PLW0108 - a bound method would print the venue
            clock=SystemClock(),
            events=events,
            settings=PrivateStreamSettings(
                session=PrivateSessionSettings(silence_timeout_s=silence_timeout_s),
                refused_backoff_s=0.5,
                outage_backoff_s=0.5,
                ban_first_s=0.1,
            ),
            on_late_reply=late.append,
        )
        return Rig(
            venue=venue,
            stream=stream,
            feed=KrakenExecutionFeed(stream=stream, settings=ExecutionFeedSettings(buffer_batches=buffer_batches)),
            gateway=KrakenOrderGateway(
                stream=stream,
                settings=OrderGatewaySettings(reply_timeout_s=reply_timeout_s),
            ),
            events=events,
            late=late,
        )

    yield make
    for server in servers:
        server.close()
        await server.wait_closed()


def make_order(**fields: Any) -> Order:
    now = datetime.now(UTC)  # noqa: TID251 - deadlines are checked against the wall clock by the venue
    entry = Order(
        cl_ord_id=ClOrdId("kb1"),
        venue_id=VenueId("v"),
        symbol=Symbol("BTC/USD"),
        side=Side.BUY,
        role=OrderRole.ENTRY,
        order_type=OrderType.LIMIT,
        qty=Decimal("0.00100000"),
        limit_price=Decimal(80000),
        trigger_price=None,
        trigger=None,
        post_only=True,
        state=OrderState.PENDING_SUBMIT,
        created_at=now,
        deadline_at=now + timedelta(seconds=3),
        expire_at=now + timedelta(seconds=60),
        record={},
    )
    return evolve(entry, **fields)


@pytest.fixture
def order_of() -> Callable[..., Order]:
    return make_order


@pytest.fixture
def refuse_with() -> Callable[[PrivateVenue, str], Answer]:
    return refusing
