"""Compare what tapes show with the limits that a flow must keep.

In: the tapes of one run. Out: one `Check` per statistic, which the command prints and the report shows. The limits
are what is usual in liquid markets; our recording is too short to tell them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final

from attrs import frozen

from krakenbot.adapters.local_exchange.flow_check import arrivals, impact, queues, series
from krakenbot.adapters.local_exchange.flow_check.estimates import (
    Blocks,
    Estimate,
    Statistic,
    block_length_s,
    estimate,
)
from krakenbot.adapters.local_exchange.flow_check.tape import CANCELLED, SymbolTape

INFINITE: Final = math.inf


class Basis(StrEnum):
    """What a limit rests on: a rule of docs/flow_check.md, the recording's bootstrap interval, a printed prior."""

    CHECKED = "checked"
    RECORDING = "within recording's interval"
    PRIOR = "prior"


@frozen(kw_only=True)
class Limit:
    """Where a value must lie, ends included, and beyond what its interval or its t must lie, if anything.

    `least_count` is how many events must stand behind it.
    """

    low: float = -INFINITE
    high: float = INFINITE
    interval_above: float | None = None
    interval_below: float | None = None
    t_above: float | None = None
    t_below: float | None = None
    least_count: int = 1

    def holds(self, found: Estimate) -> bool:
        """Tell whether an estimate keeps the limit; what is not a number never does."""
        return (
            found.count >= self.least_count
            and self.low <= found.value <= self.high
            and (self.interval_above is None or found.low > self.interval_above)
            and (self.interval_below is None or found.high < self.interval_below)
            and (self.t_above is None or found.t > self.t_above)
            and (self.t_below is None or found.t < self.t_below)
        )

    def text(self) -> str:
        """Return the limit for a person."""
        parts = []
        if self.t_above is not None:
            parts.append(f"t > {self.t_above:g}")
        if self.t_below is not None:
            parts.append(f"t < {self.t_below:g}")
        if self.interval_above is not None:
            parts.append(f"interval > {self.interval_above:g}")
        if self.interval_below is not None:
            parts.append(f"interval < {self.interval_below:g}")
        if math.isfinite(self.low) and math.isfinite(self.high):
            parts.append(f"{self.low:g} to {self.high:g}")
        elif math.isfinite(self.low):
            parts.append(f">= {self.low:g}")
        elif math.isfinite(self.high):
            parts.append(f"<= {self.high:g}")
        return ", ".join(parts)


@frozen(kw_only=True)
class Check:
    """One statistic with its limit; `basis` says what the limit rests on."""

    name: str
    found: Estimate
    limit: Limit
    basis: Basis

    @property
    def is_ok(self) -> bool:
        """Tell whether the limit holds."""
        return self.limit.holds(self.found)


LIMITS: Final = {
    "fano_factor_60_s": Limit(low=3.0),
    "sign_autocorrelation": Limit(low=0.2, high=0.5),
    "size_hill_exponent": Limit(low=1.5, high=2.5),
    "spread_half_life_s": Limit(low=1.0, high=10.0),
    "cancels_per_add": Limit(low=0.9),
    "hazard_slope_by_age": Limit(interval_below=0.0),
    "hazard_back_to_front": Limit(interval_above=1.0),
    "response_1_s_bps": Limit(interval_above=0.0),
    "response_30_s_bps": Limit(interval_above=0.0),
    "response_size_exponent": Limit(low=0.3, high=0.6),
    "kurtosis_10_s": Limit(low=6.0),
    "absolute_return_memory": Limit(interval_above=0.0),
    "variance_ratio_1_to_60_s": Limit(low=1.0, high=2.0),
}


def check_tapes(tapes: Sequence[SymbolTape]) -> list[Check]:
    """Return every check of the flow's shape, in the order of `LIMITS`."""
    found = {**_of_arrivals(tapes), **_of_orders(tapes), **_of_responses(tapes), **_of_prices(tapes)}
    return [Check(name=name, found=found[name], limit=limit, basis=Basis.CHECKED) for name, limit in LIMITS.items()]


def _of_arrivals(tapes: Sequence[SymbolTape]) -> dict[str, Estimate]:
    block_s = _block_s(tapes)
    orders = sum(len(tape.takers.at_s) for tape in tapes)
    counts = [arrivals.count_blocks(tape.takers.at_s, tape.duration_s, block_s) for tape in tapes]
    signs = [arrivals.sign_blocks(t.takers.at_s, t.takers.sign, t.duration_s, block_s) for t in tapes]
    return {
        "fano_factor_60_s": estimate(counts, arrivals.fano_factor, count=orders),
        "sign_autocorrelation": estimate(signs, arrivals.sign_autocorrelation, count=orders),
        "size_hill_exponent": arrivals.mean_hill_exponent([tape.takers.size_lots for tape in tapes]),
    }


def _of_orders(tapes: Sequence[SymbolTape]) -> dict[str, Estimate]:
    block_s = _block_s(tapes)
    shares, ages, places = [], [], []
    for tape in tapes:
        ends = tape.ends
        shares.append(
            queues.share_blocks(tape.adds.at_s, zip(ends.at_s, ends.kind, strict=True), tape.duration_s, block_s)
        )
        ages.append(queues.age_blocks(zip(ends.at_s, ends.age_s, ends.kind, strict=True), tape.duration_s, block_s))
        rows = zip(ends.at_s, ends.key, ends.ahead, ends.behind, ends.kind, strict=True)
        cancels = [row[:4] for row in rows if row[4] == CANCELLED]
        places.append(queues.place_blocks(cancels, tape.duration_s, block_s))
    cancel_count = sum(tape.ends.kind.count(CANCELLED) for tape in tapes)
    return {
        "cancels_per_add": estimate(shares, queues.cancel_share, count=cancel_count),
        "hazard_slope_by_age": estimate(ages, queues.age_slope, count=cancel_count, pooled=True),
        "hazard_back_to_front": estimate(places, queues.back_to_front, count=cancel_count),
    }


def _of_responses(tapes: Sequence[SymbolTape]) -> dict[str, Estimate]:
    found: dict[str, Estimate] = {}
    for lag_s in (1.0, 30.0):
        parts = [_responses(tape, lag_s, _block_s(tapes)) for tape in tapes]
        orders = sum(len(tape.takers.at_s) for tape in tapes)
        found[f"response_{lag_s:.0f}_s_bps"] = estimate(parts, impact.mean_response_bps, count=orders)
        if lag_s == 1.0:
            found["response_size_exponent"] = estimate(parts, impact.size_exponent, count=orders, pooled=True)
    return found


def _responses(tape: SymbolTape, lag_s: float, block_s: int) -> Blocks:
    takers = tape.takers
    quotes = zip(takers.bid_ticks, takers.ask_ticks, strict=True)
    return impact.response_blocks(
        takers.at_s,
        takers.sign,
        takers.size_lots,
        [(bid + ask) / 2 if bid and ask else 0.0 for bid, ask in quotes],
        mid_at=tape.mid_at,
        lag_s=lag_s,
        duration_s=tape.duration_s,
        block_s=block_s,
    )


def _of_prices(tapes: Sequence[SymbolTape]) -> dict[str, Estimate]:
    block_s = _block_s(tapes)
    mids = [tape.mids_at(1.0) for tape in tapes]
    ten = [series.returns_bps(prices, 10, overlapping=True) for prices in mids]
    absolute = [[abs(value) for value in series.returns_bps(prices, 10, overlapping=False)] for prices in mids]

    def of(parts: list[Blocks], statistic: Statistic) -> Estimate:
        return estimate(parts, statistic, count=sum(map(len, mids)))

    def memory(step_s: float, lags: Sequence[int], values: list[list[float]]) -> list[Blocks]:
        return [series.autocovariance_blocks(item, step_s, lags, block_s) for item in values]

    spreads: Callable[[SymbolTape], list[float]] = lambda tape: tape.spreads_at(series.SPREAD_STEP_S)  # noqa: E731
    return {
        "spread_half_life_s": of(
            memory(series.SPREAD_STEP_S, series.SPREAD_LAGS, [spreads(tape) for tape in tapes]),
            series.spread_half_life_s,
        ),
        "kurtosis_10_s": of([series.power_blocks(item, 1.0, block_s) for item in ten], series.kurtosis),
        "absolute_return_memory": of(memory(10.0, series.MEMORY_LAGS, absolute), series.mean_memory),
        "variance_ratio_1_to_60_s": of([series.variance_blocks(item, block_s) for item in mids], series.variance_ratio),
    }


def _block_s(tapes: Sequence[SymbolTape]) -> int:
    return block_length_s(tapes[0].duration_s)
