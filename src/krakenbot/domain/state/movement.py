"""Movement of the mid on the 1 s grid: sigma, bipower sigma, jumps, drift, and the order statistics.

Enters: a grid of usable book rows. Leaves: one number each, None when too little is known. Called by `features`.
A 5 s return at second s is `ln(mid[s] / mid[s - 5])`, and exists where both seconds do. All 5 s returns of a window
overlap, which is the average over the five offsets of sub-sampled returns (Zhang, Mykland, Ait-Sahalia 2005).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from krakenbot.domain.state.windows import Grid
from krakenbot.domain.values import BPS

RETURN_S = 5
MIN_RETURNS = 5
HAC_LAG_S = 5
JUMP_SIGMAS = 4.5
_PER_MIN = 60 / RETURN_S


def returns(grid: Grid, span_s: int) -> dict[int, float]:
    """Return log returns over `span_s` by their last second."""
    return {
        second: math.log(row.mid / grid[second - span_s].mid) for second, row in grid.items() if second - span_s in grid
    }


def sigma_bps_sqrt_min(grid: Grid) -> float | None:
    """Return the volatility: root of the mean squared 5 s return, times root 12; None under MIN_RETURNS returns."""
    squares = [value * value for value in returns(grid, RETURN_S).values()]
    if len(squares) < MIN_RETURNS:
        return None
    return math.sqrt(math.fsum(squares) / len(squares) * _PER_MIN) * BPS


def bipower_sigma_bps_sqrt_min(grid: Grid) -> float | None:
    """Return the jump-robust volatility (Barndorff-Nielsen, Shephard 2004).

    The mean of |r(s)| |r(s - 5)| over all s where both 5 s returns exist, times pi/2; None under MIN_RETURNS of them.
    """
    by_second = returns(grid, RETURN_S)
    products = [
        abs(value * by_second[second - RETURN_S])
        for second, value in by_second.items()
        if second - RETURN_S in by_second
    ]
    if len(products) < MIN_RETURNS:
        return None
    return math.sqrt(math.pi / 2 * math.fsum(products) / len(products) * _PER_MIN) * BPS


def jumps(grid: Grid) -> int | None:
    """Return how often |r_5s| rose above its threshold; None without a bipower sigma.

    The threshold is 4.5 bipower sigmas of 5 s (Lee, Mykland 2008), but at least the median spread: inside the
    spread a mid moves when one quote comes or goes, and where most returns are zero the bipower sigma is zero too.
    A jump is a second above the threshold whose second before is not (below it, or missing), so that one move counts
    once although it shows in five overlapping returns.
    """
    bipower = bipower_sigma_bps_sqrt_min(grid)
    spread_bps = percentile([row.spread_bps for row in grid.values()], 0.5)
    if bipower is None or spread_bps is None:
        return None
    threshold = max(JUMP_SIGMAS * bipower / math.sqrt(_PER_MIN), spread_bps) / BPS
    above = {second for second, value in returns(grid, RETURN_S).items() if abs(value) > threshold}
    return sum(1 for second in above if second - 1 not in above)


def drift_t(grid: Grid) -> float | None:
    """Return the t-statistic of the mean 1 s return with a HAC standard error (Newey, West 1987), lag 5 s.

    With d the n returns less their mean, g(k) = sum of d(s) d(s - k) over seconds where both exist, / n:
    var = g(0) + 2 sum_{k=1..5} (1 - k/6) g(k), never below g(0), since a mean-reverting mid is no evidence of drift;
    t = mean / sqrt(var / n). A gap adds nothing to g(k). 0 if no return differs from 0; None under MIN_RETURNS
    returns or when all are equal but not 0 (var at most 1e-24).
    """
    by_second = returns(grid, 1)
    count = len(by_second)
    if count < MIN_RETURNS:
        return None
    if not any(by_second.values()):
        return 0.0
    mean = math.fsum(by_second.values()) / count
    off = {second: value - mean for second, value in by_second.items()}

    def covariance(lag: int) -> float:
        return math.fsum(value * off[second - lag] for second, value in off.items() if second - lag in off) / count

    own = covariance(0)
    with_lags = own + 2 * math.fsum((1 - lag / (HAC_LAG_S + 1)) * covariance(lag) for lag in range(1, HAC_LAG_S + 1))
    variance = max(own, with_lags)
    return mean / math.sqrt(variance / count) if variance > 1e-24 else None


def return_bps(grid: Grid) -> float | None:
    """Return the log return from the first to the last row that is there; None under two rows."""
    if len(grid) < 2:
        return None
    return math.log(grid[max(grid)].mid / grid[min(grid)].mid) * BPS


def percentile(values: Sequence[float], share: float) -> float | None:
    """Return the exact quantile with linear interpolation, as SQL's percentile_cont; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    rank = share * (len(ordered) - 1)
    below = math.floor(rank)
    above = math.ceil(rank)
    return ordered[below] + (ordered[above] - ordered[below]) * (rank - below)


def median_and_mad(values: Sequence[float], least: int) -> tuple[float | None, float | None]:
    """Return the median and the plain median absolute deviation (no 1.4826); None under `least` values."""
    middle = percentile(values, 0.5)
    if middle is None or len(values) < least:
        return None, None
    return middle, percentile([abs(value - middle) for value in values], 0.5)
