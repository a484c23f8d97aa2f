"""Which public trades are held: each id once per symbol, every hole known by its range and its fate.

Enters: trades in any order, repeated by snapshots; ranges that were lost on the way. Leaves: new or not, the gaps, and
what changed since it was last asked, to be stored with the trades themselves. Called by the sample sinks.
Ids of a symbol are contiguous (Kraken, `trade`: "sequence per book"), so a jump is proof that trades are missing.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

from attrs import define, evolve, field, frozen

from krakenbot.domain.market.samples import TradeSample
from krakenbot.domain.values import RunId, Symbol

GAPS_MAX = 256


class GapCause(enum.StrEnum):
    """Why trades are missing; all but REFUSED may be asked for again."""

    JUMP = "jump"
    """Ids were jumped over while connected or across a reconnect."""
    RESTART = "restart"
    """The first id after a start is not the one after the last that was stored."""
    QUEUE_FULL = "queue_full"
    """There was no room for them, neither in memory nor on disk."""
    SPOOL_DAMAGED = "spool_damaged"
    """They were on disk and could not be read back."""
    REFUSED = "refused"
    """The table cannot hold their values."""


class TradeSource(enum.StrEnum):
    """Where trades come from."""

    FEED = "feed"
    SNAPSHOT = "snapshot"
    REST = "rest"


@frozen(kw_only=True)
class TradeHead:
    """The highest trade id of a symbol that is stored, and the newest trade time seen with it."""

    trade_id: int
    at_ns: int


@define(kw_only=True)
class TradeGap:
    """A range of trade ids that were missing when it was noticed.

    `missing` are the ranges that still are; empty once it is refilled. `since_ns` is the time of a trade before it:
    where a search in history begins. `refilled_from` names the sources of what came, joined by "+"; None before.
    """

    run_id: RunId
    symbol: Symbol
    first_id: int
    last_id: int
    cause: GapCause
    noticed_at_ns: int
    since_ns: int
    missing: list[tuple[int, int]]
    refilled_at_ns: int | None = None
    refilled_from: str | None = None

    @property
    def key(self) -> tuple[RunId, Symbol, int]:
        """Return what tells gaps apart."""
        return self.run_id, self.symbol, self.first_id

    @property
    def missing_count(self) -> int:
        """Return how many ids are still missing."""
        return sum(last - first + 1 for first, last in self.missing)

    def fill(self, trade_id: int, source: TradeSource, at_ns: int) -> bool:
        """Take an id out of what is missing; False when it is not missing here."""
        for place, (first, last) in enumerate(self.missing):
            if first <= trade_id <= last:
                rest = [(first, trade_id - 1), (trade_id + 1, last)]
                self.missing[place : place + 1] = [part for part in rest if part[0] <= part[1]]
                names = {*filter(None, (self.refilled_from or "").split("+")), source.value}
                self.refilled_from = "+".join(sorted(names))
                if not self.missing:
                    self.refilled_at_ns = at_ns
                return True
        return False


@frozen(kw_only=True)
class LedgerChanges:
    """What has to be stored together with the trades that were taken."""

    heads: dict[Symbol, TradeHead]
    gaps: tuple[TradeGap, ...]


@define
class _Known:
    low: int
    high: int
    at_ns: int
    is_from_store: bool = False
    gaps: list[TradeGap] = field(factory=list)


class TradeLedger:
    """All symbols of one store."""

    def __init__(self) -> None:
        self._known: dict[Symbol, _Known] = {}
        self._changed_heads: set[Symbol] = set()
        self._changed_gaps: dict[tuple[RunId, Symbol, int], TradeGap] = {}
        self.restarts = 0
        """How often a symbol's ids began anew: a trade newer than all others with an id that had passed."""
        self.refilled = 0
        """Ids that were missing and came."""

    def load(self, heads: Mapping[Symbol, TradeHead], gaps: Iterable[TradeGap]) -> None:
        """Start from what is stored: everything up to a head counts as held, but for what is missing in a gap.

        Called again, it adds what was found later; the later word counts.
        """
        all_gaps = {gap.key: gap for known in self._known.values() for gap in known.gaps} | {g.key: g for g in gaps}
        for symbol, head in heads.items():
            self._known[symbol] = _Known(low=0, high=head.trade_id, at_ns=head.at_ns, is_from_store=True)
        for known in self._known.values():
            known.gaps = []
        for gap in all_gaps.values():
            if gap.symbol in self._known and gap.missing:
                self._known[gap.symbol].gaps.append(evolve(gap, missing=list(gap.missing)))

    def load_left(self, changes: LedgerChanges, ranges: Iterable[tuple[RunId, Symbol, int, int, int]]) -> None:
        """Add what a batch on disk says, after all that came before it.

        `ranges` are its trades: run, symbol, first id, last id, time. What lies between the head and the first of them,
        and is no gap of the batch, was in a record that is lost as a whole.
        """
        firsts: dict[Symbol, tuple[int, RunId, int]] = {}
        for run_id, symbol, first_id, _, at_ns in ranges:
            known = self._known.get(symbol)
            if known is not None and first_id > known.high:
                firsts[symbol] = min(firsts.get(symbol, (first_id, run_id, at_ns)), (first_id, run_id, at_ns))
        for symbol, (first_id, run_id, at_ns) in firsts.items():
            known = self._known[symbol]
            begins = [gap.first_id for gap in changes.gaps if gap.symbol == symbol and gap.first_id > known.high]
            ids = (known.high + 1, min([first_id, *begins]) - 1)
            if ids[0] <= ids[1]:
                cause, since_ns = GapCause.SPOOL_DAMAGED, known.at_ns
                self.lose_range(run_id, symbol, ids, cause=cause, since_ns=since_ns, noticed_at_ns=at_ns)
        self.load(changes.heads, changes.gaps)

    def take(self, run_id: RunId, trade: TradeSample, source: TradeSource) -> bool:
        """Return whether a trade is new, and count it as held."""
        known = self._known.get(trade.symbol)
        number = trade.trade_id
        if known is None:
            self._known[trade.symbol] = _Known(low=number, high=number, at_ns=trade.at_ns)
            self._changed_heads.add(trade.symbol)
            return True
        if number > known.high:
            if number > known.high + 1:
                cause = GapCause.RESTART if known.is_from_store else GapCause.JUMP
                ids = (known.high + 1, number - 1)
                self._add(known, _new_gap(run_id, trade, ids, cause=cause, since_ns=known.at_ns))
            known.high, known.at_ns = number, max(known.at_ns, trade.at_ns)
            known.is_from_store = False
            self._changed_heads.add(trade.symbol)
            return True
        if self.fill(trade, source):
            return True
        if trade.at_ns > known.at_ns:
            # What we hold is never newer than the newest that we hold: the venue began to count anew.
            self._known[trade.symbol] = _Known(low=number, high=number, at_ns=trade.at_ns)
            self._changed_heads.add(trade.symbol)
            self.restarts += 1
            return True
        if number < known.low:
            if number + 1 < known.low:
                ids = (number + 1, known.low - 1)
                self._add(known, _new_gap(run_id, trade, ids, cause=GapCause.JUMP, since_ns=trade.at_ns))
            known.low = number
            return True
        return False

    def fill(self, trade: TradeSample, source: TradeSource) -> bool:
        """Take a trade only if it is known to be missing."""
        known = self._known.get(trade.symbol)
        if known is None:
            return False
        for gap in known.gaps:
            if gap.fill(trade.trade_id, source, trade.received_at_ns):
                self.refilled += 1
                self._changed_gaps[gap.key] = gap
                if not gap.missing:
                    known.gaps.remove(gap)
                if trade.at_ns > known.at_ns:
                    # else its next repetition would be newer than all that is held, and ids taken to begin anew
                    known.at_ns = trade.at_ns
                    self._changed_heads.add(trade.symbol)
                return True
        return False

    def lose(self, run_id: RunId, trade: TradeSample, cause: GapCause) -> None:
        """Name a trade that was taken, or would have been, and is not held."""
        ids = (trade.trade_id, trade.trade_id)
        self.lose_range(
            run_id, trade.symbol, ids, cause=cause, since_ns=trade.at_ns, noticed_at_ns=trade.received_at_ns
        )

    def lose_range(
        self,
        run_id: RunId,
        symbol: Symbol,
        ids: tuple[int, int],
        *,
        cause: GapCause,
        since_ns: int,
        noticed_at_ns: int,
    ) -> None:
        """Name the trades from a first to a last id, which were taken, or would have been, and are not held."""
        first_id, last_id = ids
        known = self._known.setdefault(symbol, _Known(low=first_id, high=last_id, at_ns=since_ns))
        if last_id > known.high:
            first_id = min(first_id, known.high + 1)
            known.high = last_id
            self._changed_heads.add(symbol)
        for gap in known.gaps:
            extends = gap.cause is cause and gap.last_id + 1 == first_id
            if extends or gap.first_id <= first_id <= last_id <= gap.last_id:
                gap.last_id = max(gap.last_id, last_id)
                gap.missing = _joined([*gap.missing, (first_id, last_id)])
                self._changed_gaps[gap.key] = gap
                return
        self._add(
            known,
            TradeGap(
                run_id=run_id,
                symbol=symbol,
                first_id=first_id,
                last_id=last_id,
                cause=cause,
                noticed_at_ns=noticed_at_ns,
                since_ns=since_ns,
                missing=[(first_id, last_id)],
            ),
        )

    def gaps(self) -> list[TradeGap]:
        """Return what is missing and may be asked for again, the oldest first."""
        found = [gap for known in self._known.values() for gap in known.gaps if gap.cause is not GapCause.REFUSED]
        return sorted(found, key=lambda gap: (gap.noticed_at_ns, gap.symbol, gap.first_id))

    @property
    def missing_count(self) -> int:
        """Return how many ids are missing in the gaps that are held in memory."""
        return sum(gap.missing_count for known in self._known.values() for gap in known.gaps)

    def drain(self) -> LedgerChanges:
        """Return what changed since the last call, as it is now."""
        heads = {
            symbol: TradeHead(trade_id=self._known[symbol].high, at_ns=self._known[symbol].at_ns)
            for symbol in self._changed_heads
        }
        gaps = tuple(evolve(gap, missing=list(gap.missing)) for gap in self._changed_gaps.values())
        self._changed_heads, self._changed_gaps = set(), {}
        return LedgerChanges(heads=heads, gaps=gaps)

    def put_back(self, changes: LedgerChanges) -> None:
        """Take changes again that could not be stored; newer ones win."""
        self._changed_heads |= set(changes.heads)
        current = {gap.key: gap for known in self._known.values() for gap in known.gaps}
        for gap in changes.gaps:
            self._changed_gaps.setdefault(gap.key, current.get(gap.key, gap))

    @property
    def has_changes(self) -> bool:
        """Return whether there is something to store."""
        return bool(self._changed_heads or self._changed_gaps)

    def _add(self, known: _Known, gap: TradeGap) -> None:
        known.gaps.append(gap)
        # What is given up here stays named in the store; it is only not asked for any more.
        del known.gaps[:-GAPS_MAX]
        self._changed_gaps[gap.key] = gap


def _new_gap(run_id: RunId, trade: TradeSample, ids: tuple[int, int], *, cause: GapCause, since_ns: int) -> TradeGap:
    """Return a gap that a trade beyond it showed."""
    return TradeGap(
        run_id=run_id,
        symbol=trade.symbol,
        first_id=ids[0],
        last_id=ids[1],
        cause=cause,
        noticed_at_ns=trade.received_at_ns,
        since_ns=since_ns,
        missing=[ids],
    )


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined
