"""Say which maker must earn or lose in which profile, and check it.

In: a profile and a flow. Out: one `Check` per rule. Fees are 25 bps a fill where they count.
"""

from __future__ import annotations

from functools import partial

from krakenbot.adapters.local_exchange.flow.parameters import Profile
from krakenbot.adapters.local_exchange.flow_check.checks import Basis, Check, Limit
from krakenbot.adapters.local_exchange.flow_check.earnings import markout, profit
from krakenbot.adapters.local_exchange.flow_check.judging import MakeMaker, judge
from krakenbot.adapters.local_exchange.flow_check.makers import FEE_BPS, NaiveMaker, ReferenceMaker
from krakenbot.adapters.local_exchange.flow_check.run import MakeFlow

ENOUGH_FILLS = 30
LOSES = Limit(t_below=-3.0, least_count=ENOUGH_FILLS)
EARNS = Limit(t_above=2.0, least_count=ENOUGH_FILLS)
EARNS_NOTHING = Limit(high=0.0, least_count=ENOUGH_FILLS)
EARNS_NOTHING_OR_STAYS_AWAY = Limit(high=0.0, least_count=0)
MAKERS: dict[Profile, dict[str, MakeMaker]] = {
    "toxic": {"naive": NaiveMaker},
    "edge": {"reference": ReferenceMaker},
    # Spreads of null never pay two fees, so the reference maker would stay away and prove nothing.
    "null": {
        "naive": NaiveMaker,
        "reference": ReferenceMaker,
        "reference_always": partial(ReferenceMaker, needs_spread=False),
    },
}


def check_makers(
    profile: Profile, make_flow: MakeFlow, *, symbol_count: int, seed: int, duration_s: int
) -> list[Check]:
    """Send the profile's makers in and return what became of them."""
    fills, tapes = judge(make_flow, MAKERS[profile], symbol_count=symbol_count, seed=seed, duration_s=duration_s)
    match profile:
        case "toxic":
            rules = {"naive_markout_zero_fee_bps": (markout(fills["naive"], tapes, fee_bps=0.0), LOSES)}
        case "edge":
            rules = {"reference_profit_after_fees_bps": (profit(fills["reference"], tapes, fee_bps=FEE_BPS), EARNS)}
        case "null":
            always = profit(fills["reference_always"], tapes, fee_bps=FEE_BPS)
            picky = profit(fills["reference"], tapes, fee_bps=FEE_BPS)
            rules = {
                "naive_markout_after_fee_bps": (markout(fills["naive"], tapes, fee_bps=FEE_BPS), EARNS_NOTHING),
                "reference_profit_after_fees_bps": (picky, EARNS_NOTHING_OR_STAYS_AWAY),
                "reference_always_profit_after_fees_bps": (always, EARNS_NOTHING),
            }
    return [Check(name=name, found=found, limit=limit, basis=Basis.CHECKED) for name, (found, limit) in rules.items()]
