from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.flow import recorded
from krakenbot.adapters.local_exchange.flow.recorded import RecordedFlow, load_fit
from krakenbot.adapters.local_exchange.flow.recording import find_recordings
from krakenbot.adapters.local_exchange.flow_check.cases import recorded_case, run_case
from krakenbot.adapters.local_exchange.flow_check.checks import Basis, Check
from krakenbot.adapters.local_exchange.flow_check.report import terminal_text

START_NS = 1_700_000_000_000_000_000
NS = 1_000_000_000


@pytest.fixture
def recordings() -> Path:
    try:
        return find_recordings()
    except FileNotFoundError as error:
        pytest.skip(str(error))


def make_flow(markets: Mapping[str, Any], folder: Path, *, seed: int = 1) -> RecordedFlow:
    return RecordedFlow(markets, recording_dir=folder, seed=seed, profile="edge")


def test_without_recordings_the_error_names_the_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("KRAKENBOT_RECORDINGS", str(tmp_path))
    for explicit in (None, tmp_path):
        with pytest.raises(FileNotFoundError, match="KRAKENBOT_RECORDINGS"):
            find_recordings(explicit)


def test_every_recorded_event_is_played_and_the_books_follow(make_markets, recordings):
    """Compare the touch of the played books with the recorded levels at every tenth of a second."""
    markets = make_markets(5)
    flow = make_flow(markets, recordings)
    flow.open(START_NS)
    compared = near = 0
    for tenth in range(1, 96):
        flow.step(START_NS + tenth * NS // 10)
        for symbol, recording in flow._recording.items():
            state = [item for item in recording.states if item.at_ns <= tenth * NS // 10][-1]
            for side, levels in (("buy", state.bids), ("sell", state.asks)):
                compared += 1
                near += abs(markets[symbol].best(side) / levels[0][0] - 1) < 1e-4
    flow.step(START_NS + 10 * NS)
    played = sum(seam.get(action, 0) for seam in flow.seam.values() for action in ("add", "modify", "delete"))

    assert compared == 4 * 2 * 95
    assert near / compared > 0.9
    assert played == 5367
    assert flow.seam.keys() == {"BTC/USD", "ETH/USD", "SOL/USD", "DOGE/USD"}
    assert all(abs(seam["mid_error_bps"]) < 2 for seam in flow.seam.values())
    assert all(9 < seam["at_s"] < 10 for seam in flow.seam.values())


def test_after_the_seam_the_books_go_on_full_and_uncrossed(make_markets, recordings):
    markets = make_markets(5)
    flow = make_flow(markets, recordings)
    flow.open(START_NS)
    for tenth in range(450):
        flow.step(START_NS + tenth * NS // 10)
        for market in markets.values():
            assert min(len(market.levels(side, 10)) for side in ("buy", "sell")) == 10
            assert market.best("buy") < market.best("sell")
    trades = {symbol: len(market.trades) for symbol, market in markets.items()}

    assert all(count > 0 for count in trades.values())


def test_recorded_flow_repeats_by_seed(make_markets, recordings):
    runs = []
    for _ in range(2):
        markets = make_markets(4)
        flow = make_flow(markets, recordings, seed=9)
        flow.open(START_NS)
        flow.step(START_NS + 20 * NS)
        runs.append({symbol: (market.trades, market.levels("buy", 30)) for symbol, market in markets.items()})

    assert runs[0] == runs[1]


def test_parameters_tell_fitted_from_prior_and_chosen(make_markets, recordings):
    flow = make_flow(make_markets(5), recordings)
    parameters = json.loads(json.dumps(flow.parameters()))
    btc = parameters["symbols"]["BTC/USD"]

    assert btc["maker_adds_per_s"]["origin"] == "fitted"
    assert btc["takers_per_s"]["origin"] == "prior"
    assert btc["informed_share"]["origin"] == "chosen"
    assert parameters["symbols"]["XRP/USD"]["maker_adds_per_s"]["origin"] == "chosen"
    assert "no evidence of profit" in parameters["notice"]


def test_the_fit_marks_what_few_events_cannot_identify():
    for symbol, numbers in load_fit()["symbols"].items():
        for name, item in numbers.items():
            assert item["identified"] == (item["n"] >= 100), (symbol, name)
            if item["low"] is not None:
                assert item["low"] <= item["value"] <= item["high"], (symbol, name)
        assert not numbers["takers_per_s"]["identified"]


def test_a_recorded_symbol_that_is_not_listed_is_left_out(make_markets, recordings):
    flow = make_flow(make_markets(2), recordings)

    flow.open(START_NS)

    symbols = flow.parameters()["symbols"]
    assert isinstance(symbols, dict)
    assert 2 == len(symbols)


def is_near(check: Check) -> bool:
    """Tell whether a value, or at least its own interval of a short run, meets the recording's interval."""
    low, high = check.limit.low, check.limit.high
    assert low is not None
    assert high is not None
    return check.is_ok or (check.found.low <= high and low <= check.found.high)


@pytest.mark.timeout(60)  # about 10 s of one core
def test_the_flow_that_goes_on_keeps_the_numbers_that_the_recording_identifies(recordings):
    report = run_case(recorded_case(recordings, seed=1, duration_s=300))
    identified = [check for check in report.checks if check.basis is Basis.RECORDING]
    failed = {check.name for check in identified if not is_near(check)}

    assert 4 * 8 == len(identified)
    assert not failed, terminal_text(report)


def test_a_changed_parameter_takes_the_flow_out_of_the_recordings_interval(recordings, monkeypatch):
    fit = copy.deepcopy(load_fit())
    fit["parameters"]["ETH/USD"]["maker_adds_per_s"]["value"] /= 3
    monkeypatch.setattr(recorded, "load_fit", lambda: fit)
    report = run_case(recorded_case(recordings, seed=1, duration_s=60))

    assert "ETH/USD maker_adds_per_s" in {check.name for check in report.checks if not is_near(check)}
