"""Answer the private REST endpoints that read: balances, orders, trades, ledger, key, token.

`RestTrading` has the endpoints that write. Every request was authenticated before it comes here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Final, TypeVar

from krakenbot.adapters.local_exchange.digits import fixed_text, plain_text
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules
from krakenbot.adapters.local_exchange.keys import PERMISSION_DENIED, TOKEN_LIFE_S, ApiKey
from krakenbot.adapters.local_exchange.matching.accounts import Account, LedgerEntry
from krakenbot.adapters.local_exchange.matching.fees import FeeFigures
from krakenbot.adapters.local_exchange.matching.orders import ClientOrder, Fill
from krakenbot.adapters.local_exchange.matching.pricing import MILLI
from krakenbot.adapters.local_exchange.protocol import instruments
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.rest_public import (
    UNKNOWN_PAIR,
    Params,
    RestError,
    price_text,
    seconds,
    whole_number,
)
from krakenbot.adapters.local_exchange.protocol.rest_trading import RestTrading, describe_order

PAGE: Final = 50
T = TypeVar("T")
Endpoint = Callable[[ApiKey, Params], Any]


class PrivateRest:
    """The private endpoints by name, each with the permissions of which a key needs one."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        trading = RestTrading(exchange)
        orders = ("query-open-trades",)
        closed = ("query-closed-trades",)
        trade = ("modify-trades",)
        cancel = ("modify-trades", "close-trades")
        self._endpoints: dict[str, tuple[tuple[str, ...], Endpoint]] = {
            "GetWebSocketsToken": (("create-ws-token",), self._token),
            "GetApiKeyInfo": ((), self._key_info),
            "Balance": (("query-funds",), self._balance),
            "BalanceEx": (("query-funds",), self._balance_ex),
            "TradeVolume": (("query-funds",), self._trade_volume),
            "OpenOrders": (orders, self._open_orders),
            "ClosedOrders": (closed, self._closed_orders),
            "QueryOrders": (orders + closed, self._query_orders),
            "TradesHistory": (closed, self._trades_history),
            "QueryTrades": (closed, self._query_trades),
            "Ledgers": (("query-ledger",), self._ledgers),
            "AddOrder": (trade, trading.add_order),
            "AmendOrder": (trade, trading.amend_order),
            "CancelOrder": (cancel, trading.cancel_order),
            "CancelAll": (cancel, trading.cancel_all),
            "CancelAllOrdersAfter": (cancel, trading.cancel_all_after),
        }

    def answer(self, name: str, key: ApiKey, params: Params) -> Any:
        """Return the result of an endpoint.

        Raises RestError with the venue's text.
        """
        if name not in self._endpoints:
            raise RestError("EGeneral:Unknown method")
        permissions, endpoint = self._endpoints[name]
        if permissions and not key.may(*permissions):
            raise RestError(PERMISSION_DENIED)
        return endpoint(key, params)

    def _token(self, key: ApiKey, _params: Params) -> Any:
        now_ns = self._exchange.venue.now_ns
        return {"token": self._exchange.keys.issue_token(key, now_ns), "expires": TOKEN_LIFE_S}

    def _key_info(self, key: ApiKey, _params: Params) -> Any:
        return {
            "api_key_name": key.account.name,
            "api_key": key.api_key,
            "nonce": str(key.last_nonce),
            "nonce_window": "0",
            "permissions": sorted(key.permissions),
            "valid_until": "0",
            "query_from": "0",
            "query_to": "0",
            "ip_allowlist": [],
            "last_used": str(self._exchange.venue.now_ns // 1_000_000_000),
        }

    def _balance(self, key: ApiKey, _params: Params) -> Any:
        balances = sorted(key.account.balances.items())
        return {instruments.rest_asset(asset): _money(asset, amount) for asset, amount in balances}

    def _balance_ex(self, key: ApiKey, _params: Params) -> Any:
        account = key.account
        return {
            instruments.rest_asset(asset): {
                "balance": _money(asset, amount),
                "hold_trade": _money(asset, account.held(asset)),
            }
            for asset, amount in sorted(account.balances.items())
        }

    def _trade_volume(self, key: ApiKey, params: Params) -> Any:
        account = key.account
        venue = self._exchange.venue
        volume = account.volume.at(venue.now_ns)
        result: dict[str, Any] = {"currency": "ZUSD", "volume": f"{volume:.4f}", "fees": None, "fees_maker": None}
        if params.get("pair"):
            rules = [self._pair(name) for name in params["pair"].split(",")]
            figures = {instruments.rest_pair(rule): venue.fee_figures(account, rule) for rule in rules}
            result["fees"] = {name: _fee(taker) for name, (_maker, taker) in figures.items()}
            result["fees_maker"] = {name: _fee(maker) for name, (maker, _taker) in figures.items()}
        return result

    def _open_orders(self, key: ApiKey, params: Params) -> Any:
        orders = _by_ids(key.account.open_orders.values(), params)
        return {"open": {o.order_id: order_object(o, key.account, params) for o in orders}}

    def _closed_orders(self, key: ApiKey, params: Params) -> Any:
        closed = [o for o in key.account.orders.values() if not o.is_open]
        closed = _between(_by_ids(closed, params), params, lambda o: o.closed_ns or 0)
        page = _page(closed, params)
        return {"closed": {o.order_id: order_object(o, key.account, params) for o in page}, "count": len(closed)}

    def _query_orders(self, key: ApiKey, params: Params) -> Any:
        if params.get("txid"):
            ids = params["txid"].split(",")
            if any(order_id not in key.account.orders for order_id in ids):
                raise RestError("EOrder:Unknown order")
            orders: Iterable[ClientOrder] = [key.account.orders[order_id] for order_id in ids]
        elif params.get("cl_ord_id") or params.get("userref"):
            orders = _by_ids(key.account.orders.values(), params)
        else:
            raise RestError("EGeneral:Invalid arguments")
        return {o.order_id: order_object(o, key.account, params) for o in orders}

    def _trades_history(self, key: ApiKey, params: Params) -> Any:
        fills = _between(key.account.fills, params, lambda fill: fill.at_ns)
        page = {fill.exec_id: self._trade_object(fill) for fill in _page(fills, params)}
        return {"trades": page, "count": len(fills)}

    def _query_trades(self, key: ApiKey, params: Params) -> Any:
        wanted = params.get("txid", "").split(",")
        fills = {fill.exec_id: fill for fill in key.account.fills}
        if any(exec_id not in fills for exec_id in wanted):
            raise RestError("EGeneral:Invalid arguments:txid")
        return {exec_id: self._trade_object(fills[exec_id]) for exec_id in wanted}

    def _ledgers(self, key: ApiKey, params: Params) -> Any:
        entries: list[LedgerEntry] = key.account.ledger
        if params.get("asset", "all") != "all":
            assets = {instruments.new_name(name) for name in params["asset"].split(",")}
            entries = [entry for entry in entries if entry.asset in assets]
        if params.get("type", "all") != "all":
            entries = [entry for entry in entries if entry.kind == params["type"]]
        entries = _between(entries, params, lambda entry: entry.at_ns)
        return {
            "ledger": {entry.ledger_id: ledger_object(entry) for entry in _page(entries, params)},
            "count": len(entries),
        }

    def _trade_object(self, fill: Fill) -> dict[str, Any]:
        rules = self._exchange.venue.markets[fill.symbol].rules
        return {
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
            "ledgers": list(fill.ledger_ids),
        }

    def _pair(self, name: str) -> InstrumentRules:
        rules = instruments.find_pair(self._exchange.venue, name.strip())
        if rules is None:
            raise RestError(UNKNOWN_PAIR)
        return rules


def order_object(order: ClientOrder, account: Account, params: Params) -> dict[str, Any]:
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
        result["trades"] = [fill.exec_id for fill in account.fills if fill.order_id == order.order_id]
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
        "amount": plain_text(entry.amount),
        "fee": plain_text(entry.fee),
        "balance": plain_text(entry.balance),
    }


def _money(asset: str, amount: Decimal) -> str:
    """Return an amount with the asset's ledger digits, or more when it has more."""
    exponent = amount.as_tuple().exponent
    digits = max(instruments.asset_precision(asset), -exponent if isinstance(exponent, int) else 0)
    return f"{amount:.{digits}f}"


def _fee(figures: FeeFigures) -> dict[str, Any]:
    """Return one side's fees of a pair in percent; volumes in USD."""
    following = figures.next_ppm, figures.next_volume_usd
    return {
        "fee": fixed_text(figures.fee_ppm, 4),
        "minfee": fixed_text(figures.lowest_ppm, 4),
        "maxfee": fixed_text(figures.highest_ppm, 4),
        "nextfee": None if following[0] is None else fixed_text(following[0], 4),
        "nextvolume": None if following[1] is None else f"{following[1]}.0000",
        "tiervolume": f"{figures.tier_volume_usd}.0000",
    }


def _by_ids(orders: Iterable[ClientOrder], params: Params) -> list[ClientOrder]:
    cl_ord_id, userref = params.get("cl_ord_id"), params.get("userref")
    return [
        order
        for order in orders
        if (not cl_ord_id or order.request.cl_ord_id == cl_ord_id)
        and (not userref or str(order.request.order_userref or 0) == userref)
    ]


def _between(rows: Iterable[T], params: Params, at_ns: Callable[[T], int]) -> list[T]:
    """Return the rows inside start (exclusive) and end (inclusive), given in Unix seconds."""
    start_ns, end_ns = _moment(params, "start", 0), _moment(params, "end", 2**63)
    return [row for row in rows if start_ns < at_ns(row) <= end_ns]


def _moment(params: Params, name: str, default_ns: int) -> int:
    text = params.get(name, "")
    if not text:
        return default_ns
    try:
        value = float(text)
    except ValueError as error:
        raise RestError(f"EGeneral:Invalid arguments:{name}") from error
    if not 0 <= value < 1e10:
        raise RestError(f"EGeneral:Invalid arguments:{name}")
    return int(value * 1e9)


def _page(rows: list[T], params: Params) -> list[T]:
    """Return one page, the newest rows first."""
    offset = whole_number(params, "ofs", 0)
    return rows[::-1][offset : offset + PAGE]
