"""Answer the private REST endpoints by name: balances, fees, key and token here.

`History` has those that look back, `RestTrading` those that write. Requests were authenticated before it comes here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from krakenbot.adapters.local_exchange.digits import fixed_text
from krakenbot.adapters.local_exchange.executions import money_text
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules
from krakenbot.adapters.local_exchange.keys import (
    MORE_PERMISSIONS,
    PERMISSION_DENIED,
    PERMISSIONS,
    TOKEN_LIFE_S,
    ApiKey,
)
from krakenbot.adapters.local_exchange.matching.fees import FeeFigures
from krakenbot.adapters.local_exchange.protocol import instruments
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.protocol.rest_history import History
from krakenbot.adapters.local_exchange.protocol.rest_public import (
    UNKNOWN_PAIR,
    Params,
    RestError,
)
from krakenbot.adapters.local_exchange.protocol.rest_trading import RestTrading

S: Final = 1_000_000_000
Endpoint = Callable[[ApiKey, Params], Any]


class TimedEndpoint(Protocol):
    """An endpoint that looks at when its request came."""

    def __call__(self, key: ApiKey, params: Params, received_ns: int) -> Any:
        """Return the result."""


class PrivateRest:
    """The private endpoints by name, each with the permissions of which a key needs one."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        trading, history = RestTrading(exchange), History(exchange)
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
            "OpenOrders": (orders, history.open_orders),
            "ClosedOrders": (closed, history.closed_orders),
            "QueryOrders": (orders + closed, history.query_orders),
            "TradesHistory": (closed, history.trades_history),
            "QueryTrades": (closed, history.query_trades),
            "Ledgers": (("query-ledger",), history.ledgers),
            "CancelOrder": (cancel, trading.cancel_order),
            "CancelAll": (cancel, trading.cancel_all),
            "CancelAllOrdersAfter": (cancel, trading.cancel_all_after),
        }
        self._with_deadline: dict[str, tuple[tuple[str, ...], TimedEndpoint]] = {
            "AddOrder": (trade, trading.add_order),
            "AmendOrder": (trade, trading.amend_order),
        }

    def answer(self, name: str, key: ApiKey, params: Params, received_ns: int | None = None) -> Any:
        """Return the result of an endpoint; `received_ns` is when the request came, None for now.

        Raises RestError with the venue's text.
        """
        endpoint: Endpoint
        if name in self._with_deadline:
            permissions, timed = self._with_deadline[name]
            endpoint = partial(timed, received_ns=self._exchange.venue.now_ns if received_ns is None else received_ns)
        elif name in self._endpoints:
            permissions, endpoint = self._endpoints[name]
        else:
            raise RestError("EGeneral:Unknown method")
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
            "nonce_window": str(key.nonce_window),
            "permissions": [name for name in PERMISSIONS + MORE_PERMISSIONS if name in key.permissions],
            "valid_until": str(key.valid_until_s),
            "query_from": "0",
            "query_to": "0",
            "created_time": str(key.created_ns // S),
            "modified_time": str(key.created_ns // S),
            "ip_allowlist": list(key.ip_allowlist),
            "last_used": str(key.last_used_ns // S),
        }

    def _balance(self, key: ApiKey, _params: Params) -> Any:
        balances = sorted(key.account.balances.items())
        return {instruments.rest_asset(asset): money_text(asset, amount) for asset, amount in balances}

    def _balance_ex(self, key: ApiKey, _params: Params) -> Any:
        account = key.account
        return {
            instruments.rest_asset(asset): {
                "balance": money_text(asset, amount),
                "hold_trade": money_text(asset, account.held(asset)),
            }
            for asset, amount in sorted(account.balances.items())
        }

    def _trade_volume(self, key: ApiKey, params: Params) -> Any:
        account = key.account
        venue = self._exchange.venue
        volume = account.volume.at(venue.now_ns)
        result: dict[str, Any] = {"currency": "ZUSD", "volume": f"{volume:.4f}", "fees": None, "fees_maker": None}
        if params.get("pair"):
            rules = [self._pair(name) for name in dict.fromkeys(params["pair"].split(","))]
            figures = {instruments.rest_pair(rule): venue.fee_figures(account, rule) for rule in rules}
            result["fees"] = {name: _fee(taker) for name, (_maker, taker) in figures.items()}
            result["fees_maker"] = {name: _fee(maker) for name, (maker, _taker) in figures.items()}
        return result

    def _pair(self, name: str) -> InstrumentRules:
        rules = instruments.find_pair(self._exchange.venue, name.strip())
        if rules is None:
            raise RestError(UNKNOWN_PAIR)
        return rules


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
