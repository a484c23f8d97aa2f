"""Value the fills of makers, with t-statistics that know that fills come in clusters.

In: fills and tapes. Out: an `Estimate` in bps with its t. Blocks of two minutes of all symbols are the units, since
fills of one block share price moves.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from krakenbot.adapters.local_exchange.flow_check.estimates import Z95, Estimate
from krakenbot.adapters.local_exchange.flow_check.judging import MakerFill
from krakenbot.adapters.local_exchange.flow_check.tape import SymbolTape

BLOCK_S = 120
MARKOUT_S = 30.0


def markout(fills: Sequence[MakerFill], tapes: Mapping[str, SymbolTape], *, fee_bps: float) -> Estimate:
    """Return what a fill is worth against the mid 30 s later, less one fee, in bps of its price.

    Fills in the last 30 s are left out.
    """
    blocks: dict[int, tuple[float, float]] = {}
    count = 0
    for fill in fills:
        tape = tapes[fill.symbol]
        later_s = fill.at_s + MARKOUT_S
        if later_s <= tape.duration_s:
            gain_bps = fill.sign * (tape.mid_at(later_s) / fill.price_ticks - 1) * 10_000 - fee_bps
            total, number = blocks.get(int(fill.at_s // BLOCK_S), (0.0, 0.0))
            blocks[int(fill.at_s // BLOCK_S)] = (total + gain_bps, number + 1)
            count += 1
    return ratio(blocks.values(), count=count)


def profit(fills: Sequence[MakerFill], tapes: Mapping[str, SymbolTape], *, fee_bps: float) -> Estimate:
    """Return cash and inventory at the mid, less fees, in bps of the value traded.

    Profit is taken at the end of every block, so that what is still held counts as well.
    """
    blocks: dict[int, tuple[float, float]] = {}
    for symbol, tape in tapes.items():
        own = [fill for fill in fills if fill.symbol == symbol]
        for block, (gain, traded) in enumerate(_profit_blocks(own, tape, fee_bps)):
            before = blocks.get(block, (0.0, 0.0))
            blocks[block] = (before[0] + gain * 10_000, before[1] + traded)
    return ratio(blocks.values(), count=len(fills))


def ratio(blocks: Iterable[tuple[float, float]], *, count: int) -> Estimate:
    """Return sum of gains over sum of weights, with interval and t from how the blocks differ; zero without fills."""
    pairs = list(blocks)
    weight = math.fsum(number for _, number in pairs)
    if not weight:
        return Estimate(value=0.0, low=0.0, high=0.0, count=count, t=0.0)
    mean = math.fsum(total for total, _ in pairs) / weight
    error = math.sqrt(math.fsum((total - mean * number) ** 2 for total, number in pairs)) / weight
    return Estimate(
        value=mean,
        low=mean - Z95 * error,
        high=mean + Z95 * error,
        count=count,
        t=mean / error if error else math.nan,
    )


def _profit_blocks(fills: Sequence[MakerFill], tape: SymbolTape, fee_bps: float) -> list[tuple[float, float]]:
    """Return (profit, value traded) in US dollars per block of one symbol."""
    found: list[tuple[float, float]] = []
    inventory_lots, index = 0, 0
    mid = tape.mid_at(0.0)
    for block in range(math.ceil(tape.duration_s / BLOCK_S)):
        end_s = min((block + 1) * BLOCK_S, tape.duration_s)
        gain, traded = -inventory_lots * mid, 0.0
        while index < len(fills) and fills[index].at_s <= end_s:
            fill = fills[index]
            value = fill.size_lots * fill.price_ticks
            gain -= fill.sign * value + fee_bps / 10_000 * value
            traded += value
            inventory_lots += fill.sign * fill.size_lots
            index += 1
        mid = tape.mid_at(end_s)
        gain += inventory_lots * mid
        found.append((gain * tape.usd_per_lot_tick, traded * tape.usd_per_lot_tick))
    return found
