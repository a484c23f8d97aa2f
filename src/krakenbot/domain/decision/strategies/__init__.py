"""The registration of strategies: the pipeline asks those of a symbol's regime, in this order."""

from __future__ import annotations

from krakenbot.domain.decision.strategies.liquidity import Liquidity
from krakenbot.domain.decision.strategies.momentum import Momentum
from krakenbot.domain.decision.strategies.no_trading import NoTrading
from krakenbot.domain.decision.strategies.volume import Volume
from krakenbot.domain.decision.strategy import Strategy

STRATEGIES: tuple[Strategy, ...] = (Liquidity(), Momentum(), Volume(), NoTrading())
