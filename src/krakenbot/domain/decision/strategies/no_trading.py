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
        name, value = next(iter(view.regime.measures.items()), ("none", 0.0))
        return Blocker(
            code=BlockerCode.REGIME,
            detail=f"{view.regime.regime}: {name} (candidate {view.regime.candidate})",
            clears_when="the regime changes and its dwell is over",
            value=value,
            unit=name,
        )
