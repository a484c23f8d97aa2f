"""Two makers who judge a market by what they earn in it: one who thinks nothing, one who thinks a little.

In: a `View` ten times a second. Out: the prices at which a bid and an ask should stand. Called by `judging.py`,
which turns wishes into orders and delays both ways.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from attrs import define, field, frozen

FEE_BPS = 25.0
MARGIN_BPS = 20.0
LEAVE_S = 10.0
WATCH_S = 5.0
MOVE_SHARE = 0.1
RUN_LENGTH = 4
MOST_CLIPS = 3


@frozen(kw_only=True)
class View:
    """What a maker sees of one symbol: the others' best prices, its own orders, its inventory in clips.

    `taker_signs` are the signs of the market orders of the last five seconds, oldest first.
    """

    at_s: float
    bid_ticks: int
    ask_ticks: int
    increment_ticks: int
    own_bid_ticks: int | None
    own_ask_ticks: int | None
    inventory_clips: int
    taker_signs: tuple[int, ...]


@frozen(kw_only=True)
class Wish:
    """Where orders should stand; None for no order on that side."""

    bid_ticks: int | None = None
    ask_ticks: int | None = None


class Maker(Protocol):
    """A strategy for one symbol; it may remember what it saw."""

    def wish(self, view: View) -> Wish:
        """Return where its orders should stand."""


class NaiveMaker:
    """Join the best bid, whatever happens; go up with it, never leave it."""

    def wish(self, view: View) -> Wish:
        """Return the best bid, or its own price where that is better."""
        return Wish(bid_ticks=max(view.bid_ticks, view.own_bid_ticks or 0))


@define(kw_only=True)
class ReferenceMaker:
    """Quote one step inside the touch on both sides while the spread pays; leave a side that is run over.

    The spread pays when it is at least two fees and a margin wide; `needs_spread` False turns that condition off.
    A side is run over when the mid moved towards it by a tenth of the spread within five seconds, or when the last
    four market orders of these seconds all hit it. It then stays away for ten seconds.
    """

    needs_spread: bool = True
    _mids: deque[tuple[float, float]] = field(factory=deque)
    _no_bid_until_s: float = 0.0
    _no_ask_until_s: float = 0.0

    def wish(self, view: View) -> Wish:
        """Return a price inside each side that is wanted."""
        mid = (view.bid_ticks + view.ask_ticks) / 2
        spread_bps = (view.ask_ticks - view.bid_ticks) / mid * 10_000
        self._watch(view, mid)
        if self.needs_spread and spread_bps < 2 * FEE_BPS + MARGIN_BPS:
            return Wish()
        room = view.ask_ticks - view.bid_ticks > 2 * view.increment_ticks
        step = view.increment_ticks if room else 0
        bids = view.inventory_clips < MOST_CLIPS and view.at_s >= self._no_bid_until_s
        asks = view.inventory_clips > -MOST_CLIPS and view.at_s >= self._no_ask_until_s
        return Wish(
            bid_ticks=view.bid_ticks + step if bids else None, ask_ticks=view.ask_ticks - step if asks else None
        )

    def _watch(self, view: View, mid: float) -> None:
        mids = self._mids
        mids.append((view.at_s, mid))
        while mids[0][0] < view.at_s - WATCH_S:
            mids.popleft()
        limit = MOVE_SHARE * (view.ask_ticks - view.bid_ticks)
        last = view.taker_signs[-RUN_LENGTH:]
        run = last[0] if len(last) == RUN_LENGTH and len(set(last)) == 1 else 0
        if mid - mids[0][1] < -limit or run < 0:
            self._no_bid_until_s = view.at_s + LEAVE_S
        if mid - mids[0][1] > limit or run > 0:
            self._no_ask_until_s = view.at_s + LEAVE_S
