"""Our model of Kraken's trading rate counter, one per symbol, so that cancels and exits always have points left.

Enters: each request as it is sent and as it is answered, and the venue's own `ratecount` from the executions feed.
Leaves: whether an entry or a reprice may spend points, and the counters. Called by the counted gateway, the
executions consumer and the evaluation cycle. Figures: Kraken's spot rate limit guide (FACTS 14).

Why the model is never below the venue's counter (I12), as long as nobody else trades on the account and requests
arrive in the order in which they were sent (they share one connection):
- a request counts from the moment it is sent and starts to decay only when it is answered; the venue counts it
  somewhere in between. One without an answer keeps its points until no request can still be on its way.
- the age penalty is that of the youngest age the order can have at the venue: from our sending of the cancel back to
  the last answer about an add or amend of it.
- the venue's word lifts the model at once. It lowers the model only to what the venue said plus every request that
  it may not have counted then: those answered after the report's order was first sent, and those without an answer.
"""

from __future__ import annotations

import enum
import math
from collections import OrderedDict, deque
from decimal import Decimal

from attrs import Factory, define, frozen

from krakenbot.domain.errors import invariant
from krakenbot.domain.execution.reports import ExecType
from krakenbot.domain.values import ClOrdId, Symbol

ADD_POINTS = 1.0
AMEND_POINTS = 1.0
_AMEND_PENALTIES = ((5.0, 3.0), (10.0, 2.0), (15.0, 1.0))
_CANCEL_PENALTIES = ((5.0, 8.0), (10.0, 6.0), (15.0, 5.0), (45.0, 4.0), (90.0, 2.0), (300.0, 1.0))
CANCEL_POINTS_MAX = _CANCEL_PENALTIES[0][1]
AMEND_POINTS_MAX = AMEND_POINTS + _AMEND_PENALTIES[0][1]
# Kraken takes deadlines up to 60 s (FACTS 12.1): a request without an answer may be counted that much later.
UNANSWERED_S = 60.0
_ORDERS_MAX = 5_000
_OVER_LIMIT = ("EOrder:Rate limit exceeded", "EOrder:Domain rate limit exceeded")


def is_over_limit(reason: str) -> bool:
    """Tell whether the venue refused a request for its limits alone (FACTS 14): the same request may pass later."""
    return reason.startswith(_OVER_LIMIT)


class AccountTier(enum.StrEnum):
    """Kraken's verification tiers, from the tightest limits to the widest."""

    STARTER = "starter"
    INTERMEDIATE = "intermediate"
    PRO = "pro"


@frozen(kw_only=True)
class RateLimits:
    """Limits of one account tier; `decay_per_s` in points, `reserve` is kept for cancels and exits."""

    threshold: float = 60.0
    decay_per_s: float = 1.0
    reserve: float = 25.0

    @property
    def open_to_entries(self) -> float:
        """Return how far entries and reprices may take a counter."""
        return self.threshold - self.reserve


_TRADING = {
    AccountTier.STARTER: RateLimits(threshold=60.0, decay_per_s=1.0),
    AccountTier.INTERMEDIATE: RateLimits(threshold=125.0, decay_per_s=2.34),
    AccountTier.PRO: RateLimits(threshold=180.0, decay_per_s=3.75),
}


def trading_limits(tier: AccountTier) -> RateLimits:
    """Return the trading counter's limits of a tier."""
    return _TRADING[tier]


def tier_of_threshold(max_ratecount: float) -> AccountTier:
    """Return the tier whose threshold the venue stated; the next tighter one for a figure that is not documented."""
    fitting = [tier for tier, limits in _TRADING.items() if limits.threshold <= max_ratecount]
    return fitting[-1] if fitting else AccountTier.STARTER


class SpendKind(enum.StrEnum):
    """What a request does."""

    ADD = "add"
    AMEND = "amend"
    CANCEL = "cancel"


@frozen(kw_only=True)
class Spend:
    """The points of one request, from `sent_mono` on."""

    number: int
    symbol: Symbol
    cl_ord_id: ClOrdId
    kind: SpendKind
    points: float
    sent_mono: float


@define
class DecayingCount:
    """A count that falls with time and never below zero."""

    decay_per_s: float
    level: float = 0.0
    at_mono: float = -math.inf

    def now(self, mono: float) -> float:
        """Return the count now; time that runs back changes nothing."""
        elapsed_s = max(0.0, mono - self.at_mono)
        return max(0.0, self.level - elapsed_s * self.decay_per_s) if self.level else 0.0

    def put(self, points: float, mono: float) -> None:
        """Set the count."""
        self.level, self.at_mono = points, max(mono, self.at_mono)

    def add(self, points: float, mono: float) -> None:
        """Raise the count."""
        self.put(self.now(mono) + points, mono)


@define
class _Counter:
    answered: DecayingCount
    pending: dict[int, Spend] = Factory(dict)
    recent: deque[tuple[float, Spend]] = Factory(lambda: deque(maxlen=500))


class RateBudget:
    """Counters by symbol; times are monotonic seconds.

    `lowered` and `raised` count the venue's corrections by what they did to the model, `over_limit` how often the
    venue refused a request for its rate.
    """

    def __init__(self, limits: RateLimits) -> None:
        self._counters: dict[Symbol, _Counter] = {}
        # When an order was last added or amended for sure, and when its add was sent.
        self._touched: OrderedDict[ClOrdId, float] = OrderedDict()
        self._added: OrderedDict[ClOrdId, float] = OrderedDict()
        self._numbers = 0
        self.raised = 0
        self.lowered = 0
        self.over_limit = 0
        self.limits = limits
        self.set_limits(limits)

    def set_limits(self, limits: RateLimits) -> None:
        """Go on with the limits of another tier; what was counted stays."""
        invariant(limits.reserve < limits.threshold, "I12", "the reserve takes the whole counter")
        invariant(limits.decay_per_s >= 0, "I12", f"a decay of {limits.decay_per_s}")
        self.limits = limits
        for counter in self._counters.values():
            counter.answered.decay_per_s = limits.decay_per_s

    # reading

    def points(self, symbol: Symbol, mono: float) -> float:
        """Return the counter of a symbol now, requests on their way included."""
        counter = self._counters.get(symbol)
        if counter is None:
            return 0.0
        self._sweep(counter, mono)
        return counter.answered.now(mono) + sum(spend.points for spend in counter.pending.values())

    def all_points(self, mono: float) -> dict[Symbol, float]:
        """Return the counters above zero."""
        found = {symbol: self.points(symbol, mono) for symbol in sorted(self._counters)}
        return {symbol: points for symbol, points in found.items() if points > 0}

    def highest(self, mono: float) -> float:
        """Return the highest counter of all symbols."""
        return max((self.points(symbol, mono) for symbol in self._counters), default=0.0)

    def allows_entry(self, symbol: Symbol, mono: float) -> bool:
        """Tell whether an add, and its cancel within 5 s, leave the symbol's reserve untouched."""
        return self._fits(symbol, ADD_POINTS + CANCEL_POINTS_MAX, mono)

    def allows_reprice(self, cl_ord_id: ClOrdId, symbol: Symbol, mono: float) -> bool:
        """Tell whether an amend, and a cancel within 5 s of it, leave the symbol's reserve untouched."""
        amend = AMEND_POINTS + _penalty(_AMEND_PENALTIES, self._age_s(cl_ord_id, mono))
        return self._fits(symbol, amend + CANCEL_POINTS_MAX, mono)

    def allows_trail(self, symbol: Symbol, mono: float) -> bool:
        """Tell whether a stop may be tightened: a cancel and a sale at market must still fit after the amend."""
        needed = AMEND_POINTS_MAX + CANCEL_POINTS_MAX + ADD_POINTS
        return self.points(symbol, mono) + needed <= self.limits.threshold

    def is_in_reserve(self, symbol: Symbol, mono: float) -> bool:
        """Tell whether the points kept for cancels and exits are being spent."""
        return self.points(symbol, mono) > self.limits.open_to_entries

    # requests

    def add_sent(self, symbol: Symbol, cl_ord_id: ClOrdId, mono: float) -> Spend:
        """Count an add_order; it costs a point even when it is refused."""
        self._remember(self._added, cl_ord_id, mono)
        return self._spend(symbol, cl_ord_id, SpendKind.ADD, ADD_POINTS, mono)

    def amend_sent(self, symbol: Symbol, cl_ord_id: ClOrdId, mono: float) -> Spend:
        """Count an amend; the order is young again from now until its answer."""
        penalty = _penalty(_AMEND_PENALTIES, self._age_s(cl_ord_id, mono))
        return self._spend(symbol, cl_ord_id, SpendKind.AMEND, AMEND_POINTS + penalty, mono)

    def cancel_sent(self, symbol: Symbol, cl_ord_id: ClOrdId, mono: float) -> Spend:
        """Count a cancel."""
        penalty = _penalty(_CANCEL_PENALTIES, self._age_s(cl_ord_id, mono))
        return self._spend(symbol, cl_ord_id, SpendKind.CANCEL, penalty, mono)

    def answered(self, spend: Spend, mono: float) -> None:
        """Let a request's points decay from now on: the venue has counted it."""
        counter = self._counters[spend.symbol]
        if counter.pending.pop(spend.number, None) is not None:
            self._settle(counter, spend, mono)

    def not_sent(self, spend: Spend) -> None:
        """Take back a request that provably never left."""
        self._counters[spend.symbol].pending.pop(spend.number, None)

    def hit(self, symbol: Symbol, mono: float) -> None:
        """Take notice that the venue refused a request for its rate: its counter is at the threshold."""
        self.over_limit += 1
        answered = self._counter(symbol).answered
        answered.put(max(answered.now(mono), self.limits.threshold), mono)

    def assume_full(self, symbol: Symbol, at_mono: float) -> None:
        """Start a symbol at the threshold as of a time: an earlier process may have spent what this one did not see."""
        self._counter(symbol).answered.put(self.limits.threshold, at_mono)

    # the venue's word

    def reported(
        self, symbol: Symbol, cl_ord_id: ClOrdId | None, exec_type: ExecType, ratecount: Decimal | None, mono: float
    ) -> None:
        """Take a report of an order of this symbol; `cl_ord_id` is None for one that is not ours."""
        counter = self._counter(symbol)
        self._sweep(counter, mono)
        if cl_ord_id is not None:
            self._settle_reported(counter, cl_ord_id, exec_type, mono)
        if ratecount is None:
            return
        stated = float(ratecount)
        before = counter.answered.now(mono)
        since_mono = None if cl_ord_id is None else self._added.get(cl_ord_id)
        bound = math.inf
        if since_mono is not None:
            # What was answered before this order was sent is in the venue's figure, and so is its own add.
            bound = stated + sum(
                spend.points
                for at_mono, spend in counter.recent
                if at_mono > since_mono and not (spend.cl_ord_id == cl_ord_id and spend.kind is SpendKind.ADD)
            )
        after = max(min(before, bound), stated)
        self.raised += after > before
        self.lowered += after < before
        counter.answered.put(after, mono)

    # inside

    def _fits(self, symbol: Symbol, points: float, mono: float) -> bool:
        return self.points(symbol, mono) + points <= self.limits.open_to_entries

    def _counter(self, symbol: Symbol) -> _Counter:
        found = self._counters.get(symbol)
        if found is None:
            found = self._counters[symbol] = _Counter(DecayingCount(self.limits.decay_per_s))
        return found

    def _spend(self, symbol: Symbol, cl_ord_id: ClOrdId, kind: SpendKind, points: float, mono: float) -> Spend:
        invariant(points >= 0, "I12", f"{symbol}: {points} points spent")
        self._numbers += 1
        spend = Spend(
            number=self._numbers, symbol=symbol, cl_ord_id=cl_ord_id, kind=kind, points=points, sent_mono=mono
        )
        counter = self._counter(symbol)
        self._sweep(counter, mono)
        counter.pending[spend.number] = spend
        return spend

    def _settle(self, counter: _Counter, spend: Spend, mono: float) -> None:
        counter.answered.add(spend.points, mono)
        counter.recent.append((mono, spend))
        if spend.kind is not SpendKind.CANCEL:
            self._remember(self._touched, spend.cl_ord_id, mono)

    def _settle_reported(self, counter: _Counter, cl_ord_id: ClOrdId, exec_type: ExecType, mono: float) -> None:
        """Settle the requests that a report proves to have arrived, so that they are not counted twice.

        An amend is not proven: the report may be of an earlier one, and the later one still be on its way.
        """
        proven = {SpendKind.ADD, SpendKind.CANCEL} if exec_type is ExecType.CANCELED else {SpendKind.ADD}
        for spend in [s for s in counter.pending.values() if s.cl_ord_id == cl_ord_id and s.kind in proven]:
            del counter.pending[spend.number]
            self._settle(counter, spend, mono)

    def _sweep(self, counter: _Counter, mono: float) -> None:
        """Settle requests whose answer never came, once none of them can still be on its way."""
        for spend in [s for s in counter.pending.values() if mono - s.sent_mono >= UNANSWERED_S]:
            del counter.pending[spend.number]
            self._settle(counter, spend, mono)

    def _age_s(self, cl_ord_id: ClOrdId, mono: float) -> float:
        """Return the youngest age that an order can have at the venue; 0 while an add or amend has no answer.

        An order of an earlier process counts as young: when it was last amended is not known to this one.
        """
        is_pending = any(
            spend.cl_ord_id == cl_ord_id and spend.kind is not SpendKind.CANCEL
            for counter in self._counters.values()
            for spend in counter.pending.values()
        )
        return 0.0 if is_pending else max(0.0, mono - self._touched.get(cl_ord_id, mono))

    def _remember(self, times: OrderedDict[ClOrdId, float], cl_ord_id: ClOrdId, mono: float) -> None:
        times[cl_ord_id] = mono
        times.move_to_end(cl_ord_id)
        while len(times) > _ORDERS_MAX:
            times.popitem(last=False)


def _penalty(table: tuple[tuple[float, float], ...], age_s: float) -> float:
    return next((points for bound_s, points in table if age_s < bound_s), 0.0)
