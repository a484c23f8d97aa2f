"""The rows of orders to be: an entry with its protective intent, and exits.

Enters: plans that the risk gate or the position monitor made. Leaves: orders in PENDING_SUBMIT, for the desk to commit
before it sends anything.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from krakenbot.domain.decision.plan import EntryPlan, ExitKind, ProtectiveExit
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.execution.exits import price_at_distance, profile_to_record
from krakenbot.domain.execution.ids import make_cl_ord_id
from krakenbot.domain.execution.order import Order, OrderRole, OrderState, OrderType
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.values import ClOrdId, Side
from krakenbot.ports.clock import IdSource

_ROLES = {
    ExitKind.TAKE_PROFIT: OrderRole.TAKE_PROFIT,
    ExitKind.STOP_LOSS: OrderRole.PROTECTIVE_STOP,
    ExitKind.TRAILING_STOP: OrderRole.PROTECTIVE_STOP,
}


def entry_rows(
    plan: EntryPlan, instrument: Instrument, at: datetime, settings: ExecutionSettings, ids: IdSource
) -> tuple[Order, Order]:
    """Return the row of an entry and that of its protective intent."""
    profile = profile_to_record(plan.exit_profile)
    # Second precision: Kraken reads expire_time in whole seconds.
    expire_at = (at + timedelta(seconds=plan.ttl_s)).replace(microsecond=0) + timedelta(seconds=1)
    entry = Order(
        cl_ord_id=make_cl_ord_id(OrderRole.ENTRY, ids.order_suffix()),
        venue_id=settings.venue_id,
        symbol=plan.symbol,
        side=Side.BUY,
        role=OrderRole.ENTRY,
        order_type=OrderType.LIMIT,
        qty=plan.qty,
        limit_price=plan.price,
        trigger_price=None,
        trigger=None,
        post_only=True,
        state=OrderState.PENDING_SUBMIT,
        created_at=at,
        state_at=at,
        deadline_at=at + timedelta(seconds=settings.deadline_s),
        expire_at=expire_at,
        record=_entry_record(plan, profile),
    )
    stop = Order(
        cl_ord_id=make_cl_ord_id(OrderRole.PROTECTIVE_STOP, ids.order_suffix()),
        venue_id=settings.venue_id,
        symbol=plan.symbol,
        side=Side.SELL,
        role=OrderRole.PROTECTIVE_STOP,
        order_type=OrderType.STOP_LOSS,
        qty=plan.qty,
        limit_price=None,
        trigger_price=price_at_distance(plan.price, -plan.exit_profile.stop_distance_bps, instrument),
        trigger=plan.exit_profile.stop_trigger,
        post_only=False,
        state=OrderState.PENDING_SUBMIT,
        created_at=at,
        state_at=at,
        parent_id=entry.cl_ord_id,
        exit_kind=ExitKind.STOP_LOSS,
        record={"exit_profile": profile, "reason": "protective intent"},
    )
    return entry, stop


def exit_row(
    plan: ProtectiveExit, parent_id: ClOrdId | None, at: datetime, settings: ExecutionSettings, ids: IdSource
) -> Order:
    """Return the row of an exit; its deadline is set when it is sent."""
    is_stop = plan.trigger_price is not None
    role = _ROLES.get(plan.kind, OrderRole.MARKET_EXIT) if is_stop or plan.limit_price else OrderRole.MARKET_EXIT
    order_type = OrderType.STOP_LOSS if is_stop else OrderType.LIMIT if plan.limit_price else OrderType.MARKET
    return Order(
        cl_ord_id=make_cl_ord_id(role, ids.order_suffix()),
        venue_id=settings.venue_id,
        symbol=plan.symbol,
        side=Side.SELL,
        role=role,
        order_type=order_type,
        qty=plan.qty,
        limit_price=plan.limit_price,
        trigger_price=plan.trigger_price,
        trigger=plan.trigger if is_stop else None,
        post_only=plan.limit_price is not None,
        state=OrderState.PENDING_SUBMIT,
        created_at=at,
        state_at=at,
        parent_id=parent_id,
        exit_kind=plan.kind,
        record={"reason": plan.reason},
    )


def _entry_record(plan: EntryPlan, profile: dict[str, object]) -> dict[str, object]:
    return {
        **plan.record,
        "regime": plan.regime,
        "regime_view": plan.record.get("regime"),
        "strategy": plan.strategy,
        "strategy_view": plan.record.get("strategy"),
        "action": plan.action,
        "score": plan.score,
        "generation_id": plan.generation_id,
        "epoch_id": plan.epoch_id,
        "lineage_id": plan.lineage_id,
        "state_at": plan.state_at.isoformat(),
        "exit_profile": profile,
    }
