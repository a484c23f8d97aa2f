"""What stands in the databases before an order: a lineage, a valid epoch, a generation; and the rows of orders."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import evolve

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.lineage_store import PostgresLineageStore
from krakenbot.adapters.postgres.state_refresher import PostgresRefreshAnswers, PostgresStateRefresher
from krakenbot.adapters.postgres.state_store import PostgresStateStore
from krakenbot.domain.decision.plan import ExitKind, StopTrigger
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order, OrderRole, OrderState, OrderType
from krakenbot.domain.state.epoch import EpochCriteria, EpochStatus
from krakenbot.domain.values import Asset, ClOrdId, ExecId, LeaseEpoch, Side, Symbol, VenueId, VenueOrderId
from krakenbot.ports.order_store import EntryGate

VENUE = VenueId("127.0.0.1/test")
ABC = Symbol("ABC/USD")
CRITERIA = EpochCriteria(
    symbols=1,
    l2_fresh=1,
    l3_set=1,
    l3_fresh=1,
    pinned=0,
    pinned_l2_fresh=0,
    pinned_l3_fresh=0,
    writer_lag_s=0.0,
    symbols_configured=1,
    l3_enabled=True,
)


def entry_row(cl_ord_id: str, at: datetime, **changes: Any) -> Order:
    made = Order(
        cl_ord_id=ClOrdId(cl_ord_id),
        venue_id=VENUE,
        symbol=ABC,
        side=Side.BUY,
        role=OrderRole.ENTRY,
        order_type=OrderType.LIMIT,
        qty=Decimal(1),
        limit_price=Decimal(100),
        trigger_price=None,
        trigger=None,
        post_only=True,
        state=OrderState.PENDING_SUBMIT,
        created_at=at,
        record={"regime": "range"},
    )
    return evolve(made, **changes)


def stop_row(cl_ord_id: str, at: datetime, parent_id: str, **changes: Any) -> Order:
    made = entry_row(
        cl_ord_id,
        at,
        side=Side.SELL,
        role=OrderRole.PROTECTIVE_STOP,
        order_type=OrderType.STOP_LOSS,
        limit_price=None,
        trigger_price=Decimal(95),
        trigger=StopTrigger.LAST,
        post_only=False,
        parent_id=ClOrdId(parent_id),
        exit_kind=ExitKind.STOP_LOSS,
    )
    return evolve(made, **changes)


def fill_row(exec_id: str, at: datetime, **changes: Any) -> Fill:
    made = Fill(
        exec_id=ExecId(exec_id),
        cl_ord_id=ClOrdId("kbe1"),
        venue_order_id=VenueOrderId("O1"),
        venue_id=VENUE,
        symbol=ABC,
        side=Side.BUY,
        price=Decimal(100),
        qty=Decimal(1),
        cost=Decimal(100),
        fee_asset=Asset("USD"),
        fee_qty=Decimal(0),
        is_maker=True,
        at=at,
        recorded_at=at,
        source="stream",
    )
    return evolve(made, **changes)


async def publish_gate(
    ingest: Database, publish: Database, decision: Database, at: datetime, symbol: Symbol = ABC
) -> EntryGate:
    """Bring a lineage, a valid epoch and an answered generation into force; the gate lacks a lease."""
    lineage_store, answers = PostgresLineageStore(ingest, publish), PostgresRefreshAnswers(publish)
    refresher, state = PostgresStateRefresher(ingest, publish), PostgresStateStore(decision)
    try:
        lineage_id, run_id = await lineage_store.start_lineage(at)
        epoch, _ = await lineage_store.publish_epoch(
            lineage_id=lineage_id,
            run_id=run_id,
            status=EpochStatus.VALID,
            criteria=CRITERIA,
            reasons=(),
            execution=(symbol,),
            l3=(symbol,),
            pinned=(),
            at=at,
        )
        assert await state.request_refresh(at, 0.0) is None
        refreshed = await refresher.refresh(lineage_id, run_id, at)
        await refresher.sync(refreshed.generation_id)
        await answers.answer(await answers.wait_for_requests(1.0), refreshed.generation_id)
    finally:
        await answers.aclose()
        await state.aclose()
    return EntryGate(
        lineage_id=lineage_id,
        epoch_id=epoch.epoch_id,
        generation_id=refreshed.generation_id,
        lease_epoch=LeaseEpoch(0),
        max_generation_age_s=60,
        max_epoch_age_s=120,
        at=at,
    )
