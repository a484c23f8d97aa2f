"""Fill probability of a resting buy by competing risks.

Enters: the volume ahead, the order's size, rates of trades and cancels, how the level itself may end. Leaves: the
probability of each exit until T and the expected rest. Called by the pipeline for every candidate.

Four exits: *b* the queue ahead and the order are consumed while the level holds, *s* the price sweeps through the
level, *a* it moves away, *c* neither until T (we cancel). Models, all over quote units:
- b: market sells arrive as a compound Poisson process (rate, mean, second moment of size) and cancels ahead thin the
  queue; both only ever lower the volume ahead, so the time of consumption t has P(t <= T) = P(depletion(T) >= ahead
  + size), taken as normal, and at most the probability of one trade at all: cancels alone never fill an order.
- s and a: a symmetric random walk of the mid with steps of the half-spread has rate (sigma / half-spread)^2 per
  minute (Cont, de Larrard 2013 in its simplest form), half of it each way: a mid without drift gives P_s = P_a. To s
  comes the rate of single trades larger than the whole touch and the order, sizes as lognormal with the two moments;
  to a, for a level of our own, the rate at which the touch turns over by new volume: others improve in their turn.
"""

from __future__ import annotations

import enum
import math

from attrs import field, frozen
from attrs.validators import ge, gt, le

from krakenbot.domain.state.symbol_state import SymbolState

_STEPS = 64


class QueueSource(enum.StrEnum):
    """Where the volume ahead comes from; UNKNOWN blocks entries."""

    L3 = "l3"
    L2_ESTIMATE = "l2_estimate"
    UNKNOWN = "unknown"


@frozen(kw_only=True)
class FillSettings:
    """How the queue is read. `cancel_ahead_share`: how much of the touch's cancel rate counts as ahead of us."""

    max_l3_age_s: float = field(default=5.0, validator=gt(0.0))
    cancel_ahead_share: float = field(default=0.5, validator=[ge(0.0), le(1.0)])
    l2_trade_share: float = field(default=0.7, validator=[gt(0.0), le(1.0)])
    min_fill_probability: float = field(default=0.1, validator=[gt(0.0), le(1.0)])


@frozen(kw_only=True)
class QueueRates:
    """All that the model needs. Quote units, seconds; `sweep_bps` is the step of the level, the half-spread.

    `touch_quote` is the whole volume at the best bid: ahead of a joined order, behind an improved one.
    """

    ahead_quote: float
    touch_quote: float
    size_quote: float
    trades_per_s: float
    trade_mean_quote: float
    trade_m2_quote: float
    cancel_per_s_quote: float
    sigma_bps_sqrt_min: float
    sweep_bps: float
    undercut_per_s: float = 0.0


@frozen(kw_only=True)
class FillEstimate:
    """Probabilities of the exits until T, summing to 1. `rest_s` is the expected time until any exit or T."""

    source: QueueSource
    p_consumed: float
    p_swept: float
    p_away: float
    p_cancelled: float
    rest_s: float
    ahead_quote: float

    @property
    def p_fill(self) -> float:
        """Return P_b + P_s."""
        return self.p_consumed + self.p_swept

    def mix(self, consumed_bps: float, swept_bps: float) -> float:
        """Return M given a fill: each cause's M weighted by its share; the worse one when no fill is possible."""
        if self.p_fill <= 0.0:
            return min(consumed_bps, swept_bps)
        return (self.p_consumed * consumed_bps + self.p_swept * swept_bps) / self.p_fill


def queue_rates(
    state: SymbolState, size_quote: float, *, joins: bool, settings: FillSettings
) -> tuple[QueueSource, QueueRates] | None:
    """Read the model's inputs from a state; None is the source `unknown`.

    `joins` False is a new level of our own: nothing ahead. Without a fresh L3 touch the volume within 10 bps counts
    as ahead, no cancel helps, and trades count at `l2_trade_share`: an estimate that errs to the slow side.
    """
    sigma, spread, sells = state.sigma_bps_sqrt_min, state.spread_bps, state.sell_to_bid_per_s_quote
    mean, second = state.trade_size_mean_quote, state.trade_size_m2_quote
    if sigma is None or spread is None or spread <= 0 or sells is None or state.bid_depth_10_quote is None:
        return None
    has_l3 = state.bid_queue_quote is not None and state.l3_age_s is not None
    fresh = has_l3 and (state.l3_age_s or 0.0) <= settings.max_l3_age_s
    queue = state.bid_queue_quote if fresh and state.bid_queue_quote is not None else state.bid_depth_10_quote
    share = 1.0 if fresh else settings.l2_trade_share
    rates = QueueRates(
        ahead_quote=queue if joins else 0.0,
        touch_quote=queue,
        size_quote=size_quote,
        trades_per_s=share * sells / mean if mean else 0.0,
        trade_mean_quote=mean or 0.0,
        trade_m2_quote=second or 0.0,
        cancel_per_s_quote=(state.bid_cancel_per_s_quote or 0.0) * settings.cancel_ahead_share if fresh else 0.0,
        sigma_bps_sqrt_min=sigma,
        sweep_bps=spread / 2,
        undercut_per_s=0.0 if joins or not fresh or queue <= 0 else (state.bid_add_per_s_quote or 0.0) / queue,
    )
    return (QueueSource.L3 if fresh else QueueSource.L2_ESTIMATE), rates


def estimate_fill(rates: QueueRates, horizon_s: float, source: QueueSource) -> FillEstimate:
    """Return the exits until `horizon_s`.

    In 64 equal steps: what is still resting is first consumed with the step's conditional probability, then the
    level ends with its hazards; so the four exits always sum to 1.
    """
    step_s = horizon_s / _STEPS
    swept_per_s, away_per_s = level_hazards(rates)
    ends = -math.expm1(-(swept_per_s + away_per_s) * step_s)
    swept_share = swept_per_s / (swept_per_s + away_per_s) if swept_per_s + away_per_s > 0 else 0.0
    alive, consumed, swept, away, rest_s, before = 1.0, 0.0, 0.0, 0.0, 0.0, 0.0
    for index in range(1, _STEPS + 1):
        now = max(before, consumed_by(rates, index * step_s))
        chance = (now - before) / (1.0 - before) if before < 1.0 else 1.0
        by_queue = alive * chance
        by_level = (alive - by_queue) * ends
        left = alive - by_queue - by_level
        consumed += by_queue
        swept += by_level * swept_share
        away += by_level * (1.0 - swept_share)
        rest_s += (alive + left) / 2 * step_s
        alive, before = left, now
    return FillEstimate(
        source=source,
        p_consumed=consumed,
        p_swept=swept,
        p_away=away,
        p_cancelled=alive,
        rest_s=rest_s,
        ahead_quote=rates.ahead_quote,
    )


def consumed_by(rates: QueueRates, time_s: float) -> float:
    """Return the probability that queue and order are consumed by a time, were the level to hold."""
    cancelled = min(rates.ahead_quote, rates.cancel_per_s_quote * time_s)
    needed = rates.ahead_quote - cancelled + rates.size_quote
    arrivals = rates.trades_per_s * time_s
    if arrivals <= 0.0:
        return 0.0
    spread = math.sqrt(arrivals * rates.trade_m2_quote)
    depleted = arrivals * rates.trade_mean_quote
    reached = _normal((depleted - needed) / spread) if spread > 0 else float(depleted >= needed)
    return min(reached, -math.expm1(-arrivals))


def level_hazards(rates: QueueRates) -> tuple[float, float]:
    """Return how often per second the level is swept, and how often the price leaves it behind."""
    each_way = (rates.sigma_bps_sqrt_min / rates.sweep_bps) ** 2 / 60 / 2
    large = rates.trades_per_s * _tail(rates, rates.touch_quote + rates.size_quote)
    return each_way + large, each_way + rates.undercut_per_s


def _tail(rates: QueueRates, size_quote: float) -> float:
    mean, second = rates.trade_mean_quote, rates.trade_m2_quote
    if mean <= 0.0 or size_quote <= 0.0:
        return 0.0
    log_variance = math.log(second / mean**2) if second > mean**2 else 0.0
    if log_variance <= 0.0:
        return float(mean > size_quote)
    log_mean = math.log(mean) - log_variance / 2
    return 1.0 - _normal((math.log(size_quote) - log_mean) / math.sqrt(log_variance))


def _normal(score: float) -> float:
    return math.erfc(-score / math.sqrt(2)) / 2
