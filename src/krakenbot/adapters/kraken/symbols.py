"""Names of assets and pairs: from those of REST and WS v1 to those of WS v2.

Enters: "XBT", "XDG", "XBT/USD" (`wsname` of REST AssetPairs). Leaves: "BTC", "DOGE", "BTC/USD". WS v2 refuses the
old names ("Currency pair not supported XBT/USD").
"""

from __future__ import annotations

from krakenbot.domain.values import Asset, Symbol

_V2_NAMES = {"XBT": "BTC", "XDG": "DOGE"}


def v2_asset(name: str) -> Asset:
    """Return the WS v2 name of an asset."""
    return Asset(_V2_NAMES.get(name, name))


def v2_symbol(wsname: str) -> Symbol:
    """Return the WS v2 name of a pair; raises ValueError when the name has no two legs."""
    base, slash, quote = wsname.partition("/")
    if not (base and slash and quote):
        raise ValueError(f"not a pair: {wsname!r}")
    return Symbol(f"{v2_asset(base)}/{v2_asset(quote)}")
