"""The status that the execution process publishes: plain JSON values, read by `krakenbot status` and the rehearsal."""

from __future__ import annotations

import math

from attrs import asdict

from krakenbot.domain.engine.account import AccountKeeper
from krakenbot.domain.engine.counted_gateway import CountedGateway
from krakenbot.domain.engine.evaluate import Evaluator
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.executions import ExecutionsConsumer
from krakenbot.domain.engine.exits import PositionMonitor
from krakenbot.domain.engine.lease_keeper import LeaseKeeper
from krakenbot.domain.engine.ledger_keeper import LedgerKeeper
from krakenbot.domain.engine.markouts import MarkoutRecorder
from krakenbot.domain.engine.rate_keeper import RateKeeper
from krakenbot.domain.engine.reconcile import Reconciler
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.engine.resting import RestingEntries
from krakenbot.ports.clock import Clock
from krakenbot.ports.execution_feed import ExecutionFeed
from krakenbot.ports.market_feed import MarketFeed
from krakenbot.ports.venue_query import VenueQuery


def execution_status(
    *,
    clock: Clock,
    settings: ExecutionSettings,
    feed: ExecutionFeed,
    market_feed: MarketFeed,
    recorder: Recorder,
    lease: LeaseKeeper,
    executions: ExecutionsConsumer,
    reconciler: Reconciler,
    account: AccountKeeper,
    ledger: LedgerKeeper,
    query: VenueQuery,
    evaluator: Evaluator,
    monitor: PositionMonitor,
    resting: RestingEntries,
    markouts: MarkoutRecorder,
    rate: RateKeeper,
    gateway: CountedGateway,
) -> dict[str, object]:
    """Return the state of the engine as plain JSON values; quantities and prices as exact texts."""
    now = clock.now()
    live = recorder.tracker.live()
    states: dict[str, int] = {}
    for order in live:
        states[order.state] = states.get(order.state, 0) + 1
    within = sorted(monitor.protected_within_s)
    health = market_feed.health()
    return {
        "at": now.isoformat(),
        "venue_id": settings.venue_id,
        "venue_status": feed.venue_status,
        "lease": {"held": lease.is_held, "age_s": lease.age_s},
        "executions": {
            "connected": feed.is_connected,
            "reports": executions.reports,
            "snapshots": executions.snapshots,
            "gaps": executions.gaps,
            "foreign": recorder.tracker.foreign_reports,
            "duplicates": recorder.tracker.duplicate_fills,
            "orphans": recorder.tracker.orphans(),
        },
        "reconciliation": {
            "clean": reconciler.is_clean,
            "ladders": reconciler.ladders,
            "corrections": dict(reconciler.corrections),
        },
        "store": {"available": recorder.is_store_available, "backlog": recorder.backlog},
        "account": {
            "age_s": account.age_s,
            "equity_quote": None if account.equity_quote is None else str(account.equity_quote),
            "pnl_quote": str(account.pnl_quote),
            "peak_pnl_quote": str(account.peak_pnl_quote),
            "realized_today_quote": str(account.realized_today_quote),
            **account.money(),
        },
        "ledger": ledger.status(),
        "query_budget": asdict(query.budget),
        "cycles": {
            "count": evaluator.cycles,
            "failed": evaluator.failed,
            "generation_id": evaluator.last_generation,
            "epoch": evaluator.epoch,
            "funnel": evaluator.last_funnel,
        },
        "blockers": dict(sorted(evaluator.blockers.items())),
        "orders": [
            {
                "cl_ord_id": order.cl_ord_id,
                "symbol": order.symbol,
                "role": order.role.value,
                "state": order.state.value,
                "qty": str(order.qty),
                "filled": str(order.cum_qty),
                "limit_price": None if order.limit_price is None else str(order.limit_price),
                "trigger_price": None if order.trigger_price is None else str(order.trigger_price),
                "age_s": (now - order.created_at).total_seconds(),
            }
            for order in live
        ],
        "order_states": states,
        "positions": [
            {
                "symbol": position.symbol,
                "qty": str(position.qty),
                "cost_quote": str(position.cost_quote),
                "protection": monitor.protection().get(position.symbol, "flat"),
            }
            for position in recorder.tracker.positions()
        ],
        "protection": {
            "seconds": {name: round(value, 3) for name, value in monitor.seconds.items()},
            "within_s": {
                "count": len(within),
                "p50": _quantile(within, 0.5),
                "p99": _quantile(within, 0.99),
                "max": within[-1] if within else None,
            },
        },
        "entry_cancels": dict(resting.cancels),
        "alarms": dict(recorder.alarms),
        "markouts": {"recorded": markouts.recorded, "missed": markouts.missed},
        "rate": {**rate.status(), "entries_not_sent": gateway.refused},
        "live_feed": {
            "connected": health.connected,
            "heartbeat_age_s": health.heartbeat_age_s,
            "frames": dict(health.frames),
            "book_ok": health.book_ok,
            "book_bad": health.book_bad,
            "level3_ok": health.level3_ok,
            "level3_bad": health.level3_bad,
            "resyncs": health.resyncs,
            "reconnects": health.reconnects,
            "streams": [asdict(each) for each in health.streams],
            "quarantined": [asdict(each) for each in health.quarantined],
        },
    }


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)] if ordered else None
