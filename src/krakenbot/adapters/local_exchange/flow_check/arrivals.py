"""Measure market orders: how they cluster, whether their signs persist, how heavy the tail of their sizes is.

In: times in seconds, signs, sizes. Out: sums per block and statistics of sums, or the Hill estimate. No state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from krakenbot.adapters.local_exchange.flow_check.estimates import Z95, Blocks, Estimate, empty_blocks

FANO_WINDOW_S = 60
HILL_SHARE = 0.05
HILL_LEAST = 50


def count_blocks(at_s: Sequence[float], duration_s: float, block_s: int) -> Blocks:
    """Return (windows, sum of counts, sum of squared counts) of whole 60 s windows per block."""
    windows = int(duration_s // FANO_WINDOW_S)
    counts = [0] * windows
    for time_s in at_s:
        window = int(time_s // FANO_WINDOW_S)
        if window < windows:
            counts[window] += 1
    blocks = empty_blocks(windows * FANO_WINDOW_S, block_s, 3)
    for window, count in enumerate(counts):
        sums = blocks[window * FANO_WINDOW_S // block_s]
        sums[0] += 1
        sums[1] += count
        sums[2] += count * count
    return blocks


def fano_factor(sums: Sequence[float]) -> float:
    """Return variance over mean of the counts: 1 for a Poisson process, more for clusters."""
    windows, total, squares = sums
    mean = total / windows
    return (squares / windows - mean * mean) * windows / (windows - 1) / mean


def sign_blocks(at_s: Sequence[float], signs: Sequence[int], duration_s: float, block_s: int) -> Blocks:
    """Return (pairs, sum of products of neighbouring signs, sum of signs) per block."""
    blocks = empty_blocks(duration_s, block_s, 3)
    for index in range(len(signs) - 1):
        sums = blocks[min(len(blocks) - 1, int(at_s[index] // block_s))]
        sums[0] += 1
        sums[1] += signs[index] * signs[index + 1]
        sums[2] += signs[index]
    return blocks


def sign_autocorrelation(sums: Sequence[float]) -> float:
    """Return the lag-1 autocorrelation of the signs: 0 when each is drawn for itself."""
    pairs, products, total = sums
    mean = total / pairs
    return (products / pairs - mean * mean) / (1 - mean * mean)


def hill_exponent(sizes: Sequence[float]) -> tuple[float, float, int]:
    """Return the tail exponent of sizes by Hill (1975), its standard error, and how many sizes it rests on.

    It takes the largest twentieth, at least 50. For a Pareto law any share gives the exponent; for a law without a
    heavy tail a deeper share would look heavier than its tail is. Not a number below 100 sizes.
    """
    ordered = sorted(sizes, reverse=True)
    tail = max(HILL_LEAST, int(HILL_SHARE * len(ordered)))
    if len(ordered) < 2 * HILL_LEAST:
        return math.nan, math.nan, len(ordered)
    excess = math.fsum(math.log(size / ordered[tail]) for size in ordered[:tail])
    alpha = tail / excess if excess else math.inf
    return alpha, alpha / math.sqrt(tail), tail


def mean_hill_exponent(sizes_by_symbol: Sequence[Sequence[float]]) -> Estimate:
    """Return the mean exponent over symbols with its 95 % interval from the standard errors."""
    found = [hill_exponent(sizes) for sizes in sizes_by_symbol]
    alphas = [alpha for alpha, _, _ in found]
    value = math.fsum(alphas) / len(found)
    half = Z95 * math.sqrt(math.fsum(error * error for _, error, _ in found)) / len(found)
    return Estimate(
        value=value,
        low=value - half,
        high=value + half,
        count=sum(tail for _, _, tail in found),
        lowest_symbol=min(alphas),
        highest_symbol=max(alphas),
    )
