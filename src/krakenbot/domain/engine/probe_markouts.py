"""Markouts of queue probes that would have been filled: the mid of their book at given times after the fill.

Enters: filled probes, the L3 books of the feed, the time. Leaves: probes whose last markout is there. Called by
`engine.probes`.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from krakenbot.domain.market.probe import MARKOUT_HORIZONS_S, Probe
from krakenbot.domain.market.probe_follower import venue_now_ns
from krakenbot.domain.values import NS_PER_S, Side, Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.market_feed import MarketFeed

MARKOUT_LATE_S, MARKOUT_LATE_SHARE = 1.0, 0.02
"""A mid counts for a horizon when it is at most so late, or by such a share of the horizon."""


class ProbeMarkouts:
    """What is still to be priced, by symbol: the time of one symbol's book says nothing of another's."""

    def __init__(self, clock: Clock, feed: MarketFeed) -> None:
        self._clock = clock
        self._feed = feed
        # (venue time, probe number, index of the horizon, probe)
        self._due: dict[Symbol, list[tuple[int, int, int, Probe]]] = {}

    def __len__(self) -> int:
        """Return how many probes wait."""
        return len(self._waiting())

    def add(self, probe: Probe) -> None:
        """Take a filled probe; horizons that were priced early are not priced again."""
        due = self._due.setdefault(probe.symbol, [])
        for index, horizon_s in enumerate(MARKOUT_HORIZONS_S):
            if probe.markouts_bps[index] is None:
                due_ns = probe.ended_at_ns + round(horizon_s * NS_PER_S)
                heapq.heappush(due, (due_ns, probe.probe_no, index, probe))

    def give_up(self) -> list[Probe]:
        """Return the probes that wait, with the markouts that are there, and forget them."""
        waiting = self._waiting()
        self._due.clear()
        return waiting

    def step(self, now_mono: float) -> list[Probe]:
        """Take the mids that are due; return the probes whose last horizon was reached."""
        whole: list[Probe] = []
        for symbol, due in list(self._due.items()):
            queue = self._feed.queue(symbol)
            at_ns = self._clock.now_ns() if queue is None or not queue.is_valid else venue_now_ns(queue, now_mono)
            while due and due[0][0] <= at_ns:
                _, _, index, probe = heapq.heappop(due)
                self._price(probe, index, at_ns)
                if index == len(MARKOUT_HORIZONS_S) - 1:
                    whole.append(probe)
            if not due:
                del self._due[symbol]
        return whole

    def price_early(self, probes: Sequence[Probe], now_ns: int) -> None:
        """Take the mids that are due before a proposed fill is final; the last ends its row and waits for `step`."""
        for probe in probes:
            if probe.end is not None and probe.end.is_fill:
                for index, horizon_s in enumerate(MARKOUT_HORIZONS_S[:-1]):
                    if probe.markouts_bps[index] is None and probe.ended_at_ns + horizon_s * NS_PER_S <= now_ns:
                        self._price(probe, index, now_ns)

    def _waiting(self) -> list[Probe]:
        return list({id(probe): probe for due in self._due.values() for *_, probe in due}.values())

    def _price(self, probe: Probe, index: int, at_ns: int) -> None:
        """Take a markout; one that nobody could take in time stays None, it is not guessed from a later mid."""
        horizon_s = MARKOUT_HORIZONS_S[index]
        late_s = (at_ns - probe.ended_at_ns) / NS_PER_S - horizon_s
        mid = self._mid(probe.symbol) if late_s <= max(MARKOUT_LATE_S, MARKOUT_LATE_SHARE * horizon_s) else None
        probe.markouts_bps[index] = None if mid is None else probe.markout(mid)

    def _mid(self, symbol: Symbol) -> float | None:
        queue, instrument = self._feed.queue(symbol), self._feed.instruments().get(symbol)
        if queue is None or instrument is None or not queue.is_valid:
            return None
        bid, ask = queue.best(Side.BUY), queue.best(Side.SELL)
        return None if bid is None or ask is None else (bid + ask) / 2 * 10.0**-instrument.price_precision
