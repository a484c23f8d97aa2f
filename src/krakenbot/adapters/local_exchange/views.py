"""Know what readers of a book hold at one depth, and say what to send them after an operation.

Readers truncate to their depth and are sent no delete for a level that is pushed out; a level that comes back is
sent again. One window exists per side and depth while someone reads it; no book is sorted here.
"""

from __future__ import annotations

from bisect import bisect_left

from krakenbot.adapters.local_exchange.matching.book import BOTTOM, BookSide, RestingOrder, SideChanges


class Level2Window:
    """What readers of one depth hold of one side."""

    def __init__(self, side: BookSide, depth: int) -> None:
        self._side = side
        self._depth = depth
        self._floor = self._current_floor()
        self._shown = {key: side.levels[key].size_lots for key in side.keys[-depth:]}

    def difference(self, changes: SideChanges) -> list[tuple[int, int]]:
        """Return the (key, lots) to send, zero lots for a removal, and remember them as shown."""
        side, shown, old = self._side, self._shown, self._floor
        keys = side.keys
        floor = keys[-self._depth] if len(keys) >= self._depth else BOTTOM
        sent = []
        for key in changes.keys:
            if key < floor and key < old:
                continue
            level = side.levels.get(key)
            if level is None:
                if shown.pop(key, None) is not None:
                    sent.append((key, 0))
            elif key >= floor and shown.get(key) != level.size_lots:
                shown[key] = level.size_lots
                sent.append((key, level.size_lots))
        if floor < old:
            for key in keys[max(0, len(keys) - self._depth) :]:
                if key >= old:
                    break
                if key not in shown:
                    shown[key] = side.levels[key].size_lots
                    sent.append((key, shown[key]))
        elif floor > old:
            for index in range(bisect_left(keys, floor) - 1, -1, -1):
                if keys[index] < old:
                    break
                shown.pop(keys[index], None)
        self._floor = floor
        return sent

    def _current_floor(self) -> int:
        keys = self._side.keys
        return keys[-self._depth] if len(keys) >= self._depth else BOTTOM


class Level3Window:
    """What readers of one level3 depth hold of one side, in price levels."""

    def __init__(self, side: BookSide, depth: int) -> None:
        self._side = side
        self._depth = depth
        self._floor = self._current_floor()

    def difference(self, changes: SideChanges) -> list[tuple[str, RestingOrder, int]]:
        """Return the (event, order, lots) to send: own events, then every order of levels that came in."""
        side, old = self._side, self._floor
        keys = side.keys
        floor = keys[-self._depth] if len(keys) >= self._depth else BOTTOM
        sent: list[tuple[str, RestingOrder, int]] = [
            (event, order, lots)
            for event, order, key, lots in changes.events
            if key >= old and (key >= floor or event == "delete")
        ]
        if floor < old:
            for key in keys[max(0, len(keys) - self._depth) :]:
                if key >= old:
                    break
                sent.extend(("add", order, order.remaining_lots) for order in side.levels[key].orders.values())
        self._floor = floor
        return sent

    def _current_floor(self) -> int:
        keys = self._side.keys
        return keys[-self._depth] if len(keys) >= self._depth else BOTTOM
