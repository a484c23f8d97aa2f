"""Run one flow and seed and return all its checks; the command runs several in processes of their own.

In: a `Case`. Out: a `CaseReport`, both fit to be handed between processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from krakenbot.adapters.local_exchange.flow.instruments import load_instruments
from krakenbot.adapters.local_exchange.flow.market import Flow, Market
from krakenbot.adapters.local_exchange.flow.parameters import Profile
from krakenbot.adapters.local_exchange.flow.recorded import RecordedFlow, load_fit
from krakenbot.adapters.local_exchange.flow.recording import RECORDED_SYMBOLS
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.flow_check.checks import Check, check_tapes
from krakenbot.adapters.local_exchange.flow_check.figures import Figures, measure_figures
from krakenbot.adapters.local_exchange.flow_check.recorded import check_recorded
from krakenbot.adapters.local_exchange.flow_check.run import record_tapes
from krakenbot.adapters.local_exchange.flow_check.verdicts import check_makers

RECORDED_LONGEST_S: Final = 1800
RECORDED_PROFILE: Final[Profile] = "edge"
"""What neither recording nor prior says about a recorded flow comes from this profile."""


@frozen(kw_only=True)
class Case:
    """One run over `duration_s` of simulated time: a seeded profile, or the recorded flow if there is a folder."""

    profile: Profile
    seed: int
    symbol_count: int
    duration_s: int
    recording_dir: Path | None = None

    @property
    def name(self) -> str:
        """Return what is run, for a person."""
        return f"{self.profile if self.recording_dir is None else 'recorded'}, seed {self.seed}"


@frozen(kw_only=True)
class CaseReport:
    """What one case showed: its checks, and how large the markets were."""

    case: Case
    checks: tuple[Check, ...]
    figures: Mapping[str, Figures]

    @property
    def is_ok(self) -> bool:
        """Tell whether every check holds."""
        return all(check.is_ok for check in self.checks)


def recorded_case(recording_dir: Path, *, seed: int, duration_s: int) -> Case:
    """Return the case of the recorded flow: its own symbols, half an hour at most, which its numbers need no more."""
    return Case(
        profile=RECORDED_PROFILE,
        seed=seed,
        symbol_count=len(RECORDED_SYMBOLS),
        duration_s=min(duration_s, RECORDED_LONGEST_S),
        recording_dir=recording_dir,
    )


def run_case(case: Case) -> CaseReport:
    """Write the tapes of a case, send the makers in, and return the checks."""

    def make_flow(markets: Mapping[str, Market]) -> Flow:
        if case.recording_dir is None:
            return SeededFlow(markets, profile=case.profile, seed=case.seed)
        return RecordedFlow(markets, recording_dir=case.recording_dir, seed=case.seed, profile=case.profile)

    size = {"symbol_count": case.symbol_count, "seed": case.seed, "duration_s": case.duration_s}
    tapes = record_tapes(make_flow, **size)
    if case.recording_dir is None:
        checks = [*check_tapes(list(tapes.values())), *check_makers(case.profile, make_flow, **size)]
    else:
        rules = load_instruments()
        checks = check_recorded(tapes, load_fit(), {symbol: rules[symbol].price_increment_ticks for symbol in tapes})
    figures = {symbol: measure_figures(tape) for symbol, tape in tapes.items()}
    return CaseReport(case=case, checks=tuple(checks), figures=figures)
