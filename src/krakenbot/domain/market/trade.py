"""Public trades and tickers as the market feed hands them on."""

from __future__ import annotations

from attrs import define

from krakenbot.domain.values import Side, Symbol


@define(kw_only=True, slots=True)
class PublicTrade:
    """One public trade; `trade_id` is contiguous per symbol, `side` is the taker's."""

    symbol: Symbol
    trade_id: int
    side: Side
    price_ticks: int
    size_lots: int
    at_ns: int


@define(kw_only=True, slots=True)
class Ticker:
    """One ticker row; prices in quote units, `volume_24h` in base units."""

    symbol: Symbol
    bid: float
    ask: float
    last: float
    volume_24h: float
    at_ns: int
