"""Decode the trading methods of WS v2 and answer them.

The session hands in the fields of a request and the key behind its token; out come the replies, one per
order for cancels.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, cast

from krakenbot.adapters.local_exchange.digits import parse_rfc3339, rfc3339_s
from krakenbot.adapters.local_exchange.keys import PERMISSION_DENIED, ApiKey
from krakenbot.adapters.local_exchange.matching import checks
from krakenbot.adapters.local_exchange.matching.listeners import Refusal, Validated
from krakenbot.adapters.local_exchange.matching.orders import AmendRequest, OrderRequest, PriceType
from krakenbot.adapters.local_exchange.protocol import not_offered
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.fields import BadRequestError, Fields

METHODS = frozenset({"add_order", "amend_order", "cancel_order", "cancel_all", "cancel_all_orders_after"})
ORDER_TYPES_OF_VENUE = (
    "limit",
    "market",
    "iceberg",
    "stop-loss",
    "stop-loss-limit",
    "take-profit",
    "take-profit-limit",
    "trailing-stop",
    "trailing-stop-limit",
    "settle-position",
)
PRICE_TYPES = ("static", "pct", "quote")
MS = 1_000_000
DEFAULT_DEADLINE_MS, MIN_DEADLINE_MS, MAX_DEADLINE_MS = 5_000, 500, 60_000
MAX_TIMEOUT_S = 86_400

Reply = dict[str, Any]


class Trading:
    """The trading methods, for whichever key asks."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def answer(self, method: str, fields: Fields, key: ApiKey, received_ns: int, now_ns: int) -> list[Reply]:
        """Carry out one request and return its replies.

        Raises BadRequestError when the request is refused before the engine sees it.
        """
        allowed = ("modify-trades",) if method in ("add_order", "amend_order") else ("modify-trades", "close-trades")
        if not key.may(*allowed):
            raise BadRequestError(PERMISSION_DENIED)
        match method:
            case "add_order":
                return [self._add(fields, key, received_ns)]
            case "amend_order":
                return [self._amend(fields, key, received_ns)]
            case "cancel_order":
                return self._cancel(fields, key)
            case "cancel_all":
                fields.finish()
                count = self._exchange.venue.cancel_all(key.account)
                return [{"error": count.error} if isinstance(count, Refusal) else {"result": {"count": count}}]
            case _:
                return [self._cancel_all_after(fields, key, now_ns)]

    def _add(self, fields: Fields, key: ApiKey, received_ns: int) -> Reply:
        request = order_request(fields, received_ns)
        outcome = self._exchange.venue.add_order(key.account, request)
        match outcome:
            case Refusal(error=checks.UNKNOWN_SYMBOL):
                return {"error": f"Currency pair not supported {request.symbol}"}
            case Refusal():
                return {"error": outcome.error}
            case Validated():
                return {"result": _given_ids(request)}
            case _:
                return {"result": {"order_id": outcome.order_id} | _given_ids(request)}

    def _amend(self, fields: Fields, key: ApiKey, received_ns: int) -> Reply:
        for name in not_offered.WS_AMEND_FIELDS:
            if fields.has(name):
                raise BadRequestError(not_offered.invalid(name))
        fields.text("symbol")
        order_id, cl_ord_id = fields.text("order_id"), fields.text("cl_ord_id")
        if (order_id is None) == (cl_ord_id is None):
            raise BadRequestError("EGeneral:Invalid arguments:order_id or cl_ord_id")
        request = AmendRequest(
            order_id=order_id,
            cl_ord_id=cl_ord_id,
            qty=fields.number("order_qty"),
            limit_price=fields.number("limit_price"),
            trigger_price=fields.number("trigger_price"),
            trigger_price_type=cast("PriceType | None", fields.text("trigger_price_type", of=PRICE_TYPES)),
            limit_price_type=cast("PriceType | None", fields.text("limit_price_type", of=PRICE_TYPES)),
            post_only=fields.flag("post_only", default=False),
            deadline_at_ns=_deadline(fields, received_ns),
        )
        fields.finish()
        outcome = self._exchange.venue.amend_order(key.account, request)
        if isinstance(outcome, Refusal):
            return {"error": outcome.error}
        ids = {"order_id": order_id} if order_id is not None else {"cl_ord_id": cl_ord_id}
        return {"result": {"amend_id": outcome[0]} | ids}

    def _cancel(self, fields: Fields, key: ApiKey) -> list[Reply]:
        order_ids = fields.texts("order_id")
        cl_ord_ids = fields.texts("cl_ord_id")
        userrefs = fields.integers("order_userref")
        fields.finish()
        if not (order_ids or cl_ord_ids or userrefs):
            raise BadRequestError("EGeneral:Invalid arguments:order_id")
        venue = self._exchange.venue
        replies: list[Reply] = []
        wanted: list[tuple[dict[str, Any], str | None, str | None]] = [
            *(({"order_id": text}, text, None) for text in order_ids),
            *(({"cl_ord_id": text}, None, text) for text in cl_ord_ids),
        ]
        for userref in userrefs:
            orders = [o for o in key.account.open_orders.values() if o.request.order_userref == userref]
            wanted.extend(({"order_userref": userref}, order.order_id, None) for order in orders)
            if not orders:
                wanted.append(({"order_userref": userref}, "", None))
        for ids, order_id, cl_ord_id in wanted:
            outcome = venue.cancel_order(key.account, order_id, cl_ord_id)
            replies.append({"error": outcome.error} if isinstance(outcome, Refusal) else {"result": ids})
        return replies

    def _cancel_all_after(self, fields: Fields, key: ApiKey, now_ns: int) -> Reply:
        fields.need("timeout")
        timeout_s = fields.integer("timeout") or 0
        fields.finish()
        if not 0 <= timeout_s < MAX_TIMEOUT_S:
            raise BadRequestError("EGeneral:Invalid arguments:timeout")
        fires_ns = self._exchange.venue.cancel_all_after(key.account, timeout_s)
        if isinstance(fires_ns, Refusal):
            return {"error": fires_ns.error}
        trigger = "0" if fires_ns is None else rfc3339_s(fires_ns)
        return {"result": {"currentTime": rfc3339_s(now_ns), "triggerTime": trigger}}


def order_request(fields: Fields, received_ns: int) -> OrderRequest:
    """Return the order that the fields of add_order ask for.

    Raises BadRequestError for what is missing, of a wrong type, or not offered by this exchange.
    """
    for name in ("order_type", "side", "symbol"):
        fields.need(name)
    fields.number("cash_order_qty")
    _refuse_what_is_not_offered(fields)
    fields.need("order_qty")
    fields.flag("no_mpp", default=False)
    trigger_price, trigger_price_type, reference = _triggers(fields)
    kind = fields.text("order_type", of=ORDER_TYPES_OF_VENUE) or ""
    if kind == "settle-position":
        raise BadRequestError(not_offered.UNKNOWN_POSITION)
    usual_limit = "quote" if kind == "trailing-stop-limit" else "static"
    expire = fields.text("expire_time")
    expire_at_ns = parse_rfc3339(expire) if expire is not None else None
    if expire is not None and expire_at_ns is None:
        raise BadRequestError("EGeneral:Invalid arguments:expire_time")
    qty = fields.number("order_qty")
    if qty is None:
        raise BadRequestError("EGeneral:Invalid arguments:order_qty")
    userref = fields.integer("order_userref")
    if userref is not None and abs(userref) >= 2**31:
        raise BadRequestError("EGeneral:Invalid arguments:order_userref")
    request = OrderRequest(
        symbol=fields.text("symbol") or "",
        side=cast("Literal['buy', 'sell']", fields.text("side", of=("buy", "sell"))),
        order_type=kind,
        qty=qty,
        limit_price=fields.number("limit_price"),
        trigger_price=trigger_price,
        trigger_reference="index" if reference == "index" else "last",
        trigger_price_type=trigger_price_type,
        limit_price_type=cast("PriceType", fields.text("limit_price_type", usual_limit, of=PRICE_TYPES)),
        time_in_force=cast(
            "Literal['gtc', 'gtd', 'ioc', 'fok']", fields.text("time_in_force", "gtc", of=("gtc", "gtd", "ioc", "fok"))
        ),
        expire_at_ns=expire_at_ns,
        deadline_at_ns=_deadline(fields, received_ns),
        post_only=fields.flag("post_only", default=False),
        cl_ord_id=fields.text("cl_ord_id"),
        order_userref=userref,
        fee_preference=cast("Literal['base', 'quote']", fields.text("fee_preference", "quote", of=("base", "quote"))),
        stp_type=cast(
            "Literal['cancel_newest', 'cancel_oldest', 'cancel_both']",
            fields.text("stp_type", "cancel_newest", of=("cancel_newest", "cancel_oldest", "cancel_both")),
        ),
        validate=fields.flag("validate", default=False),
        sender_sub_id=fields.text("sender_sub_id"),
    )
    fields.finish()
    return request


def _refuse_what_is_not_offered(fields: Fields) -> None:
    for name in not_offered.WS_ADD_FIELDS:
        if fields.has(name):
            raise BadRequestError(not_offered.invalid(name))
    for name, refusal in not_offered.WS_ADD_FLAGS.items():
        if fields.flag(name, default=False):
            raise BadRequestError(refusal)


def _triggers(fields: Fields) -> tuple[Decimal | None, PriceType, str]:
    """Return price, price type and reference of a stop; no price when there is no such object."""
    triggers = fields.nested("triggers")
    if triggers is None:
        return None, "static", "last"
    price = triggers.number("price")
    kind = triggers.text("price_type", "static")
    if kind not in PRICE_TYPES:
        raise BadRequestError(not_offered.invalid("triggers.price_type"))
    reference = triggers.text("reference", "last", of=("last", "index")) or "last"
    triggers.finish()
    return price, cast("PriceType", kind), reference


def _deadline(fields: Fields, received_ns: int) -> int:
    text = fields.text("deadline")
    if text is None:
        return received_ns + DEFAULT_DEADLINE_MS * MS
    at_ns = parse_rfc3339(text)
    if at_ns is None or not MIN_DEADLINE_MS * MS <= at_ns - received_ns <= MAX_DEADLINE_MS * MS:
        raise BadRequestError("EGeneral:Invalid arguments:deadline")
    return at_ns


def _given_ids(request: OrderRequest) -> dict[str, Any]:
    ids: dict[str, Any] = {}
    if request.cl_ord_id is not None:
        ids["cl_ord_id"] = request.cl_ord_id
    if request.order_userref is not None:
        ids["order_userref"] = request.order_userref
    return ids
