from __future__ import annotations

import statistics
from random import Random

from krakenbot.adapters.local_exchange.flow.hawkes import Excitation
from krakenbot.adapters.local_exchange.flow.latent import CommonFactor, LatentPrice
from krakenbot.adapters.local_exchange.flow.parameters import SymbolParameters


def make_latent(seed: int, *, sigma_bps_sqrt_min: float = 8.0) -> LatentPrice:
    parameters = SymbolParameters(half_spread_bps=200, sigma_bps_sqrt_min=sigma_bps_sqrt_min, vol_of_vol=0.2)
    factor = CommonFactor(Random(f"{seed}/factor"))
    return LatentPrice(price_ticks=100_000, parameters=parameters, factor=factor, rng=Random(seed))


def test_latent_price_has_no_drift_and_the_chosen_sigma():
    ends = []
    for seed in range(300):
        latent = make_latent(seed, sigma_bps_sqrt_min=10.0)
        for _ in range(60):
            latent.step()
        ends.append((latent.now / 100_000 - 1) * 10_000)

    assert abs(statistics.fmean(ends)) < 3 * 10 / 300**0.5
    assert 8 < statistics.pstdev(ends) < 13


def test_informed_takers_see_exactly_the_move_that_comes():
    latent = make_latent(1)
    before, foreseen = latent.now, latent.ahead_bps()
    for _ in range(10):
        latent.step()

    assert abs((latent.now / before - 1) * 10_000 - foreseen) < 0.05


def test_two_symbols_move_together_through_the_factor():
    factor = CommonFactor(Random(1))
    first, second = (
        LatentPrice(
            price_ticks=1e6,
            parameters=SymbolParameters(half_spread_bps=200, factor_share=0.4),
            factor=factor,
            rng=Random(seed),
        )
        for seed in (2, 3)
    )
    moves = []
    for _ in range(3000):
        before = first.now, second.now
        moves.append((first.step() / before[0] - 1, second.step() / before[1] - 1))
    correlation = statistics.correlation(*zip(*moves, strict=True))

    assert 0.2 < correlation < 0.45


def test_excitation_keeps_its_mean_rate_and_clusters():
    excitation = Excitation(
        mean_rate=3.0, branching=0.6, slow_share=0.5, fast_decay_per_s=0.8, slow_decay_per_s=0.03, rng=Random(1)
    )
    now, times = 0.0, []
    while now < 20_000:
        now = excitation.next_after_s(now)
        if excitation.accepts(now):
            times.append(now)
    counts = [0] * (int(now // 60) + 1)
    for at in times:
        counts[int(at // 60)] += 1
    fano = statistics.variance(counts[:-1]) / statistics.fmean(counts[:-1])

    assert 2.7 < len(times) / now < 3.3
    assert 3 < fano < 10
