"""Edge scoring: regime, strategy, candidates and their edge for one symbol.

Enters: one cycle's inputs and a symbol whose state may be judged. Leaves: the best candidate and what speaks against
it. Called by the pipeline.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from attrs import frozen

from krakenbot.domain.decision.blocker import Blocker, BlockerCode
from krakenbot.domain.decision.candidate import Candidate, Scored
from krakenbot.domain.decision.edge import EdgeSource, edge_of, expected_adverse_bps, score_of
from krakenbot.domain.decision.fill_probability import estimate_fill, queue_rates
from krakenbot.domain.decision.inputs import DecisionSettings, PipelineInput
from krakenbot.domain.decision.plan import QueueAction
from krakenbot.domain.decision.queue_decision import choose_entry, toxic_at_entry
from krakenbot.domain.decision.regime import RegimeView, detect_regime
from krakenbot.domain.decision.sizing import market_bounds
from krakenbot.domain.decision.slippage import sell_slippage_bps
from krakenbot.domain.decision.strategies import STRATEGIES
from krakenbot.domain.decision.strategy import Proposal, StrategyView
from krakenbot.domain.decision.views import Fees
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.values import Side, Symbol


@frozen(kw_only=True)
class _Market:
    state: SymbolState
    instrument: Instrument
    fees: Fees
    equity: Decimal
    inputs: PipelineInput
    settings: DecisionSettings


def edge_score(symbol: Symbol, inputs: PipelineInput, equity: Decimal, settings: DecisionSettings) -> Scored:
    """Return the best candidate of a symbol whose state has no data blocker, with every economic blocker.

    Without instrument or fees nothing is scored; readiness names both.
    """
    state = inputs.states[symbol]
    regime = detect_regime(state, inputs.memory.regimes.get(symbol), inputs.at, settings.regime)
    instrument, fees = inputs.instruments.get(symbol), inputs.fees.get(symbol)
    adverse = expected_adverse_bps(state, settings.edge)
    if instrument is None or fees is None:
        return Scored(regime=regime)
    if adverse is None:
        return Scored(regime=regime, blockers=(_unknown("the median spread"),))
    market = _Market(state=state, instrument=instrument, fees=fees, equity=equity, inputs=inputs, settings=settings)
    proposals, refusals = _ask_strategies(market, regime, adverse[0])
    if not proposals:
        return Scored(regime=regime, blockers=(_nearest(refusals),))
    candidates: list[Candidate] = []
    blockers: list[Blocker] = []
    for proposal in proposals:
        for action, price in _entry_prices(market, proposal):
            scored = _score_candidate(market, proposal, action, price)
            if isinstance(scored, Candidate):
                candidates.append(scored)
            else:
                blockers.append(scored)
    best = choose_entry(candidates)
    if best is None:
        return Scored(regime=regime, blockers=tuple(blockers[:1]) or (_unknown("a price to rest at"),))
    return Scored(regime=regime, candidate=best, blockers=entry_filter(best, state, inputs, settings))


def entry_filter(
    candidate: Candidate, state: SymbolState, inputs: PipelineInput, settings: DecisionSettings
) -> tuple[Blocker, ...]:
    """Return every economic reason against a scored candidate: freshness, labels, surplus, toxicity, fill."""
    found: list[Blocker] = []
    age_s = (inputs.at - state.computed_at).total_seconds()
    edge, fill = candidate.edge, candidate.fill
    if age_s > candidate.proposal.max_state_age_s:
        found.append(
            _number(
                BlockerCode.STATE_STALE,
                f"state is old for {candidate.proposal.strategy}",
                "fresh data arrives",
                age_s,
                candidate.proposal.max_state_age_s,
                "s",
            )
        )
    if edge.source is EdgeSource.PRIOR and not settings.edge.allow_prior:
        found.append(
            _number(
                BlockerCode.WARMING_UP,
                "too few labels of this venue, and the prior is not allowed",
                "probes and fills have made enough labels",
                edge.labels,
                settings.edge.min_labels,
                "labels",
            )
        )
    if edge.net_bps < settings.edge.min_surplus_bps:
        found.append(
            _number(
                BlockerCode.SURPLUS,
                f"surplus {edge.surplus_bps:.1f} less SE {edge.se_bps:.1f} is too small",
                "the spread widens, fees or adverse moves fall",
                edge.net_bps,
                settings.edge.min_surplus_bps,
                "bps",
            )
        )
    toxic = toxic_at_entry(state, settings.queue)
    if toxic is not None:
        name, value, limit = toxic
        found.append(_number(BlockerCode.QUEUE_DECISION, f"stay out: {name}", "the flow calms", value, limit, name))
    if fill.p_fill < settings.fill.min_fill_probability:
        found.append(
            _number(
                BlockerCode.FILL_PROBABILITY,
                f"fill within {candidate.proposal.ttl_s:.0f} s is unlikely",
                "the queue shortens or sellers arrive",
                fill.p_fill,
                settings.fill.min_fill_probability,
                "probability",
            )
        )
    return tuple(found)


def _ask_strategies(market: _Market, regime: RegimeView, adverse_bps: float) -> tuple[list[Proposal], list[Blocker]]:
    view = StrategyView(
        state=market.state,
        regime=regime,
        instrument=market.instrument,
        fees=market.fees,
        adverse_bps=adverse_bps,
        settings=market.settings.strategy,
    )
    answers = [strategy.propose(view) for strategy in STRATEGIES if regime.regime in strategy.regimes]
    return (
        [answer for answer in answers if isinstance(answer, Proposal)],
        [answer for answer in answers if isinstance(answer, Blocker)],
    )


def _nearest(refusals: list[Blocker]) -> Blocker:
    """Return the refusal nearest to its limit, the first registered among equals."""

    def nearness(blocker: Blocker) -> float:
        if blocker.value is None or not blocker.limit:
            return float("-inf")
        return blocker.value / blocker.limit

    return max(refusals, key=nearness)


def _entry_prices(market: _Market, proposal: Proposal) -> list[tuple[QueueAction, Decimal]]:
    """Return where an entry could rest: at the bid, and one increment above it where the spread has room."""
    state, instrument = market.state, market.instrument
    if state.bid is None or state.ask is None:
        return []
    # The state holds floats of exact ticks: the nearest tick is that price; only then it is rounded down.
    bid = instrument.round_price(Decimal(repr(state.bid)).quantize(instrument.tick, ROUND_HALF_EVEN), Side.BUY)
    ask = Decimal(repr(state.ask)).quantize(instrument.tick, ROUND_HALF_EVEN)
    step = instrument.price_increment
    prices = [(QueueAction.JOIN, bid)] if 0 < bid < ask else []
    if prices and proposal.may_improve and ask - bid >= market.settings.queue.improve_min_increments * step:
        prices.append((QueueAction.IMPROVE, instrument.round_price(bid + step, Side.BUY)))
    return prices


def _score_candidate(market: _Market, proposal: Proposal, action: QueueAction, price: Decimal) -> Candidate | Blocker:
    state, settings = market.state, market.settings
    size = min(market_bounds(state, market.equity, proposal.exit_profile, market.fees, settings.sizing).values())
    slippage = sell_slippage_bps(state, size)
    read = queue_rates(state, size, joins=action is QueueAction.JOIN, settings=settings.fill)
    if slippage is None:
        return _number(BlockerCode.DEPTH, "bid depth does not take our size", "depth returns", size, None, "quote")
    if read is None:
        return _unknown("queue or trade rates")
    source, rates = read
    fill = estimate_fill(rates, proposal.ttl_s, source)
    edge = edge_of(
        state,
        price=float(price),
        fill=fill,
        slippage_bps=slippage,
        fees=market.fees,
        calibration=market.inputs.calibration,
        settings=settings.edge,
    )
    if edge is None:
        return _unknown("the spread")
    return Candidate(
        symbol=state.symbol,
        proposal=proposal,
        action=action,
        price=price,
        fill=fill,
        edge=edge,
        score=score_of(edge, fill, proposal.horizon_s),
    )


def _unknown(what: str) -> Blocker:
    return Blocker(code=BlockerCode.FILL_UNKNOWN, detail=f"{what} is not known", clears_when="samples tell it")


def _number(  # noqa: PLR0917 - every call reads as one sentence
    code: BlockerCode, detail: str, clears_when: str, value: float | None, limit: float | None, unit: str
) -> Blocker:
    return Blocker(code=code, detail=detail, clears_when=clears_when, value=value, limit=limit, unit=unit)
