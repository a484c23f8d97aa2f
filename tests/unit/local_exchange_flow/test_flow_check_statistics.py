"""Statistics of the flow check on synthetic data whose truth is known."""

from __future__ import annotations

import math
from itertools import accumulate
from random import Random

import pytest

from krakenbot.adapters.local_exchange.flow_check import arrivals, impact, queues, series
from krakenbot.adapters.local_exchange.flow_check.estimates import add_up, block_length_s, estimate
from krakenbot.adapters.local_exchange.flow_check.tape import CANCELLED, FILLED, STILL_OPEN

BLOCK_S = 300


def poisson_times(rng: Random, rate: float, duration_s: float) -> list[float]:
    times, now_s = [], 0.0
    while (now_s := now_s + rng.expovariate(rate)) < duration_s:
        times.append(now_s)
    return times


def autoregressive(rng: Random, keep: float, count: int) -> list[float]:
    values = [0.0]
    for _ in range(count - 1):
        values.append(keep * values[-1] + rng.gauss(0, 1))
    return values


def student(rng: Random, degrees: int) -> float:
    return rng.gauss(0, 1) / math.sqrt(rng.gammavariate(degrees / 2, 2 / degrees))


def test_poisson_counts_have_fano_factor_one():
    times = poisson_times(Random(21), 2.0, 72_000)
    found = estimate([arrivals.count_blocks(times, 72_000, 3000)], arrivals.fano_factor, count=len(times))

    assert found.value == pytest.approx(1.0, abs=0.12)
    assert found.low < 1.0 < found.high


def test_pairs_of_events_have_fano_factor_two():
    times = [time_s for time_s in poisson_times(Random(2), 1.0, 72_000) for _ in range(2)]
    sums = add_up(arrivals.count_blocks(times, 72_000, BLOCK_S))

    assert arrivals.fano_factor(sums) == pytest.approx(2.0, abs=0.25)


def test_signs_drawn_each_for_itself_have_no_memory():
    rng = Random(3)
    times = poisson_times(rng, 2.0, 7200)
    signs = [rng.choice((-1, 1)) for _ in times]
    found = estimate([arrivals.sign_blocks(times, signs, 7200, BLOCK_S)], arrivals.sign_autocorrelation, count=1)

    assert found.low < 0 < found.high
    assert abs(found.value) < 0.03


def test_signs_that_repeat_with_known_odds_have_that_autocorrelation():
    rng = Random(4)
    times = poisson_times(rng, 2.0, 7200)
    signs = [1]
    for _ in times[1:]:
        signs.append(signs[-1] if rng.random() < 0.65 else -signs[-1])
    sums = add_up(arrivals.sign_blocks(times, signs, 7200, BLOCK_S))

    assert arrivals.sign_autocorrelation(sums) == pytest.approx(0.3, abs=0.03)


def test_one_sided_signs_are_no_memory():
    rng = Random(5)
    signs = [1 if rng.random() < 0.8 else -1 for _ in range(10_000)]
    sums = add_up(arrivals.sign_blocks(range(10_000), signs, 10_000, BLOCK_S))

    assert arrivals.sign_autocorrelation(sums) == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("alpha", [1.5, 2.0, 3.0])
def test_hill_finds_the_exponent_of_a_pareto_law_within_its_error(alpha):
    rng = Random(6)
    found, error, tail = arrivals.hill_exponent([rng.paretovariate(alpha) for _ in range(20_000)])

    assert tail == 1000
    assert abs(found - alpha) < 3 * error
    assert error == pytest.approx(found / math.sqrt(tail))


def test_hill_does_not_take_exponential_sizes_for_a_heavy_tail():
    rng = Random(7)
    found, _, _ = arrivals.hill_exponent([rng.expovariate(1) for _ in range(20_000)])

    assert found > 3.0


def test_hill_says_nothing_about_a_few_sizes():
    found, _, _ = arrivals.hill_exponent([1.0, 2.0] * 20)

    assert math.isnan(found)


@pytest.mark.parametrize("half_life_s", [1.0, 3.0, 8.0])
def test_half_life_of_an_autoregressive_spread_is_found(half_life_s):
    keep = 0.5 ** (series.SPREAD_STEP_S / half_life_s)
    values = autoregressive(Random(8), keep, 40_000)
    blocks = series.autocovariance_blocks(values, series.SPREAD_STEP_S, series.SPREAD_LAGS, BLOCK_S)

    assert series.spread_half_life_s(add_up(blocks)) == pytest.approx(half_life_s, rel=0.12)


def test_a_spread_without_memory_has_a_half_life_below_a_step():
    rng = Random(9)
    values = [rng.gauss(10, 1) for _ in range(10_000)]
    blocks = series.autocovariance_blocks(values, series.SPREAD_STEP_S, series.SPREAD_LAGS, BLOCK_S)

    assert series.spread_half_life_s(add_up(blocks)) < series.SPREAD_STEP_S


def test_a_spread_that_does_not_come_back_has_an_infinite_half_life():
    rng = Random(10)
    values = list(accumulate(rng.gauss(0, 1) for _ in range(5000)))
    blocks = series.autocovariance_blocks(values, series.SPREAD_STEP_S, series.SPREAD_LAGS, BLOCK_S)

    assert math.inf == series.spread_half_life_s(add_up(blocks))


def test_a_spread_that_never_moves_has_no_half_life():
    blocks = series.autocovariance_blocks([5.0] * 100, series.SPREAD_STEP_S, series.SPREAD_LAGS, BLOCK_S)
    found = estimate([blocks], series.spread_half_life_s, count=100)

    assert math.isnan(found.value)


def test_kurtosis_of_a_normal_law_is_three_and_of_student_with_six_degrees_six():
    rng = Random(11)
    normal = series.power_blocks([rng.gauss(1, 2) for _ in range(50_000)], 1.0, BLOCK_S)
    heavy = series.power_blocks([student(rng, 6) for _ in range(200_000)], 1.0, BLOCK_S)

    assert series.kurtosis(add_up(normal)) == pytest.approx(3.0, abs=0.1)
    assert series.kurtosis(add_up(heavy)) == pytest.approx(6.0, abs=0.8)


def test_absolute_returns_of_a_plain_walk_have_no_memory_and_of_stochastic_volatility_they_have():
    rng = Random(12)
    plain = [abs(rng.gauss(0, 1)) for _ in range(6000)]
    volatility = autoregressive(rng, 0.95, 6000)
    clustered = [abs(rng.gauss(0, 1)) * math.exp(0.3 * level) for level in volatility]
    found = [
        estimate([series.autocovariance_blocks(item, 10.0, series.MEMORY_LAGS, 2400)], series.mean_memory, count=6000)
        for item in (plain, clustered)
    ]

    assert found[0].low < 0 < found[0].high
    assert found[1].low > 0.05


def test_variance_ratio_is_one_for_a_walk_and_more_with_bounce():
    rng = Random(13)
    walk = [10_000 + value for value in accumulate(rng.gauss(0, 1) for _ in range(30_000))]
    bounced = [value + rng.choice((-1, 1)) for value in walk]

    assert series.variance_ratio(add_up(series.variance_blocks(walk, BLOCK_S))) == pytest.approx(1.0, abs=0.12)
    # One step has variance 1 and the bounce adds 2 to any span: (1 + 2) over (60 + 2) / 60.
    assert series.variance_ratio(add_up(series.variance_blocks(bounced, BLOCK_S))) == pytest.approx(2.9, abs=0.35)


def respond(exponent: float, rng: Random, count: int) -> list[list[float]]:
    """Return response blocks of orders that move the mid by size to a power, with noise."""
    times = [float(second) for second in range(count)]
    sizes = [rng.paretovariate(1.5) for _ in times]
    signs = [rng.choice((-1, 1)) for _ in times]
    moves = {
        time_s + 1.0: sign * (size**exponent + rng.gauss(0, 1)) * 1e-4
        for time_s, sign, size in zip(times, signs, sizes, strict=True)
    }
    return impact.response_blocks(
        times,
        signs,
        sizes,
        [1.0] * count,
        mid_at=lambda at_s: 1.0 + moves[at_s],
        lag_s=1.0,
        duration_s=count,
        block_s=BLOCK_S,
    )


@pytest.mark.parametrize("exponent", [0.3, 0.5, 1.0])
def test_the_exponent_of_the_response_to_size_is_found(exponent):
    found = estimate([respond(exponent, Random(14), 30_000)], impact.size_exponent, count=30_000, pooled=True)

    assert found.value == pytest.approx(exponent, abs=0.06)
    assert impact.mean_response_bps(add_up(respond(exponent, Random(14), 30_000))) > 1.0


def test_orders_that_move_nothing_have_no_response_beyond_chance():
    rng = Random(15)
    times = [float(second) for second in range(5000)]
    blocks = impact.response_blocks(
        times,
        [rng.choice((-1, 1)) for _ in times],
        [1.0] * 5000,
        [1.0] * 5000,
        mid_at=lambda _: 1.0 + rng.gauss(0, 1) * 1e-4,
        lag_s=1.0,
        duration_s=5000,
        block_s=BLOCK_S,
    )
    found = estimate([blocks], impact.mean_response_bps, count=5000)

    assert found.low < 0 < found.high


def lives(rng: Random, hazard_shape: float, count: int) -> list[tuple[float, float, int]]:
    """Return ends of orders with Weibull lives: hazard falls with age for a shape below one; a third fill first."""
    ends = []
    for _ in range(count):
        life_s = rng.weibullvariate(5.0, hazard_shape)
        fill_s = rng.expovariate(1 / 10.0)
        born_s = rng.uniform(0, 3500)
        age_s, kind = min((life_s, CANCELLED), (fill_s, FILLED))
        over = born_s + age_s > 3600
        ends.append((3600.0, 3600 - born_s, STILL_OPEN) if over else (born_s + age_s, age_s, kind))
    return ends


def test_a_constant_hazard_has_no_slope_and_a_falling_one_has_its_own():
    flat = estimate([queues.age_blocks(lives(Random(16), 1.0, 20_000), 3600, BLOCK_S)], queues.age_slope, count=1)
    falling = estimate([queues.age_blocks(lives(Random(16), 0.6, 20_000), 3600, BLOCK_S)], queues.age_slope, count=1)

    assert flat.value == pytest.approx(0.0, abs=0.03)
    # A Weibull hazard goes with age to the power of shape - 1.
    assert falling.value == pytest.approx(-0.4, abs=0.06)
    assert falling.high < 0


def test_orders_older_than_the_tape_are_at_risk_only_since_its_begin():
    sums = add_up(queues.age_blocks([(1.0, 5.0, CANCELLED)], 60, BLOCK_S))

    assert 1.0 == sum(sums[1::2])
    assert [(5.0, 1.0)] == [(5.0, sums[2 * 4])]


def cancel_at_random(rng: Random, weight_of_place: float, count: int) -> list[queues.Cancel]:
    cancels: list[queues.Cancel] = []
    for at_s in range(count):
        size = rng.randint(2, 9)
        weights = [1 + weight_of_place * place / (size - 1) for place in range(size)]
        ahead = rng.choices(range(size), weights)[0]
        cancels.append((float(at_s), 100, ahead, size - 1 - ahead))
    return cancels


def test_cancels_by_lot_do_not_depend_on_the_place_and_those_that_do_are_found():
    even, uneven = (
        estimate([queues.place_blocks(cancel_at_random(Random(17), weight, 9000), 9000, BLOCK_S)],
                 queues.back_to_front, count=9000)
        for weight in (0.0, 2.0)
    )  # fmt: skip

    assert even.low < 1 < even.high
    assert uneven.low > 1.5


def test_a_level_that_is_withdrawn_from_its_front_says_nothing_about_places():
    whole = [(float(at_s), 100, 0, left) for at_s in range(50) for left in (3, 2, 1, 0)]
    sums = add_up(queues.place_blocks(whole, 60, BLOCK_S))

    assert sums[0::2] == pytest.approx(sums[1::2])


def test_places_of_several_cancels_in_an_instant_are_those_before_the_first():
    cancels = [(1.0, 100, 1, 3), (1.0, 100, 1, 2), (1.0, 100, 0, 2), (1.0, 90, 0, 0)]

    assert [(1.0, [1, 2, 0], 5)] == list(queues.choices(cancels))


def test_share_of_cancels_counts_cancels_alone():
    ends = [(1.0, CANCELLED), (2.0, FILLED), (3.0, CANCELLED), (9.0, STILL_OPEN)]
    sums = add_up(queues.share_blocks([0.5, 1.5, 2.5, 3.5], ends, 10, BLOCK_S))

    assert 0.5 == queues.cancel_share(sums)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = Random(18)
    covered = 0
    for _ in range(120):
        series_of = autoregressive(rng, 0.5, 2400)
        blocks = series.power_blocks([value + 1.0 for value in series_of], 1.0, 100)
        found = estimate([blocks], lambda sums: sums[1] / sums[0], count=2400)
        covered += found.low < 1.0 < found.high

    assert 0.85 <= covered / 120 <= 0.99


def test_symbols_are_averaged_or_pooled():
    parts = [[[1.0, 2.0]] * 4, [[3.0, 12.0]] * 4]
    mean = estimate(parts, lambda sums: sums[1] / sums[0], count=1)
    pooled = estimate(parts, lambda sums: sums[1] / sums[0], count=1, pooled=True)

    assert (3.0, 2.0, 4.0) == (mean.value, mean.lowest_symbol, mean.highest_symbol)
    assert pooled.value == pytest.approx(3.5)


def test_blocks_are_whole_minutes():
    assert [60, 60, 300, 3600] == [block_length_s(duration_s) for duration_s in (600, 1800, 7200, 86_400)]
