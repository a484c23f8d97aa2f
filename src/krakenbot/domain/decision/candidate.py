"""A candidate: one way to enter one symbol, scored.

Enters: parts made by strategy, fill probability and edge. Leaves: frozen values that the later stages read, and the
decision record as plain JSON values.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import asdict, frozen

from krakenbot.domain.decision.blocker import Blocker
from krakenbot.domain.decision.edge import EdgeRecord
from krakenbot.domain.decision.fill_probability import FillEstimate
from krakenbot.domain.decision.plan import QueueAction
from krakenbot.domain.decision.regime import RegimeView
from krakenbot.domain.decision.strategy import Proposal
from krakenbot.domain.values import Symbol


@frozen(kw_only=True)
class Candidate:
    """One entry at one price. `score` is bps per second of a slot."""

    symbol: Symbol
    proposal: Proposal
    action: QueueAction
    price: Decimal
    fill: FillEstimate
    edge: EdgeRecord
    score: float


@frozen(kw_only=True)
class Scored:
    """What edge scoring found for a symbol; `regime` None when the state could not be judged."""

    regime: RegimeView | None = None
    candidate: Candidate | None = None
    blockers: tuple[Blocker, ...] = ()


def record_of(scored: Scored, *, allow_prior: bool) -> dict[str, object]:
    """Return the decision record up to sizing: regime, strategy, edge terms and fill estimate, as JSON values."""
    record: dict[str, object] = {}
    regime = scored.regime
    if regime is not None:
        record["regime"] = {
            "name": regime.regime.value,
            "candidate": regime.candidate.value,
            "confidence": regime.confidence,
            "measures": dict(regime.measures),
        }
    candidate = scored.candidate
    if candidate is not None:
        exits = candidate.proposal.exit_profile
        record["strategy"] = {
            "name": candidate.proposal.strategy,
            "horizon_s": candidate.proposal.horizon_s,
            "ttl_s": candidate.proposal.ttl_s,
            "hurdle_value_bps": candidate.proposal.hurdle_value_bps,
            "hurdle_limit_bps": candidate.proposal.hurdle_limit_bps,
            "stop_distance_bps": exits.stop_distance_bps,
            "take_profit_bps": exits.take_profit_bps,
        }
        record["edge"] = {**asdict(candidate.edge), "source": candidate.edge.source.value, "allow_prior": allow_prior}
        record["fill"] = {
            **asdict(candidate.fill),
            "source": candidate.fill.source.value,
            "p_fill": candidate.fill.p_fill,
        }
        record["entry"] = {
            "action": candidate.action.value,
            "price": str(candidate.price),
            "score_bps_per_s": candidate.score,
        }
    return record
