"""Check requests against instrument rules and modes, answering in the venue's words.

The venue calls these in order before it accepts an order or an amendment. Each returns None or an error text;
the exact conversions return integers.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import attrs
from attrs import frozen

from krakenbot.adapters.local_exchange.digits import fixed_text, to_units
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules
from krakenbot.adapters.local_exchange.matching import pricing
from krakenbot.adapters.local_exchange.matching.orders import (
    LIMIT_TYPES,
    ORDER_TYPES,
    STOP_TYPES,
    TRAILING_TYPES,
    AmendRequest,
    ClientOrder,
    OrderRequest,
    Price,
    falls_to_trigger,
)
from krakenbot.adapters.local_exchange.matching.settings import VenueSettings

UNKNOWN_SYMBOL: Final = "EQuery:Unknown asset pair"
UNKNOWN_ORDER: Final = "EOrder:Unknown order"
UNAVAILABLE: Final = "EService:Unavailable"
DEADLINE: Final = "EService:Deadline elapsed"
RATE_LIMIT: Final = "EOrder:Rate limit exceeded"
ORDERS_LIMIT: Final = "EOrder:Orders limit exceeded"
INSUFFICIENT_FUNDS: Final = "EOrder:Insufficient funds"
POST_ONLY: Final = "EOrder:Post only order"
DUPLICATE_CL_ORD_ID: Final = {
    "distinct": "EGeneral:Invalid arguments:cl_ord_id",
    "generic": "EGeneral:Invalid arguments",
}
USER_REQUESTED: Final = "User requested"
POST_ONLY_REASON: Final = "Post only order"
FOK_REASON: Final = "Fill or kill"
MAINTENANCE_REASON: Final = "Maintenance"
DELISTED_REASON: Final = "Delisted"
VOLUME_MINIMUM: Final = "EGeneral:Invalid arguments:volume minimum not met"
STP_REASON: Final = "Self trade prevention"
IOC_REASON: Final = "Immediate or cancel"
NO_LIQUIDITY: Final = "No liquidity"
FUNDS_REASON: Final = "Insufficient funds"
SHARED_HOLD_REASON: Final = "Funds taken by a triggered stop"
MONTH_NS: Final = 31 * 86_400 * 1_000_000_000
MAX_DETAIL: Final = 200
"""Characters of a field that the record shows of a request."""
MAX_COST_UNITS: Final = 10**27


@frozen(kw_only=True)
class Figures:
    """The figures of an order in lots and ticks, with its prices as given; None where it has none."""

    qty_lots: int
    limit_ticks: int | None
    trigger_ticks: int | None
    limit: Price | None
    trigger: Price | None


def check_mode(system: str, status: str, request: OrderRequest, mode_errors: str) -> str | None:
    """Return the refusal of new orders in the mode of the engine or of the symbol; None when allowed."""
    for mode in (system, status):
        match mode:
            case "maintenance" | "work_in_progress":
                return UNAVAILABLE
            case "delisted":
                return UNKNOWN_SYMBOL
            case "cancel_only":
                return mode_error(mode)
            case "post_only" if not request.post_only:
                return mode_error(mode)
            case "limit_only" if request.order_type != "limit":
                return mode_error(mode) if mode_errors == "analogous" else "EGeneral:Invalid arguments:ordertype"
            case "reduce_only" if request.side == "buy":
                return mode_error(mode) if mode_errors == "analogous" else "EGeneral:Permission denied"
    return None


def mode_error(mode: str) -> str:
    """Return the refusal that names a mode."""
    return f"EService:Market in {mode} mode"


def check_shape(request: OrderRequest, rules: InstrumentRules, settings: VenueSettings, now_ns: int) -> str | None:
    """Return what is wrong with the combination of fields; None when nothing is."""
    kind, force = request.order_type, request.time_in_force
    if kind not in ORDER_TYPES:
        return "EGeneral:Invalid arguments:ordertype"
    if (request.limit_price is not None) != (kind in LIMIT_TYPES):
        return "EGeneral:Invalid arguments:limit_price"
    if (request.trigger_price is not None) != (kind in STOP_TYPES):
        return "EGeneral:Invalid arguments:triggers"
    if (kind in TRAILING_TYPES) and request.trigger_price_type == "static":
        return "EGeneral:Invalid arguments:triggers.price_type"
    if (kind == "trailing-stop-limit") != (request.limit_price_type != "static"):
        return "EGeneral:Invalid arguments:limit_price_type"
    if request.post_only and kind != "limit":
        return "EGeneral:Invalid arguments:post_only"
    if request.post_only and force == "gtd" and settings.gtd_post_only == "refused":
        return "EGeneral:Invalid arguments:post_only"
    if force in ("ioc", "fok") and (request.post_only or kind != "limit"):
        return "EGeneral:Invalid arguments:timeinforce"
    if (force == "gtd") != (request.expire_at_ns is not None):
        return "EGeneral:Invalid arguments:expiretm"
    if request.expire_at_ns is not None and not now_ns < request.expire_at_ns <= now_ns + MONTH_NS:
        return "EGeneral:Invalid arguments:expiretm"
    if request.cl_ord_id is not None and request.order_userref is not None:
        return "EGeneral:Invalid arguments:cl_ord_id and userref are mutually exclusive"
    if request.cl_ord_id is not None and not is_cl_ord_id(request.cl_ord_id):
        return "EGeneral:Invalid arguments:cl_ord_id"
    if request.sender_sub_id is not None and len(request.sender_sub_id) > MAX_DETAIL:
        return "EGeneral:Invalid arguments:sender_sub_id"
    if kind in STOP_TYPES and request.trigger_reference == "index" and not rules.has_index:
        return "EGeneral:Invalid arguments:Index unavailable"
    return None


def is_cl_ord_id(text: str) -> bool:
    """Tell whether a text is a UUID with dashes, 32 hexadecimal digits, or 1 to 18 printable ASCII letters."""
    digits = "0123456789abcdefABCDEF"
    if len(text) == 36:
        parts = text.split("-")
        return [len(part) for part in parts] == [8, 4, 4, 4, 12] and all(c in digits for c in "".join(parts))
    if len(text) == 32:
        return all(c in digits for c in text)
    return 1 <= len(text) <= 18 and all(" " < c <= "~" for c in text)


def figures(request: OrderRequest, rules: InstrumentRules, reference_milliticks: int) -> Figures | str:
    """Return the figures of a request, or the error of the first one that does not fit."""
    lots = _lots(request.qty, rules)
    if isinstance(lots, str):
        return lots
    limit = None if request.limit_price is None else Price(request.limit_price, request.limit_price_type)
    trigger = None if request.trigger_price is None else Price(request.trigger_price, request.trigger_price_type)
    falls = falls_to_trigger(request.order_type, request.side)
    return resolve(lots, limit, trigger, rules, reference_milliticks, falls=falls, kind=request.order_type)


def resolve(
    qty_lots: int,
    limit: Price | None,
    trigger: Price | None,
    rules: InstrumentRules,
    reference_milliticks: int,
    *,
    falls: bool,
    kind: str,
) -> Figures | str:
    """Return prices in ticks, those that are offsets from a reference; the reference of a trailing one is its peak."""
    trigger_ticks: int | None = None
    if trigger is not None:
        find = pricing.trailing_ticks if kind in TRAILING_TYPES else pricing.trigger_ticks
        found = find(trigger, reference_milliticks, rules, falls=falls)
        if isinstance(found, str):
            return found
        trigger_ticks = found
    limit_ticks: int | str | None = None
    if limit is not None and limit.kind == "static":
        limit_ticks = pricing.static_ticks(limit.value, rules)
    elif limit is not None and trigger_ticks is not None:
        # A trailing buy waits for a rise, a trailing sale for a fall.
        limit_ticks = pricing.limit_from_trigger(limit, trigger_ticks, rules, is_buy=not falls)
    if isinstance(limit_ticks, str):
        return limit_ticks
    return Figures(
        qty_lots=qty_lots, limit_ticks=limit_ticks, trigger_ticks=trigger_ticks, limit=limit, trigger=trigger
    )


def check_minimums(rules: InstrumentRules, qty_lots: int, price_ticks: int | None) -> str | None:
    """Return the refusal of an order below the minimum size or cost, or beyond all sense; None when it fits."""
    if qty_lots < rules.qty_min_lots:
        return VOLUME_MINIMUM
    raw = qty_lots * (price_ticks or 0)
    scale = rules.price_precision + rules.qty_precision
    if raw > MAX_COST_UNITS:
        return INSUFFICIENT_FUNDS
    if price_ticks is not None and Decimal(fixed_text(raw, scale)) < Decimal(rules.cost_min):
        return "EOrder:Cost minimum not met"
    return None


def check_amend(order: ClientOrder, request: AmendRequest, reference_milliticks: int) -> Figures | str:
    """Return the figures after an amendment, or the error.

    A figure that is not amended stays, on whatever grid it was accepted.
    """
    rules = order.rules
    qty_lots = order.qty_lots if request.qty is None else _lots(request.qty, rules)
    if isinstance(qty_lots, str):
        return qty_lots
    if request.limit_price is not None and order.limit_ticks is None:
        return "EGeneral:Invalid arguments:limit_price"
    if request.trigger_price is not None and not order.waits_for_trigger:
        return "EGeneral:Invalid arguments:triggers"
    if request.post_only and order.waits_for_trigger:
        return "EGeneral:Invalid arguments:post_only"
    change = _amended_prices(order, request, qty_lots, reference_milliticks)
    if isinstance(change, Figures) and qty_lots > order.filled_lots:
        error = check_minimums(rules, qty_lots, change.limit_ticks or change.trigger_ticks)
        if error is not None:
            return error
    return change


def _amended_prices(order: ClientOrder, request: AmendRequest, qty_lots: int, reference: int) -> Figures | str:
    limit, trigger = order.limit, order.trigger
    if request.limit_price is not None:
        relative = order.waits_for_trigger and order.request.order_type == "trailing-stop-limit"
        usual = (limit.kind if limit is not None else "quote") if relative else "static"
        kind = request.limit_price_type or usual
        if relative == (kind == "static"):
            return "EGeneral:Invalid arguments:limit_price_type"
        limit = Price(request.limit_price, kind)
    if request.trigger_price is not None:
        usual = trigger.kind if order.trails and trigger is not None else "static"
        trigger = Price(request.trigger_price, request.trigger_price_type or usual)
        if order.trails and trigger.kind == "static":
            return "EGeneral:Invalid arguments:triggers.price_type"
    trails = order.trails and order.waits_for_trigger
    if trails:
        reference = order.peak_milliticks
    found = resolve(
        qty_lots,
        limit if trails or request.limit_price is not None else None,
        trigger if trails or request.trigger_price is not None else None,
        order.rules,
        reference,
        falls=order.falls_to_trigger,
        kind=order.request.order_type,
    )
    if isinstance(found, str):
        return found
    return Figures(
        qty_lots=qty_lots,
        limit_ticks=order.limit_ticks if found.limit_ticks is None else found.limit_ticks,
        trigger_ticks=order.trigger_ticks if found.trigger_ticks is None else found.trigger_ticks,
        limit=limit,
        trigger=trigger,
    )


def describe(request: OrderRequest | AmendRequest) -> dict[str, str]:
    """Return the fields of a request that are set, as texts for the record."""
    # str, not fixed point: a hostile exponent must not become a long text.
    values = attrs.asdict(request, recurse=False)
    return {name: str(value) for name, value in values.items() if value is not None}


def _lots(qty: Decimal, rules: InstrumentRules) -> int | str:
    lots = to_units(qty, rules.qty_precision)
    if lots is None or lots <= 0 or lots % rules.qty_increment_lots:
        return "EGeneral:Invalid arguments:volume"
    return lots
