"""A market that stands still: opening books, and then only what clients do. For tests that need known levels."""

from __future__ import annotations

from typing import Final

from krakenbot.adapters.local_exchange.flow.market import Flow

NEVER_NS: Final = 2**63 - 1


class StillFlow:
    """Takes the opening books of another flow and none of its events; implements `Flow`."""

    def __init__(self, opening: Flow) -> None:
        self._opening = opening

    def open(self, now_ns: int) -> None:
        """Build the opening books of all markets."""
        self._opening.open(now_ns)

    def next_at_ns(self) -> int:
        """Return when the next event is due: never."""
        return NEVER_NS

    def step(self, now_ns: int) -> None:
        """Do nothing: no event is ever due."""

    def last_price_ticks(self, symbol: str) -> int:
        """Return the reference price of the opening."""
        return self._opening.last_price_ticks(symbol)

    def parameters(self) -> dict[str, object]:
        """Return those of the opening books."""
        return self._opening.parameters() | {"flow": "still"}
