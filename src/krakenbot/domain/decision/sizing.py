"""Size of an entry: the least of several bounds, rounded down to the instrument's increments.

Enters: a scored candidate, its state, equity. Leaves: quantity and every bound, or the blocker that says which
minimum was missed. Called by the pipeline after ranking. Bounds are analytics (float); the quantity is `Decimal`
and is only ever rounded down.
"""

from __future__ import annotations

from decimal import Decimal

from attrs import field, frozen
from attrs.validators import gt, instance_of, le, optional

from krakenbot.domain.decision.blocker import Blocker, BlockerCode
from krakenbot.domain.decision.candidate import Candidate
from krakenbot.domain.decision.plan import ExitProfile
from krakenbot.domain.decision.views import Fees
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.values import BPS

MAX_RISK_BPS = 50.0
MAX_KELLY_SHARE = 0.5
MAX_SLOT_SHARE = 0.10
MIN_MULTIPLE = 5
DEPTH_50_MULTIPLE = 20.0
FIVE_MIN_S = 300.0


@frozen(kw_only=True)
class SizingSettings:
    """Shares that bound a size. `max_notional_quote` is an optional fixed cap per entry."""

    risk_bps: float = field(default=10.0, validator=[gt(0.0), le(MAX_RISK_BPS)])
    kelly_share: float = field(default=0.25, validator=[gt(0.0), le(MAX_KELLY_SHARE)])
    depth_25_share: float = field(default=0.05, validator=[gt(0.0), le(0.05)])
    sell_volume_share: float = field(default=0.10, validator=[gt(0.0), le(0.10)])
    slot_share: float = field(default=0.05, validator=[gt(0.0), le(MAX_SLOT_SHARE)])
    max_notional_quote: Decimal | None = field(default=None, validator=optional([instance_of(Decimal), gt(Decimal(0))]))


@frozen(kw_only=True)
class Sized:
    """A size on the increments, and the bounds in quote units that it stays under; `binding` names the least."""

    qty: Decimal
    notional_quote: Decimal
    bounds: dict[str, float]
    binding: str
    variance: float


def market_bounds(
    state: SymbolState, equity: Decimal, exits: ExitProfile, fees: Fees, settings: SizingSettings
) -> dict[str, float]:
    """Return the bounds that need no edge and no slippage: the least is the size that slippage is walked for.

    `risk` is still without slippage, so that every later bound is smaller and the walk errs to the costly side.
    """
    bounds = {
        "risk": float(equity) * settings.risk_bps / (exits.stop_distance_bps + float(fees.taker_bps)),
        "depth_25": settings.depth_25_share * (state.bid_depth_25_quote or 0.0),
        "depth_50": (state.bid_depth_50_quote or 0.0) / DEPTH_50_MULTIPLE,
        "sell_volume": settings.sell_volume_share * FIVE_MIN_S * (state.sell_to_bid_per_s_quote or 0.0),
        "slot": settings.slot_share * float(equity),
    }
    if settings.max_notional_quote is not None:
        bounds["max_notional"] = float(settings.max_notional_quote)
    return bounds


def outcome_variance(state: SymbolState, candidate: Candidate) -> float:
    """Return the variance of a trade's outcome as a squared fraction: sigma^2 x horizon + (exit half-spread)^2."""
    sigma = (state.sigma_bps_sqrt_min or 0.0) / BPS
    minutes = candidate.proposal.horizon_s / 60
    return float(sigma**2 * minutes + (candidate.edge.half_spread_exit_bps / BPS) ** 2)


def size_quote_from_edge(
    candidate: Candidate,
    state: SymbolState,
    instrument: Instrument,
    *,
    equity: Decimal,
    fees: Fees,
    settings: SizingSettings,
) -> Sized | Blocker:
    """Return the size: least of risk, fractional Kelly, depth, volume and slot, then the regime's factor.

    At least 5 x qty_min and 5 x cost_min, so that a partial fill can be protected; else MINIMUM_SIZE, or DEPTH when
    the bid's depth is the binding bound.
    """
    exits = candidate.proposal.exit_profile
    bounds = market_bounds(state, equity, exits, fees, settings)
    loss_bps = exits.stop_distance_bps + candidate.edge.slippage_bps + float(fees.taker_bps)
    variance = outcome_variance(state, candidate)
    bounds["risk"] = float(equity) * settings.risk_bps / loss_bps
    net = max(0.0, candidate.edge.net_bps) / BPS
    if variance > 0:
        bounds["kelly"] = float(equity) * settings.kelly_share * net / variance
    binding = min(bounds, key=lambda name: (bounds[name], name))
    bound = Decimal(repr(bounds[binding] * candidate.proposal.size_factor))
    qty = instrument.round_qty(bound / candidate.price)
    notional = qty * candidate.price
    least = max(MIN_MULTIPLE * instrument.qty_min * candidate.price, MIN_MULTIPLE * instrument.cost_min)
    if qty < MIN_MULTIPLE * instrument.qty_min or notional < MIN_MULTIPLE * instrument.cost_min:
        return Blocker(
            code=BlockerCode.DEPTH if binding.startswith("depth") else BlockerCode.MINIMUM_SIZE,
            detail=f"size bound by {binding} is under 5 minimum orders",
            clears_when=f"{binding} allows a larger size",
            value=float(notional),
            limit=float(least),
            unit=str(instrument.quote),
        )
    return Sized(qty=qty, notional_quote=notional, bounds=bounds, binding=binding, variance=variance)
