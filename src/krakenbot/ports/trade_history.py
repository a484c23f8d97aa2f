"""Public trades of the past, for what the feed did not bring."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from krakenbot.domain.market.samples import TradeSample
from krakenbot.domain.values import Symbol


@frozen(kw_only=True)
class TradePage:
    """Trades in the order of their ids; `next_since_ns` is where the next page begins, None when there is none."""

    trades: tuple[TradeSample, ...]
    next_since_ns: int | None


class TradeHistory(Protocol):
    """Reads pages, at the pace that the venue allows; safe to repeat."""

    async def page(self, symbol: Symbol, since_ns: int) -> TradePage:
        """Return the first trades after a time; waits for its turn.

        Raises VenueUnavailable when it may be tried again, VenueRejected when not.
        """
