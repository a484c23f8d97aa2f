"""Measure sampled series: spread half-life, kurtosis and memory of returns, realised variance at two speeds.

In: a series at fixed steps. Out: sums per block and statistics of sums. No state.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from krakenbot.adapters.local_exchange.flow_check.estimates import Blocks, empty_blocks

SPREAD_STEP_S = 0.5
SPREAD_LAGS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 30, 40, 60)
"""In steps: 0.5 s to 30 s. A half-life beyond the last lag is infinite."""
MEMORY_LAGS = (1, 2, 3, 4, 5, 6)


def autocovariance_blocks(series: Sequence[float], step_s: float, lags: Sequence[int], block_s: int) -> Blocks:
    """Return (samples, sum, sum of squares, then pairs and sum of products for each lag) per block.

    The series is centred first, which keeps the sums exact.
    """
    centre = math.fsum(series) / len(series)
    values = [value - centre for value in series]
    blocks = empty_blocks((len(values) - 1) * step_s, block_s, 3 + 2 * len(lags))
    for index, value in enumerate(values):
        sums = blocks[min(len(blocks) - 1, int(index * step_s // block_s))]
        sums[0] += 1
        sums[1] += value
        sums[2] += value * value
        for place, lag in enumerate(lags):
            if index + lag < len(values):
                sums[3 + 2 * place] += 1
                sums[4 + 2 * place] += value * values[index + lag]
    return blocks


def autocorrelations(sums: Sequence[float]) -> list[float]:
    """Return the autocorrelation at each lag."""
    mean = sums[1] / sums[0]
    variance = sums[2] / sums[0] - mean * mean
    pairs = zip(sums[3::2], sums[4::2], strict=True)
    return [(products / count - mean * mean) / variance for count, products in pairs]


def spread_half_life_s(sums: Sequence[float]) -> float:
    """Return the time until the autocorrelation of the spread has fallen to one half, infinite beyond the last lag.

    For an AR(1) it is the half-life of a deviation; between lags it follows an exponential.
    """
    before_s, before = 0.0, 1.0
    for lag, value in zip(SPREAD_LAGS, autocorrelations(sums), strict=True):
        at_s = lag * SPREAD_STEP_S
        if value < 0.5:
            share = math.log(before / 0.5) / math.log(before / max(value, 1e-3))
            return before_s + share * (at_s - before_s)
        before_s, before = at_s, value
    return math.inf


def returns_bps(mids: Sequence[float], steps: int, *, overlapping: bool) -> list[float]:
    """Return log returns over so many steps, in bps."""
    logs = [math.log(mid) * 10_000 for mid in mids]
    return [logs[i + steps] - logs[i] for i in range(0, len(logs) - steps, 1 if overlapping else steps)]


def power_blocks(series: Sequence[float], step_s: float, block_s: int) -> Blocks:
    """Return (samples, and the sums of the first four powers) per block."""
    blocks = empty_blocks(len(series) * step_s, block_s, 5)
    for index, value in enumerate(series):
        sums = blocks[min(len(blocks) - 1, int(index * step_s // block_s))]
        square = value * value
        sums[0] += 1
        sums[1] += value
        sums[2] += square
        sums[3] += square * value
        sums[4] += square * square
    return blocks


def kurtosis(sums: Sequence[float]) -> float:
    """Return the fourth central moment over the squared variance: 3 for a normal law."""
    mean, second, third, fourth = (total / sums[0] for total in sums[1:])
    variance = second - mean * mean
    return (fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4) / variance**2


def mean_memory(sums: Sequence[float]) -> float:
    """Return the mean autocorrelation over the lags of the sums."""
    values = autocorrelations(sums)
    return math.fsum(values) / len(values)


def variance_blocks(mids: Sequence[float], block_s: int) -> Blocks:
    """Return (count, sum of squares) of the returns over 1 s, then over 60 s, of mids at every second, per block."""
    blocks = empty_blocks(len(mids) - 1, block_s, 4)
    for place, steps in ((0, 1), (2, 60)):
        for index, value in enumerate(returns_bps(mids, steps, overlapping=True)):
            sums = blocks[min(len(blocks) - 1, index // block_s)]
            sums[place] += 1
            sums[place + 1] += value * value
    return blocks


def variance_ratio(sums: Sequence[float]) -> float:
    """Return realised variance at 1 s over that at 60 s, both per second: 1 for a random walk, more with bounce."""
    return (sums[1] / sums[0]) / (sums[3] / sums[2] / 60)
