"""Fit flow parameters to the recorded session and write `fitted.json`.

Each number comes with the count of events behind it and a 95 % interval from a moving-block bootstrap over half
seconds. With fewer than 100 events it is marked as not identified and takes a printed prior.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random

from krakenbot.adapters.local_exchange.flow.instruments import load_instruments
from krakenbot.adapters.local_exchange.flow.market import InstrumentRules
from krakenbot.adapters.local_exchange.flow.recording import SymbolRecording, find_recordings, load_recording

TARGET = Path(__file__).parents[1] / "src/krakenbot/adapters/local_exchange/flow/fitted.json"
BLOCK_NS = 500_000_000
BLOCKS_PER_DRAW = 3
DRAWS = 400
ENOUGH = 100
PRIORS = {
    # Trades: rates of the order of one per second in liquid pairs; tail exponents near 1.5 to 2.5 of order sizes
    # and self-excitation near criticality are the usual findings (Gopikrishnan et al. 2000; Bacry et al. 2015).
    "takers_per_s": 1.0,
    "taker_size_alpha": 1.9,
    "branching": 0.6,
    "maker_size_alpha": 2.0,
}
Sample = tuple[int, float]
Estimator = Callable[[list[float], float], float]


def main() -> None:
    """Fit every recorded symbol and write the file."""
    rules = load_instruments()
    folder = find_recordings(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    recordings = load_recording(folder, rules)
    fit = {
        "source": "one live session of about 10 s, 2024-11-12, four symbols",
        "interval": f"95 %, moving-block bootstrap, {BLOCK_NS / 1e9} s blocks, {DRAWS} draws",
        "enough_events": ENOUGH,
        "symbols": {symbol: fit_symbol(item, rules[symbol]) for symbol, item in recordings.items()},
    }
    TARGET.write_text(json.dumps(fit, indent=1) + "\n", encoding="utf-8")
    for symbol, numbers in fit["symbols"].items():  # type: ignore[attr-defined]
        print(symbol, {name: (item["value"], item["n"], item["identified"]) for name, item in numbers.items()})


def fit_symbol(recording: SymbolRecording, rule: InstrumentRules) -> dict[str, dict[str, object]]:
    """Return every fitted number of one symbol."""
    unit = float(Decimal(10) ** -(rule.price_precision + rule.qty_precision))
    new = first_adds(recording)
    adds = [(event.at_ns, event.price_ticks * event.size_lots * unit) for event in new]
    deletes = [(event.at_ns, 1.0) for event in recording.events if event.action == "delete"]
    lives = lifetimes(recording)
    inside = [state for state in recording.states if state.at_ns >= 0]
    spreads = [(s.at_ns, half_spread_bps(s.bids[0][0], s.asks[0][0])) for s in inside]
    gaps = [(s.at_ns, gap) for s in inside for side in (s.bids, s.asks) for gap in level_gaps_bps(side)]
    touch = [(s.at_ns, side[0][0] * side[0][1] * unit) for s in inside for side in (s.bids, s.asks)]
    behind = [(s.at_ns, p * q * unit) for s in inside for side in (s.bids, s.asks) for p, q in side[1:]]
    return {
        "maker_adds_per_s": estimate(adds, rate),
        "cancels_per_s": estimate(deletes, rate),
        "lifetime_s": estimate(lives, censored_mean),
        "maker_size_usd": estimate(adds, mean),
        "half_spread_bps": estimate(spreads, median),
        "level_spacing_bps": estimate(gaps, mean),
        "touch_depth_usd": estimate(touch, mean),
        "level_depth_usd": estimate(behind, mean),
        "maker_size_alpha": estimate_tail(adds),
        "takers_per_s": not_identified("takers_per_s", recording.trade_count),
        "taker_size_alpha": not_identified("taker_size_alpha", recording.trade_count),
        "branching": not_identified("branching", recording.trade_count),
    }


def first_adds(recording: SymbolRecording) -> list:  # type: ignore[type-arg]
    """Return adds of orders that are new: no re-adds of a window, no orders from before the session."""
    seen: set[str] = set()
    new = []
    for event in recording.events:
        if event.action == "add" and event.order_id not in seen and not event.is_old:
            new.append(event)
        seen.add(event.order_id)
    return new


def lifetimes(recording: SymbolRecording) -> list[Sample]:
    """Return (start, seconds) of new orders: positive if deleted, negative if they outlived the window.

    Orders that end outside the ten recorded levels are left out: their end would not have been seen.
    """
    final = recording.states[-1]
    low, high = final.bids[-1][0], final.asks[-1][0]
    born = {event.order_id: event for event in first_adds(recording)}
    end_ns = recording.events[-1].at_ns
    died = {e.order_id: e.at_ns for e in recording.events if e.action == "delete" and e.order_id in born}
    lives: list[Sample] = []
    for order_id, event in born.items():
        if order_id in died:
            lives.append((event.at_ns, (died[order_id] - event.at_ns) / 1e9))
        elif low <= event.price_ticks <= high:
            lives.append((event.at_ns, -(end_ns - event.at_ns) / 1e9))
    return lives


def half_spread_bps(bid: int, ask: int) -> float:
    """Return half the touch spread in bps of the mid."""
    return (ask - bid) / (ask + bid) * 10_000


def level_gaps_bps(levels: list[tuple[int, int]]) -> list[float]:
    """Return the distances between neighbouring levels in bps."""
    prices = [price for price, _ in levels]
    return [abs(b - a) / a * 10_000 for a, b in pairwise(prices)]


def rate(values: list[float], seconds: float) -> float:
    """Return events per second."""
    return len(values) / seconds


def mean(values: list[float], seconds: float) -> float:  # noqa: ARG001  # one signature for all estimators
    """Return the arithmetic mean."""
    return statistics.fmean(values)


def median(values: list[float], seconds: float) -> float:  # noqa: ARG001  # as above
    """Return the median."""
    return statistics.median(values)


def censored_mean(values: list[float], seconds: float) -> float:  # noqa: ARG001  # as above
    """Return time at risk over deaths; negative values are lives that were still going on."""
    deaths = sum(value >= 0 for value in values)
    return sum(map(abs, values)) / max(1, deaths)


def estimate(samples: list[Sample], estimator: Estimator) -> dict[str, object]:
    """Return the value with its count and bootstrap interval."""
    blocks: dict[int, list[float]] = {}
    for at_ns, value in samples:
        blocks.setdefault(at_ns // BLOCK_NS, []).append(value)
    count = max(blocks) + 1
    seconds = count * BLOCK_NS / 1e9
    value = estimator([value for _, value in samples], seconds)
    rng = Random(1)  # noqa: S311  # a bootstrap
    draws = []
    for _ in range(DRAWS):
        drawn: list[float] = []
        for _ in range(math.ceil(count / BLOCKS_PER_DRAW)):
            start = rng.randrange(count)
            for block in range(start, start + BLOCKS_PER_DRAW):
                drawn += blocks.get(block % count, [])
        length = math.ceil(count / BLOCKS_PER_DRAW) * BLOCKS_PER_DRAW * BLOCK_NS / 1e9
        if drawn:
            draws.append(estimator(drawn, length))
    draws.sort()
    low, high = draws[int(0.025 * len(draws))], draws[int(0.975 * len(draws))]
    identified = len(samples) >= ENOUGH
    return {
        "value": round(value, 4), "n": len(samples), "low": round(low, 4), "high": round(high, 4),
        "identified": identified,
    }  # fmt: skip


def estimate_tail(samples: list[Sample]) -> dict[str, object]:
    """Return the Hill exponent of the largest tenth, or the prior if that tenth is too small."""
    ordered = sorted((value for _, value in samples), reverse=True)
    count = len(ordered) // 10
    if count < ENOUGH:
        return not_identified("maker_size_alpha", count)
    alpha = count / sum(math.log(value / ordered[count]) for value in ordered[:count])
    return {"value": round(alpha, 4), "n": count, "low": None, "high": None, "identified": True}


def not_identified(name: str, count: int) -> dict[str, object]:
    """Return the prior, marked as such."""
    return {
        "value": PRIORS[name], "n": count, "low": None, "high": None, "identified": False,
        "note": "not identified: prior",
    }  # fmt: skip


if __name__ == "__main__":
    main()
