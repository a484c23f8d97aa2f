"""Speak WS v2 on one connection, without a socket.

In: texts as they arrive at the engine. Out: frames pushed to the connection. One class for the three paths:
each path allows its own channels and methods. Everything unexpected is answered, nothing raises.
"""

from __future__ import annotations

from typing import Any

import msgspec

from krakenbot.adapters.local_exchange.feeds import Reader
from krakenbot.adapters.local_exchange.limits.counters import S
from krakenbot.adapters.local_exchange.limits.limiter import MESSAGE_RATE, ConnectionLimits
from krakenbot.adapters.local_exchange.protocol import not_offered
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.fields import MALFORMED, BadRequestError, Fields, parse_request
from krakenbot.adapters.local_exchange.protocol.instruments import instrument_update
from krakenbot.adapters.local_exchange.protocol.replies import Envelope, Replies
from krakenbot.adapters.local_exchange.protocol.subscriptions import Path, Subscriptions, wrong_path
from krakenbot.adapters.local_exchange.protocol.trading import METHODS, Trading

__all__ = ["Path", "Session"]
API_VERSION = "2.0.10"
_encode = msgspec.json.Encoder().encode


class Session:
    """One connection's protocol state."""

    def __init__(self, exchange: Exchange, path: Path, reader: Reader) -> None:
        self._exchange = exchange
        self._path: Path = path
        self._reader = reader
        self._trading = Trading(exchange)
        self._replies = Replies(exchange, reader)
        self._limits = ConnectionLimits(exchange.limits.settings)
        self._subscriptions = Subscriptions(exchange, path, reader, self._replies, self._limits)
        self._connection_id = exchange.next_connection_id()
        self._active_ns = self._bare_since_ns = exchange.venue.now_ns

    @property
    def is_subscribed(self) -> bool:
        """Tell whether heartbeats are due."""
        return not self._subscriptions.is_empty

    def open(self) -> None:
        """Send the status frame, which is always the first, and hear of changes from now on."""
        self._exchange.announcements.join(self)
        self._active_ns = self._bare_since_ns = self._exchange.venue.now_ns
        self.show_system()

    def show_system(self, mode: str | None = None) -> None:
        """Send the mode of the engine, that of now for None; in maintenance the frame has no connection id."""
        system = mode or self._exchange.venue.system
        row: dict[str, Any] = {"version": API_VERSION, "system": system, "api_version": "v2"}
        if system != "maintenance":
            row["connection_id"] = self._connection_id
        row["upcoming_maintenance"] = self._exchange.upcoming_maintenance
        self._reader.push(_encode({"channel": "status", "type": "update", "data": [row]}).decode())

    def show_instrument(self, symbol: str) -> None:
        """Send the changed row of a pair to a connection that reads instruments."""
        if self._subscriptions.reads_instruments:
            self._reader.push(instrument_update(self._exchange.venue.markets[symbol].rules))

    def show_text(self, text: str) -> None:
        """Send a text as it is, JSON or not."""
        self._reader.push(text)

    def heartbeat(self) -> None:
        """Send a heartbeat when anything is subscribed."""
        if self.is_subscribed:
            self._reader.push('{"channel":"heartbeat"}')

    def is_overdue(self, now_ns: int) -> bool:
        """Tell whether the venue closes the connection: idle, or private without a private subscription.

        A subscribed connection is never idle, since heartbeats go out on it.
        """
        settings = self._exchange.limits.settings
        if self.is_subscribed:
            return False
        if self._path == "private" and settings.private_unsubscribed_s:
            return now_ns - self._bare_since_ns >= settings.private_unsubscribed_s * S
        return bool(settings.idle_s) and now_ns - self._active_ns >= settings.idle_s * S

    def close(self) -> None:
        """Forget the connection everywhere."""
        self._exchange.announcements.leave(self)
        self._exchange.public.forget(self._reader)
        self._exchange.private.forget(self._reader)
        self._exchange.keys.release(self._reader)

    def receive(self, text: str, received_ns: int, now_ns: int) -> None:
        """Answer one request; `received_ns` is when the socket had it, `now_ns` when the engine has it."""
        if not self._limits.message(now_ns):
            self._exchange.counters["messages_over_rate"] += 1
            self._reader.push(MESSAGE_RATE)
            return
        was_subscribed = self.is_subscribed
        self._active_ns = now_ns
        envelope: Envelope = {"method": "error"}
        try:
            request = parse_request(text)
            envelope = {"method": _method(request)}
            envelope |= _req_id(request)
            self._dispatch(envelope["method"], request, envelope, received_ns, now_ns)
        except BadRequestError as error:
            self._replies.refused(envelope, now_ns, error.text)
        if was_subscribed and not self.is_subscribed:
            self._bare_since_ns = now_ns

    def _dispatch(
        self, method: str, request: dict[str, Any], envelope: Envelope, received_ns: int, now_ns: int
    ) -> None:
        params = request.get("params")
        if method == "ping":
            if "params" in request:
                raise BadRequestError("Unsupported field: 'params' for the given msg type: ping")
            self._replies.send(envelope | {"method": "pong"}, now_ns)
        elif method in ("subscribe", "unsubscribe"):
            self._subscriptions.change(method, params, envelope, now_ns)
        elif method in METHODS:
            if self._path != "private":
                raise BadRequestError(wrong_path("private"))
            fields = Fields(params, method)
            token = self._subscriptions.token(fields, now_ns)
            for reply in self._trading.answer(method, fields, token.key, received_ns, now_ns):
                if "error" in reply:
                    self._replies.refused(envelope, now_ns, reply["error"])
                else:
                    self._replies.done(envelope, now_ns, reply["result"])
        elif method in not_offered.WS_METHODS:
            raise BadRequestError(not_offered.UNKNOWN_METHOD)
        else:
            raise BadRequestError(not_offered.UNSUPPORTED_EVENT)


def _method(request: dict[str, Any]) -> str:
    method = request.get("method")
    if not isinstance(method, str):
        raise BadRequestError(MALFORMED)
    return method


def _req_id(request: dict[str, Any]) -> dict[str, int]:
    req_id = request.get("req_id")
    if req_id is None:
        return {}
    if isinstance(req_id, bool) or not isinstance(req_id, int) or abs(req_id) >= 2**63:
        raise BadRequestError("Req_id field must be a number_integer")
    return {"req_id": req_id}
