"""Measure cancels: their share of adds, their hazard by age, their hazard by place in the queue.

In: times, ages, kinds and places of orders that ended. Out: sums per block and statistics of sums. No state.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from krakenbot.adapters.local_exchange.flow_check.estimates import Blocks, empty_blocks
from krakenbot.adapters.local_exchange.flow_check.impact import slope
from krakenbot.adapters.local_exchange.flow_check.tape import CANCELLED

AGE_EDGES_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, math.inf)
AGES = len(AGE_EDGES_S) - 1
LEAST_PER_AGE = 20
THIRDS = 3
Cancel = tuple[float, int, int, int]
"""(seconds, key of the price, orders ahead, orders behind), both counted just after the cancel."""


def share_blocks(
    added_at_s: Sequence[float], ended: Iterable[tuple[float, int]], duration_s: float, block_s: int
) -> Blocks:
    """Return (adds, cancels) per block; `ended` holds (seconds, kind)."""
    blocks = empty_blocks(duration_s, block_s, 2)
    last = len(blocks) - 1
    for at_s in added_at_s:
        blocks[min(last, int(at_s // block_s))][0] += 1
    for at_s, kind in ended:
        blocks[min(last, int(at_s // block_s))][1] += kind == CANCELLED
    return blocks


def cancel_share(sums: Sequence[float]) -> float:
    """Return cancels over adds."""
    return sums[1] / sums[0]


def age_blocks(ends: Iterable[tuple[float, float, int]], duration_s: float, block_s: int) -> Blocks:
    """Return, per bucket of age, (cancels, seconds at risk), per block of the end.

    `ends` holds (seconds, age in seconds, kind). Orders older than the tape count only from its begin on.
    """
    blocks = empty_blocks(duration_s, block_s, 2 * AGES)
    for at_s, age_s, kind in ends:
        sums = blocks[min(len(blocks) - 1, int(at_s // block_s))]
        entered_s = max(0.0, age_s - at_s)
        last = min(AGES - 1, bisect_right(AGE_EDGES_S, age_s) - 1)
        for bucket in range(last + 1):
            at_risk_s = min(age_s, AGE_EDGES_S[bucket + 1]) - max(entered_s, AGE_EDGES_S[bucket])
            sums[2 * bucket + 1] += max(0.0, at_risk_s)
        if kind == CANCELLED:
            sums[2 * last] += 1
    return blocks


def hazards_by_age(sums: Sequence[float]) -> list[tuple[float, float, float]]:
    """Return (middle of the bucket in seconds, cancels per second at risk, cancels); buckets under 20 are left out."""
    found = []
    for bucket in range(AGES):
        cancels, at_risk_s = sums[2 * bucket], sums[2 * bucket + 1]
        low_s, high_s = AGE_EDGES_S[bucket], AGE_EDGES_S[bucket + 1]
        if cancels >= LEAST_PER_AGE and at_risk_s > 0:
            middle_s = high_s / math.e if not low_s else math.sqrt(low_s * min(high_s, 4 * low_s))
            found.append((middle_s, cancels / at_risk_s, cancels))
    return found


def age_slope(sums: Sequence[float]) -> float:
    """Return the slope of log hazard on log age, weighted by cancels: 0 for a constant hazard, below it if falling."""
    return slope([(math.log(age_s), math.log(hazard), cancels) for age_s, hazard, cancels in hazards_by_age(sums)])


def place_blocks(cancels: Iterable[Cancel], duration_s: float, block_s: int) -> Blocks:
    """Return (observed, expected) cancels in the front, middle and back third of their queue, per block.

    Expected is what a choice by lot among the orders of that price would give. What is cancelled at one price in
    one instant counts as one choice of several orders, so that whole levels that are withdrawn say nothing.
    """
    blocks = empty_blocks(duration_s, block_s, 2 * THIRDS)
    for at_s, places, size in choices(cancels):
        sums = blocks[min(len(blocks) - 1, int(at_s // block_s))]
        for place in places:
            sums[2 * third(place, size)] += 1
        for place in range(size):
            sums[2 * third(place, size) + 1] += len(places) / size
    return blocks


def choices(cancels: Iterable[Cancel]) -> Iterator[tuple[float, list[int], int]]:
    """Yield (seconds, places from the front as they were before, length of the queue) of queues of two or more."""
    for (at_s, _), group in groupby(cancels, key=lambda cancel: cancel[:2]):
        left: list[int] | None = None
        places: list[int] = []
        size = 0
        for _, _, ahead, behind in group:
            if left is None:
                size = ahead + behind + 1
                left = list(range(size))
            if ahead < len(left):
                places.append(left.pop(ahead))
        if size > 1:
            yield at_s, places, size


def third(place: int, size: int) -> int:
    """Return 0, 1 or 2 for the front, middle or back third of a queue."""
    return min(THIRDS - 1, int((place + 0.5) / size * THIRDS))


def back_to_front(sums: Sequence[float]) -> float:
    """Return the hazard in the back third over that in the front third: 1 when the place does not matter."""
    front, _, back = ((sums[2 * part] / sums[2 * part + 1]) for part in range(THIRDS))
    return back / front
