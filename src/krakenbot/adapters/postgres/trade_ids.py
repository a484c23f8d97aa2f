"""Which public trades are new: each id counts once per run and symbol, holes are known by range.

Enters: trade ids in any order, repeated by snapshots. Leaves: new or not, and the holes. Called by the COPY writer.
"""

from __future__ import annotations

from attrs import define, field

MAX_HOLES = 256


@define
class TradeIds:
    """Ids seen of one run and symbol, as one range with holes; bounded: the oldest holes are given up first."""

    low: int | None = None
    high: int = 0
    holes: list[tuple[int, int]] = field(factory=list)

    def take(self, trade_id: int) -> bool:
        """Return whether an id is new, and remember it."""
        if self.low is None:
            self.low = self.high = trade_id
            return True
        if trade_id > self.high:
            self._open_hole(self.high + 1, trade_id - 1)
            self.high = trade_id
            return True
        if trade_id < self.low:
            # History from a snapshot; what lies between it and our first trade is a hole too.
            self._open_hole(trade_id + 1, self.low - 1)
            self.low = trade_id
            return True
        return self._fill(trade_id)

    def _open_hole(self, first: int, last: int) -> None:
        if first <= last:
            self.holes.append((first, last))
            self.holes.sort()
            del self.holes[:-MAX_HOLES]

    def _fill(self, trade_id: int) -> bool:
        for place, (first, last) in enumerate(self.holes):
            if first <= trade_id <= last:
                rest = [(first, trade_id - 1), (trade_id + 1, last)]
                self.holes[place : place + 1] = [hole for hole in rest if hole[0] <= hole[1]]
                return True
        return False
