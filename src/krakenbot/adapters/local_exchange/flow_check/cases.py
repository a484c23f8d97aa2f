"""Run one profile and seed and return all its checks; the command runs several in processes of their own.

In: a `Case`. Out: a `CaseReport`, both fit to be handed between processes.
"""

from __future__ import annotations

from collections.abc import Mapping

from attrs import frozen

from krakenbot.adapters.local_exchange.flow.market import Market
from krakenbot.adapters.local_exchange.flow.parameters import Profile
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.flow_check.checks import Check, check_tapes
from krakenbot.adapters.local_exchange.flow_check.run import record_tapes
from krakenbot.adapters.local_exchange.flow_check.verdicts import check_makers


@frozen(kw_only=True)
class Case:
    """One run: a profile, a seed, so many symbols, so many seconds of simulated time."""

    profile: Profile
    seed: int
    symbol_count: int
    duration_s: int


@frozen(kw_only=True)
class CaseReport:
    """What one case showed."""

    case: Case
    checks: tuple[Check, ...]

    @property
    def is_ok(self) -> bool:
        """Tell whether every check holds."""
        return all(check.is_ok for check in self.checks)


def run_case(case: Case) -> CaseReport:
    """Write the tapes of a case, send the makers in, and return the checks."""

    def make_flow(markets: Mapping[str, Market]) -> SeededFlow:
        return SeededFlow(markets, profile=case.profile, seed=case.seed)

    tapes = record_tapes(make_flow, symbol_count=case.symbol_count, seed=case.seed, duration_s=case.duration_s)
    makers = check_makers(
        case.profile, make_flow, symbol_count=case.symbol_count, seed=case.seed, duration_s=case.duration_s
    )
    return CaseReport(case=case, checks=(*check_tapes(list(tapes.values())), *makers))
