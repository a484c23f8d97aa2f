"""A short check of the flow in every run of the tests; `krakenbot exchange check-flow` is the whole."""

from __future__ import annotations

import pytest

from krakenbot.adapters.local_exchange.flow_check.cases import Case, run_case
from krakenbot.adapters.local_exchange.flow_check.report import terminal_text


@pytest.mark.slow
@pytest.mark.timeout(180)  # an hour of simulated time; about 25 s of one core
def test_an_hour_of_edge_keeps_every_limit():
    report = run_case(Case(profile="edge", seed=2, symbol_count=2, duration_s=3600))
    failed = {check.name for check in report.checks if not check.is_ok}

    assert not failed, terminal_text(report)
