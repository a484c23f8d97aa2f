"""Speak WS v2 on one connection, without a socket.

In: texts as they arrive at the engine. Out: frames pushed to the connection. One class for the three paths:
each path allows its own channels and methods. Everything unexpected is answered, nothing raises.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from krakenbot.adapters.local_exchange.digits import rfc3339_us
from krakenbot.adapters.local_exchange.feeds import Reader
from krakenbot.adapters.local_exchange.keys import Token
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.fields import MALFORMED, BadRequestError, Fields, parse_request
from krakenbot.adapters.local_exchange.protocol.instruments import instrument_frame
from krakenbot.adapters.local_exchange.protocol.trading import METHODS, Trading

Path = Literal["public", "private", "level3"]
BOOK_DEPTHS = (10, 25, 100, 500, 1000)
LEVEL3_DEPTHS = (10, 100, 1000)
CHANNELS: dict[str, Path] = {
    "ticker": "public",
    "trade": "public",
    "book": "public",
    "instrument": "public",
    "level3": "level3",
    "executions": "private",
    "balances": "private",
}
NOT_OFFERED = frozenset({"batch_add", "batch_cancel", "edit_order"})
MAX_RATE_COUNT = 180
DEPRECATIONS = (
    "cancel_reason is deprecated, use reason",
    "stop_price is deprecated, use triggers.price",
)
_encode = msgspec.json.Encoder().encode


class Session:
    """One connection's protocol state."""

    def __init__(self, exchange: Exchange, path: Path, reader: Reader) -> None:
        self._exchange = exchange
        self._path: Path = path
        self._reader = reader
        self._trading = Trading(exchange)
        # (channel, symbol) -> depth; symbol is "" for channels without one.
        self._subscriptions: dict[tuple[str, str], int] = {}

    @property
    def is_subscribed(self) -> bool:
        """Tell whether heartbeats are due."""
        return bool(self._subscriptions)

    def open(self) -> None:
        """Send the status frame, which is always the first."""
        row = {
            "version": "2.0.10",
            "system": self._exchange.venue.system,
            "api_version": "v2",
            "connection_id": self._exchange.next_connection_id(),
        }
        self._reader.push(_encode({"channel": "status", "type": "update", "data": [row]}).decode())

    def heartbeat(self) -> None:
        """Send a heartbeat when anything is subscribed."""
        if self.is_subscribed:
            self._reader.push('{"channel":"heartbeat"}')

    def close(self) -> None:
        """Forget the connection everywhere."""
        self._exchange.public.forget(self._reader)
        self._exchange.private.forget(self._reader)
        self._exchange.keys.release(self._reader)

    def receive(self, text: str, received_ns: int, now_ns: int) -> None:
        """Answer one request; `received_ns` is when the socket had it, `now_ns` when the engine has it."""
        envelope: dict[str, Any] = {"method": "error"}
        try:
            request = parse_request(text)
            envelope = {"method": _method(request)}
            envelope |= _req_id(request)
            self._dispatch(envelope["method"], request, envelope, received_ns, now_ns)
        except BadRequestError as error:
            self._reply(envelope, now_ns, error=error.text)

    def _dispatch(
        self, method: str, request: dict[str, Any], envelope: dict[str, Any], received_ns: int, now_ns: int
    ) -> None:
        if method == "ping":
            if "params" in request:
                raise BadRequestError("Unsupported field: 'params' for the given msg type: ping")
            self._send(envelope | {"method": "pong"}, now_ns)
        elif method in ("subscribe", "unsubscribe"):
            self._subscription(method, request.get("params"), envelope, now_ns)
        elif method in METHODS:
            if self._path != "private":
                raise BadRequestError(
                    "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com"
                )
            fields = Fields(request.get("params"), method)
            token = self._token(fields, now_ns)
            for reply in self._trading.answer(method, fields, token.key, received_ns, now_ns):
                self._reply(envelope, now_ns, **reply)
        elif method in NOT_OFFERED:
            raise BadRequestError("EGeneral:Unknown method")
        else:
            raise BadRequestError("Unsupported event")

    def _subscription(self, method: str, params: Any, envelope: dict[str, Any], now_ns: int) -> None:
        if not isinstance(params, dict):
            raise BadRequestError("Unsupported event")
        fields = Fields(params, method)
        fields.need("channel")
        channel = fields.text("channel") or ""
        path = CHANNELS.get(channel)
        if path is None:
            raise BadRequestError("Unsupported event")
        if path != self._path:
            raise BadRequestError(_wrong_path(path))
        if channel in ("executions", "balances"):
            self._private(method, channel, fields, envelope, now_ns)
        elif channel == "instrument":
            self._instrument(method, fields, envelope, now_ns)
        else:
            self._market_data(method, channel, fields, envelope, now_ns)

    def _market_data(self, method: str, channel: str, fields: Fields, envelope: dict[str, Any], now_ns: int) -> None:
        fields.need("symbol")
        symbols = fields.texts("symbol")
        wants_snapshot = fields.flag("snapshot", default=channel != "trade")
        result: dict[str, Any] = {"channel": channel}
        depth = 0
        if channel in ("book", "level3"):
            given = fields.integer("depth")
            depth = 10 if given is None else given
            if depth not in (BOOK_DEPTHS if channel == "book" else LEVEL3_DEPTHS):
                raise BadRequestError("Subscription depth not supported")
            result["depth"] = depth
        if channel == "level3":
            self._token(fields, now_ns).holders.add(self._reader)
        trigger = fields.text("event_trigger", "trades", of=("trades", "bbo")) if channel == "ticker" else None
        if trigger is not None:
            result["event_trigger"] = trigger
        fields.finish()
        if not symbols:
            raise BadRequestError(MALFORMED)
        snapshots = []
        for symbol in symbols:
            error = self._change(method, channel, symbol, depth)
            if error is not None:
                where = {"symbol": symbol} if error.startswith("Currency pair") else {}
                self._reply(envelope | where, now_ns, error=error)
                continue
            shown = result | ({"snapshot": wants_snapshot} if method == "subscribe" else {}) | {"symbol": symbol}
            self._reply(envelope, now_ns, result=shown)
            if method == "subscribe":
                frame = self._read(channel, symbol, depth, trigger, now_ns)
                snapshots.extend([frame] if wants_snapshot else [])
        for frame in snapshots:
            self._reader.push(frame)

    def _change(self, method: str, channel: str, symbol: str, depth: int) -> str | None:
        """Add or drop a subscription; return the error, None when it changed."""
        feed = self._exchange.public.symbols.get(symbol)
        if feed is None:
            return f"Currency pair not supported {symbol}"
        key = (channel, symbol)
        if method == "subscribe":
            if key in self._subscriptions:
                return "Already subscribed"
            self._subscriptions[key] = depth
            return None
        if self._subscriptions.get(key) != depth:
            return "Subscription Not Found"
        del self._subscriptions[key]
        match channel:
            case "book":
                feed.leave_book(self._reader, depth)
            case "level3":
                feed.leave_level3(self._reader, depth)
            case "trade":
                feed.leave_trades(self._reader)
            case _:
                feed.leave_ticker(self._reader)
        return None

    def _read(self, channel: str, symbol: str, depth: int, trigger: str | None, now_ns: int) -> str:
        feed = self._exchange.public.symbols[symbol]
        match channel:
            case "book":
                return feed.read_book(self._reader, depth, now_ns)
            case "level3":
                return feed.read_level3(self._reader, depth, now_ns)
            case "trade":
                return feed.read_trades(self._reader)
            case _:
                return feed.read_ticker(self._reader, "bbo" if trigger == "bbo" else "trades", now_ns)

    def _instrument(self, method: str, fields: Fields, envelope: dict[str, Any], now_ns: int) -> None:
        wants_snapshot = fields.flag("snapshot", default=True)
        fields.flag("include_tokenized_assets", default=False)
        fields.text("execution_venue", of=("international",))
        fields.finish()
        self._toggle(method, "instrument")
        result: dict[str, Any] = {"channel": "instrument"}
        if method == "subscribe":
            result |= {"snapshot": wants_snapshot, "warnings": ["tick_size is deprecated, use price_increment"]}
        self._reply(envelope, now_ns, result=result)
        if method == "subscribe" and wants_snapshot:
            self._reader.push(instrument_frame(self._exchange.venue))

    def _private(self, method: str, channel: str, fields: Fields, envelope: dict[str, Any], now_ns: int) -> None:
        token = self._token(fields, now_ns)
        old_snapshot = fields.flag("snapshot", default=True)
        snap_orders = fields.flag("snap_orders", default=old_snapshot)
        snap_trades = fields.flag("snap_trades", default=fields.flag("snapshot_trades", default=False))
        order_status = fields.flag("order_status", default=True)
        for name in ("ratecounter", "rebased"):
            fields.flag(name, default=False)
        fields.text("users")
        fields.finish()
        needed = ("query-open-trades", "query-closed-trades") if channel == "executions" else ("query-funds",)
        if not token.key.may(*needed):
            raise BadRequestError("EGeneral:Permission denied")
        self._toggle(method, channel)
        result: dict[str, Any] = {"channel": channel}
        if method == "unsubscribe":
            self._exchange.private.leave(self._reader, channel)
            self._reply(envelope, now_ns, result=result)
            return
        token.holders.add(self._reader)
        account = token.key.account
        if channel == "executions":
            result |= {
                "maxratecount": MAX_RATE_COUNT,
                "snap_orders": snap_orders,
                "snap_trades": snap_trades,
                "warnings": list(DEPRECATIONS),
            }
            self._reply(envelope, now_ns, result=result)
            self._exchange.private.read_executions(
                self._reader, account, snap_orders=snap_orders, snap_trades=snap_trades, order_status=order_status
            )
        else:
            self._reply(envelope, now_ns, result=result | {"snapshot": old_snapshot})
            self._exchange.private.read_balances(self._reader, account, snapshot=old_snapshot)

    def _toggle(self, method: str, channel: str) -> None:
        key = (channel, "")
        if method == "subscribe":
            if key in self._subscriptions:
                raise BadRequestError("Already subscribed")
            self._subscriptions[key] = 0
        elif self._subscriptions.pop(key, None) is None:
            raise BadRequestError("Subscription Not Found")

    def _token(self, fields: Fields, now_ns: int) -> Token:
        text = fields.text("token")
        if text is None:
            raise BadRequestError("Token(s) not found")
        token = self._exchange.keys.resolve(text, now_ns)
        if token is None:
            raise BadRequestError("ESession:Invalid session")
        return token

    def _reply(
        self,
        envelope: dict[str, Any],
        now_ns: int,
        *,
        result: dict[str, Any] | None = None,
        error: str | None = None,
    ) -> None:
        answer: dict[str, Any] = {"result": result, "success": True}
        if error is not None:
            self._exchange.counters["requests_refused"] += 1
            answer = {"error": error, "success": False}
            if error == "ESession:Invalid session":
                answer["status"] = "error"
        self._send(envelope | answer, now_ns)

    def _send(self, message: dict[str, Any], now_ns: int) -> None:
        out_ns = max(now_ns, self._exchange.clock_ns())
        times = {"time_in": rfc3339_us(now_ns), "time_out": rfc3339_us(out_ns)}
        self._reader.push(_encode(message | times).decode())


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


def _wrong_path(path: Path) -> str:
    match path:
        case "public":
            return "Public market data subscriptions are unavailable on this endpoint. Try ws.kraken.com"
        case "level3":
            return "Level3 subscriptions are unavailable on this endpoint. Try ws-l3.kraken.com"
        case "private":
            return "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com"
