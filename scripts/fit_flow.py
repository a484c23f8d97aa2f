"""Fit flow parameters to the recorded session by simulated moments and write `fitted.json`.

First, what the recording shows: each number with the count of events behind it and a 95 % interval from a moving-block
bootstrap over half seconds. With fewer than 100 events it is marked as not identified and takes a printed prior.
Then the parameters: the flow that goes on from the recording is simulated, measured as `check-flow` measures it, and
each parameter is scaled by what its number lacks, round after round. The best round of each symbol is kept.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from attrs import asdict

from krakenbot.adapters.local_exchange.flow.instruments import load_instruments
from krakenbot.adapters.local_exchange.flow.market import Flow, InstrumentRules, Market
from krakenbot.adapters.local_exchange.flow.parameters import SymbolParameters
from krakenbot.adapters.local_exchange.flow.recorded import RecordedFlow
from krakenbot.adapters.local_exchange.flow.recording import (
    RECORDED_SYMBOLS,
    BookState,
    SymbolRecording,
    find_recordings,
    load_recording,
)
from krakenbot.adapters.local_exchange.flow_check.cases import RECORDED_PROFILE
from krakenbot.adapters.local_exchange.flow_check.checks import Check
from krakenbot.adapters.local_exchange.flow_check.recorded import check_recorded
from krakenbot.adapters.local_exchange.flow_check.run import record_tapes

TARGET = Path(__file__).parents[1] / "src/krakenbot/adapters/local_exchange/flow/fitted.json"
BLOCK_NS = 500_000_000
BLOCKS_PER_DRAW = 3
DRAWS = 400
ENOUGH = 100
GRID_NS = 10_000_000
"""Books are read on a grid of time: the mean over changes would count busy moments more."""
PRIORS = {
    # Trades: rates of the order of one per second in liquid pairs; tail exponents near 1.5 to 2.5 of order sizes
    # and self-excitation near criticality are the usual findings (Gopikrishnan et al. 2000; Bacry et al. 2015).
    "takers_per_s": 1.0,
    "taker_size_alpha": 1.9,
    "branching": 0.6,
    "maker_size_alpha": 2.0,
}
SIGMA_PRIOR = 5.0
"""Bps per square root of a minute, 36 % a year: ten seconds hold ten moves of a second, too few to tell."""
QUIET_LOG_VOL = 0.3
"""Ten seconds are one regime: what they show is held against a flow whose volatility changes little."""
FLEETING_SHARE, FLEETING_LIFE_RATIO = 0.6, 0.08
"""More than half of all orders go within a fraction of a second (Hasbrouck, Saar 2009); how many here is not known."""
ROUNDS = 10
ROUND_S = 360
SEED = 101
LARGEST_STEP = 2.5
LARGEST = {"branching": 0.8, "even_level_share": 1.0}
REACHED_BY = {
    "maker_adds_per_s": ("maker_adds_per_s", 0.4),
    "cancels_per_s": ("maker_adds_per_s", 0.4),
    "lifetime_s": ("lifetime_s", 0.8),
    "maker_size_usd": ("maker_size_usd", 0.8),
    "half_spread_bps": ("half_spread_bps", 0.8),
    "level_spacing_bps": ("level_spacing_bps", 1.0),
    "touch_depth_usd": ("touch_depth_usd", 0.8),
    "level_depth_usd": ("fleeting_size_ratio", -2.0),
    "takers_per_s": ("takers_per_s", 0.8),
    "branching": ("branching", 0.3),
}
"""Which parameter moves a measured number, and by which power of what the number lacks."""
Sample = tuple[int, float]
Estimator = Callable[[list[float], float], float]
Numbers = dict[str, dict[str, Any]]


def main() -> None:
    """Measure every recorded symbol, find its parameters and write the file."""
    rules = load_instruments()
    folder = find_recordings(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    recordings = load_recording(folder, rules)
    fit: dict[str, Any] = {
        "source": "one live session of about 10 s, 2024-11-12, four symbols",
        "interval": f"95 %, moving-block bootstrap, {BLOCK_NS / 1e9} s blocks, {DRAWS} draws",
        "enough_events": ENOUGH,
        "symbols": {symbol: measure_symbol(item, rules[symbol]) for symbol, item in recordings.items()},
    }
    fit["parameters"] = {
        symbol: first_guess(numbers, tick_bps(recordings[symbol], rules[symbol]))
        for symbol, numbers in fit["symbols"].items()
    }
    search(fit, folder, {symbol: rules[symbol].price_increment_ticks for symbol in recordings})
    TARGET.write_text(json.dumps(fit, indent=1) + "\n", encoding="utf-8")


# -- parameters by simulated moments -------------------------------------------------------------------


def first_guess(numbers: Numbers, tick_bps: float) -> Numbers:
    """Return all parameters to begin with: the measured numbers, and what goes with the spread of the symbol.

    A step, a tolerance and an appetite are a part of the half-spread, and so is what a trade does to prices; where the
    spread is one tick, they are less than a tick and quotes follow at once.
    """
    half_spread, spacing = numbers["half_spread_bps"]["value"], numbers["level_spacing_bps"]["value"]
    resting_usd = numbers["maker_adds_per_s"]["value"] * numbers["lifetime_s"]["value"]
    resting_usd *= numbers["maker_size_usd"]["value"]
    defaults = SymbolParameters(half_spread_bps=half_spread)
    priors = {
        "touch_step_bps": half_spread / 8,
        "touch_tolerance_bps": half_spread / 8,
        "touch_tolerance_steps": 0.0,
        "touch_share": numbers["touch_depth_usd"]["value"] / resting_usd,
        "appetite_bps": half_spread / 4,
        "impact_bps": half_spread / 4,
        "level_step_bps": tick_bps if tick_bps > spacing / 3 else None,
        "even_level_share": 0.0 if tick_bps <= spacing / 3 else 0.5,
        "level_count": 13,
        "sigma_bps_sqrt_min": SIGMA_PRIOR,
        "jump_bps": SIGMA_PRIOR,
        "vol_of_vol": QUIET_LOG_VOL,
        "jump_log_vol": QUIET_LOG_VOL,
        "improvement": [1.0, 1.0],
        "requote_s": 0.05,
        "reaction_s": 0.03,
        "refill_s": 0.2,
        "fleeting_share": FLEETING_SHARE,
        "fleeting_life_ratio": FLEETING_LIFE_RATIO,
        "fleeting_size_ratio": significant(size_ratio(numbers, resting_usd)),
    }
    found = {name: {"value": value, "origin": "chosen"} for name, value in asdict(defaults).items()}
    for name in ("maker_adds_per_s", "lifetime_s", "maker_size_usd", "half_spread_bps", "level_spacing_bps",
                 "touch_depth_usd", "level_depth_usd", *PRIORS):  # fmt: skip
        origin = "fitted" if numbers[name]["identified"] else "prior"
        found[name] = {"value": numbers[name]["value"], "origin": origin}
    found["half_spread_bps"]["value"] = max(half_spread - tick_bps / 2, half_spread / 10)
    found |= {name: {"value": value, "origin": "prior"} for name, value in priors.items()}
    found["fleeting_size_ratio"]["origin"] = "fitted"
    if priors["level_step_bps"] is not None:
        found["even_level_share"]["origin"] = "fitted"
    return found


def size_ratio(numbers: Numbers, resting_usd: float) -> float:
    """Return the ratio of sizes, fleeting to resting, at which ten levels a side hold what was measured there.

    By Little's law they hold `resting_usd` if size and life have nothing to do with each other; less when the large
    orders are the ones that go soon.
    """
    held: float = (2 * numbers["touch_depth_usd"]["value"] + 18 * numbers["level_depth_usd"]["value"]) / resting_usd
    mean_life = FLEETING_SHARE * FLEETING_LIFE_RATIO + 1 - FLEETING_SHARE
    short, long = FLEETING_LIFE_RATIO / mean_life, 1 / mean_life
    resting: float = (held - short) / ((1 - FLEETING_SHARE) * (long - short))
    return (1 - (1 - FLEETING_SHARE) * resting) / FLEETING_SHARE / resting


def tick_bps(recording: SymbolRecording, rule: InstrumentRules) -> float:
    """Return the price increment in bps of the first recorded bid."""
    return rule.price_increment_ticks / recording.states[0].bids[0][0] * 10_000


def search(fit: dict[str, Any], folder: Path, ticks: Mapping[str, int]) -> None:
    """Simulate, compare and adjust round after round; leave each symbol's best parameters and distances in `fit`."""
    best: dict[str, tuple[float, Numbers, list[Check]]] = {}
    fit["search"] = {"rounds": ROUNDS, "simulated_s": ROUND_S, "seed": SEED, "distance": {s: [] for s in ticks}}
    for number in range(ROUNDS):
        checks, gain = simulate(fit, folder, ticks), 1 / math.sqrt(1 + number / 3)
        for symbol, own in checks.items():
            lacks = distance(own)
            fit["search"]["distance"][symbol].append(round(lacks, 3))
            if symbol not in best or lacks < best[symbol][0]:
                best[symbol] = (lacks, fit["parameters"][symbol], own)
            fit["parameters"][symbol] = adjusted(fit["parameters"][symbol], fit["symbols"][symbol], own, gain)
            print(f"round {number} {symbol}: {lacks:.2f}", outside(own), flush=True)
    for symbol, (_, parameters, own) in best.items():
        fit["parameters"][symbol] = parameters
        for check in own:
            fit["symbols"][symbol][check.name.split()[1]]["simulated"] = significant(check.found.value)


def outside(checks: list[Check]) -> dict[str, float]:
    """Return the numbers outside their limits, in half widths from the middle: negative ones are too small."""
    return {c.name.split()[1]: round(off_middle(c), 2) for c in checks if not c.is_ok}


def simulate(fit: Mapping[str, Any], folder: Path, ticks: Mapping[str, int]) -> dict[str, list[Check]]:
    """Return how the flow with these parameters compares with what was measured, by symbol."""

    def make_flow(markets: Mapping[str, Market]) -> Flow:
        return RecordedFlow(markets, recording_dir=folder, seed=SEED, profile=RECORDED_PROFILE, fit=fit)

    tapes = record_tapes(make_flow, symbol_count=len(RECORDED_SYMBOLS), seed=SEED, duration_s=ROUND_S)
    checks = check_recorded(tapes, fit, ticks)
    return {symbol: [check for check in checks if check.name.startswith(f"{symbol} ")] for symbol in tapes}


def distance(checks: list[Check]) -> float:
    """Return how far the worst number is from the middle of its limits, in half widths of them: 1 is the edge.

    The branching ratio is left out: the few minutes of a round tell it too badly to choose a round by it.
    """
    return max(abs(off_middle(check)) for check in checks if check.name.split()[1] in REACHED_BY.keys() - {"branching"})


def off_middle(check: Check) -> float:
    """Return the distance from the middle of the limits in half widths, negative when too small."""
    low, high = check.limit.low, check.limit.high
    assert low is not None  # noqa: S101  # limits of the recorded flow have both ends
    assert high is not None  # noqa: S101  # as above
    return (check.found.value - (low + high) / 2) / ((high - low) / 2)


def adjusted(parameters: Numbers, numbers: Numbers, checks: list[Check], gain: float) -> Numbers:
    """Return the parameters, each scaled by what its number lacks; those near the middle of their limits stay.

    `gain` falls from round to round: late rounds average over what one seed does by chance.
    """
    changed = dict(parameters)
    for check in checks:
        name = check.name.split()[1]
        if name not in REACHED_BY or abs(off_middle(check)) < 0.1:
            continue
        parameter, power = REACHED_BY[name]
        if name == "level_spacing_bps" and parameters["level_step_bps"]["value"] is not None:
            parameter, power = "even_level_share", 2.0
        lacks = numbers[name]["value"] / max(check.found.value, 1e-9)
        step = min(LARGEST_STEP, max(1 / LARGEST_STEP, lacks ** (power * gain)))
        value = significant(changed[parameter]["value"] * step)
        value = min(value, LARGEST.get(parameter, math.inf))
        changed[parameter] = {**changed[parameter], "value": value}
    return changed


def significant(value: float) -> float:
    """Return a number of five significant digits."""
    return float(f"{value:.5g}")


# -- what the recording shows --------------------------------------------------------------------------


def measure_symbol(recording: SymbolRecording, rule: InstrumentRules) -> Numbers:
    """Return every measured number of one symbol."""
    unit = float(Decimal(10) ** -(rule.price_precision + rule.qty_precision))
    new = first_adds(recording)
    adds = [(event.at_ns, event.price_ticks * event.size_lots * unit) for event in new]
    deletes = [(event.at_ns, 1.0) for event in recording.events if event.action == "delete"]
    lives = lifetimes(recording)
    states = sum(state.at_ns >= 0 for state in recording.states)
    grid = on_grid(recording)
    spreads = [(at, half_spread_bps(s.bids[0][0], s.asks[0][0])) for at, s in grid]
    gaps = [(at, gap) for at, s in grid for side in (s.bids, s.asks) for gap in level_gaps_bps(side)]
    touch = [(at, side[0][0] * side[0][1] * unit) for at, s in grid for side in (s.bids, s.asks)]
    behind = [(at, p * q * unit) for at, s in grid for side in (s.bids, s.asks) for p, q in side[1:]]
    return {
        "maker_adds_per_s": estimate(adds, rate),
        "cancels_per_s": estimate(deletes, rate),
        "lifetime_s": estimate(lives, censored_mean),
        "maker_size_usd": estimate(adds, mean),
        "half_spread_bps": estimate(spreads, median, count=states),
        "level_spacing_bps": estimate(gaps, mean, count=states),
        "touch_depth_usd": estimate(touch, mean, count=states),
        "level_depth_usd": estimate(behind, mean, count=states),
        "maker_size_alpha": estimate_tail(adds),
        "takers_per_s": not_identified("takers_per_s", recording.trade_count),
        "taker_size_alpha": not_identified("taker_size_alpha", recording.trade_count),
        "branching": not_identified("branching", recording.trade_count),
    }


def on_grid(recording: SymbolRecording) -> list[tuple[int, BookState]]:
    """Return the book as it stood every hundredth of a second, from the first state inside the window to the last."""
    states = [state for state in recording.states if state.at_ns >= 0]
    found, index = [], 0
    for at_ns in range(states[0].at_ns, states[-1].at_ns, GRID_NS):
        while states[index + 1].at_ns <= at_ns:
            index += 1
        found.append((at_ns, states[index]))
    return found


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


def estimate(samples: list[Sample], estimator: Estimator, *, count: int | None = None) -> dict[str, object]:
    """Return the value with its bootstrap interval and the count of events behind it: the samples, unless given."""
    events = len(samples) if count is None else count
    blocks: dict[int, list[float]] = {}
    for at_ns, value in samples:
        blocks.setdefault(at_ns // BLOCK_NS, []).append(value)
    length_blocks = max(blocks) + 1
    seconds = length_blocks * BLOCK_NS / 1e9
    value = estimator([value for _, value in samples], seconds)
    rng = Random(1)  # noqa: S311  # a bootstrap
    draws = []
    for _ in range(DRAWS):
        drawn: list[float] = []
        for _ in range(math.ceil(length_blocks / BLOCKS_PER_DRAW)):
            start = rng.randrange(length_blocks)
            for block in range(start, start + BLOCKS_PER_DRAW):
                drawn += blocks.get(block % length_blocks, [])
        length = math.ceil(length_blocks / BLOCKS_PER_DRAW) * BLOCKS_PER_DRAW * BLOCK_NS / 1e9
        if drawn:
            draws.append(estimator(drawn, length))
    draws.sort()
    low, high = draws[int(0.025 * len(draws))], draws[int(0.975 * len(draws))]
    identified = events >= ENOUGH
    return {
        "value": round(value, 4), "n": events, "low": round(low, 4), "high": round(high, 4),
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
