"""Shape the replies of one WS connection: every answer to a request leaves through here."""

from __future__ import annotations

from typing import Any

import msgspec

from krakenbot.adapters.local_exchange.digits import rfc3339_us
from krakenbot.adapters.local_exchange.feeds import Reader
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange

INVALID_SESSION = "ESession:Invalid session"
Envelope = dict[str, Any]
_encode = msgspec.json.Encoder().encode


class Replies:
    """Answers to requests, with the method and req_id of the request and the times of the venue."""

    def __init__(self, exchange: Exchange, reader: Reader) -> None:
        self._exchange = exchange
        self._reader = reader

    def done(self, envelope: Envelope, now_ns: int, result: dict[str, Any]) -> None:
        """Say that a request was carried out."""
        self.send(envelope | {"result": result, "success": True}, now_ns)

    def refused(self, envelope: Envelope, now_ns: int, error: str) -> None:
        """Say why a request was not carried out."""
        self._exchange.counters["requests_refused"] += 1
        answer = {"error": error, "success": False}
        if error == INVALID_SESSION:
            answer["status"] = "error"
        self.send(envelope | answer, now_ns)

    def send(self, message: dict[str, Any], now_ns: int) -> None:
        """Send a message with the times at which the request came in and its answer goes out."""
        out_ns = max(now_ns, self._exchange.clock_ns())
        times = {"time_in": rfc3339_us(now_ns), "time_out": rfc3339_us(out_ns)}
        self._reader.push(_encode(message | times).decode())
