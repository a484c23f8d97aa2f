"""Find the TCP transport behind a connection, and let faults strike when a connection is accepted.

The server hands `faulted_http` to uvicorn. Links and REST answers ask `Transports` for what ASGI does not give:
cutting a connection without a word, half a frame, a peer that stops reading.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import MutableMapping
from typing import Any
from weakref import WeakValueDictionary

from uvicorn.protocols.http.h11_impl import H11Protocol

from krakenbot.adapters.local_exchange.faults.rules import Event
from krakenbot.adapters.local_exchange.faults.vocabulary import Stage

LONGEST_SILENCE_S = 600
_TEXT_FRAME = 0x81
_EVENT = Event(Stage.ACCEPT, ("accept",))


class Transports:
    """The open transports by the client's address."""

    def __init__(self) -> None:
        self._transports: WeakValueDictionary[Any, asyncio.Transport] = WeakValueDictionary()

    def remember(self, transport: asyncio.Transport) -> None:
        """Keep a transport as long as it lives."""
        self._transports[_address(transport.get_extra_info("peername"))] = transport

    def of(self, scope: MutableMapping[str, Any]) -> asyncio.Transport | None:
        """Return the transport of an ASGI scope; None when it has gone, or there is no socket."""
        return self._transports.get(_address(scope.get("client")))


def half_frame(text: str) -> bytes:
    """Return the head of a WebSocket text frame with the first half of its content."""
    content = text.encode()
    length = len(content)
    if length < 126:
        head = struct.pack("!BB", _TEXT_FRAME, length)
    elif length < 1 << 16:
        head = struct.pack("!BBH", _TEXT_FRAME, 126, length)
    else:
        head = struct.pack("!BBQ", _TEXT_FRAME, 127, length)
    return head + content[: length // 2]


def faulted_http(plan: Any) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with the faults of a plan when a connection is accepted."""

    class FaultedHttp(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            plan.transports.remember(transport)
            if not plan.is_armed:
                return
            for strike in plan.strike(_EVENT):
                if strike.action.name == "silence":
                    loop = asyncio.get_running_loop()
                    # Early releases of Python 3.11 start to read after this call, paused or not.
                    loop.call_soon(transport.pause_reading)
                    loop.call_later(LONGEST_SILENCE_S, transport.abort)
                else:
                    transport.abort()

    return FaultedHttp


def _address(client: Any) -> tuple[str, int] | None:
    return (str(client[0]), int(client[1])) if client else None
