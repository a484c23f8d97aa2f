"""Change an open order: judge the amendment, change the figures, and bring the book in line.

The venue calls it for an order that it found; it calls the venue back to match, fire or end the order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from krakenbot.adapters.local_exchange.matching import checks, settlement
from krakenbot.adapters.local_exchange.matching.accounts import Account
from krakenbot.adapters.local_exchange.matching.checks import Figures
from krakenbot.adapters.local_exchange.matching.market import VenueMarket
from krakenbot.adapters.local_exchange.matching.orders import AmendRequest, ClientOrder
from krakenbot.adapters.local_exchange.matching.rate_counter import AMEND_AGES, AMEND_POINTS, CANCEL_AGES, age_points
from krakenbot.adapters.local_exchange.matching.triggers import reference_of

if TYPE_CHECKING:
    from krakenbot.adapters.local_exchange.matching.venue import Venue


def amend(venue: Venue, account: Account, order: ClientOrder, request: AmendRequest) -> str | None:
    """Amend an order, or return the refusal; what was counted for it stays counted."""
    market = venue.markets[order.rules.symbol]
    counter = account.counter(market.rules.symbol)
    age_ns = venue.now_ns - order.changed_ns
    extra = age_points(AMEND_AGES, age_ns)
    if not counter.has_room(AMEND_POINTS + extra, venue.now_ns):
        return checks.RATE_LIMIT
    counter.charge(AMEND_POINTS, venue.now_ns)
    if request.deadline_at_ns is not None and venue.now_ns > request.deadline_at_ns:
        return checks.DEADLINE
    for mode in (venue.system, market.rules.status):
        if mode in ("maintenance", "work_in_progress"):
            return checks.UNAVAILABLE
        if mode == "cancel_only":
            return checks.mode_error(mode)
    change = checks.check_amend(order, request, reference_of(market, order.request.trigger_reference))
    if isinstance(change, str):
        return change
    if change.qty_lots <= order.filled_lots:
        counter.charge(extra + age_points(CANCEL_AGES, age_ns), venue.now_ns)
        order.qty_lots = order.filled_lots
        order.is_amended = True
        venue.tell("amended", order)
        venue.withdraw(order, checks.USER_REQUESTED)
        return None
    error = _apply(venue, account, market, order, change, post_only=request.post_only)
    if error is None:
        counter.charge(extra, venue.now_ns)
        _requeue(venue, market, order)
    return error


def _apply(
    venue: Venue, account: Account, market: VenueMarket, order: ClientOrder, change: Figures, *, post_only: bool
) -> str | None:
    """Change the figures of an order unless that would take against its word, or cost more than there is."""
    moves = change.limit_ticks != order.limit_ticks
    crosses = moves and change.limit_ticks is not None and market.crosses(order.side, change.limit_ticks)
    if crosses and order.resting is not None:
        if post_only:
            return checks.POST_ONLY
        if not venue.matches(market):
            return checks.mode_error("post_only")
    before = (order.qty_lots, order.limit_ticks, order.trigger_ticks, order.hold_ppm)
    order.qty_lots, order.limit_ticks, order.trigger_ticks = change.qty_lots, change.limit_ticks, change.trigger_ticks
    order.hold_ppm = venue.rates(account, market).dearest_ppm
    if not settlement.can_pay(account, market, order):
        order.qty_lots, order.limit_ticks, order.trigger_ticks, order.hold_ppm = before
        return checks.INSUFFICIENT_FUNDS
    order.limit, order.trigger = change.limit, change.trigger
    order.is_amended = True
    order.changed_ns = venue.now_ns
    order.post_only = post_only
    return None


def _requeue(venue: Venue, market: VenueMarket, order: ClientOrder) -> None:
    """Bring the book in line: a lower size keeps its place by the documented rule, else the order goes back."""
    venue.tell("amended", order)
    resting = order.resting
    if resting is None:
        venue.stops.fire(market)
        return
    keeps = resting.price_ticks == order.limit_ticks and order.remaining_lots <= resting.remaining_lots
    shrinks = order.remaining_lots < resting.remaining_lots
    if keeps and not (shrinks and venue.settings.amend_queue == "always_back"):
        if shrinks:
            market.book.shrink(resting, order.remaining_lots)
        market.commit()
        return
    market.book.remove(resting)
    order.resting = None
    venue.work(market, order)
