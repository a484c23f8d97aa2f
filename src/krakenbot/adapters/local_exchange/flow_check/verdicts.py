"""Say which maker must earn or lose in which profile, and check it.

In: a profile and a flow. Out: one `Check` per rule. Fees are 25 bps a fill where they count.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from attrs import frozen

from krakenbot.adapters.local_exchange.flow.parameters import Profile
from krakenbot.adapters.local_exchange.flow_check.checks import Basis, Check, Limit
from krakenbot.adapters.local_exchange.flow_check.earnings import markout, profit
from krakenbot.adapters.local_exchange.flow_check.estimates import Estimate
from krakenbot.adapters.local_exchange.flow_check.judging import MakeMaker, judge
from krakenbot.adapters.local_exchange.flow_check.makers import FEE_BPS, NaiveMaker, ReferenceMaker
from krakenbot.adapters.local_exchange.flow_check.run import MakeFlow

ENOUGH_FILLS = 30
LOSES = Limit(t_below=-3.0, least_count=ENOUGH_FILLS)
EARNS = Limit(t_above=2.0, least_count=ENOUGH_FILLS)
EARNS_NOTHING = Limit(high=0.0, least_count=ENOUGH_FILLS)
EARNS_NOTHING_OR_STAYS_AWAY = Limit(high=0.0, least_count=0)


@frozen(kw_only=True)
class Rule:
    """A maker, how its fills are valued, and what must come out. Each maker has the market to itself."""

    name: str
    make_maker: MakeMaker
    value: Callable[..., Estimate]
    fee_bps: float
    limit: Limit


RULES: Final[dict[Profile, tuple[Rule, ...]]] = {
    "toxic": (Rule(name="naive_markout_zero_fee_bps", make_maker=NaiveMaker, value=markout, fee_bps=0.0, limit=LOSES),),
    "edge": (
        Rule(
            name="reference_profit_after_fees_bps",
            make_maker=ReferenceMaker,
            value=profit,
            fee_bps=FEE_BPS,
            limit=EARNS,
        ),
    ),
    "null": (
        Rule(
            name="naive_markout_after_fee_bps",
            make_maker=NaiveMaker,
            value=markout,
            fee_bps=FEE_BPS,
            limit=EARNS_NOTHING,
        ),
        Rule(
            name="reference_profit_after_fees_bps",
            make_maker=ReferenceMaker,
            value=profit,
            fee_bps=FEE_BPS,
            limit=EARNS_NOTHING_OR_STAYS_AWAY,
        ),
        # Spreads of null never pay two fees, so the reference maker would stay away and prove nothing.
        Rule(
            name="reference_always_profit_after_fees_bps",
            make_maker=partial(ReferenceMaker, needs_spread=False),
            value=profit,
            fee_bps=FEE_BPS,
            limit=EARNS_NOTHING,
        ),
    ),
}


def check_makers(
    profile: Profile, make_flow: MakeFlow, *, symbol_count: int, seed: int, duration_s: int
) -> list[Check]:
    """Send the profile's makers in, one after another, and return what became of them."""
    checks = []
    for rule in RULES[profile]:
        fills, tapes = judge(make_flow, rule.make_maker, symbol_count=symbol_count, seed=seed, duration_s=duration_s)
        found = rule.value(fills, tapes, fee_bps=rule.fee_bps)
        checks.append(Check(name=rule.name, found=found, limit=rule.limit, basis=Basis.CHECKED))
    return checks
