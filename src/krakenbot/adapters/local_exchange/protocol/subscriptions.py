"""Subscribe and unsubscribe one WS connection: market data, level3, instruments, executions and balances.

The session hands in the fields of a request. Acks leave before snapshots, one ack per symbol. A refused request
changes nothing.
"""

from __future__ import annotations

from typing import Any, Literal

from krakenbot.adapters.local_exchange.feeds import Reader
from krakenbot.adapters.local_exchange.keys import PERMISSION_DENIED, Token
from krakenbot.adapters.local_exchange.limits.limiter import ConnectionLimits
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.fields import MALFORMED, BadRequestError, Fields
from krakenbot.adapters.local_exchange.protocol.instruments import instrument_frame
from krakenbot.adapters.local_exchange.protocol.replies import INVALID_SESSION, Envelope, Replies

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
NOT_FOUND = "Subscription Not Found"
DEPTH_REFUSED = "Subscription depth not supported"
DEPRECATIONS = (
    "cancel_reason is deprecated, use reason",
    "stop_price is deprecated, use triggers.price",
    "trigger is deprecated use triggers.reference",
    "triggered_price is deprecated use triggers.last_price",
)


class Subscriptions:
    """What one connection is subscribed to."""

    def __init__(
        self, exchange: Exchange, path: Path, reader: Reader, replies: Replies, limits: ConnectionLimits
    ) -> None:
        self._exchange = exchange
        self._path = path
        self._reader = reader
        self._replies = replies
        self._limits = limits
        # (channel, symbol) -> depth; symbol is "" for channels without one.
        self._held: dict[tuple[str, str], int] = {}

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing is subscribed."""
        return not self._held

    @property
    def reads_instruments(self) -> bool:
        """Tell whether changes of instruments are wanted."""
        return ("instrument", "") in self._held

    def change(self, verb: str, params: Any, envelope: Envelope, now_ns: int) -> None:
        """Carry out one subscribe or unsubscribe request.

        Raises BadRequestError when it is refused as a whole.
        """
        if not isinstance(params, dict):
            raise BadRequestError("Unsupported event")
        fields = Fields(params, verb)
        fields.need("channel")
        channel = fields.text("channel") or ""
        path = CHANNELS.get(channel)
        if path is None:
            raise BadRequestError("Unsupported event")
        if path != self._path:
            raise BadRequestError(wrong_path(path))
        match channel:
            case "executions":
                self._executions(verb, fields, envelope, now_ns)
            case "balances":
                self._balances(verb, fields, envelope, now_ns)
            case "instrument":
                self._instrument(verb, fields, envelope, now_ns)
            case _:
                self._market_data(verb, channel, fields, envelope, now_ns)

    def token(self, fields: Fields, now_ns: int) -> Token:
        """Return the token of a request.

        Raises BadRequestError when it is missing, unknown, expired or its key revoked.
        """
        text = fields.text("token")
        if text is None:
            raise BadRequestError("Token(s) not found")
        token = self._exchange.keys.resolve(text, now_ns)
        if token is None or not self._is_for_this_path(token):
            raise BadRequestError(INVALID_SESSION)
        return token

    def _is_for_this_path(self, token: Token) -> bool:
        """Tell whether a token may be used here: by the rule `level3_token`, anywhere or where it was used first."""
        if self._exchange.venue.settings.level3_token == "shared":  # noqa: S105, a rule and no password
            return True
        token.path = token.path or self._path
        return token.path == self._path

    def _market_data(self, verb: str, channel: str, fields: Fields, envelope: Envelope, now_ns: int) -> None:
        fields.need("symbol")
        symbols = fields.texts("symbol")
        wants_snapshot = fields.flag("snapshot", default=channel != "trade")
        result: dict[str, Any] = {"channel": channel}
        depth = 0
        if channel in ("book", "level3"):
            depth = _depth(fields, BOOK_DEPTHS if channel == "book" else LEVEL3_DEPTHS)
            result["depth"] = depth
        token = self.token(fields, now_ns) if channel == "level3" else None
        trigger = fields.text("event_trigger", "trades", of=("trades", "bbo")) if channel == "ticker" else None
        if trigger is not None:
            result["event_trigger"] = trigger
        fields.finish()
        if not symbols:
            raise BadRequestError(MALFORMED)
        if verb == "subscribe":
            result["snapshot"] = wants_snapshot
        snapshots = []
        for symbol in symbols:
            error = self._refusal(verb, channel, symbol, depth)
            if error is None and token is not None and verb == "subscribe":
                error = self._level3_refusal(token, depth, now_ns)
            if error is not None:
                where = {"symbol": symbol} if error.startswith("Currency pair") else {}
                self._replies.refused(envelope | where, now_ns, error)
                continue
            if verb == "unsubscribe":
                self._leave(channel, symbol, depth)
            else:
                self._held[channel, symbol] = depth
                snapshots.append(self._read(channel, symbol, depth, trigger, now_ns))
            self._replies.done(envelope, now_ns, result | {"symbol": symbol})
        if token is not None and snapshots:
            token.holders.add(self._reader)
        for frame in snapshots if wants_snapshot else ():
            self._reader.push(frame)

    def _refusal(self, verb: str, channel: str, symbol: str, depth: int) -> str | None:
        feed = self._exchange.public.symbols.get(symbol)
        if feed is None:
            return f"Currency pair not supported {symbol}"
        held = self._held.get((channel, symbol))
        if verb == "unsubscribe":
            return None if held == depth else NOT_FOUND
        if held is not None:
            return "Already subscribed"
        return None if feed.offers(channel, depth) else DEPTH_REFUSED

    def _level3_refusal(self, token: Token, depth: int, now_ns: int) -> str | None:
        count = sum(name == "level3" for name, _symbol in self._held)
        return self._limits.level3(token.key.account.tier, depth, count, now_ns)

    def _leave(self, channel: str, symbol: str, depth: int) -> None:
        del self._held[channel, symbol]
        feed = self._exchange.public.symbols[symbol]
        match channel:
            case "book":
                feed.leave_book(self._reader, depth)
            case "level3":
                feed.leave_level3(self._reader, depth)
            case "trade":
                feed.leave_trades(self._reader)
            case _:
                feed.leave_ticker(self._reader)

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

    def _instrument(self, verb: str, fields: Fields, envelope: Envelope, now_ns: int) -> None:
        wants_snapshot = fields.flag("snapshot", default=True)
        fields.flag("include_tokenized_assets", default=False)
        fields.text("execution_venue", of=("international",))
        fields.finish()
        self._toggle(verb, "instrument")
        result: dict[str, Any] = {"channel": "instrument"}
        if verb == "subscribe":
            result |= {"snapshot": wants_snapshot, "warnings": ["tick_size is deprecated, use price_increment"]}
        self._replies.done(envelope, now_ns, result)
        if verb == "subscribe" and wants_snapshot:
            self._reader.push(instrument_frame(self._exchange.venue))

    def _executions(self, verb: str, fields: Fields, envelope: Envelope, now_ns: int) -> None:
        token = self._private_token(fields, now_ns, "query-open-trades", "query-closed-trades")
        old_snapshot = fields.flag("snapshot", default=True)
        snap_orders = fields.flag("snap_orders", default=old_snapshot)
        snap_trades = fields.flag("snap_trades", default=fields.flag("snapshot_trades", default=False))
        order_status = fields.flag("order_status", default=True)
        rate_counter = fields.flag("ratecounter", default=False)
        fields.flag("rebased", default=False)
        if fields.text("users", of=("all",)) is not None:
            snap_orders = snap_trades = False
        fields.finish()
        self._toggle(verb, "executions")
        if verb == "unsubscribe":
            self._end_private("executions", envelope, now_ns)
            return
        account = token.key.account
        token.holders.add(self._reader)
        result = {
            "channel": "executions",
            "maxratecount": account.limits.threshold,
            "snap_orders": snap_orders,
            "snap_trades": snap_trades,
            "warnings": list(DEPRECATIONS),
        }
        self._replies.done(envelope, now_ns, result)
        self._exchange.private.read_executions(
            self._reader,
            account,
            snap_orders=snap_orders,
            snap_trades=snap_trades,
            order_status=order_status,
            rate_counter=rate_counter,
        )

    def _balances(self, verb: str, fields: Fields, envelope: Envelope, now_ns: int) -> None:
        token = self._private_token(fields, now_ns, "query-funds")
        wants_snapshot = fields.flag("snapshot", default=True)
        fields.flag("rebased", default=False)
        if fields.text("users", of=("all",)) is not None:
            wants_snapshot = False
        fields.finish()
        self._toggle(verb, "balances")
        if verb == "unsubscribe":
            self._end_private("balances", envelope, now_ns)
            return
        token.holders.add(self._reader)
        self._replies.done(envelope, now_ns, {"channel": "balances", "snapshot": wants_snapshot})
        self._exchange.private.read_balances(self._reader, token.key.account, snapshot=wants_snapshot)

    def _private_token(self, fields: Fields, now_ns: int, *permissions: str) -> Token:
        token = self.token(fields, now_ns)
        if not token.key.may(*permissions):
            raise BadRequestError(PERMISSION_DENIED)
        return token

    def _end_private(self, channel: str, envelope: Envelope, now_ns: int) -> None:
        self._exchange.private.leave(self._reader, channel)
        if self.is_empty:
            self._exchange.keys.release(self._reader)
        self._replies.done(envelope, now_ns, {"channel": channel})

    def _toggle(self, verb: str, channel: str) -> None:
        key = (channel, "")
        if verb == "subscribe":
            if key in self._held:
                raise BadRequestError("Already subscribed")
            self._held[key] = 0
        elif self._held.pop(key, None) is None:
            raise BadRequestError(NOT_FOUND)


def wrong_path(path: Path) -> str:
    """Return the refusal of what belongs to another path."""
    match path:
        case "public":
            return "Public market data subscriptions are unavailable on this endpoint. Try ws.kraken.com"
        case "level3":
            return "Level3 subscriptions are unavailable on this endpoint. Try ws-l3.kraken.com"
        case "private":
            return "Private data and trading are unavailable on this endpoint. Try ws-auth.kraken.com"


def _depth(fields: Fields, allowed: tuple[int, ...]) -> int:
    given = fields.integer("depth")
    depth = 10 if given is None else given
    if depth not in allowed:
        raise BadRequestError(DEPTH_REFUSED)
    return depth
