"""Put many WebSocket frames on the wire in one write, each encoded once for all its readers.

In: texts from the feeds and sessions. Out: bytes for uvicorn's transport. This is the one module that goes below
ASGI: `BatchingWebSocket` is uvicorn's own protocol, which the server hands to it as `ws=`, with one more form of
`websocket.send`. Its test fails when uvicorn renames what it uses.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from starlette.websockets import WebSocket
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

REMEMBERED: Final = 1024
_TEXT: Final = b"\x81"
_ONE_BYTE_LENGTH: Final = 125
_TWO_BYTE_LENGTH: Final = 0xFFFF


@lru_cache(maxsize=REMEMBERED)
def text_frame(text: str) -> bytes:
    """Return a whole text as one unmasked frame, as servers send it; its readers share the bytes."""
    content = text.encode()
    length = len(content)
    if length <= _ONE_BYTE_LENGTH:
        return _TEXT + length.to_bytes(1, "big") + content
    if length <= _TWO_BYTE_LENGTH:
        return b"\x81\x7e" + length.to_bytes(2, "big") + content
    return b"\x81\x7f" + length.to_bytes(8, "big") + content


class BatchingWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol, which also takes frames that are encoded already."""

    async def send(self, message: Any) -> None:
        """Send an ASGI message; one with `frames` is written as it is."""
        frames: Sequence[bytes] | None = message.get("frames")
        if frames is None:
            await super().send(message)
            return
        await self.writable.wait()
        if self.close_sent or self.transport.is_closing() or not self.handshake_complete:
            raise ClientDisconnected
        self.transport.write(b"".join(frames))


async def send_frames(socket: WebSocket, frames: Sequence[bytes]) -> None:
    """Write encoded frames; waits while the peer's buffer is full."""
    await socket.send({"type": "websocket.send", "frames": frames})
