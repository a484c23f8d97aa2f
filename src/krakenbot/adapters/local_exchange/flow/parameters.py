"""The numbers of order flow: three profiles, and how they differ from symbol to symbol.

In: a profile name, a symbol's place in the list. Out: one frozen `SymbolParameters` per symbol, read by makers,
takers and the latent price. Every number is chosen, or fitted where `fitted.json` says so.
"""

from __future__ import annotations

from random import Random
from typing import Literal

from attrs import asdict, evolve, frozen

Profile = Literal["null", "toxic", "edge"]
CHOSEN_NOTICE = "These flow parameters are chosen, not observed; what a rehearsal earns is no evidence of profit."
FULL_SPEED_SYMBOLS = 16
TAIL_EVENTS_PER_S = 1200.0
FULL_EVENTS_PER_S = 30.0


@frozen(kw_only=True)
class SymbolParameters:
    """All numbers of one symbol's flow. Money is in US dollars, rates are per second and for both sides.

    `activity` scales every rate and, inversely, every lifetime: the tail of a long symbol list is quiet.
    Makers tolerate `touch_tolerance_bps`, but at least `touch_tolerance_steps` of the touch's own grid.
    `level_step_bps` is the price grid of the levels behind the touch; None is one as wide as their spacing. On a grid
    of its own a share `even_level_share` of orders stands on every second price: some prices are rounder. With a
    `fleeting_share`, an order behind the touch is worth `maker_size_usd` rather than its part of a level; the two
    fleeting ratios compare the means of fleeting and resting orders. After a trade makers stand back on both sides by
    `widening_share` of its impact, and return over `widening_decay_s`.
    """

    # Quotes around the latent price.
    half_spread_bps: float
    touch_step_bps: float = 0.5
    touch_tolerance_bps: float = 1.0
    touch_tolerance_steps: float = 1.0
    level_spacing_bps: float = 3.0
    level_step_bps: float | None = None
    even_level_share: float = 0.0
    level_count: int = 24
    touch_depth_usd: float = 1000.0
    level_depth_usd: float = 900.0
    # Makers' orders: rates, sizes, how long they stay, how fast a touch comes back.
    maker_adds_per_s: float = 12.0
    maker_size_usd: float = 260.0
    maker_size_alpha: float = 2.2
    touch_share: float = 0.12
    reaction_s: float = 0.15
    requote_s: float = 0.5
    refill_s: float = 1.5
    appetite_bps: float = 1.5
    appetite_reversion_s: float = 4.0
    improvement: tuple[float, float] = (0.5, 1.0)
    lifetime_s: float = 9.0
    lifetime_alpha: float = 2.0
    cancel_share_front: float = 0.3
    # Fleeting orders (Hasbrouck, Saar 2009): a share that comes in other sizes than what rests, and goes sooner.
    fleeting_share: float = 0.0
    fleeting_size_ratio: float = 1.0
    fleeting_life_ratio: float = 1.0
    # Clients: makers go before them, follow them and takers are drawn to them.
    undercut_share: float = 0.02
    client_tolerance: float = 5.0
    client_draw: float = 0.1
    # Takers: a Hawkes process with two exponentials, Pareto sizes, orders that are split.
    takers_per_s: float = 3.4
    branching: float = 0.8
    slow_share: float = 0.6
    fast_decay_per_s: float = 0.8
    slow_decay_per_s: float = 0.033
    taker_size_usd: float = 55.0
    taker_size_alpha: float = 1.8
    taker_size_cap: float = 30.0
    split_orders: int = 2
    split_alpha: float = 1.5
    split_pieces_least: float = 2.0
    cascade_share: float = 0.7
    cascade_delay_s: float = 3.0
    cascade_arrivals: float = 6.0
    # What trades do to prices.
    impact_bps: float = 0.5
    impact_lasting_share: float = 0.75
    impact_decay_s: float = 15.0
    shade_limit: float = 1.0
    impact_follows_volatility: bool = False
    widening_share: float = 0.0
    widening_decay_s: float = 2.0
    sign_learning: float = 0.12
    sign_foresight: float = 0.75
    # Informed takers.
    informed_share: float = 0.1
    informed_horizon_s: int = 10
    informed_accuracy: float = 0.95
    sniper_s: float = 0.15
    # Latent price: a martingale with stochastic volatility, a common factor, and jumps where they are set.
    sigma_bps_sqrt_min: float = 8.0
    beta: float = 1.0
    factor_share: float = 0.3
    vol_of_vol: float = 0.7
    vol_reversion_s: float = 100.0
    jump_interval_s: float = 150.0
    jump_bps: float = 10.0
    jump_leak_s: float = 6.0
    jump_log_vol: float = 0.7
    activity: float = 1.0


def draw_parameters(
    profile: Profile, position: int, count: int, rng: Random, *, activity: float = 1.0
) -> SymbolParameters:
    """Return the numbers of the symbol at a place of the list; `rng` varies them a little, `activity` slows all down.

    Which symbols are attractive depends on the place alone, so that no seed can take them all away.
    """
    base, activity = PROFILES[profile](position, rng), activity * activity_at(position, count)
    # Who looks less often also tolerates more: a quiet symbol's quotes must not chase every step.
    return evolve(base, activity=activity, touch_tolerance_bps=base.touch_tolerance_bps / activity**0.75)


def activity_at(position: int, count: int) -> float:
    """Return the speed of a symbol: 1 for the first sixteen, then what a fixed budget of events leaves."""
    if position < FULL_SPEED_SYMBOLS:
        return 1.0
    tail = count - FULL_SPEED_SYMBOLS
    return min(1.0, TAIL_EVENTS_PER_S / (tail * FULL_EVENTS_PER_S))


def edge_parameters(position: int, rng: Random) -> SymbolParameters:
    """Return wide spreads with few informed takers; the two majors and every sixth symbol are too tight."""
    tight = position < 2 or position % 6 == 5
    return SymbolParameters(
        half_spread_bps=rng.uniform(60, 80) if tight else rng.uniform(195, 255),
        sigma_bps_sqrt_min=rng.uniform(5.0, 7.0),
        level_depth_usd=1050.0,
        appetite_bps=3.5,
        impact_bps=0.7,
        impact_lasting_share=0.85,
        informed_horizon_s=30,
        vol_of_vol=0.85,
        vol_reversion_s=130.0,
        jump_bps=11.0,
        takers_per_s=rng.uniform(3.8, 4.6),
        beta=1.0 if position == 0 else rng.uniform(0.6, 1.3),
        informed_share=0.1,
    )


def toxic_parameters(position: int, rng: Random) -> SymbolParameters:
    """Return a spread far below what one trade tells: who is hit has lost before the market comes back."""
    return SymbolParameters(
        half_spread_bps=rng.uniform(3.3, 3.7),
        touch_step_bps=1.0,
        touch_tolerance_bps=2.0,
        touch_depth_usd=700.0,
        reaction_s=0.08,
        requote_s=0.22,
        improvement=(0.6, 1.0),
        appetite_bps=4.0,
        appetite_reversion_s=5.0,
        takers_per_s=0.55,
        taker_size_usd=59.0,
        cascade_arrivals=4.0,
        impact_bps=22.0,
        impact_lasting_share=1.0,
        impact_follows_volatility=True,
        widening_share=0.2,
        split_orders=3,
        sign_foresight=0.67,
        informed_share=0.6,
        informed_accuracy=1.0,
        sigma_bps_sqrt_min=rng.uniform(9, 11),
        beta=1.0 if position == 0 else rng.uniform(0.6, 1.3),
        vol_of_vol=0.6,
        jump_leak_s=2.0,
        jump_bps=60.0,
        jump_log_vol=0.0,
        client_tolerance=1.0,
    )


def null_parameters(position: int, rng: Random) -> SymbolParameters:
    """Return a spread far below two maker fees around a martingale."""
    return SymbolParameters(
        half_spread_bps=rng.uniform(1.5, 3.0),
        touch_tolerance_bps=0.8,
        level_spacing_bps=2.0,
        requote_s=0.3,
        appetite_bps=2.2,
        vol_of_vol=0.45,
        takers_per_s=3.0,
        informed_share=0.6,
        impact_bps=1.0,
        impact_lasting_share=0.0,
        widening_share=0.25,
        shade_limit=2.0,
        sigma_bps_sqrt_min=rng.uniform(9, 12),
        beta=1.0 if position == 0 else rng.uniform(0.6, 1.3),
        jump_bps=8.0,
        undercut_share=0.3,
        client_tolerance=1.0,
    )


PROFILES = {"edge": edge_parameters, "toxic": toxic_parameters, "null": null_parameters}


def describe(
    profile: str, seed: int, symbols: dict[str, SymbolParameters], origins: dict[str, str]
) -> dict[str, object]:
    """Return the parameters ready for JSON: each with its value and its origin, chosen unless `origins` says."""
    return {
        "profile": profile,
        "seed": seed,
        "notice": CHOSEN_NOTICE,
        "symbols": {
            symbol: {
                name: {"value": value, "origin": origins.get(f"{symbol}.{name}", "chosen")}
                for name, value in asdict(numbers).items()
            }
            for symbol, numbers in symbols.items()
        },
    }
