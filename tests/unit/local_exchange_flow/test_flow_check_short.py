"""A short check of the flow in every run of the tests; `krakenbot exchange check-flow` is the whole."""

from __future__ import annotations

import pytest

from krakenbot.adapters.local_exchange.flow_check.cases import Case, run_case
from krakenbot.adapters.local_exchange.flow_check.report import terminal_text

NOT_YET_KEPT = {
    "spread_half_life_s",
    "response_size_exponent",
    "kurtosis_10_s",
    "absolute_return_memory",
    "variance_ratio_1_to_60_s",
}
"""What the model of the flow is known to miss (docs/flow_check.md); whoever mends it takes the name out here."""


@pytest.mark.slow
@pytest.mark.timeout(120)  # half an hour of simulated time; about 15 s of one core
def test_half_an_hour_of_edge_keeps_the_limits_that_the_flow_can_keep():
    report = run_case(Case(profile="edge", seed=1, symbol_count=2, duration_s=1800))
    failed = {check.name for check in report.checks if not check.is_ok}

    assert failed <= NOT_YET_KEPT, terminal_text(report)
