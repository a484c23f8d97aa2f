"""Many frames in one write, through uvicorn's real protocol and a real socket."""

from __future__ import annotations

import socket as sockets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext

import anyio
import pytest
import uvicorn
import websockets
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from krakenbot.adapters.local_exchange.sockets import BatchingWebSocket, send_frames, text_frame

PATIENCE_S = 10


@asynccontextmanager
async def served(endpoint: Callable[[WebSocket], Awaitable[None]]) -> AsyncIterator[str]:
    application = Starlette(routes=[WebSocketRoute("/", endpoint)])
    server = uvicorn.Server(uvicorn.Config(application, ws=BatchingWebSocket, lifespan="off", log_config=None))
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    with sockets.create_server(("127.0.0.1", 0)) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            with anyio.fail_after(PATIENCE_S):
                while not server.started:
                    await anyio.sleep(0.005)
                yield f"ws://127.0.0.1:{listener.getsockname()[1]}/"
            server.should_exit = True


async def test_frames_of_one_write_are_messages_of_their_own_between_ordinary_ones():
    texts = ["a" * length for length in (0, 125, 126, 65_535, 65_536, 200_000)]

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text("before")
        await send_frames(socket, [text_frame(text) for text in texts])
        await socket.send_text("after")
        await socket.receive_text()
        await socket.close()

    async with served(endpoint) as url, websockets.connect(url, proxy=None) as client:
        got = [await client.recv() for _ in range(len(texts) + 2)]
        await client.send("bye")
        with pytest.raises(websockets.ConnectionClosedOK):
            await client.recv()

    assert ["before", *texts, "after"] == got


async def test_frames_for_a_peer_that_has_gone_raise_a_disconnect():
    outcome: list[type[Exception]] = []

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        await socket.receive()
        try:
            await send_frames(socket, [text_frame("late")])
        except WebSocketDisconnect as error:
            outcome.append(type(error))

    async with served(endpoint) as url:
        async with websockets.connect(url, proxy=None):
            pass
        while not outcome:
            await anyio.sleep(0.005)

    assert [WebSocketDisconnect] == outcome


async def test_a_write_waits_while_the_peer_does_not_read():
    written: list[int] = []

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        try:
            for number in range(1000):
                await send_frames(socket, [text_frame("x" * 100_000)])
                written.append(number)
        except WebSocketDisconnect:
            return

    async with served(endpoint) as url, websockets.connect(url, proxy=None, max_queue=1, close_timeout=0.1):
        while not written:
            await anyio.sleep(0.005)
        await anyio.sleep(0.3)
        waits_after = len(written)

    assert 0 < waits_after < 500
