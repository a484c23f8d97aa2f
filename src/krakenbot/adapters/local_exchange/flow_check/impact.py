"""Measure how the mid answers market orders, and how the answer grows with size.

In: times, signs and sizes of market orders, the mid before each and a way to look the mid up. Out: sums per block
and statistics of sums. No state.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Sequence

from krakenbot.adapters.local_exchange.flow_check.estimates import Blocks, empty_blocks

SIZE_EDGES = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Edges of the size buckets, in medians of the symbol's sizes."""
BUCKETS = len(SIZE_EDGES) + 1
BUCKET_WIDTH = 4
LEAST_PER_BUCKET = 30


def response_blocks(
    at_s: Sequence[float],
    signs: Sequence[int],
    sizes: Sequence[float],
    mids_before: Sequence[float],
    *,
    mid_at: Callable[[float], float],
    lag_s: float,
    duration_s: float,
    block_s: int,
) -> Blocks:
    """Return, per size bucket, (orders, sum of responses, sum of their squares, sum of log sizes), per block.

    A response is the signed move of the mid in bps from just before the order until `lag_s` after it. Orders
    without a mid before them, or too near the end, are left out. Sizes count in medians.
    """
    blocks = empty_blocks(duration_s, block_s, BUCKETS * BUCKET_WIDTH)
    middle = statistics.median(sizes) if sizes else 1.0
    for time_s, sign, size, before in zip(at_s, signs, sizes, mids_before, strict=True):
        if time_s + lag_s > duration_s or before <= 0:
            continue
        response = sign * (mid_at(time_s + lag_s) / before - 1) * 10_000
        sums = blocks[min(len(blocks) - 1, int(time_s // block_s))]
        start = bisect_right(SIZE_EDGES, size / middle) * BUCKET_WIDTH
        sums[start] += 1
        sums[start + 1] += response
        sums[start + 2] += response * response
        sums[start + 3] += math.log(size / middle)
    return blocks


def mean_response_bps(sums: Sequence[float]) -> float:
    """Return the mean response over all sizes."""
    return math.fsum(sums[1::BUCKET_WIDTH]) / math.fsum(sums[0::BUCKET_WIDTH])


def size_exponent(sums: Sequence[float]) -> float:
    """Return the slope of log mean response on mean log size over the buckets, weighted by precision.

    Buckets with fewer than 30 orders or without a positive mean are left out; not a number below three buckets.
    """
    points: list[tuple[float, float, float]] = []
    for start in range(0, len(sums), BUCKET_WIDTH):
        count, total, squares, logs = sums[start : start + BUCKET_WIDTH]
        if count < LEAST_PER_BUCKET or total <= 0:
            continue
        mean = total / count
        variance = max(squares / count - mean * mean, 1e-12 * mean * mean)
        points.append((logs / count, math.log(mean), mean * mean * count / variance))
    return slope(points)


def slope(points: Sequence[tuple[float, float, float]]) -> float:
    """Return the weighted least-squares slope of (x, y, weight); not a number below three points."""
    if len(points) < 3:
        return math.nan
    weight = math.fsum(w for _, _, w in points)
    mean_x = math.fsum(x * w for x, _, w in points) / weight
    mean_y = math.fsum(y * w for _, y, w in points) / weight
    covariance = math.fsum((x - mean_x) * (y - mean_y) * w for x, y, w in points)
    return covariance / math.fsum((x - mean_x) ** 2 * w for x, _, w in points)
