"""NoTrading: the answer for regimes in which nothing is bought. Called through the registration."""

from __future__ import annotations

from attrs import frozen

from krakenbot.domain.decision.blocker import Blocker, BlockerCode
from krakenbot.domain.decision.regime import Regime
from krakenbot.domain.decision.strategy import Proposal, StrategyView


@frozen
class NoTrading:
    """Stay out in CHAOS, LOW_LIQUIDITY and TREND down."""

    name: str = "no_trading"
    regimes: frozenset[Regime] = frozenset({Regime.CHAOS, Regime.LOW_LIQUIDITY, Regime.TREND_DOWN})

    def propose(self, view: StrategyView) -> Proposal | Blocker:
        """Return REGIME with the measure that decided."""
        judged = view.regime
        name, value = next(iter(judged.measures.items()), ("none", 0.0))
        # The measures are those of the candidate: while the dwell holds another regime they do not explain it.
        held = judged.regime is not judged.candidate
        return Blocker(
            code=BlockerCode.REGIME,
            detail=f"{judged.regime}, held by its dwell; now {judged.candidate}" if held else str(judged.regime),
            clears_when="the dwell is over" if held else "the regime changes",
            value=value,
            unit=name,
        )
