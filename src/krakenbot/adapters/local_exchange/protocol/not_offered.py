"""List what Kraken offers and this exchange refuses, in one place, with the words of the refusal.

Decoders read it; docs/exchange_differences.md quotes it; a test sends each of them.
"""

from __future__ import annotations

from typing import Final

UNKNOWN_METHOD: Final = "EGeneral:Unknown method"
UNSUPPORTED_EVENT: Final = "Unsupported event"
CANNOT_OPEN: Final = "EOrder:Cannot open position"
"""Kraken's words for an account without margin."""
NO_POSITION: Final = "EOrder:Reduce only:No position exists"
UNKNOWN_POSITION: Final = "EOrder:Unknown position"
"""Kraken's words for settling a position that there is not."""

WS_METHODS: Final = ("batch_add", "batch_cancel", "edit_order")
"""Refused as an unknown method."""
WS_CHANNELS: Final = ("ohlc",)
"""Refused as an unsupported event."""
REST_ENDPOINTS: Final = ("AddOrderBatch", "CancelOrderBatch", "EditOrder", "OrderAmends")
"""Refused as an unknown method."""

ORDER_TYPES: Final = ("iceberg",)
"""Refused as invalid arguments: ordertype."""
WS_ADD_FIELDS: Final = ("cash_order_qty", "conditional", "display_qty", "effective_time", "stop_price", "trigger")
"""Refused as invalid arguments, by name, whatever their value."""
WS_AMEND_FIELDS: Final = ("display_qty",)
"""Refused as invalid arguments, by name, whatever their value."""
WS_ADD_FLAGS: Final = {"margin": CANNOT_OPEN, "reduce_only": NO_POSITION}
"""Refused with these words when true."""
REST_FIELDS: Final = ("displayvol", "close[ordertype]", "close[price]", "close[price2]")
"""Refused as invalid arguments, by name, whatever their value."""
REST_FLAGS: Final = WS_ADD_FLAGS
"""Refused with these words when true."""


def invalid(name: str) -> str:
    """Return the refusal that names a field."""
    return f"EGeneral:Invalid arguments:{name}"
