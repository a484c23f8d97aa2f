"""Compare the flow that goes on from the recording with what the recording can tell, and with priors for the rest.

In: the tapes of a recorded flow, begun after the seam, and the committed fit. Out: one `Check` per symbol and
number. Each number is measured on the tape as `scripts/fit_flow.py` measures it on the recording: within ten levels
of the book, and lives within windows of ten seconds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from krakenbot.adapters.local_exchange.flow_check import arrivals
from krakenbot.adapters.local_exchange.flow_check.checks import Basis, Check, Limit
from krakenbot.adapters.local_exchange.flow_check.estimates import (
    Blocks,
    Estimate,
    block_length_s,
    empty_blocks,
    estimate,
)
from krakenbot.adapters.local_exchange.flow_check.tape import CANCELLED, SAMPLED_LEVELS, STILL_OPEN, SymbolTape

WINDOW_S = 10.0
PRIOR_FACTOR = 1.5
"""A number that the recording cannot tell may differ from its prior by this factor."""
SAMPLE_S = 1.0


def check_recorded(tapes: Mapping[str, SymbolTape], fit: Mapping[str, Any], ticks: Mapping[str, int]) -> list[Check]:
    """Return the checks of every fitted symbol; `ticks` are the price increments."""
    checks = []
    for symbol, numbers in fit["symbols"].items():
        tape = tapes[symbol]
        found = measure(tape)
        for name, number in numbers.items():
            if name in found:
                checks.append(_compare(f"{symbol} {name}", found[name], number, _resolution(name, tape, ticks[symbol])))
    return checks


def measure(tape: SymbolTape) -> dict[str, Estimate]:
    """Return every number of the fit as this tape shows it."""
    adds, ends, depth, scale = tape.adds, tape.ends, tape.depth, tape.usd_per_lot_tick
    near = [index for index, level in enumerate(adds.level) if level < SAMPLED_LEVELS]
    gone = [
        at_s
        for at_s, kind, level in zip(ends.at_s, ends.kind, ends.level, strict=True)
        if kind == CANCELLED and level < SAMPLED_LEVELS
    ]
    sizes = [(adds.at_s[index], adds.price_ticks[index] * adds.size_lots[index] * scale) for index in near]
    mids = tape.mids_at(SAMPLE_S)
    touch = [(at_s, lots * mids[int(at_s)] * scale) for at_s, lots in zip(depth.at_s, depth.touch_lots, strict=True)]
    behind = [(at_s, lots * mids[int(at_s)] * scale) for at_s, lots in zip(depth.at_s, depth.behind_lots, strict=True)]
    counts = arrivals.count_blocks(tape.takers.at_s, tape.duration_s, block_length_s(tape.duration_s))
    half_spreads = [spread / 2 for spread in tape.spreads_at(SAMPLE_S)]
    return {
        "maker_adds_per_s": _rate([adds.at_s[index] for index in near], tape.duration_s),
        "cancels_per_s": _rate(gone, tape.duration_s),
        "lifetime_s": _of_pairs(lives(tape), tape.duration_s),
        "maker_size_usd": _mean(sizes, tape.duration_s),
        "half_spread_bps": _alone(statistics.median(half_spreads), len(half_spreads)),
        "level_spacing_bps": _mean(zip(depth.at_s, depth.gap_bps, strict=True), tape.duration_s),
        "touch_depth_usd": _mean(touch, tape.duration_s),
        "level_depth_usd": _mean(behind, tape.duration_s),
        "takers_per_s": _rate(tape.takers.at_s, tape.duration_s),
        "taker_size_alpha": arrivals.mean_hill_exponent([tape.takers.size_lots]),
        "maker_size_alpha": arrivals.mean_hill_exponent([[size for _, size in sizes]]),
        "branching": estimate([counts], branching, count=len(tape.takers.at_s)),
    }


def branching(sums: Sequence[float]) -> float:
    """Return the share of market orders that are children of others, by the Fano factor of a Hawkes process."""
    return 1 - 1 / math.sqrt(arrivals.fano_factor(sums))


def lives(tape: SymbolTape) -> list[tuple[float, float, float]]:
    """Return (begin of the window, seconds at risk, deaths) of the orders born on the tape.

    As in the recording, an order is watched until it ends or its window of ten seconds does, and a fill is an end
    like any other; only orders within ten levels at their end count.
    """
    ends = tape.ends
    found = []
    for at_s, age_s, kind, level in zip(ends.at_s, ends.age_s, ends.kind, ends.level, strict=True):
        born_s = at_s - age_s
        if born_s < 0 or level >= SAMPLED_LEVELS:
            continue
        end_s = (born_s // WINDOW_S + 1) * WINDOW_S
        died = kind != STILL_OPEN and at_s < end_s
        found.append((born_s, min(at_s, end_s) - born_s, float(died)))
    return found


def _compare(name: str, found: Estimate, number: Mapping[str, Any], resolution: float) -> Check:
    if number["identified"] and number["low"] is not None:
        limit = Limit(low=number["low"] - resolution, high=number["high"] + resolution)
        return Check(name=name, found=found, limit=limit, basis=Basis.RECORDING)
    value = number["value"]
    limit = Limit(low=value / PRIOR_FACTOR, high=value * PRIOR_FACTOR)
    return Check(name=name, found=found, limit=limit, basis=Basis.PRIOR)


def _resolution(name: str, tape: SymbolTape, increment_ticks: int) -> float:
    """Return half an increment in bps for the half-spread, which moves in such steps, else zero."""
    if name != "half_spread_bps":
        return 0.0
    return increment_ticks / 2 / tape.mid_at(tape.duration_s) * 10_000


def _rate(at_s: Iterable[float], duration_s: float) -> Estimate:
    """Return events per second."""
    block_s = block_length_s(duration_s)
    blocks = empty_blocks(duration_s, block_s, 2)
    times = list(at_s)
    for time_s in times:
        blocks[min(len(blocks) - 1, int(time_s // block_s))][0] += 1
    for index, sums in enumerate(blocks):
        sums[1] = min(block_s, duration_s - index * block_s)
    return estimate([blocks], lambda sums: sums[0] / sums[1], count=len(times))


def _mean(samples: Iterable[tuple[float, float]], duration_s: float) -> Estimate:
    return _of_pairs([(at_s, value, 1.0) for at_s, value in samples], duration_s)


def _of_pairs(samples: Sequence[tuple[float, float, float]], duration_s: float) -> Estimate:
    """Return the sum of the second figures over that of the third."""
    block_s = block_length_s(duration_s)
    blocks: Blocks = empty_blocks(duration_s, block_s, 2)
    for at_s, total, weight in samples:
        sums = blocks[min(len(blocks) - 1, int(at_s // block_s))]
        sums[0] += total
        sums[1] += weight
    return estimate([blocks], lambda sums: sums[0] / sums[1], count=len(samples))


def _alone(value: float, count: int) -> Estimate:
    return Estimate(value=value, low=math.nan, high=math.nan, count=count)
