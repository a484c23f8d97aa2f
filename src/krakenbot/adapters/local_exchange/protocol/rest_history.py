"""Answer the private REST endpoints that look back: orders, trades and the ledger, filtered and in pages.

`PrivateRest` calls it for keys that were authenticated. Pages hold 50 rows, the newest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeVar

from krakenbot.adapters.local_exchange.digits import plain_text
from krakenbot.adapters.local_exchange.executions import money_text
from krakenbot.adapters.local_exchange.keys import ApiKey
from krakenbot.adapters.local_exchange.matching.accounts import LedgerEntry
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, Fill
from krakenbot.adapters.local_exchange.matching.pricing import MILLI
from krakenbot.adapters.local_exchange.protocol import instruments
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.rest_public import (
    Params,
    RestError,
    one_of,
    price_text,
    seconds,
    whole_number,
)
from krakenbot.adapters.local_exchange.protocol.rest_trading import describe_order

PAGE: Final = 50
MOST_ORDERS: Final = 50
MOST_TRADES: Final = 20
MAX_SECOND: Final = 10**10
TRADE_TYPES: Final = ("all", "any position", "closed position", "closing position", "no position")
LEDGER_TYPES: Final = (
    *("all", "deposit", "withdrawal", "trade", "margin", "rollover", "credit", "transfer", "settled", "staking"),
    *("dividend", "sale", "nft_rebate", "adjustment", "reserve", "conversion", "reward", "creator_fee"),
)
T = TypeVar("T")


class History:
    """Orders, trades and bookings of the account behind a key."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def open_orders(self, key: ApiKey, params: Params) -> Any:
        """Return the open orders, all or by cl_ord_id or userref."""
        orders = _by_ids(key.account.open_orders.values(), params)
        return {"open": {o.order_id: order_object(o, params) for o in orders}}

    def closed_orders(self, key: ApiKey, params: Params) -> Any:
        """Return a page of closed orders; `closetime` says whether the opening or the closing time counts."""
        by_opening = one_of(params, "closetime", ("open", "close", "both")) == "open"

        def at_ns(order: ClientOrder) -> int:
            return order.opened_ns if by_opening else order.closed_ns or 0

        closed = [order for order in key.account.orders.values() if not order.is_open]
        closed = _by_ids(sorted(closed, key=at_ns), params)
        closed = _between(closed, params, at_ns, key.account.orders)
        page = {o.order_id: order_object(o, params) for o in _page(closed, params)}
        return {"closed": page} | _count(closed, params)

    def query_orders(self, key: ApiKey, params: Params) -> Any:
        """Return orders by their ids, or by cl_ord_id or userref."""
        if params.get("txid"):
            ids = _ids(params, MOST_ORDERS)
            if any(order_id not in key.account.orders for order_id in ids):
                raise RestError("EOrder:Unknown order")
            orders = _by_ids([key.account.orders[order_id] for order_id in ids], params)
        elif params.get("cl_ord_id") or params.get("userref"):
            orders = _by_ids(key.account.orders.values(), params)
        else:
            raise RestError("EGeneral:Invalid arguments")
        return {o.order_id: order_object(o, params) for o in orders}

    def trades_history(self, key: ApiKey, params: Params) -> Any:
        """Return a page of fills; there are no positions, so types that ask for them find nothing."""
        kind = one_of(params, "type", TRADE_TYPES) or "all"
        by_id = {fill.exec_id: fill for fill in key.account.fills}
        fills = _between(
            key.account.fills if kind in ("all", "no position") else (), params, lambda fill: fill.at_ns, by_id
        )
        page = {fill.exec_id: self._trade_object(fill, params) for fill in _page(fills, params)}
        return {"trades": page} | _count(fills, params)

    def query_trades(self, key: ApiKey, params: Params) -> Any:
        """Return fills by their ids."""
        by_id = {fill.exec_id: fill for fill in key.account.fills}
        ids = _ids(params, MOST_TRADES)
        if any(exec_id not in by_id for exec_id in ids):
            raise RestError("EGeneral:Invalid arguments:txid")
        return {exec_id: self._trade_object(by_id[exec_id], params) for exec_id in ids}

    def ledgers(self, key: ApiKey, params: Params) -> Any:
        """Return a page of bookings, all or by asset and type."""
        one_of(params, "aclass", ("currency",))
        kind = one_of(params, "type", LEDGER_TYPES) or "all"
        entries = list(key.account.ledger)
        by_id = {entry.ledger_id: entry for entry in entries}
        if params.get("asset", "all") != "all":
            assets = {instruments.new_name(name.strip()) for name in params["asset"].split(",")}
            if not assets <= set(instruments.listed_assets(self._exchange.venue)):
                raise RestError("EQuery:Unknown asset")
            entries = [entry for entry in entries if entry.asset in assets]
        if kind != "all":
            entries = [entry for entry in entries if entry.kind == kind]
        entries = _between(entries, params, lambda entry: entry.at_ns, by_id)
        page = {entry.ledger_id: ledger_object(entry) for entry in _page(entries, params)}
        return {"ledger": page} | _count(entries, params)

    def _trade_object(self, fill: Fill, params: Params) -> dict[str, Any]:
        rules = self._exchange.venue.markets[fill.symbol].rules
        row = {
            "ordertxid": fill.order_id,
            "postxid": fill.exec_id,
            "pair": instruments.rest_pair(rules),
            "time": seconds(fill.at_ns),
            "type": fill.side,
            "ordertype": fill.order_type,
            "price": price_text(rules, fill.price_ticks),
            "cost": plain_text(fill.cost),
            "fee": plain_text(fill.fee),
            "vol": plain_text(fill.qty),
            "margin": "0.00000",
            "leverage": "0",
            "misc": "",
            "trade_id": fill.trade_id,
            "maker": fill.is_maker,
        }
        if params.get("ledgers", "").lower() in ("true", "1"):
            row["ledgers"] = list(fill.ledger_ids)
        return row


def order_object(order: ClientOrder, params: Params) -> dict[str, Any]:
    """Return an order as OpenOrders, ClosedOrders and QueryOrders show it."""
    request, rules = order.request, order.rules
    status = {"filled": "closed", "canceled": "canceled", "expired": "expired"}.get(order.status, "open")
    flags = ["fcib" if order.pays_fee_in_base else "fciq", *(["post"] if order.post_only else [])]
    expire_ns = request.expire_at_ns or 0
    misc = [*(["stopped"] if order.is_triggered else []), *(["amended"] if order.is_amended else [])]
    result: dict[str, Any] = {
        "refid": None,
        "userref": request.order_userref or 0,
        "status": status,
        "opentm": seconds(order.opened_ns),
        "starttm": 0,
        "expiretm": seconds(expire_ns) if expire_ns else 0,
        "descr": describe_order(order),
        "vol": order.qty_text(order.qty_lots),
        "vol_exec": order.qty_text(order.filled_lots),
        "cost": plain_text(order.cum_cost),
        "fee": plain_text(order.cum_fee),
        "price": order.avg_price_text(),
        "stopprice": price_text(rules, (order.trigger_ticks or 0) if order.is_triggered or order.trails else 0),
        # A recorded trailing stop shows its peak here.
        "limitprice": price_text(rules, order.peak_milliticks // MILLI if order.trails else 0),
        "misc": ",".join(misc),
        "oflags": ",".join(flags),
        "margin": False,
    }
    if request.cl_ord_id is not None:
        result["cl_ord_id"] = request.cl_ord_id
    if order.trigger_ticks is not None:
        result["trigger"] = request.trigger_reference
    if not order.is_open:
        result |= {"reason": order.reason, "closetm": seconds(order.closed_ns or 0)}
    if params.get("trades", "").lower() in ("true", "1") and order.exec_ids:
        result["trades"] = list(order.exec_ids)
    return result


def ledger_object(entry: LedgerEntry) -> dict[str, Any]:
    """Return one booking as Ledgers shows it."""
    return {
        "refid": entry.ref_id,
        "time": seconds(entry.at_ns),
        "type": entry.kind,
        "subtype": "",
        "aclass": "currency",
        "asset": instruments.rest_asset(entry.asset),
        "amount": money_text(entry.asset, entry.amount),
        "fee": money_text(entry.asset, entry.fee),
        "balance": money_text(entry.asset, entry.balance),
    }


def _ids(params: Params, most: int) -> list[str]:
    """Return the ids of a comma list; refuses an empty one and one that is too long."""
    ids = [text.strip() for text in params.get("txid", "").split(",")]
    if not all(ids) or len(ids) > most:
        raise RestError("EGeneral:Invalid arguments:txid")
    return ids


def _by_ids(orders: Iterable[ClientOrder], params: Params) -> list[ClientOrder]:
    cl_ord_id, userref = params.get("cl_ord_id"), params.get("userref")
    return [
        order
        for order in orders
        if (not cl_ord_id or order.request.cl_ord_id == cl_ord_id)
        and (not userref or str(order.request.order_userref or 0) == userref)
    ]


def _between(rows: Iterable[T], params: Params, at_ns: Callable[[T], int], by_id: dict[str, T]) -> list[T]:
    """Return the rows inside start (exclusive) and end (inclusive), given as Unix seconds or as ids of rows."""

    def moment(name: str, default_ns: int) -> int:
        row = by_id.get(params.get(name, ""))
        return _moment(params, name, default_ns) if row is None else at_ns(row)

    start_ns, end_ns = moment("start", -1), moment("end", 2**63)
    return [row for row in rows if start_ns < at_ns(row) <= end_ns]


def _moment(params: Params, name: str, default_ns: int) -> int:
    text = params.get(name, "")
    if not text:
        return default_ns
    try:
        value = Decimal(text)
    except InvalidOperation as error:
        raise RestError(f"EGeneral:Invalid arguments:{name}") from error
    if not value.is_finite() or not 0 <= value < MAX_SECOND:
        raise RestError(f"EGeneral:Invalid arguments:{name}")
    return int(value * 1_000_000_000)


def _page(rows: list[T], params: Params) -> list[T]:
    offset = whole_number(params, "ofs", 0)
    return rows[::-1][offset : offset + PAGE]


def _count(rows: list[T], params: Params) -> dict[str, int]:
    return {} if params.get("without_count") == "true" else {"count": len(rows)}
