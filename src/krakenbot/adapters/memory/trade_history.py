"""Twin of the trade history: trades in a list."""

from __future__ import annotations

from collections.abc import Iterable

from krakenbot.domain.errors import VenueError
from krakenbot.domain.market.samples import TradeSample
from krakenbot.domain.values import Symbol
from krakenbot.ports.trade_history import TradePage


class MemoryTradeHistory:
    """TradeHistory over the trades given to it; `page_rows` bounds a page.

    `failures` are raised by the next calls, one each.
    """

    def __init__(self, trades: Iterable[TradeSample] = (), *, page_rows: int = 1000) -> None:
        self.trades = list(trades)
        self.page_rows = page_rows
        self.calls: list[tuple[Symbol, int]] = []
        self.failures: list[VenueError] = []

    async def page(self, symbol: Symbol, since_ns: int) -> TradePage:
        """Return the first trades after a time."""
        self.calls.append((symbol, since_ns))
        if self.failures:
            raise self.failures.pop(0)
        later = [trade for trade in self.trades if trade.symbol == symbol and trade.at_ns > since_ns]
        page = sorted(later, key=lambda trade: (trade.at_ns, trade.trade_id))[: self.page_rows]
        is_full = len(page) == self.page_rows
        return TradePage(trades=tuple(page), next_since_ns=page[-1].at_ns if is_full else None)
