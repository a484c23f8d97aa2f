"""Serve the exchange on one loopback port: WebSocket paths, REST, and the control port's paths.

`serve` runs until it is cancelled or `stop` is set. It owns no process: the command line starts and ends it.
"""

from __future__ import annotations

import ipaddress
import socket
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import anyio
import msgspec
import structlog
import uvicorn
from attrs import frozen
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from krakenbot.adapters.local_exchange.clock_step import moved_answer
from krakenbot.adapters.local_exchange.connection import Connection
from krakenbot.adapters.local_exchange.control import Control
from krakenbot.adapters.local_exchange.faults.control import FaultControl
from krakenbot.adapters.local_exchange.faults.rest import RestFaults, refused_upgrade
from krakenbot.adapters.local_exchange.faults.transports import faulted_http
from krakenbot.adapters.local_exchange.latency import LatencySettings, Leg
from krakenbot.adapters.local_exchange.matching.settings import RULES
from krakenbot.adapters.local_exchange.pacing import PacedFlow, run_venue
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.rest_gate import RestCall, RestGate
from krakenbot.adapters.local_exchange.protocol.rest_public import RestError
from krakenbot.adapters.local_exchange.protocol.session import Path
from krakenbot.adapters.local_exchange.sockets import BatchingWebSocket
from krakenbot.adapters.local_exchange.stepping import Stepper, StoppedError
from krakenbot.adapters.local_exchange.venue_clock import RunningClock, SteppedClock
from krakenbot.adapters.local_exchange.web import bounded_body, json_response

MAX_REQUEST_BYTES = 1 << 20
STARTUP_TIMEOUT_S = 10.0
SHUTDOWN_TIMEOUT_S = 3
_log = structlog.get_logger("krakenbot.exchange")
_encode = msgspec.json.Encoder().encode


class NotLoopbackError(ValueError):
    """The exchange serves loopback only."""


@frozen(kw_only=True)
class Endpoints:
    """Where a running exchange listens."""

    host: str
    port: int

    def urls(self) -> dict[str, str]:
        """Return the URLs by name."""
        authority = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return {
            "rest_url": f"http://{authority}",
            "ws_public_url": f"ws://{authority}/public/v2",
            "ws_private_url": f"ws://{authority}/private/v2",
            "ws_level3_url": f"ws://{authority}/level3/v2",
        }


class _Advance(msgspec.Struct):
    """The body of the control port's advance."""

    seconds: float


class ExchangeServer:
    """The web application of one exchange."""

    def __init__(self, exchange: Exchange, latency: LatencySettings, seed: int) -> None:
        self._exchange = exchange
        self._latency = latency
        self._seed = seed
        self._gate = RestGate(exchange)
        self._rest_faults = RestFaults(exchange.faults)
        self._rest_legs: dict[str, tuple[Leg, Leg]] = {}
        self._connections = 0
        self._open: set[Connection] = set()
        clock = exchange.clock
        self._stepper = Stepper(exchange, clock, self._backlog) if isinstance(clock, SteppedClock) else None

    def stop(self) -> None:
        """End what would otherwise go on for long."""
        if self._stepper is not None:
            self._stepper.stop()

    def application(self) -> Starlette:
        """Return the routes."""
        control = Control(self._exchange)
        app = Starlette(
            routes=[
                WebSocketRoute("/public/v2", self._websocket("public")),
                WebSocketRoute("/private/v2", self._websocket("private")),
                WebSocketRoute("/level3/v2", self._websocket("level3")),
                Route("/0/public/{name:path}", self._public_rest, methods=["GET", "POST"]),
                Route("/0/private/{name:path}", self._private_rest, methods=["POST"]),
                Route("/0/{name:path}", self._unknown, methods=["GET", "POST"]),
                Route("/control/truth", self._truth, methods=["GET"]),
                Route("/control/status", self._status, methods=["GET"]),
                Route("/control/advance", self._advance, methods=["POST"]),
                *FaultControl(self._exchange.faults).routes(),
                *control.routes(),
            ]
        )
        app.router.routes.append(control.index(app.router.routes))
        return app

    def _websocket(self, path: Path) -> Callable[[WebSocket], Awaitable[None]]:
        async def endpoint(websocket: WebSocket) -> None:
            address = websocket.client.host if websocket.client else ""
            if not self._exchange.limits.connect(address, self._exchange.clock_ns()):
                self._exchange.counters["connections_refused"] += 1
                await websocket.send_denial_response(Response(status_code=429))
                return
            if self._exchange.faults.is_armed and await refused_upgrade(self._exchange.faults, websocket, path):
                return
            self._connections += 1
            number = self._connections
            inbound, outbound = (Leg(self._latency, f"{path}-{way}-{number}-{self._seed}") for way in ("in", "out"))
            connection = Connection(websocket, self._exchange, path, (inbound, outbound))
            self._open.add(connection)
            try:
                await connection.run()
            finally:
                self._open.discard(connection)

        return endpoint

    async def _public_rest(self, request: Request) -> Response:
        return await self._rest(request, self._gate.public)

    async def _private_rest(self, request: Request) -> Response:
        api_key = request.headers.get("API-Key", "")
        throttled = self._gate.enter(api_key)
        if throttled is not None:
            return json_response({"error": [throttled]})
        try:
            return await self._rest(request, self._gate.private)
        finally:
            self._gate.leave(api_key)

    async def _unknown(self, _request: Request) -> Response:
        return json_response({"error": ["EGeneral:Unknown method"]})

    async def _rest(self, request: Request, answer: Callable[[RestCall], Any]) -> Response:
        """Read a request, let it wait its leg, answer it, and let the answer wait its leg."""
        self._exchange.counters["rest_requests"] += 1
        received_ns = self._exchange.clock_ns()
        body = await bounded_body(request, MAX_REQUEST_BYTES)
        inbound, outbound = self._legs_of(request)
        await self._wait(inbound)

        def execute() -> bytes:
            content = self._content(answer, _call(request, body, received_ns))
            return moved_answer(content, self._exchange.step_s) if self._exchange.step_s else content

        if self._exchange.faults.is_armed:
            response = await self._rest_faults.play(request, execute)
        else:
            response = Response(execute(), media_type="application/json")
        await self._wait(outbound)
        return response

    def _content(self, answer: Callable[[RestCall], Any], call: RestCall) -> bytes:
        """Carry out a request and return its answer's body."""
        self._exchange.catch_up()
        try:
            return _encode({"error": [], "result": answer(call)})
        except RestError as error:
            return _encode({"error": [error.text]})
        except Exception:  # noqa: BLE001, one client's request must not end the exchange for the others
            self._exchange.counters["internal_errors"] += 1
            _log.error("rest_request_failed", traceback=traceback.format_exc(limit=8))
            return _encode({"error": ["EGeneral:Internal error"]})

    async def _truth(self, _request: Request) -> Response:
        self._exchange.catch_up()
        self._exchange.record.flush()
        return json_response(self._exchange.record.truth())

    async def _status(self, _request: Request) -> Response:
        venue = self._exchange.venue
        status = {
            "system": venue.system,
            "now_ns": venue.now_ns,
            "symbols": list(venue.markets),
            "fees": venue.settings.fees,
            "rules": {name: str(getattr(venue.settings, name)) for name in RULES},
            "flow": venue.flow.parameters() if venue.flow else None,
            "counters": dict(sorted(self._exchange.counters.items())),
        }
        return json_response(status)

    async def _advance(self, request: Request) -> Response:
        body = await bounded_body(request, MAX_REQUEST_BYTES)
        try:
            if self._stepper is None:
                raise ValueError("time runs by itself; start the exchange with --time stepped")  # noqa: TRY301
            now_ns = await self._stepper.advance(msgspec.json.decode(body or b"", type=_Advance).seconds)
        except StoppedError as error:
            return json_response({"error": str(error)}, 503)
        except (RecursionError, ValueError, msgspec.DecodeError) as error:
            return json_response({"error": f'expected {{"seconds": NUMBER}}: {error}'}, 400)
        return json_response({"now_ns": now_ns})

    def _backlog(self) -> int:
        return max((connection.queued_frames for connection in self._open), default=0)

    def _legs_of(self, request: Request) -> tuple[Leg, Leg]:
        """Return the legs of a key's REST requests, which arrive in order; unknown keys share those of nobody."""
        name = request.headers.get("API-Key", "")
        if name not in self._exchange.keys.keys:
            name = ""
        if name not in self._rest_legs:
            inbound, outbound = (Leg(self._latency, f"rest-{way}-{name}-{self._seed}") for way in ("in", "out"))
            self._rest_legs[name] = (inbound, outbound)
        return self._rest_legs[name]

    async def _wait(self, leg: Leg) -> None:
        await self._exchange.clock.sleep_until_ns(leg.due_ns(self._exchange.clock_ns()))


@asynccontextmanager
async def serving(
    exchange: Exchange, flow: PacedFlow, latency: LatencySettings, *, host: str, port: int, seed: int
) -> AsyncIterator[Endpoints]:
    """Listen and run the venue inside the block; the port may be 0.

    Raises NotLoopbackError for any other address.
    """
    if not ipaddress.ip_address(host).is_loopback:
        raise NotLoopbackError(f"the exchange serves loopback addresses only, not {host}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only where the protocol is named; with it, answers wait 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        web = ExchangeServer(exchange, latency, seed)
        config = uvicorn.Config(
            web.application(),
            http=faulted_http(exchange.faults),
            ws=BatchingWebSocket,
            ws_per_message_deflate=False,
            ws_max_size=MAX_REQUEST_BYTES,
            ws_ping_interval=None,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S,
        )
        server = uvicorn.Server(config)
        # The command line owns the signals of the process.
        server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            with anyio.fail_after(STARTUP_TIMEOUT_S):
                while not server.started:  # uvicorn offers a flag only
                    await anyio.sleep(0.005)
            engine = anyio.CancelScope()
            tasks.start_soon(_run_engine, engine, exchange, flow)
            tasks.start_soon(exchange.faults.run)
            try:
                yield Endpoints(host=host, port=listener.getsockname()[1])
            finally:
                engine.cancel()
                exchange.faults.stop()
                web.stop()
                server.should_exit = True
                exchange.record.flush()
    finally:
        listener.close()


async def _run_engine(scope: anyio.CancelScope, exchange: Exchange, flow: PacedFlow) -> None:
    # A stepped clock is moved by the control port, and the venue with it.
    if isinstance(exchange.clock, RunningClock):
        with scope:
            await run_venue(exchange, flow, exchange.clock)


def _call(request: Request, body: bytes | None, received_ns: int) -> RestCall:
    return RestCall(
        path=request.url.path,
        body=body,
        query=dict(request.query_params),
        content_type=request.headers.get("Content-Type", ""),
        api_key=request.headers.get("API-Key", ""),
        signature=request.headers.get("API-Sign", ""),
        address=request.client.host if request.client else "",
        received_ns=received_ns,
    )
