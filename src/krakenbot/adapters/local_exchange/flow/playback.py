"""Play the recorded order events of one symbol into its market, once.

In: a `SymbolRecording` and an empty `Market`. Out: resting orders that follow the recording, and counts of all
that did not fit. The recording has no opening snapshot of orders and forgets orders that leave its ten levels,
so the opening queue is made up from the book's level sizes and stale orders give way to newer facts.
"""

from __future__ import annotations

from collections import Counter

from krakenbot.adapters.local_exchange.flow.market import InstrumentRules, Market, Side
from krakenbot.adapters.local_exchange.flow.recording import OrderEvent, SymbolRecording

ORDERS_PER_OPENING_LEVEL = 3
LEVELS_BEHIND = 10


class Playback:
    """The recorded orders of one market. `counts` says what was played and what had to be reconciled."""

    def __init__(self, market: Market, recording: SymbolRecording) -> None:
        self.counts: Counter[str] = Counter()
        self._market = market
        self._recording = recording
        self._resting: dict[str, tuple[int, Side, int]] = {}
        self._made_up: dict[tuple[Side, int], list[int]] = {}

    def open(self) -> None:
        """Build the opening queues: each recorded level split into a few orders, and levels behind the tenth."""
        state = self._recording.opening_state()
        self._open_side("buy", [*state.bids, *_levels_behind(state.bids)])
        self._open_side("sell", [*state.asks, *_levels_behind(state.asks)])

    def play(self, index: int) -> None:
        """Carry out one recorded event."""
        event = self._recording.events[index]
        self.counts[event.action] += 1
        match event.action:
            case "add":
                self._add(event)
            case "modify":
                self._modify(event)
            case "delete":
                self._delete(event)

    def resting(self) -> list[tuple[int, Side, int]]:
        """Return every order that still rests as (order_id, side, price_ticks)."""
        made_up = [(order, side, price) for (side, price), ids in self._made_up.items() for order in ids]
        orders = [*self._resting.values(), *made_up]
        return [order for order in orders if self._market.remaining(order[0])]

    def _open_side(self, side: Side, levels: list[tuple[int, int]]) -> None:
        for price, size in levels:
            for part in split_level(size, self._market.rules):
                order_id = self._market.place(side, price, part)
                if order_id is not None:
                    self._made_up.setdefault((side, price), []).append(order_id)

    def _add(self, event: OrderEvent) -> None:
        known = self._resting.pop(event.order_id, None)
        if known is not None:
            order_id, side, price = known
            same = (side, price) == (event.side, event.price_ticks)
            if same and self._market.remaining(order_id) == event.size_lots:
                self.counts["readded_unchanged"] += 1
                self._resting[event.order_id] = known
                return
            self.counts["readded_changed"] += 1
            self._market.cancel(order_id)
        if event.is_old and self._take_from_made_up(event):
            self.counts["identified_in_opening"] += 1
        self._clear_stale(event)
        placed = self._market.place(event.side, event.price_ticks, event.size_lots)
        if placed is None:
            self.counts["add_would_cross"] += 1
        else:
            self._resting[event.order_id] = (placed, event.side, event.price_ticks)

    def _modify(self, event: OrderEvent) -> None:
        known = self._resting.get(event.order_id)
        if known is None or not self._market.remaining(known[0]):
            self.counts["modify_unknown"] += 1
        elif event.size_lots <= self._market.remaining(known[0]):
            self._market.reduce(known[0], event.size_lots)
        else:
            self.counts["modify_increase"] += 1

    def _delete(self, event: OrderEvent) -> None:
        known = self._resting.pop(event.order_id, None)
        if known is not None:
            if not self._market.cancel(known[0]):
                self.counts["delete_already_gone"] += 1
        elif self._take_from_made_up(event):
            self.counts["delete_from_opening"] += 1
        else:
            self.counts["delete_unknown"] += 1

    def _take_from_made_up(self, event: OrderEvent) -> bool:
        """Take the event's size off the made-up queue at its price, from the back; False if there is none."""
        orders = self._made_up.get((event.side, event.price_ticks), [])
        left, found = event.size_lots, False
        while orders and left > 0:
            remaining = self._market.remaining(orders[-1])
            found = found or remaining > 0
            if remaining > left:
                self._market.reduce(orders[-1], remaining - left)
            else:
                self._market.cancel(orders.pop())
            left -= remaining
        return found

    def _clear_stale(self, event: OrderEvent) -> None:
        """Withdraw recorded orders that the new one would cross: the recording lost sight of them."""
        other: Side = "sell" if event.side == "buy" else "buy"
        best = self._market.best(other)
        if best is None or not _crosses(event.side, event.price_ticks, best):
            return
        for order_id, side, price in self.resting():
            if side == other and _crosses(event.side, event.price_ticks, price):
                self._market.cancel(order_id)
                self.counts["stale_withdrawn"] += 1


def split_level(size_lots: int, rules: InstrumentRules) -> list[int]:
    """Return the sizes of a few orders that make up a level: each half of what is left, the front order largest."""
    count = min(ORDERS_PER_OPENING_LEVEL, max(1, size_lots // rules.qty_min_lots))
    parts, left = [], size_lots
    for place in range(count):
        part = left if place == count - 1 else max(1, left // 2)
        left -= part
        parts.append(part)
    return [part for part in parts if part]


def _crosses(side: Side, price_ticks: int, opposite_ticks: int) -> bool:
    return price_ticks >= opposite_ticks if side == "buy" else price_ticks <= opposite_ticks


def _levels_behind(levels: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Continue ten levels outwards with their mean distance and mean size: nothing was recorded there."""
    first, last = levels[0][0], levels[-1][0]
    step = round((last - first) / (len(levels) - 1))
    size = sum(size for _, size in levels) // len(levels)
    return [(last + place * step, size) for place in range(1, LEVELS_BEHIND + 1)]
