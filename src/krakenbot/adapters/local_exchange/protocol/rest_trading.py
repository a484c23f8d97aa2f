"""Decode the private REST endpoints that write, and answer them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, cast

from krakenbot.adapters.local_exchange.digits import fixed_text, parse_rfc3339, rfc3339_s
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules, Side
from krakenbot.adapters.local_exchange.keys import ApiKey
from krakenbot.adapters.local_exchange.matching import checks
from krakenbot.adapters.local_exchange.matching.listeners import Refusal, Validated
from krakenbot.adapters.local_exchange.matching.orders import (
    ORDER_TYPES,
    AmendRequest,
    ClientOrder,
    OrderRequest,
    Price,
    PriceType,
)
from krakenbot.adapters.local_exchange.protocol import instruments, not_offered
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.rest_prices import number, price_text, read_prices
from krakenbot.adapters.local_exchange.protocol.rest_public import UNKNOWN_PAIR, Params, RestError, whole_number

S = 1_000_000_000
MIN_DEADLINE_S, MAX_DEADLINE_S = 2, 60
MAX_USERREF_DIGITS = 10


class RestTrading:
    """AddOrder, AmendOrder, CancelOrder, CancelAll, CancelAllOrdersAfter."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def add_order(self, key: ApiKey, params: Params, received_ns: int) -> Any:
        """Place an order; with `validate` the answer has no txid. The deadline counts from `received_ns`."""
        venue = self._exchange.venue
        request = self._request(params, received_ns)
        outcome = venue.add_order(key.account, request)
        match outcome:
            case Refusal(error=checks.VOLUME_MINIMUM):
                raise RestError("EOrder:Order minimum not met")
            case Refusal():
                raise RestError(outcome.error)
            case Validated():
                return {"descr": {"order": _wished(request, venue.markets[request.symbol].rules)}}
            case _:
                return {"descr": {"order": describe_order(outcome)["order"]}, "txid": [outcome.order_id]}

    def amend_order(self, key: ApiKey, params: Params, received_ns: int) -> Any:
        """Change an order in place; the deadline counts from `received_ns`."""
        order_id, cl_ord_id = params.get("txid"), params.get("cl_ord_id")
        if (order_id is None) == (cl_ord_id is None):
            raise RestError("EGeneral:Invalid arguments")
        if params.get("display_qty"):
            raise RestError(not_offered.invalid("display_qty"))
        limit, trigger = (_amended_price(params, name) for name in ("limit_price", "trigger_price"))
        request = AmendRequest(
            order_id=order_id,
            cl_ord_id=cl_ord_id,
            qty=_number(params, "order_qty"),
            limit_price=limit[0],
            limit_price_type=limit[1],
            trigger_price=trigger[0],
            trigger_price_type=trigger[1],
            post_only=_flag(params, "post_only"),
            deadline_at_ns=_deadline(params, received_ns),
        )
        outcome = self._exchange.venue.amend_order(key.account, request)
        if isinstance(outcome, Refusal):
            raise RestError(outcome.error)
        return {"amend_id": outcome[0]}

    def cancel_order(self, key: ApiKey, params: Params) -> Any:
        """Cancel by txid, by cl_ord_id, or every order with a userref."""
        account, venue = key.account, self._exchange.venue
        txid, cl_ord_id = params.get("txid"), params.get("cl_ord_id")
        if not txid and not cl_ord_id:
            raise RestError("EGeneral:Invalid arguments:txid")
        named = [(o.order_id, None) for o in account.open_orders.values() if _has_userref(o, txid)]
        wanted: list[tuple[str | None, str | None]] = [*named] or [(txid, None if txid else cl_ord_id)]
        outcomes = [venue.cancel_order(account, order_id, other_id) for order_id, other_id in wanted]
        errors = [outcome.error for outcome in outcomes if isinstance(outcome, Refusal)]
        if len(errors) == len(outcomes):
            raise RestError(errors[0])
        return {"count": len(outcomes) - len(errors)}

    def cancel_all(self, key: ApiKey, _params: Params) -> Any:
        """Cancel every open order."""
        count = self._exchange.venue.cancel_all(key.account)
        if isinstance(count, Refusal):
            raise RestError(count.error)
        return {"count": count}

    def cancel_all_after(self, key: ApiKey, params: Params) -> Any:
        """Arm or disarm the dead man's switch."""
        if "timeout" not in params:
            raise RestError("EGeneral:Invalid arguments:timeout")
        timeout_s = whole_number(params, "timeout", 0)
        if timeout_s >= 86_400:
            raise RestError("EGeneral:Invalid arguments:timeout")
        venue = self._exchange.venue
        fires_ns = venue.cancel_all_after(key.account, timeout_s)
        if isinstance(fires_ns, Refusal):
            raise RestError(fires_ns.error)
        trigger = "0" if fires_ns is None else rfc3339_s(fires_ns)
        return {"currentTime": rfc3339_s(venue.now_ns), "triggerTime": trigger}

    def _request(self, params: Params, received_ns: int) -> OrderRequest:
        for name in not_offered.REST_FIELDS:
            if params.get(name):
                raise RestError(not_offered.invalid(name))
        for name, refusal in not_offered.REST_FLAGS.items():
            if _flag(params, name):
                raise RestError(refusal)
        if params.get("leverage", "none") not in ("none", "", "1"):
            raise RestError(not_offered.CANNOT_OPEN)
        if params.get("ordertype") == "settle-position":
            raise RestError(not_offered.UNKNOWN_POSITION)
        if params.get("starttm", "0") != "0":
            raise RestError("EGeneral:Invalid arguments:starttm")
        rules = instruments.find_pair(self._exchange.venue, params.get("pair", ""))
        if rules is None:
            raise RestError(UNKNOWN_PAIR)
        kind = _one_of(params, "ordertype", tuple(sorted(ORDER_TYPES)), None)
        flags = {flag for flag in params.get("oflags", "").split(",") if flag}
        if not flags <= {"post", "fcib", "fciq", "nompp"}:
            raise RestError("EGeneral:Invalid arguments:oflags")
        side = cast("Side", _one_of(params, "type", ("buy", "sell"), None))
        prices = read_prices(params, kind, side, self._exchange.venue.markets[rules.symbol])
        volume = _number(params, "volume")
        if volume is None:
            raise RestError("EGeneral:Invalid arguments:volume")
        expire_at_ns = self._expire(params)
        force = _one_of(params, "timeinforce", ("GTC", "GTD", "IOC", "FOK"), "GTD" if expire_at_ns else "GTC")
        stp = _one_of(params, "stptype", ("cancel-newest", "cancel-oldest", "cancel-both"), "cancel-newest")
        return OrderRequest(
            symbol=rules.symbol,
            side=side,
            order_type=kind,
            qty=volume,
            limit_price=None if prices.limit is None else prices.limit.value,
            limit_price_type="static" if prices.limit is None else prices.limit.kind,
            trigger_price=None if prices.trigger is None else prices.trigger.value,
            trigger_price_type="static" if prices.trigger is None else prices.trigger.kind,
            trigger_reference=cast("Literal['last', 'index']", _one_of(params, "trigger", ("last", "index"), "last")),
            time_in_force=cast("Literal['gtc', 'gtd', 'ioc', 'fok']", force.lower()),
            expire_at_ns=expire_at_ns,
            deadline_at_ns=_deadline(params, received_ns),
            post_only="post" in flags,
            cl_ord_id=params.get("cl_ord_id"),
            order_userref=_userref(params),
            fee_preference="base" if "fcib" in flags else "quote",
            stp_type=cast("Literal['cancel_newest', 'cancel_oldest', 'cancel_both']", stp.replace("-", "_")),
            validate=_flag(params, "validate"),
        )

    def _expire(self, params: Params) -> int | None:
        text = params.get("expiretm", "0")
        if text in ("0", ""):
            return None
        seconds = text.lstrip("+").split(".", maxsplit=1)[0]
        if not seconds.isascii() or not seconds.isdigit() or len(seconds) > 11:
            raise RestError("EGeneral:Invalid arguments:expiretm")
        return (self._exchange.venue.now_ns if text.startswith("+") else 0) + int(seconds) * S


def describe_order(order: ClientOrder) -> dict[str, Any]:
    """Return the `descr` object of an order."""
    first, second = (order.trigger, order.limit) if order.trigger is not None else (order.limit, None)
    precision = order.rules.price_precision
    return {
        "pair": instruments.altname(order.rules),
        "aclass": "forex",
        "type": order.side,
        "ordertype": order.request.order_type,
        "price": "0" if first is None else price_text(first, precision),
        "price2": "0" if second is None else price_text(second, precision),
        "leverage": "none",
        "order": _sentence(order.request, order.rules, order.qty_text(order.qty_lots), order.trigger, order.limit),
        "close": "",
    }


def _sentence(
    request: OrderRequest, rules: InstrumentRules, qty_text: str, trigger: Price | None, limit: Price | None
) -> str:
    """Return the venue's one-line description of present figures: `buy 1.25000000 XBTUSD @ limit 27500.0`."""
    parts = []
    if trigger is not None:
        kind = request.order_type.removesuffix("-limit").replace("-", " ")
        parts.append(f"{kind} {price_text(trigger, rules.price_precision)}")
    if limit is not None:
        parts.append(f"limit {price_text(limit, rules.price_precision)}")
    return f"{request.side} {qty_text} {instruments.altname(rules)} @ {' -> '.join(parts) or 'market'}"


def _wished(request: OrderRequest, rules: InstrumentRules) -> str:
    """Describe an order that was only validated."""
    trigger = None if request.trigger_price is None else Price(request.trigger_price, request.trigger_price_type)
    limit = None if request.limit_price is None else Price(request.limit_price, request.limit_price_type)
    # It was admitted, so the value fits its precision exactly.
    qty = fixed_text(int(request.qty.scaleb(rules.qty_precision)), rules.qty_precision)
    return _sentence(request, rules, qty, trigger, limit)


def _has_userref(order: ClientOrder, text: str | None) -> bool:
    userref = order.request.order_userref
    return userref is not None and str(userref) == text


def _number(params: Params, name: str) -> Decimal | None:
    text = params.get(name)
    if text is None or text == "":
        return None
    return number(text, name)


def _amended_price(params: Params, name: str) -> tuple[Decimal | None, PriceType | None]:
    """Return an amended price and its type; a sign or a percent sign makes it an offset."""
    text = params.get(name, "").strip()
    if not text:
        return None, None
    value = number(text.removesuffix("%"), name)
    if text[0] not in "+-":
        return value, None
    return value, "pct" if text.endswith("%") else "quote"


def _deadline(params: Params, received_ns: int) -> int | None:
    text = params.get("deadline")
    if not text:
        return None
    at_ns = parse_rfc3339(text)
    if at_ns is None or not MIN_DEADLINE_S * S <= at_ns - received_ns <= MAX_DEADLINE_S * S:
        raise RestError("EGeneral:Invalid arguments:deadline")
    return at_ns


def _flag(params: Params, name: str) -> bool:
    # Neither yes nor no is refused: a misspelt `validate` must not place an order.
    value = (params.get(name) or "false").lower()
    if value not in ("true", "1", "false", "0"):
        raise RestError(f"EGeneral:Invalid arguments:{name}")
    return value in ("true", "1")


def _userref(params: Params) -> int | None:
    text = params.get("userref")
    if text is None:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= MAX_USERREF_DIGITS and abs(int(text)) < 2**31):
        raise RestError("EGeneral:Invalid arguments:userref")
    return int(text)


def _one_of(params: Params, name: str, allowed: tuple[str, ...], default: str | None) -> str:
    value = params.get(name) or default
    if value not in allowed:
        raise RestError(f"EGeneral:Invalid arguments:{name}")
    return value
