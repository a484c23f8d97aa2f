"""Answer the control port's paths with which tests and scripts act as the venue's operator.

JSON in, JSON out; what makes no sense is answered with status 400 and `{"error": text}`. The server adds the
routes. Only loopback addresses are served, whoever else may reach the port.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from krakenbot.adapters.local_exchange.clock_step import MAX_STEP_S
from krakenbot.adapters.local_exchange.digits import plain_text, to_units
from krakenbot.adapters.local_exchange.matching.operator import BookingKind, Operator, OperatorError
from krakenbot.adapters.local_exchange.matching.tiers import Tier
from krakenbot.adapters.local_exchange.protocol.announcements import PROXY_RESTARTING
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.record import order_fields
from krakenbot.adapters.local_exchange.web import bounded_body, json_response

MAX_BODY_BYTES: Final = 1 << 16
MAX_WHOLE_DIGITS: Final = 15
MAX_DECIMALS: Final = 12
CANCELLED_BY_VENUE: Final = "Cancelled by the venue"
Answer = dict[str, Any]


class Control:
    """The operator's paths of one exchange."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._operator = Operator(exchange.venue)

    def routes(self) -> list[Route]:
        """Return the routes."""
        actions: dict[str, Callable[[Answer], Answer]] = {
            "mode": self.mode,
            "instrument": self.instrument,
            "balance": self.balance,
            "order": self.order,
            "tier": self.tier,
            "key": self.key,
            "clock": self.clock,
            "text": self.text,
        }
        routes = [Route(f"/control/{name}", self._post(action), methods=["POST"]) for name, action in actions.items()]
        return [*routes, Route("/control/limits", self._limits, methods=["GET"])]

    def index(self, others: Sequence[BaseRoute]) -> Route:
        """Return the route that lists the control port's paths: these and those of `others`."""
        paths: dict[str, set[str]] = {}
        for route in (*others, *self.routes()):
            if isinstance(route, Route) and route.path.startswith("/control/"):
                paths.setdefault(route.path, set()).update((route.methods or set()) - {"HEAD"})
        listed = {path: sorted(methods) for path, methods in sorted(paths.items())}

        async def endpoint(_request: Request) -> Response:
            return json_response({"paths": listed})

        return Route("/control/", endpoint, methods=["GET"])

    def mode(self, body: Answer) -> Answer:
        """Change the mode of the engine: `{"system"}`, and optionally the list of `upcoming_maintenance`."""
        _only(body, "system", "upcoming_maintenance")
        upcoming = body.get("upcoming_maintenance", self._exchange.upcoming_maintenance)
        if not isinstance(upcoming, list) or not all(isinstance(row, dict) for row in upcoming):
            raise OperatorError("upcoming_maintenance: a list of objects")
        before, self._exchange.upcoming_maintenance = self._exchange.upcoming_maintenance, upcoming
        try:
            self._operator.set_system(_text(body, "system"))
        except OperatorError:
            self._exchange.upcoming_maintenance = before
            raise
        return {"system": self._exchange.venue.system}

    def instrument(self, body: Answer) -> Answer:
        """Change an instrument: `{"symbol"}` and any of status, price_increment, qty_increment, qty_min, cost_min.

        Figures are decimal texts in the precision of the pair; `has_index` is a boolean.
        """
        _only(body, "symbol", "status", "price_increment", "qty_increment", "qty_min", "cost_min", "has_index")
        symbol = _text(body, "symbol")
        market = self._exchange.venue.markets.get(symbol)
        if market is None:
            raise OperatorError(f"no pair {symbol}")
        changes: dict[str, Any] = {name: body[name] for name in ("has_index",) if name in body}
        if "status" in body:
            changes["status"] = _text(body, "status")
        if "cost_min" in body:
            changes["cost_min"] = plain_text(_decimal(body, "cost_min"))
        figures = {
            "price_increment": ("price_increment_ticks", market.rules.price_precision),
            "qty_increment": ("qty_increment_lots", market.rules.qty_precision),
            "qty_min": ("qty_min_lots", market.rules.qty_precision),
        }
        for name, (rule, precision) in figures.items():
            if name in body:
                units = to_units(_decimal(body, name), precision)
                if units is None:
                    raise OperatorError(f"{name}: at most {precision} digits after the point")
                changes[rule] = units
        return {"symbol": symbol, "status": self._operator.change_rules(symbol, **changes).rules.status}

    def balance(self, body: Answer) -> Answer:
        """Book an amount: `{"account", "asset", "amount"}` and `kind` deposit (default), withdrawal, adjustment."""
        _only(body, "account", "asset", "amount", "kind")
        kind = body.get("kind", "deposit")
        if kind not in ("deposit", "withdrawal", "adjustment"):
            raise OperatorError("kind: deposit, withdrawal or adjustment")
        entry = self._operator.change_balance(
            _text(body, "account"), _text(body, "asset"), _decimal(body, "amount"), cast("BookingKind", kind)
        )
        return {"ledger_id": entry.ledger_id, "balance": plain_text(entry.balance)}

    def order(self, body: Answer) -> Answer:
        """Cancel a client's order as the venue: `{"order_id"}` and optionally a `reason`."""
        _only(body, "order_id", "reason")
        reason = _text(body, "reason") if "reason" in body else CANCELLED_BY_VENUE
        return order_fields(self._operator.cancel_order(_text(body, "order_id"), reason))

    def tier(self, body: Answer) -> Answer:
        """Move an account to a tier: `{"account", "tier"}`."""
        _only(body, "account", "tier")
        tier = _text(body, "tier")
        if tier not in tuple(Tier):
            raise OperatorError(f"{tier}: tiers are {', '.join(Tier)}")
        self._operator.set_tier(_text(body, "account"), Tier(tier))
        return {"tier": tier}

    def key(self, body: Answer) -> Answer:
        """Revoke an API key and its tokens: `{"api_key"}`."""
        _only(body, "api_key")
        name = _text(body, "api_key")
        if not self._exchange.keys.revoke(name):
            raise OperatorError(f"no key {name}")
        return {"revoked": name}

    def clock(self, body: Answer) -> Answer:
        """Step the clock that clients see: `{"step_s"}`, whole seconds beside the venue's own time; 0 puts it right."""
        _only(body, "step_s")
        step_s = body.get("step_s")
        if not isinstance(step_s, int) or isinstance(step_s, bool) or abs(step_s) > MAX_STEP_S:
            raise OperatorError(f"step_s: whole seconds, at most {MAX_STEP_S} either way")
        self._exchange.step_s = step_s
        return {"step_s": step_s}

    def text(self, body: Answer) -> Answer:
        """Send a bare text to every connection: `{"text"}`, by default what the proxy says before it restarts."""
        _only(body, "text")
        self._exchange.announcements.tell_all(_text(body, "text") if "text" in body else PROXY_RESTARTING)
        return {"connections": len(self._exchange.sessions)}

    def limits(self) -> Answer:
        """Return the counters of every limit and, per account, tier and transaction counts by pair."""
        venue = self._exchange.venue
        accounts = {
            name: {"tier": account.tier, "rate_counts": account.rate_counts(venue.now_ns)}
            for name, account in venue.accounts.items()
        }
        return {"now_ns": venue.now_ns, **self._exchange.limits.state(venue.now_ns), "accounts": accounts}

    def _post(self, action: Callable[[Answer], Answer]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            if not _is_loopback(request):
                return json_response({"error": "the control port serves loopback only"}, 403)
            try:
                body = await _body(request)
                self._exchange.catch_up()
                return json_response(action(body))
            except OperatorError as error:
                return json_response({"error": str(error)}, 400)

        return endpoint

    async def _limits(self, request: Request) -> Response:
        if not _is_loopback(request):
            return json_response({"error": "the control port serves loopback only"}, 403)
        self._exchange.catch_up()
        return json_response(self.limits())


async def _body(request: Request) -> Answer:
    content = await bounded_body(request, MAX_BODY_BYTES)
    if content is None:
        raise OperatorError("the body is too long")
    try:
        body = msgspec.json.decode(content or b"{}")
    except (msgspec.DecodeError, RecursionError) as error:
        raise OperatorError(f"the body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise OperatorError("the body must be a JSON object")
    return body


def _is_loopback(request: Request) -> bool:
    try:
        return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback
    except ValueError:
        return False


def _only(body: Answer, *names: str) -> None:
    unknown = sorted(set(body) - set(names))
    if unknown:
        raise OperatorError(f"{', '.join(unknown)}: known are {', '.join(names)}")


def _text(body: Answer, name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise OperatorError(f"{name}: {'a text in quotes is needed' if name in body else 'missing'}")
    return value


def _decimal(body: Answer, name: str) -> Decimal:
    text = _text(body, name)
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise OperatorError(f"{name}: a decimal in quotes is needed") from error
    # Sums of such amounts stay exact in 28 digits.
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -MAX_DECIMALS or value.adjusted() >= MAX_WHOLE_DIGITS:
        raise OperatorError(
            f"{name}: a finite decimal below 10^{MAX_WHOLE_DIGITS} with at most {MAX_DECIMALS} decimals"
        )
    return value
