"""How much of what a client sends waits for its way in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.lowlevel
import pytest

from krakenbot.adapters.local_exchange.connection import MAX_WAITING_CHARS, MAX_WAITING_REQUESTS, Connection
from krakenbot.adapters.local_exchange.latency import LatencySettings, Leg

if TYPE_CHECKING:
    from starlette.websockets import WebSocket

pytestmark = pytest.mark.anyio
LONG_MS = 10_000.0


class EndlessSocket:
    """A client that sends the same text again and again."""

    def __init__(self, text: str) -> None:
        self.scope = {"client": ("127.0.0.1", 5000)}
        self.application_state = None
        self.received = 0
        self._text = text

    async def accept(self) -> None:
        """Let the connection begin."""

    async def send(self, message: dict[str, Any]) -> None:
        """Take whatever comes."""

    async def receive(self) -> dict[str, Any]:
        await anyio.lowlevel.checkpoint()
        self.received += 1
        return {"type": "websocket.receive", "text": self._text}


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.mark.parametrize(
    ("length", "most"),
    [(1, MAX_WAITING_REQUESTS), (1 << 20, MAX_WAITING_CHARS // (1 << 20))],
)
async def test_a_socket_is_read_no_further_when_enough_waits(desk, length, most):
    socket = EndlessSocket("x" * length)
    legs = (Leg(LatencySettings(median_ms=LONG_MS, p99_ms=LONG_MS), "in"), Leg(LatencySettings(median_ms=0), "out"))
    connection = Connection(cast("WebSocket", socket), desk.exchange, "public", legs)
    with anyio.move_on_after(0.3):
        await connection.run()

    assert most == socket.received
