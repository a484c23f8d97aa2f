"""Turn sums per block of time into estimates with intervals: one block bootstrap for every statistic.

A statistic is a function of sums (counts, sums of products, ...). Its data come as one list of sums per block of
time, for each symbol. Blocks of all symbols are drawn together, because symbols move together. Called by the checks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from random import Random

from attrs import frozen

Sums = list[float]
Blocks = list[Sums]
Statistic = Callable[[Sequence[float]], float]
DRAWS = 300
BLOCKS_WANTED = 24
SHORTEST_BLOCK_S = 60
Z95 = 1.959964


@frozen(kw_only=True)
class Estimate:
    """A value with its 95 % interval, the events behind it, and the lowest and highest value of a symbol.

    `t` is the value over its standard error where that is what a limit asks for. What there is not is not a number.
    """

    value: float
    low: float
    high: float
    count: int
    lowest_symbol: float = math.nan
    highest_symbol: float = math.nan
    t: float = math.nan


def block_length_s(duration_s: float) -> int:
    """Return the length of a block: whole minutes, about 24 of them, and one minute at least."""
    return max(SHORTEST_BLOCK_S, int(duration_s / BLOCKS_WANTED) // 60 * 60)


def empty_blocks(duration_s: float, block_s: int, width: int) -> Blocks:
    """Return zeros for every whole or begun block."""
    return [[0.0] * width for _ in range(max(1, math.ceil(duration_s / block_s)))]


def add_up(blocks: Sequence[Sequence[float]]) -> Sums:
    """Return the sums over all blocks."""
    return [math.fsum(column) for column in zip(*blocks, strict=True)]


def estimate(parts: Sequence[Blocks], statistic: Statistic, *, count: int, pooled: bool = False) -> Estimate:
    """Return the mean over symbols of a statistic, with a 95 % block bootstrap interval.

    `parts` holds one list of blocks per symbol, equally many each. `pooled` adds the symbols' sums up instead of
    averaging their values. A draw for which the statistic does not exist counts as not a number and is left out.
    """
    each = [_or_nan(statistic, add_up(blocks)) for blocks in parts]
    random = Random(1)  # noqa: S311  # a bootstrap
    draws = []
    for _ in range(DRAWS):
        drawn = random.choices(range(len(parts[0])), k=len(parts[0]))
        value = _combine([add_up([blocks[index] for index in drawn]) for blocks in parts], statistic, pooled=pooled)
        if not math.isnan(value):
            draws.append(value)
    draws.sort()
    low, high = (draws[int(0.025 * len(draws))], draws[int(0.975 * len(draws))]) if draws else (math.nan, math.nan)
    value = _combine([add_up(blocks) for blocks in parts], statistic, pooled=pooled)
    return Estimate(value=value, low=low, high=high, count=count, lowest_symbol=min(each), highest_symbol=max(each))


def _combine(sums: list[Sums], statistic: Statistic, *, pooled: bool) -> float:
    if pooled:
        return _or_nan(statistic, add_up(sums))
    return math.fsum(_or_nan(statistic, item) for item in sums) / len(sums)


def _or_nan(statistic: Statistic, sums: Sequence[float]) -> float:
    """Return the statistic; not a number where it needs to divide by nothing."""
    try:
        return statistic(sums)
    except (ZeroDivisionError, ValueError):
        return math.nan
