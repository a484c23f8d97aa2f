"""Movement of the mid on the 1 s grid: sigma, bipower sigma, jumps, drift, and the order statistics.

Enters: a grid of usable book rows, and the first second that counts: rows before it only serve returns that end in
the window. Leaves: one number each, None when too little is known. Called by `features`.
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
BIN_RATIO = 1.01
QUANTILE_BOUND = math.sqrt(BIN_RATIO) - 1
"""Relative error of a quantile that is read from a histogram of bins of BIN_RATIO."""
_PER_MIN = 60 / RETURN_S
_LEAST_SPREAD_BPS = 1e-6


def returns(grid: Grid, span_s: int) -> dict[int, float]:
    """Return log returns over `span_s` by their last second, those before the window too."""
    return {
        second: math.log(row.mid / grid[second - span_s].mid) for second, row in grid.items() if second - span_s in grid
    }


def sigma_bps_sqrt_min(grid: Grid, first: int = 0) -> float | None:
    """Return the volatility: root of the mean squared 5 s return, times root 12; None under MIN_RETURNS returns."""
    squares = [value * value for second, value in returns(grid, RETURN_S).items() if second >= first]
    if len(squares) < MIN_RETURNS:
        return None
    return math.sqrt(math.fsum(squares) / len(squares) * _PER_MIN) * BPS


def bipower_sigma_bps_sqrt_min(grid: Grid, first: int = 0) -> float | None:
    """Return the jump-robust volatility (Barndorff-Nielsen, Shephard 2004).

    The mean of |r(s)| |r(s - 5)| over all s where both 5 s returns exist, times pi/2; None under MIN_RETURNS of them.
    """
    by_second = returns(grid, RETURN_S)
    products = [
        abs(value * by_second[second - RETURN_S])
        for second, value in by_second.items()
        if second >= first and second - RETURN_S in by_second
    ]
    if len(products) < MIN_RETURNS:
        return None
    return math.sqrt(math.pi / 2 * math.fsum(products) / len(products) * _PER_MIN) * BPS


def jumps(grid: Grid, first: int = 0) -> int | None:
    """Return how often |r_5s| rose above its threshold; None without a bipower sigma.

    The threshold is 4.5 bipower sigmas of 5 s (Lee, Mykland 2008), but at least the median spread: inside the
    spread a mid moves when one quote comes or goes, and where most returns are zero the bipower sigma is zero too.
    A jump is a second above the threshold whose second before is not (below it, or missing), so that one move counts
    once although it shows in five overlapping returns. The median is that of the histogram (`binned`).
    """
    bipower = bipower_sigma_bps_sqrt_min(grid, first)
    spread_bps = percentile([binned(row.spread_bps) for second, row in grid.items() if second >= first], 0.5)
    if bipower is None or spread_bps is None:
        return None
    threshold = max(JUMP_SIGMAS * bipower / math.sqrt(_PER_MIN), spread_bps) / BPS
    above = {second for second, value in returns(grid, RETURN_S).items() if abs(value) > threshold}
    return sum(1 for second in above if second >= first and second - 1 not in above)


def drift_bps_per_min(grid: Grid, first: int = 0) -> float | None:
    """Return the mean 1 s return in bps per minute; None under MIN_RETURNS returns."""
    values = [value for second, value in returns(grid, 1).items() if second >= first]
    return math.fsum(values) / len(values) * 60 * BPS if len(values) >= MIN_RETURNS else None


def drift_t(grid: Grid, first: int = 0) -> float | None:
    """Return the t-statistic of the mean 1 s return with a HAC standard error (Newey, West 1987), lag 5 s.

    With d the n returns less their mean, g(k) = sum of d(s) d(s - k) over seconds s of the window where both exist,
    / n: var = g(0) + 2 sum_{k=1..5} (1 - k/6) g(k), never below g(0), since a mean-reverting mid is no evidence of
    drift; t = mean / sqrt(var / n). A gap adds nothing to g(k). 0 if no return differs from 0; None under
    MIN_RETURNS returns, or when all are equal but not 0 (var at most 1e-24, or 1e-9 of the squared mean).
    """
    by_second = returns(grid, 1)
    counted = {second: value for second, value in by_second.items() if second >= first}
    count = len(counted)
    if count < MIN_RETURNS:
        return None
    if not any(counted.values()):
        return 0.0
    mean = math.fsum(counted.values()) / count
    off = {second: value - mean for second, value in by_second.items()}

    def covariance(lag: int) -> float:
        return math.fsum(off[second] * off[second - lag] for second in counted if second - lag in off) / count

    own = covariance(0)
    with_lags = own + 2 * math.fsum((1 - lag / (HAC_LAG_S + 1)) * covariance(lag) for lag in range(1, HAC_LAG_S + 1))
    variance = max(own, with_lags)
    return mean / math.sqrt(variance / count) if variance > max(1e-24, 1e-9 * mean * mean) else None


def return_bps(grid: Grid) -> float | None:
    """Return the log return from the first to the last row that is there; None under two rows."""
    if len(grid) < 2:
        return None
    return math.log(grid[max(grid)].mid / grid[min(grid)].mid) * BPS


def binned(spread_bps: float) -> float:
    """Return the value that stands for a spread in the histogram: the geometric middle of its bin.

    Bin k holds BIN_RATIO ** k <= spread < BIN_RATIO ** (k + 1); the error is at most QUANTILE_BOUND, relative.
    """
    step = math.log(BIN_RATIO)
    return math.exp((math.floor(math.log(max(spread_bps, _LEAST_SPREAD_BPS)) / step) + 0.5) * step)


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
