"""One price level that probes stand in: who left the line ahead of whom, and why.

Enters: the level's line of orders whenever it changed, prints at its price. Leaves: volumes by cause and hits on the
probes that stand here. Called by `probe_follower`.

The level is compared with its former self once for all its probes. Orders and probes have a place in one sequence, so
that an order is ahead of a probe when its place is lower. An order that left from behind another that stays was not
traded, since trades take from the front. Whether one at the front was traded or cancelled is told by the prints, which
come on another connection, sooner or later: of equal size and nearest in the venue's time, else by volume once the time
to wait is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from math import inf

from attrs import define

from krakenbot.domain.market.probe import Probe
from krakenbot.domain.values import NS_PER_S, Side

PENDING_MAX = 256
"""Departures and prints that wait for each other at one level; beyond it the oldest is settled at once."""


@define(eq=False)
class _Departure:
    """Volume that left from the front of the line: traded, or taken back by its owner."""

    lots: int
    place: int
    at_ns: int
    seen_mono: float
    is_delete: bool


@define(eq=False)
class _Print:
    """A trade at this price whose order is not yet known."""

    lots: int
    at_ns: int
    seen_mono: float


class LevelLine:
    """The probes of one side and price."""

    def __init__(self, side: Side, price_ticks: int, match_s: float) -> None:
        self.side, self.opposite = side, side.opposite
        self.price_ticks = price_ticks
        # signed so that a better price is a lower key
        self.sign = -1 if side is Side.BUY else 1
        self.key = price_ticks * self.sign
        self.match_s = match_s
        self.text: str | None = None
        self.probes: list[Probe] = []
        self.away_key = -inf
        self.unmatched_lots = 0
        # order id -> lots, place, time of joining; in the order of the queue
        self._held: dict[str, tuple[int, int, str]] = {}
        self._next_place = 0
        self._departures: deque[_Departure] = deque()
        self._prints: deque[_Print] = deque()

    def join(self, probe: Probe) -> None:
        """Put a probe at the back of the line as it was read last."""
        probe.place = self._next_place
        self._next_place += 1
        probe.ahead_lots = probe.ahead_start_lots = sum(lots for lots, _, _ in self._held.values())
        probe.ahead_start_orders = len(self._held)
        self.probes.append(probe)
        self.weigh()

    def weigh(self) -> None:
        """Find anew from which best price on one of the probes is left behind."""
        sign = self.sign
        self.away_key = max((probe.away_ticks * sign for probe in self.probes if probe.end is None), default=-inf)

    def update(self, orders: Sequence[tuple[str, int, str]], at_ns: int, now_mono: float) -> None:
        """Take the line as it is now, as (order_id, lots, time of joining), first in line first."""
        held: dict[str, tuple[int, int, str]] = {}
        index, count, stays = 0, len(orders), False
        for order_id, (before, place, joined_at) in self._held.items():
            # who stays keeps the sequence, who comes anew stands behind: one pass side by side is enough
            if index < count and orders[index][0] == order_id and orders[index][2] == joined_at:
                after = orders[index][1]
                index += 1
                held[order_id] = (after, place, joined_at)
                if after < before:
                    self._departed(before - after, place, at_ns, now_mono, is_delete=False, at_front=not stays)
                elif after > before:
                    self._grown(place, after - before)
                stays = True
            else:
                self._departed(before, place, at_ns, now_mono, is_delete=True, at_front=not stays)
        for order_id, lots, joined_at in orders[index:]:
            held[order_id] = (lots, self._next_place, joined_at)
            self._next_place += 1
        self._held = held

    def take_print(self, lots: int, at_ns: int, now_mono: float) -> None:
        """Take a trade at this price."""
        window_ns = self.match_s * NS_PER_S
        equal = [each for each in self._departures if each.lots == lots and abs(each.at_ns - at_ns) <= window_ns]
        if equal:
            departure = min(equal, key=lambda each: abs(each.at_ns - at_ns))
            self._departures.remove(departure)
            self._traded(departure.place, lots, at_ns, now_mono)
            return
        self._prints.append(_Print(lots, at_ns, now_mono))
        if len(self._prints) > PENDING_MAX:
            self.unmatched_lots += self._prints.popleft().lots

    def settle(self, now_mono: float) -> None:
        """Decide what has waited long enough: by the volume of prints that are left, the rest is no trade."""
        while self._departures and self._departures[0].seen_mono + self.match_s <= now_mono:
            self._settle(self._departures.popleft(), now_mono)
        # a departure that came in just before a print's time is over still finds it
        while self._prints and self._prints[0].seen_mono + 2 * self.match_s <= now_mono:
            self.unmatched_lots += self._prints.popleft().lots

    def _departed(self, lots: int, place: int, at_ns: int, now_mono: float, *, is_delete: bool, at_front: bool) -> None:
        for probe in self.probes:
            if place < probe.place:
                probe.ahead_lots -= lots
        if not at_front:
            self._taken_back(place, lots, is_delete=is_delete)
            return
        window_ns = self.match_s * NS_PER_S
        equal = [each for each in self._prints if each.lots == lots and abs(each.at_ns - at_ns) <= window_ns]
        if equal:
            found = min(equal, key=lambda each: abs(each.at_ns - at_ns))
            self._prints.remove(found)
            self._traded(place, lots, found.at_ns, now_mono)
            return
        self._departures.append(_Departure(lots, place, at_ns, now_mono, is_delete))
        if len(self._departures) > PENDING_MAX:
            self._settle(self._departures.popleft(), now_mono)

    def _settle(self, departure: _Departure, now_mono: float) -> None:
        left = departure.lots
        window_ns = self.match_s * NS_PER_S
        for each in list(self._prints):
            if left and abs(each.at_ns - departure.at_ns) <= window_ns:
                taken = min(left, each.lots)
                left -= taken
                each.lots -= taken
                self._traded(departure.place, taken, each.at_ns, now_mono)
                if not each.lots:
                    self._prints.remove(each)
        if left:
            self._taken_back(departure.place, left, is_delete=departure.is_delete)

    def _traded(self, place: int, lots: int, at_ns: int, now_mono: float) -> None:
        for probe in self.probes:
            if place < probe.place:
                probe.traded_lots += lots
            else:
                probe.hit(lots, at_ns, now_mono)
        self.weigh()

    def _taken_back(self, place: int, lots: int, *, is_delete: bool) -> None:
        for probe in self.probes:
            if place < probe.place:
                if is_delete:
                    probe.cancelled_lots += lots
                else:
                    probe.amended_lots += lots

    def _grown(self, place: int, lots: int) -> None:
        for probe in self.probes:
            if place < probe.place:
                probe.ahead_lots += lots
                probe.amended_lots -= lots
