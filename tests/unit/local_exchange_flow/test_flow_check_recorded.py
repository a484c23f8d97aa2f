"""Numbers of the recorded flow are measured on a tape and compared with the fit."""

from __future__ import annotations

from random import Random

import pytest

from krakenbot.adapters.local_exchange.flow_check.checks import Basis
from krakenbot.adapters.local_exchange.flow_check.recorded import check_recorded, lives, measure
from krakenbot.adapters.local_exchange.flow_check.tape import CANCELLED, FILLED, STILL_OPEN, SymbolTape

DURATION_S = 600.0
SYMBOL = "BTC/USD"


def end(tape: SymbolTape, at_s: float, age_s: float, kind: int, level: int = 0) -> None:
    ends = tape.ends
    for column, figure in (
        (ends.kind, kind),
        (ends.key, 100),
        (ends.ahead, 0),
        (ends.behind, 0),
        (ends.level, level),
    ):
        column.append(figure)
    ends.at_s.append(at_s)
    ends.age_s.append(age_s)


def made_tape() -> SymbolTape:
    """Two adds a second of 50 USD near the touch, one far from it; lives exponential with a mean of 2 s."""
    rng = Random(1)
    tape = SymbolTape(symbol=SYMBOL, usd_per_lot_tick=0.01, duration_s=DURATION_S)
    tape.quotes.at_s.append(0.0)
    tape.quotes.bid_ticks.append(999)
    tape.quotes.ask_ticks.append(1001)
    for place in range(1800):
        at_s, far = place / 3, place % 3 == 2
        tape.adds.at_s.append(at_s)
        tape.adds.price_ticks.append(1000)
        tape.adds.size_lots.append(5000 if far else 5)
        tape.adds.ahead.append(0)
        tape.adds.level.append(12 if far else 3)
        life_s = rng.expovariate(0.5)
        over = at_s + life_s > DURATION_S
        end(tape, min(at_s + life_s, DURATION_S), min(life_s, DURATION_S - at_s), STILL_OPEN if over else CANCELLED)
    for second in range(1, 601):
        tape.depth.at_s.append(float(second))
        tape.depth.touch_lots.append(7.0)
        tape.depth.behind_lots.append(4.0)
        tape.depth.gap_bps.append(1.5)
        tape.takers.at_s.append(second - 0.5)
        tape.takers.sign.append(1)
        tape.takers.size_lots.append(round(100 * rng.paretovariate(1.9)))
    return tape


def number(value: float, low: float | None, high: float | None) -> dict[str, object]:
    return {"value": value, "n": 200, "low": low, "high": high, "identified": low is not None}


def test_numbers_of_a_tape_are_those_it_was_made_of():
    found = {name: estimate.value for name, estimate in measure(made_tape()).items()}

    assert found["maker_adds_per_s"] == pytest.approx(2.0)
    assert found["maker_size_usd"] == pytest.approx(50.0)
    assert found["half_spread_bps"] == pytest.approx(10.0)
    assert found["level_spacing_bps"] == pytest.approx(1.5)
    assert found["touch_depth_usd"] == pytest.approx(70.0)
    assert found["level_depth_usd"] == pytest.approx(40.0)
    assert found["takers_per_s"] == pytest.approx(1.0)
    assert found["lifetime_s"] == pytest.approx(2.0, rel=0.1)
    assert found["taker_size_alpha"] == pytest.approx(1.9, abs=0.6)


def test_lives_are_watched_within_their_window_of_ten_seconds():
    tape = SymbolTape(symbol=SYMBOL, usd_per_lot_tick=0.01, duration_s=60.0)
    end(tape, 7.0, 3.0, CANCELLED)
    end(tape, 8.0, 1.0, FILLED)
    end(tape, 25.0, 7.0, CANCELLED)
    end(tape, 5.0, 9.0, CANCELLED)
    end(tape, 5.0, 1.0, CANCELLED, level=11)
    end(tape, 60.0, 5.0, STILL_OPEN)

    assert [(4.0, 3.0, 1.0), (7.0, 1.0, 1.0), (18.0, 2.0, 0.0), (55.0, 5.0, 0.0)] == lives(tape)


@pytest.mark.parametrize(
    ("name", "fitted", "basis", "holds"),
    [
        ("maker_adds_per_s", number(2.2, 1.8, 2.6), Basis.RECORDING, True),
        ("maker_adds_per_s", number(3.0, 2.5, 3.6), Basis.RECORDING, False),
        ("takers_per_s", number(1.2, None, None), Basis.PRIOR, True),
        ("takers_per_s", number(2.0, None, None), Basis.PRIOR, False),
        ("half_spread_bps", number(10.2, 10.2, 10.2), Basis.RECORDING, True),
        ("half_spread_bps", number(16.0, 16.0, 16.0), Basis.RECORDING, False),
    ],
)
def test_a_number_is_held_against_its_interval_or_else_its_prior(name, fitted, basis, holds):
    (check,) = check_recorded({SYMBOL: made_tape()}, {"symbols": {SYMBOL: {name: fitted}}}, {SYMBOL: 1})

    assert (f"{SYMBOL} {name}", basis, holds) == (check.name, check.basis, check.is_ok)
