"""Describe the listed pairs and assets: the WS instrument snapshot and REST's names and objects.

REST keys of old pairs carry X and Z prefixes (`XXBTZUSD`); newer ones are the plain altname. WS v2 says BTC and
DOGE where REST says XBT and XDG.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from krakenbot.adapters.local_exchange.digits import fixed_text
from krakenbot.adapters.local_exchange.executions import DEFAULT_ASSET_PRECISION, number
from krakenbot.adapters.local_exchange.flow.instruments import load_assets
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules
from krakenbot.adapters.local_exchange.matching.venue import Venue

OLD_CRYPTO = frozenset(("BTC", "ETH", "XRP", "LTC", "XLM", "XMR", "ZEC", "ETC", "REP", "MLN"))
OLD_MONEY = frozenset(("USD", "EUR", "GBP", "CAD", "JPY"))
_encode = msgspec.json.Encoder().encode


def instrument_frame(venue: Venue) -> str:
    """Return the instrument snapshot of everything listed."""
    assets = [_asset_row(asset) for asset in listed_assets(venue)]
    pairs = [_pair_row(market.rules) for market in venue.markets.values()]
    frame = {"channel": "instrument", "type": "snapshot", "data": {"assets": assets, "pairs": pairs}}
    return _encode(frame).decode()


def instrument_update(rules: InstrumentRules) -> str:
    """Return the update of one changed pair: only the changed row, and no assets."""
    frame = {"channel": "instrument", "type": "update", "data": {"assets": [], "pairs": [_pair_row(rules)]}}
    return _encode(frame).decode()


def listed_assets(venue: Venue) -> list[str]:
    """Return every asset of a listed pair or an account, in order."""
    assets = {asset for market in venue.markets.values() for asset in (market.rules.base, market.rules.quote)}
    return sorted(assets.union(*(account.balances for account in venue.accounts.values())))


def old_name(asset: str) -> str:
    """Return the altname of an asset: XBT for BTC, XDG for DOGE."""
    return {"BTC": "XBT", "DOGE": "XDG"}.get(asset, asset)


def new_name(asset: str) -> str:
    """Return the WS v2 name of an asset given by any of its REST names."""
    for prefix in ("X", "Z"):
        plain = {"XBT": "BTC", "XDG": "DOGE"}.get(asset[1:], asset[1:])
        if len(asset) == 4 and asset.startswith(prefix) and rest_asset(plain) == asset:
            return plain
    return {"XBT": "BTC", "XDG": "DOGE"}.get(asset, asset)


def rest_asset(asset: str) -> str:
    """Return REST's key of an asset: `XXBT`, `ZUSD`, `ADA`."""
    if asset in OLD_CRYPTO or asset == "DOGE":
        return f"X{old_name(asset)}"
    return f"Z{asset}" if asset in (*OLD_MONEY, "AUD") else asset


def altname(rules: InstrumentRules) -> str:
    """Return REST's short name of a pair: `XBTUSD`."""
    return old_name(rules.base) + old_name(rules.quote)


def rest_pair(rules: InstrumentRules) -> str:
    """Return REST's key of a pair: `XXBTZUSD`, `XDGUSD`, `ADAUSD`."""
    return _rest_key(rules.base, rules.quote)


def asset_precision(asset: str) -> int:
    """Return the ledger digits of an asset."""
    known = load_assets().get(asset)
    return known.precision if known is not None else DEFAULT_ASSET_PRECISION


def find_pair(venue: Venue, name: str) -> InstrumentRules | None:
    """Return the rules of a pair by any of its REST names; None when it is not listed."""
    symbol = _symbols_by_name(tuple(venue.markets)).get(name)
    return None if symbol is None else venue.markets[symbol].rules


def pair_object(rules: InstrumentRules) -> dict[str, Any]:
    """Return a pair as AssetPairs shows it; the fees are empty since September 2026, TradeVolume has them."""
    return {
        "altname": altname(rules),
        "wsname": f"{old_name(rules.base)}/{old_name(rules.quote)}",
        "aclass_base": "currency",
        "base": rest_asset(rules.base),
        "aclass_quote": "currency",
        "quote": rest_asset(rules.quote),
        "lot": "unit",
        "cost_decimals": rules.cost_precision,
        "pair_decimals": rules.price_precision,
        "lot_decimals": rules.qty_precision,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [],
        "fees_maker": [],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": _trimmed(fixed_text(rules.qty_min_lots, rules.qty_precision)),
        "costmin": _trimmed(rules.cost_min),
        "tick_size": _trimmed(fixed_text(rules.price_increment_ticks, rules.price_precision)),
        "status": rules.status,
    }


def _rest_key(base: str, quote: str) -> str:
    if base in OLD_CRYPTO and (quote in OLD_MONEY or quote in ("BTC", "ETH")):
        return rest_asset(base) + rest_asset(quote)
    return old_name(base) + old_name(quote)


@lru_cache(maxsize=16)
def _symbols_by_name(symbols: tuple[str, ...]) -> dict[str, str]:
    """Return the symbol of every name that a pair may be asked for by; a request may name hundreds."""
    found: dict[str, str] = {}
    for symbol in symbols:
        base, quote = symbol.split("/")
        old_base, old_quote = old_name(base), old_name(quote)
        for name in (_rest_key(base, quote), old_base + old_quote, f"{old_base}/{old_quote}", symbol):
            found.setdefault(name, symbol)
    return found


def _asset_row(asset: str) -> dict[str, Any]:
    known = load_assets().get(asset)
    return {
        "id": asset,
        "status": known.status if known else "enabled",
        "precision": asset_precision(asset),
        "precision_display": known.precision_display if known else 5,
        "borrowable": False,
        "collateral_value": number("0.00"),
    }


def _pair_row(rules: InstrumentRules) -> dict[str, Any]:
    increment = _short(fixed_text(rules.price_increment_ticks, rules.price_precision))
    return {
        "symbol": rules.symbol,
        "base": rules.base,
        "quote": rules.quote,
        "status": rules.status,
        "qty_precision": rules.qty_precision,
        "qty_increment": _short(fixed_text(rules.qty_increment_lots, rules.qty_precision)),
        "price_precision": rules.price_precision,
        "cost_precision": rules.cost_precision,
        "marginable": False,
        "has_index": rules.has_index,
        "ws_display_price_precision": rules.price_precision,
        "cost_min": _short(rules.cost_min),
        "tick_size": increment,
        "price_increment": increment,
        "qty_min": _short(fixed_text(rules.qty_min_lots, rules.qty_precision)),
    }


def _short(text: str) -> msgspec.Raw:
    """Return a number as this channel prints it, with an exponent when it is small (`1e-08`)."""
    return msgspec.Raw(repr(float(text)).encode())


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
