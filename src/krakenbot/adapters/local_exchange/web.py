"""Read bodies and write JSON answers for the HTTP endpoints: REST, the control port, fault scripts."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

_encode = msgspec.json.Encoder().encode


def json_response(content: object, status: int = 200) -> Response:
    """Return an answer with its content as JSON."""
    return Response(_encode(content), status_code=status, media_type="application/json")


async def bounded_body(request: Request, most_bytes: int) -> bytes | None:
    """Return the body; None, without reading on, when it is longer than allowed."""
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most_bytes:
            return None
        chunks.append(chunk)
    return b"".join(chunks)
