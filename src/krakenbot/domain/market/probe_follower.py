"""All probes of one symbol, followed through its L3 book and its trades.

Enters: the book's view after each message, public trades, monotonic time. Leaves: probes that have ended. Called by
`engine.probes`; one follower per symbol that has probes.

After a message that changed no followed level the cost is an identity check and two prices for each level. Ends are
proposed with the venue's time and become final only after `match_s`: trades and L3 come on different connections.
"""

from __future__ import annotations

from krakenbot.domain.instrument import Instrument
from krakenbot.domain.market.probe import Probe, ProbeEnd, ProbeKind, away_ticks, symbol_group
from krakenbot.domain.market.probe_line import LevelLine
from krakenbot.domain.market.trade import PublicTrade
from krakenbot.domain.market.views import QueueView
from krakenbot.domain.values import BPS, NS_PER_S, Side

MIN_IMPROVE_SPREAD = 3
"""An own level needs a spread of so many increments, as the queue decision asks of IMPROVE."""


class ProbeFollower:
    """The probes of one symbol; `match_s` is how long trades and L3 may lag behind each other."""

    def __init__(self, instrument: Instrument, match_s: float) -> None:
        self._instrument = instrument
        self._match_s = match_s
        self._lines: list[LevelLine] = []
        self.unmatched_lots = 0

    @property
    def active(self) -> int:
        """Return how many probes are followed."""
        return sum(len(line.probes) for line in self._lines)

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
        instrument = self._instrument
        touch, spread = (bid if side is Side.BUY else ask), ask - bid
        price = touch
        if kind is ProbeKind.IMPROVE:
            increment = instrument.ticks_of(instrument.price_increment)
            if spread < MIN_IMPROVE_SPREAD * increment:
                return None
            price = touch + increment if side is Side.BUY else touch - increment
        tick, lot = 10.0**-instrument.price_precision, 10.0**-instrument.qty_precision
        started_at_ns = venue_now_ns(queue, now_mono)
        spread_bps = spread / (bid + ask) * 2 * BPS
        probe = Probe(
            probe_no=probe_no,
            symbol=instrument.symbol,
            symbol_group=symbol_group(instrument.quote, spread_bps),
            kind=kind,
            side=side,
            price_ticks=price,
            size_lots=max(round(size_quote / (price * tick * lot)), instrument.lots_of(instrument.qty_min), 1),
            touch_ticks=touch,
            away_ticks=away_ticks(price, spread, side, away_spread_share),
            quote_per_lot=price * tick * lot,
            price=price * tick,
            spread_bps=spread_bps,
            started_at_ns=started_at_ns,
            deadline_at_ns=started_at_ns + round(timeout_s * NS_PER_S),
        )
        self._line(side, price, queue, now_mono).join(probe)
        return probe

    def on_queue(self, queue: QueueView, now_mono: float) -> None:
        """Take notice of a message that was applied to the book."""
        for line in self._lines:
            text = queue.level_text(line.side, line.price_ticks)
            if text is not line.text:
                self._reread(line, text, queue, now_mono)
            own, other, sign = queue.best(line.side), queue.best(line.opposite), line.sign
            if other is not None and other * sign >= line.key:
                self._propose(line, ProbeEnd.SWEPT, queue.updated_at_ns, now_mono)
            if own is not None and own * sign <= line.away_key:
                at_ns = queue.updated_at_ns
                for probe in line.probes:
                    if own * sign <= probe.away_ticks * sign:
                        probe.propose(ProbeEnd.AWAY, at_ns, now_mono)
                line.weigh()

    def on_trade(self, trade: PublicTrade, now_mono: float) -> None:
        """Take a public trade, in whatever order it comes with the book's messages."""
        maker = trade.side.opposite
        sign = -1 if maker is Side.BUY else 1
        key = trade.price_ticks * sign
        for line in self._lines:
            if line.side is not maker or key < line.key:
                continue
            if key == line.key:
                line.take_print(trade.size_lots, trade.at_ns, now_mono)
                continue
            for probe in line.probes:
                if trade.at_ns <= probe.started_at_ns:
                    continue
                if key <= probe.touch_ticks * sign:
                    # a taker who reached the old touch would have met the level of our own first
                    probe.hit(trade.size_lots, trade.at_ns, now_mono)
                else:
                    probe.propose(ProbeEnd.SWEPT, trade.at_ns, now_mono)
            line.weigh()

    def step(self, queue: QueueView | None, now_mono: float) -> list[Probe]:
        """Let time pass; return the probes whose end is final, which are not followed any more."""
        if not self._lines:
            return []
        now_ns = venue_now_ns(queue, now_mono) if queue is not None else 0
        ended: list[Probe] = []
        for line in self._lines:
            line.settle(now_mono)
            for probe in line.probes:
                if probe.end is None and now_ns >= probe.deadline_at_ns:
                    probe.propose(ProbeEnd.TIMEOUT, probe.deadline_at_ns, now_mono)
            final = [
                probe
                for probe in line.probes
                if probe.end is not None and probe.decided_mono + self._match_s <= now_mono
            ]
            if final:
                ended += final
                line.probes = [probe for probe in line.probes if probe not in final]
            line.weigh()
        return self._release(ended)

    def censor(self, reason: str, at_ns: int, now_mono: float) -> list[Probe]:
        """End everything that is followed: an end that was proposed stays, what had none is censored."""
        ended = [probe for line in self._lines for probe in line.probes]
        for probe in ended:
            if probe.end is None:
                probe.propose(ProbeEnd.CENSORED, at_ns, now_mono, reason)
        for line in self._lines:
            line.probes = []
        return self._release(ended)

    def _line(self, side: Side, price_ticks: int, queue: QueueView, now_mono: float) -> LevelLine:
        for line in self._lines:
            if line.side is side and line.price_ticks == price_ticks:
                return line
        line = LevelLine(side, price_ticks, self._match_s)
        self._reread(line, queue.level_text(side, price_ticks), queue, now_mono)
        self._lines.append(line)
        return line

    def _reread(self, line: LevelLine, text: str | None, queue: QueueView, now_mono: float) -> None:
        line.text = text
        if text is None and not queue.sees(line.side, line.price_ticks):
            # so many levels are better that the window ends before it: nobody tells what happens there
            self._propose(line, ProbeEnd.AWAY, queue.updated_at_ns, now_mono)
            return
        line.update(queue.line(line.side, line.price_ticks), queue.updated_at_ns, now_mono)

    def _propose(self, line: LevelLine, end: ProbeEnd, at_ns: int, now_mono: float) -> None:
        for probe in line.probes:
            probe.propose(end, at_ns, now_mono)
        line.weigh()

    def _release(self, ended: list[Probe]) -> list[Probe]:
        for probe in ended:
            probe.finish()
        self.unmatched_lots += sum(line.unmatched_lots for line in self._lines if not line.probes)
        self._lines = [line for line in self._lines if line.probes]
        return ended


def venue_now_ns(queue: QueueView, now_mono: float) -> int:
    """Return the venue's time as this book tells it: its last message, and what has passed here since."""
    return queue.updated_at_ns + round((now_mono - queue.received_mono) * NS_PER_S)
