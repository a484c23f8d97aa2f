"""Answer the public REST endpoints: time, status, assets, pairs, ticker, depth, trades."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from krakenbot.adapters.local_exchange.digits import fixed_text, rfc3339_s
from krakenbot.adapters.local_exchange.executions import number
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules
from krakenbot.adapters.local_exchange.matching.book import BookSide
from krakenbot.adapters.local_exchange.protocol import instruments
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange

MAX_DEPTH = 500
MAX_TRADES = 1000
INFO_FIELDS: dict[str, tuple[str, ...]] = {
    "info": (),
    "leverage": ("leverage_buy", "leverage_sell"),
    "fees": ("fees", "fees_maker", "fee_volume_currency"),
    "margin": ("margin_call", "margin_stop"),
}
"""Fields of AssetPairs by `info`; none named means all."""
UNKNOWN_PAIR = "EQuery:Unknown asset pair"
Params = dict[str, str]


class RestError(Exception):
    """A REST request that is refused with this text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class PublicRest:
    """The public endpoints by name."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._endpoints: dict[str, Callable[[Params], Any]] = {
            "Time": self._time,
            "SystemStatus": self._system_status,
            "Assets": self._assets,
            "AssetPairs": self._asset_pairs,
            "Ticker": self._ticker,
            "Depth": self._depth,
            "Trades": self._trades,
        }

    def answer(self, name: str, params: Params) -> Any:
        """Return the result of an endpoint.

        Raises RestError with the venue's text.
        """
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            raise RestError("EGeneral:Unknown method")
        return endpoint(params)

    def _time(self, _params: Params) -> Any:
        second = self._exchange.venue.now_ns // 1_000_000_000
        moment = datetime.fromtimestamp(second, UTC)
        return {"unixtime": second, "rfc1123": moment.strftime("%a, %d %b %y %H:%M:%S +0000")}

    def _system_status(self, _params: Params) -> Any:
        venue = self._exchange.venue
        return {"status": venue.system, "timestamp": rfc3339_s(venue.now_ns)}

    def _assets(self, params: Params) -> Any:
        if one_of(params, "aclass", ("currency", "tokenized_asset")) == "tokenized_asset":
            return {}
        listed = {instruments.rest_asset(a): a for a in instruments.listed_assets(self._exchange.venue)}
        wanted = listed
        if params.get("asset"):
            names = [instruments.new_name(text) for text in params["asset"].split(",")]
            wanted = {key: asset for key, asset in listed.items() if asset in names}
            if len(wanted) < len(set(names)):
                raise RestError("EQuery:Unknown asset")
        is_new = _wants_new_names(params)
        return {asset if is_new else key: _asset_object(asset, is_new=is_new) for key, asset in wanted.items()}

    def _asset_pairs(self, params: Params) -> Any:
        is_new = _wants_new_names(params)
        shown = INFO_FIELDS[one_of(params, "info", tuple(INFO_FIELDS)) or "info"]
        result = {}
        for key, rules in self._pairs(params).items():
            row = instruments.pair_object(rules)
            if is_new:
                row |= {"base": rules.base, "quote": rules.quote}
            result[rules.symbol if is_new else key] = {name: row[name] for name in shown or row}
        return result

    def _ticker(self, params: Params) -> Any:
        return {key: self._ticker_object(rules) for key, rules in self._pairs(params).items()}

    def _depth(self, params: Params) -> Any:
        key, rules = self._pair(params)
        count = whole_number(params, "count", 100)
        if not 1 <= count <= MAX_DEPTH:
            raise RestError("EGeneral:Invalid arguments:count")
        book = self._exchange.venue.markets[rules.symbol].book

        def rows(side: BookSide) -> list[Any]:
            return [
                [
                    price_text(rules, abs(key)),
                    fixed_text(side.levels[key].size_lots, rules.qty_precision),
                    self._second(),
                ]
                for key in side.keys[: -count - 1 : -1]
            ]

        return {key: {"asks": rows(book.asks), "bids": rows(book.bids)}}

    def _trades(self, params: Params) -> Any:
        key, rules = self._pair(params)
        since_ns = whole_number(params, "since", 0)
        if 0 < since_ns < 10**12:
            since_ns *= 10**9
        count = whole_number(params, "count", MAX_TRADES)
        if not 1 <= count <= MAX_TRADES:
            raise RestError("EGeneral:Invalid arguments:count")
        trades = [t for t in self._exchange.venue.markets[rules.symbol].trades if t.at_ns > since_ns]
        trades = trades[:count] if since_ns else trades[-count:]
        rows = [
            [
                price_text(rules, t.price_ticks),
                fixed_text(t.size_lots, rules.qty_precision),
                seconds(t.at_ns),
                t.taker_side[0],
                t.taker_type[0],
                "",
                t.trade_id,
            ]
            for t in trades
        ]
        # Nothing new: the caller's place stays where it is.
        last = trades[-1].at_ns if trades else since_ns or self._exchange.venue.now_ns
        return {key: rows, "last": str(last)}

    def _ticker_object(self, rules: InstrumentRules) -> Any:
        market = self._exchange.venue.markets[rules.symbol]
        stats = market.stats

        def best(levels: list[tuple[int, int]]) -> list[str]:
            ticks, lots = levels[0] if levels else (0, 0)
            whole = lots // 10**rules.qty_precision
            return [price_text(rules, ticks), str(whole), f"{whole}.000"]

        def twice(text: str) -> list[str]:
            return [text, text]

        return {
            "a": best(market.levels("sell", 1)),
            "b": best(market.levels("buy", 1)),
            "c": [price_text(rules, stats.last_ticks), fixed_text(stats.last_lots, rules.qty_precision)],
            "v": twice(fixed_text(stats.volume_lots, rules.qty_precision)),
            "p": twice(price_text(rules, stats.vwap_ticks())),
            "t": [stats.count, stats.count],
            "l": twice(price_text(rules, stats.low_ticks)),
            "h": twice(price_text(rules, stats.high_ticks)),
            "o": price_text(rules, stats.open_ticks),
        }

    def _pairs(self, params: Params) -> dict[str, InstrumentRules]:
        if not params.get("pair"):
            listed = [market.rules for market in self._exchange.venue.markets.values()]
            return {instruments.rest_pair(rules): rules for rules in listed}
        return dict(self._named(name) for name in dict.fromkeys(params["pair"].split(",")))

    def _pair(self, params: Params) -> tuple[str, InstrumentRules]:
        if not params.get("pair"):
            raise RestError("EGeneral:Invalid arguments")
        return self._named(params["pair"])

    def _named(self, name: str) -> tuple[str, InstrumentRules]:
        rules = instruments.find_pair(self._exchange.venue, name.strip())
        if rules is None:
            raise RestError(UNKNOWN_PAIR)
        # Asked for by its WS v2 name, a pair is answered under that name; clients rely on it.
        return (rules.symbol if name.strip() == rules.symbol else instruments.rest_pair(rules)), rules

    def _second(self) -> int:
        return self._exchange.venue.now_ns // 1_000_000_000


def price_text(rules: InstrumentRules, ticks: int) -> str:
    """Return a price as REST prints it: padded to five digits or more."""
    text = fixed_text(ticks, rules.price_precision)
    missing = 5 - rules.price_precision
    if missing <= 0:
        return text
    return text + ("" if "." in text else ".") + "0" * missing


def seconds(at_ns: int) -> Any:
    """Return a time as REST prints it: seconds with four decimals."""
    return number(fixed_text(at_ns // 100_000, 4))


def whole_number(params: Params, name: str, default: int) -> int:
    """Return an integer parameter.

    Raises RestError when it is no integer of sensible length.
    """
    text = params.get(name, "")
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 20:
        raise RestError(f"EGeneral:Invalid arguments:{name}")
    return int(text)


def one_of(params: Params, name: str, allowed: tuple[str, ...]) -> str | None:
    """Return a parameter that has few values; None when it is absent.

    Raises RestError for any other value.
    """
    value = params.get(name) or None
    if value is not None and value not in allowed:
        raise RestError(f"EGeneral:Invalid arguments:{name}")
    return value


def _wants_new_names(params: Params) -> bool:
    return one_of(params, "assetVersion", ("0", "1")) == "1"


def _asset_object(asset: str, *, is_new: bool) -> dict[str, Any]:
    precision = instruments.asset_precision(asset)
    return {
        "aclass": "currency",
        "altname": asset if is_new else instruments.old_name(asset),
        "decimals": precision,
        "display_decimals": min(precision, 5),
        "status": "enabled",
    }
