"""Names and units that every layer shares: ids, sides, times.

Prices of books are integer *ticks* of 10^-price_precision, sizes integer *lots* of 10^-qty_precision of the
instrument. Orders, fills, fees and balances are `Decimal`. Analytics are `float`.
"""

from __future__ import annotations

import enum
from typing import NewType

Symbol = NewType("Symbol", str)
"""Kraken WS v2 name of an instrument, such as "BTC/USD"."""
Asset = NewType("Asset", str)
"""Kraken WS v2 name of an asset, such as "BTC"."""
ClOrdId = NewType("ClOrdId", str)
"""Our id of an order, made before it is sent: own prefix, at most 18 ASCII characters."""
VenueOrderId = NewType("VenueOrderId", str)
ExecId = NewType("ExecId", str)
RunId = NewType("RunId", int)
LineageId = NewType("LineageId", int)
EpochId = NewType("EpochId", int)
GenerationId = NewType("GenerationId", int)
LeaseEpoch = NewType("LeaseEpoch", int)
JournalId = NewType("JournalId", str)
"""Name of a record of the local journal, unique for ever."""
VenueId = NewType("VenueId", str)
"""Host and account hash: what was learnt at one venue never reaches another."""

NS_PER_S = 1_000_000_000
BPS = 10_000.0


class Side(enum.StrEnum):
    """Side of an order or of a trade's taker."""

    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> Side:
        """Return the other side."""
        return Side.SELL if self is Side.BUY else Side.BUY
