"""All probes of one symbol, followed through its L3 book and its trades.

Enters: the book's view after each message, public trades, monotonic time. Leaves: probes that have ended. Called by
`engine.probes`; one follower per symbol that has probes. What stands ahead of a probe is counted by the book itself
(`market.places`), once for all at a level; here only its ends are found.

Ends are proposed with the venue's time and become final only after `match_s`: trades and L3 come on different
connections, so that a fill may be learnt of after a later move of the price.
"""

from __future__ import annotations

from collections.abc import Sequence

from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.probe import Probe, ProbeEnd, ProbeKind, away_ticks, symbol_group
from krakenbot.domain.market.trade import PublicTrade
from krakenbot.domain.market.views import QueueView
from krakenbot.domain.values import BPS, NS_PER_S, Side

MIN_IMPROVE_SPREAD = 3
"""An own level needs a spread of so many increments, as the queue decision asks of IMPROVE."""


class ProbeFollower:
    """The probes of one symbol; `match_s` is how long trades and L3 may lag behind each other."""

    def __init__(self, instrument: Instrument, match_s: float) -> None:
        self.instrument = instrument
        self._match_s = match_s
        self.probes: list[Probe] = []

    def start(
        self,
        queue: QueueView,
        *,
        probe_no: int,
        kind: ProbeKind,
        side: Side,
        size_quote: float,
        timeout_s: float,
        away_spread_share: float,
        now_mono: float,
    ) -> Probe | None:
        """Start a probe at the touch; None without both sides, or for an IMPROVE in too narrow a spread."""
        bid, ask = queue.best(Side.BUY), queue.best(Side.SELL)
        if bid is None or ask is None:
            return None
        instrument, spread = self.instrument, ask - bid
        touch = price_ticks = bid if side is Side.BUY else ask
        if kind is ProbeKind.IMPROVE:
            increment = instrument.ticks_of(instrument.price_increment)
            if spread < MIN_IMPROVE_SPREAD * increment:
                return None
            price_ticks += increment if side is Side.BUY else -increment
        price = price_ticks * 10.0**-instrument.price_precision
        least_lots = max(instrument.lots_of(instrument.qty_min), 1)
        size_lots = max(round(size_quote / price * 10.0**instrument.qty_precision), least_lots)
        place = queue.places.join(side, price_ticks, size_lots)
        if place is None:
            return None
        started_at_ns = venue_now_ns(queue, now_mono)
        spread_bps = spread / (bid + ask) * 2 * BPS
        probe = Probe(
            probe_no=probe_no,
            symbol=instrument.symbol,
            symbol_group=symbol_group(instrument.quote, spread_bps),
            kind=kind,
            touch_ticks=touch,
            away_ticks=away_ticks(price_ticks, spread, side, away_spread_share),
            price=price,
            spread_bps=spread_bps,
            started_at_ns=started_at_ns,
            deadline_at_ns=started_at_ns + round(timeout_s * NS_PER_S),
            place=place,
        )
        self.probes.append(probe)
        return probe

    def on_queue(self, queue: QueueView, now_mono: float) -> None:
        """Take notice of a message that was applied to the book."""
        bid, ask = queue.best(Side.BUY), queue.best(Side.SELL)
        for probe in self.probes:
            place = probe.place
            if place.reached.lots:
                probe.meet(place.reached_at_ns, now_mono)
            if probe.end is not None and probe.ended_at_ns < queue.updated_at_ns:
                # the book's time only goes on: no message brings an earlier move
                continue
            if place.side is Side.BUY:
                swept = ask is not None and ask <= place.price_ticks
                away = bid is not None and bid >= probe.away_ticks
            else:
                swept = bid is not None and bid >= place.price_ticks
                away = ask is not None and ask <= probe.away_ticks
            # a level beyond the window was left behind too: so many better ones stand before it
            if swept or away or not place.is_seen:
                probe.propose(ProbeEnd.SWEPT if swept else ProbeEnd.AWAY, queue.updated_at_ns, now_mono)

    def on_trade(self, trade: PublicTrade, now_mono: float) -> None:
        """Take a public trade that the book's places know already, in whatever order it comes with its messages."""
        maker = trade.side.opposite
        sign = -1 if maker is Side.BUY else 1
        key = trade.price_ticks * sign
        for probe in self.probes:
            place = probe.place
            if place.side is not maker or key < place.price_ticks * sign or trade.at_ns <= probe.started_at_ns:
                continue
            if key > probe.touch_ticks * sign:
                probe.propose(ProbeEnd.SWEPT, trade.at_ns, now_mono)
                continue
            if key > place.price_ticks * sign:
                # a taker who reached the old touch would have met the level of our own first
                probe.passed_lots += trade.size_lots
                probe.meet(trade.at_ns, now_mono)
            elif place.reached.lots:
                probe.meet(place.reached_at_ns, now_mono)

    def step(self, queue: QueueView, now_mono: float) -> list[Probe]:
        """Let time pass; return the probes whose end is final, which are not followed any more."""
        now_ns = venue_now_ns(queue, now_mono)
        queue.places.settle(now_ns)
        for probe in self.probes:
            if probe.place.reached.lots:
                # what the book has explained only now, by volume
                probe.meet(probe.place.reached_at_ns, now_mono)
            if probe.end is None and now_ns >= probe.deadline_at_ns:
                probe.propose(ProbeEnd.TIMEOUT, probe.deadline_at_ns, now_mono)
        return self._release(
            queue,
            [p for p in self.probes if p.end is not None and p.decided_mono + self._match_s <= now_mono],
        )

    def censor(self, queue: QueueView | None, reason: str, now_mono: float) -> list[Probe]:
        """End everything that is followed: an end that was proposed stays, what had none is censored."""
        for probe in self.probes:
            if probe.end is None:
                at_ns = probe.started_at_ns if queue is None else venue_now_ns(queue, now_mono)
                probe.propose(ProbeEnd.CENSORED, at_ns, now_mono, reason)
        return self._release(queue, self.probes)

    def _release(self, queue: QueueView | None, ended: Sequence[Probe]) -> list[Probe]:
        released = list(ended)
        for probe in released:
            probe.finish()
            if queue is not None:
                queue.places.leave(probe.place)
        self.probes = [probe for probe in self.probes if probe not in released]
        return released


def venue_now_ns(queue: QueueView, now_mono: float) -> int:
    """Return the venue's time as this book tells it: its last message, and what has passed here since."""
    return queue.updated_at_ns + round((now_mono - queue.received_mono) * NS_PER_S)
