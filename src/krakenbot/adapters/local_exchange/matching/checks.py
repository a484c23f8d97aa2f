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
from krakenbot.adapters.local_exchange.matching.orders import (
    LIMIT_TYPES,
    ORDER_TYPES,
    STOP_TYPES,
    AmendRequest,
    ClientOrder,
    OrderRequest,
)

UNKNOWN_SYMBOL: Final = "EQuery:Unknown asset pair"
DUPLICATE_CL_ORD_ID: Final = "EGeneral:Invalid arguments:cl_ord_id"
VOLUME_MINIMUM: Final = "EGeneral:Invalid arguments:volume minimum not met"
STP_REASON: Final = "Self trade prevention"
IOC_REASON: Final = "Immediate or cancel"
NO_LIQUIDITY: Final = "No liquidity"
FUNDS_REASON: Final = "Insufficient funds"
SHARED_HOLD_REASON: Final = "Funds taken by a triggered stop"
MONTH_NS: Final = 31 * 86_400 * 1_000_000_000
MAX_COST_UNITS: Final = 10**27


@frozen(kw_only=True)
class AmendFigures:
    """The figures that an order has after an amendment."""

    qty_lots: int
    limit_ticks: int | None
    trigger_ticks: int | None


def check_mode(system: str, symbol_status: str, *, post_only: bool) -> str | None:
    """Return the refusal of new orders in the mode of the engine or of the symbol; None when allowed."""
    for mode in (system, symbol_status):
        if mode == "maintenance":
            return "EService:Unavailable"
        if mode == "cancel_only" or (mode == "post_only" and not post_only):
            return f"EService:Market in {mode} mode"
    return None


def check_shape(request: OrderRequest, rules: InstrumentRules, now_ns: int) -> str | None:
    """Return what is wrong with the combination of fields; None when nothing is."""
    kind = request.order_type
    if kind not in ORDER_TYPES:
        return "EGeneral:Invalid arguments:ordertype"
    if (request.limit_price is not None) != (kind in LIMIT_TYPES):
        return "EGeneral:Invalid arguments:limit_price"
    if (request.trigger_price is not None) != (kind in STOP_TYPES):
        return "EGeneral:Invalid arguments:triggers"
    if request.post_only and kind != "limit":
        return "EGeneral:Invalid arguments:post_only"
    if request.time_in_force == "ioc" and (request.post_only or kind != "limit"):
        return "EGeneral:Invalid arguments:timeinforce"
    if (request.time_in_force == "gtd") != (request.expire_at_ns is not None):
        return "EGeneral:Invalid arguments:expiretm"
    if request.expire_at_ns is not None and not now_ns < request.expire_at_ns <= now_ns + MONTH_NS:
        return "EGeneral:Invalid arguments:expiretm"
    if request.cl_ord_id is not None and request.order_userref is not None:
        return "EGeneral:Invalid arguments:cl_ord_id and userref are mutually exclusive"
    if request.cl_ord_id is not None and not is_cl_ord_id(request.cl_ord_id):
        return "EGeneral:Invalid arguments:cl_ord_id"
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


def figures(request: OrderRequest, rules: InstrumentRules) -> tuple[int, int | None, int | None] | str:
    """Return (lots, limit ticks, trigger ticks), or the error of the first figure that does not fit."""
    qty_lots = _lots(request.qty, rules)
    if isinstance(qty_lots, str):
        return qty_lots
    limit_ticks = _ticks(request.limit_price, rules)
    if isinstance(limit_ticks, str):
        return limit_ticks
    trigger_ticks = _ticks(request.trigger_price, rules)
    if isinstance(trigger_ticks, str):
        return trigger_ticks
    return qty_lots, limit_ticks, trigger_ticks


def check_minimums(rules: InstrumentRules, qty_lots: int, price_ticks: int | None) -> str | None:
    """Return the refusal of an order below the minimum size or cost, or beyond all sense; None when it fits."""
    if qty_lots < rules.qty_min_lots:
        return VOLUME_MINIMUM
    raw = qty_lots * (price_ticks or 0)
    scale = rules.price_precision + rules.qty_precision
    if raw > MAX_COST_UNITS:
        return "EOrder:Insufficient funds"
    if price_ticks is not None and Decimal(fixed_text(raw, scale)) < Decimal(rules.cost_min):
        return "EOrder:Cost minimum not met"
    return None


def check_amend(order: ClientOrder, request: AmendRequest) -> AmendFigures | str:
    """Return the figures after an amendment, or the error."""
    rules = order.rules
    qty_lots = order.qty_lots if request.qty is None else _lots(request.qty, rules)
    if isinstance(qty_lots, str):
        return qty_lots
    if request.limit_price is not None and order.limit_ticks is None:
        return "EGeneral:Invalid arguments:limit_price"
    if request.trigger_price is not None and not order.waits_for_trigger:
        return "EGeneral:Invalid arguments:triggers"
    limit_ticks = order.limit_ticks if request.limit_price is None else _ticks(request.limit_price, rules)
    trigger_ticks = order.trigger_ticks if request.trigger_price is None else _ticks(request.trigger_price, rules)
    if isinstance(limit_ticks, str):
        return limit_ticks
    if isinstance(trigger_ticks, str):
        return trigger_ticks
    if qty_lots > order.filled_lots:
        error = check_minimums(rules, qty_lots, limit_ticks or trigger_ticks)
        if error is not None:
            return error
    return AmendFigures(qty_lots=qty_lots, limit_ticks=limit_ticks, trigger_ticks=trigger_ticks)


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


def _ticks(price: Decimal | None, rules: InstrumentRules) -> int | str | None:
    if price is None:
        return None
    ticks = to_units(price, rules.price_precision)
    if ticks is None or ticks <= 0:
        return "EOrder:Invalid price"
    if ticks % rules.price_increment_ticks:
        return "EOrder:Tick size check failed"
    return ticks
