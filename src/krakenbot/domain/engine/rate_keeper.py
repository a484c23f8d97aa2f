"""Keeps the model of the trading counters true: fed by the venue's own counts, limited by the venue's own tier.

Enters: reports of the executions feed, the threshold that the venue states when the feed subscribes. Leaves: the
cycle's view of the counters, and their part of the status.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from krakenbot.domain.decision.views import RateView
from krakenbot.domain.execution.rate import (
    ADD_POINTS,
    CANCEL_POINTS_MAX,
    AccountTier,
    RateBudget,
    tier_of_threshold,
    trading_limits,
)
from krakenbot.domain.execution.reports import ExecutionReport
from krakenbot.domain.execution.tracker import OrderTracker
from krakenbot.domain.values import Symbol, VenueOrderId
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.execution_feed import ExecutionFeed

_FOREIGN_MAX = 5_000


class RateKeeper:
    """One account's counters; `budget` is what the counted gateway spends from.

    `tier` is the setting. Where the venue states a tighter one that holds at once; a wider one changes nothing, since
    a person may want the distance. Either way it is told once.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        execution_feed: ExecutionFeed,
        tracker: OrderTracker,
        tier: AccountTier,
        event_sink: EventSink,
    ) -> None:
        self._clock = clock
        self._feed = execution_feed
        self._tracker = tracker
        self._tier = tier
        self._sink = event_sink
        self._stated: int | None = None
        self._foreign: OrderedDict[VenueOrderId, Symbol] = OrderedDict()
        self.effective_tier = tier
        self.budget = RateBudget(trading_limits(tier))
        self.counted_reports = 0
        # Listeners: the tier by which to count from now on.
        self.on_tier: list[Callable[[AccountTier], None]] = []

    def start_from(self, changed_at: Mapping[Symbol, datetime], live: Collection[Symbol]) -> None:
        """Start symbols where an earlier process can have left them: full at the last change, or now with live orders.

        The last requests about a live order may not have been committed.
        """
        now, mono = self._clock.now(), self._clock.mono()
        ages_s = {symbol: max(0.0, (now - at).total_seconds()) for symbol, at in changed_at.items()}
        for symbol, age_s in (ages_s | dict.fromkeys(live, 0.0)).items():
            self.budget.assume_full(symbol, mono - age_s)

    def take(self, report: ExecutionReport) -> None:
        """Take a report, own or foreign; the tracker has seen it before."""
        order = self._tracker.find(report.order_id)
        symbol = order.symbol if order is not None else report.symbol or self._foreign.get(report.order_id)
        if symbol is None:
            return
        if order is None:
            self._foreign[report.order_id] = symbol
            if len(self._foreign) > _FOREIGN_MAX:
                self._foreign.popitem(last=False)
        self.counted_reports += report.ratecount is not None
        self.budget.reported(
            symbol,
            None if order is None else order.cl_ord_id,
            report.exec_type,
            report.ratecount,
            self._clock.mono(),
        )

    def view(self) -> RateView:
        """Return the counters as the cycle sees them, under the limits that hold now."""
        self._mind_tier()
        limits = self.budget.limits
        return RateView(
            points=self.budget.all_points(self._clock.mono()),
            entry_points=ADD_POINTS + CANCEL_POINTS_MAX,
            limit_points=limits.open_to_entries,
            decay_per_s=limits.decay_per_s,
        )

    def status(self) -> dict[str, object]:
        """Return the counters as plain JSON values."""
        self._mind_tier()
        limits = self.budget.limits
        return {
            "tier": self.effective_tier.value,
            "tier_set": self._tier.value,
            "venue_threshold": self._stated,
            "threshold": limits.threshold,
            "reserve": limits.reserve,
            "decay_per_s": limits.decay_per_s,
            "points": {
                symbol: round(points, 2) for symbol, points in self.budget.all_points(self._clock.mono()).items()
            },
            "counted_reports": self.counted_reports,
            "raised_by_venue": self.budget.raised,
            "lowered_by_venue": self.budget.lowered,
            "over_limit": self.budget.over_limit,
        }

    def _mind_tier(self) -> None:
        stated = self._feed.max_ratecount
        if stated is None or stated == self._stated:
            return
        self._stated = stated
        venue_tier = tier_of_threshold(stated)
        tiers = list(AccountTier)
        self.effective_tier = min(self._tier, venue_tier, key=tiers.index)
        self.budget.set_limits(trading_limits(self.effective_tier))
        for listener in self.on_tier:
            listener(self.effective_tier)
        if venue_tier is not self._tier:
            self._sink.emit("tier_differs", setting=self._tier.value, venue=venue_tier.value, threshold=stated)
