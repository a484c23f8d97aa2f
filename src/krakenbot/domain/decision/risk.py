"""The risk gate: the last word before a plan, and the only maker of `RiskApproved`.

Enters: an entry plan, and the account as it would be with every possible order filled. Leaves: the plan approved, or
refused with the first limit by precedence. Called by the pipeline. All limits are checked every time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import frozen

from krakenbot.domain.decision.blocker import Blocker, BlockerCode
from krakenbot.domain.decision.capital import Losses, equity_of, free_quote, losses_of, position_values
from krakenbot.domain.decision.inputs import PipelineInput
from krakenbot.domain.decision.plan import EntryPlan, RiskApproved, RiskRefused
from krakenbot.domain.decision.risk_settings import RiskSettings
from krakenbot.domain.decision.views import Fees
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.state.exposure import Exposure, exposure_of, reserve_quote
from krakenbot.domain.values import Asset

_BPS = Decimal(10_000)
_A_PERSON = "a person resets the latch"


@frozen(kw_only=True)
class RiskContext:
    """What the gate needs to know once per cycle. Equity by quote asset; latches and hold are those in force now."""

    at: datetime
    inputs: PipelineInput
    exposure: Exposure
    equity: Mapping[Asset, Decimal]
    losses: Losses
    latched: frozenset[BlockerCode]
    hold_entries_until: datetime | None


def risk_context(inputs: PipelineInput, settings: RiskSettings) -> RiskContext:
    """Sum up the account, trip latches, and start or keep the hold after correlated fills.

    Day loss and drawdown are those of own fills, against at most the capital limit.
    """
    account = inputs.account
    values = position_values(account, inputs.states)
    equity = {asset: equity_of(asset, account, values, inputs.instruments) for asset in account.configured_quote}
    losses = losses_of(account, values)
    latched = set(inputs.memory.latched)
    if losses.day_quote > 0 and losses.day_quote >= _share(settings.day_loss_share, losses.day_base_quote):
        latched.add(BlockerCode.DAY_LOSS)
    if losses.drawdown_quote > 0 and losses.drawdown_quote >= _share(
        settings.drawdown_share, losses.drawdown_base_quote
    ):
        latched.add(BlockerCode.DRAWDOWN)
    return RiskContext(
        at=inputs.at,
        inputs=inputs,
        exposure=exposure_of(values, account.open_entries),
        equity=equity,
        losses=losses,
        latched=frozenset(latched),
        hold_entries_until=_hold(inputs, settings),
    )


def approve_entry(
    plan: EntryPlan, instrument: Instrument, fees: Fees, context: RiskContext, settings: RiskSettings
) -> RiskApproved[EntryPlan] | RiskRefused[EntryPlan]:
    """Approve a plan that breaks no limit with every possible order counted as filled."""
    blockers = [
        *_own_symbol(plan, context),
        *_money(plan, instrument, fees, context, settings),
        *_counts(context, settings),
        *_latches(context),
        *_price(plan, context, settings),
        *_hold_blockers(context, settings),
    ]
    if blockers:
        return RiskRefused(plan=plan, blocker=min(blockers, key=lambda blocker: blocker.code.precedence))
    return RiskApproved(plan=plan)


def _own_symbol(plan: EntryPlan, context: RiskContext) -> list[Blocker]:
    account = context.inputs.account
    found: list[Blocker] = []
    if plan.symbol in account.open_entries:
        found.append(
            _limit(BlockerCode.OPEN_ORDER, "an entry in this symbol is open or in flight", "it is done", 1.0, 0.0)
        )
    position = account.positions.get(plan.symbol)
    if position is not None and position.qty > 0:
        found.append(
            _limit(BlockerCode.OPEN_POSITION, "a position in this symbol is held", "it is closed", 1.0, 0.0),
        )
    return found


def _money(
    plan: EntryPlan, instrument: Instrument, fees: Fees, context: RiskContext, settings: RiskSettings
) -> list[Blocker]:
    found: list[Blocker] = []
    notional = plan.price * plan.qty
    needed = reserve_quote(notional, fees.taker_bps)
    free = free_quote(instrument.quote, context.inputs.account, context.inputs.instruments, fees.taker_bps)
    unit = str(instrument.quote)
    if needed > free:
        found.append(
            _limit(BlockerCode.CAPITAL, "cost and fee over free money", "money is freed", needed, free, unit),
        )
    equity = context.equity.get(instrument.quote, Decimal(0))
    total = context.exposure.total_quote + notional
    own = context.exposure.of(plan.symbol) + notional
    total_limit = _share(settings.total_exposure_share, equity)
    own_limit = _share(settings.symbol_exposure_share, equity)
    if total > total_limit:
        found.append(
            _limit(BlockerCode.EXPOSURE, "total exposure", "positions close or entries end", total, total_limit, unit)
        )
    if own > own_limit:
        found.append(_limit(BlockerCode.EXPOSURE, "exposure in the symbol", "it closes", own, own_limit, unit))
    return found


def _counts(context: RiskContext, settings: RiskSettings) -> list[Blocker]:
    account = context.inputs.account
    found: list[Blocker] = []
    if len(account.open_entries) >= settings.max_open_entries:
        found.append(
            _limit(
                BlockerCode.OPEN_ORDERS_LIMIT,
                "open, in-flight and unknown entries",
                "one ends",
                len(account.open_entries),
                settings.max_open_entries,
                "orders",
            )
        )
    if account.entries_last_minute >= settings.max_entries_per_min:
        found.append(
            _limit(
                BlockerCode.ORDER_RATE,
                "entries in the last 60 s",
                "the minute passes",
                account.entries_last_minute,
                settings.max_entries_per_min,
                "orders/min",
            )
        )
    return found


def _latches(context: RiskContext) -> list[Blocker]:
    measured = {
        BlockerCode.DAY_LOSS: ("day loss", context.losses.day_quote),
        BlockerCode.DRAWDOWN: ("drawdown from the peak", context.losses.drawdown_quote),
    }
    return [
        Blocker(code=code, detail=f"{measured[code][0]} latch", clears_when=_A_PERSON, value=float(measured[code][1]))
        for code in sorted(context.latched & measured.keys())
    ]


def _price(plan: EntryPlan, context: RiskContext, settings: RiskSettings) -> list[Blocker]:
    state = context.inputs.states.get(plan.symbol)
    mid = Decimal(repr(state.mid)) if state is not None and state.mid is not None else None
    away_bps = abs(plan.price - mid) / mid * _BPS if mid else None
    if away_bps is not None and away_bps <= Decimal(repr(settings.price_band_bps)):
        return []
    return [
        Blocker(
            code=BlockerCode.PRICE_BAND,
            detail="price away from the mid, or no mid",
            clears_when="the price is near the mid",
            value=None if away_bps is None else float(away_bps),
            limit=settings.price_band_bps,
            unit="bps",
        )
    ]


def _hold_blockers(context: RiskContext, settings: RiskSettings) -> list[Blocker]:
    found: list[Blocker] = []
    unseen_age_s = context.inputs.account.last_unseen_fill_age_s
    if unseen_age_s is not None and unseen_age_s < settings.unseen_fill_hold_s:
        found.append(
            _limit(
                BlockerCode.UNSEEN_FILL,
                "the executions feed missed a fill",
                "time passes without another",
                unseen_age_s,
                settings.unseen_fill_hold_s,
                "s",
            )
        )
    until = context.hold_entries_until
    if until is not None and context.at < until:
        found.append(
            _limit(
                BlockerCode.CORRELATED_FILLS,
                "entries filled together, or BTC fell",
                "the hold is over",
                (until - context.at).total_seconds(),
                0.0,
                "s",
            )
        )
    return found


def _hold(inputs: PipelineInput, settings: RiskSettings) -> datetime | None:
    btc = inputs.system.btc_return_60s_sigmas
    if inputs.account.entry_fills_last_minute >= settings.correlated_fills or (
        btc is not None and btc < settings.correlated_btc_sigmas
    ):
        return inputs.at + timedelta(seconds=settings.correlated_hold_s)
    return inputs.memory.hold_entries_until


def _share(share: float, amount: Decimal) -> Decimal:
    return Decimal(repr(share)) * amount


def _limit(  # noqa: PLR0917 - every call reads as one sentence
    code: BlockerCode, detail: str, clears_when: str, value: Decimal | float, limit: Decimal | float, unit: str = ""
) -> Blocker:
    return Blocker(code=code, detail=detail, clears_when=clears_when, value=float(value), limit=float(limit), unit=unit)
