"""Builders of orders, reports and fills."""

# mypy: disable-error-code="arg-type"
# Ids of the domain are NewTypes of str; the builders write them as such.
from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace

import pytest
from attrs import evolve

from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order, OrderRole, OrderState, OrderType
from krakenbot.domain.execution.reports import ExecType, ExecutionReport, Fee, VenueFill, VenueOrder
from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.values import Side

AT = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def make_order(**changes):
    order = Order(
        cl_ord_id="kbe000000000001",
        venue_id="test",
        symbol="ABC/USD",
        side=Side.BUY,
        role=OrderRole.ENTRY,
        order_type=OrderType.LIMIT,
        qty=Decimal(10),
        limit_price=Decimal(100),
        trigger_price=None,
        trigger=None,
        post_only=True,
        state=OrderState.PENDING_SUBMIT,
        created_at=AT,
        record={},
    )
    return evolve(order, **changes)


def make_report(exec_type, order_id="O-1", **fields):
    return ExecutionReport(order_id=order_id, exec_type=ExecType(exec_type), at=AT, **fields)


def make_fill(exec_id="E-1", *, side=Side.BUY, qty="1", price="100", fee="0.25", fee_asset="USD", **changes):
    fill = Fill(
        exec_id=exec_id,
        cl_ord_id="kbe000000000001",
        venue_order_id="O-1",
        venue_id="test",
        symbol="ABC/USD",
        side=side,
        price=Decimal(price),
        qty=Decimal(qty),
        cost=Decimal(price) * Decimal(qty),
        fee_asset=fee_asset,
        fee_qty=Decimal(fee),
        is_maker=True,
        at=AT,
        recorded_at=AT,
        source="stream",
    )
    return evolve(fill, **changes)


def make_venue_order(order_id="O-1", cl_ord_id="kbe000000000001", *, status="open", **changes):
    row = VenueOrder(
        order_id=order_id,
        cl_ord_id=cl_ord_id,
        symbol="ABC/USD",
        side=Side.BUY,
        status=status,
        order_type="limit",
        qty=Decimal(10),
        cum_qty=Decimal(0),
        limit_price=Decimal(100),
        trigger_price=None,
    )
    return evolve(row, **changes)


def make_venue_fill(exec_id="E-1", order_id="O-1", **changes):
    row = VenueFill(
        exec_id=exec_id,
        order_id=order_id,
        symbol="ABC/USD",
        side=Side.BUY,
        price=Decimal(100),
        qty=Decimal(1),
        cost=Decimal(100),
        fee=Decimal("0.25"),
        fee_asset="USD",
        is_maker=True,
        at=AT,
    )
    return evolve(row, **changes)


def make_trade(exec_id, qty, price="100", order_id="O-1", **fields):
    return make_report(
        "trade",
        order_id,
        exec_id=exec_id,
        last_qty=Decimal(qty),
        last_price=Decimal(price),
        fees=(Fee(asset="USD", qty=Decimal("0.25")),),
        **fields,
    )


INSTRUMENT = Instrument(
    symbol="ABC/USD",
    base="ABC",
    quote="USD",
    status=InstrumentStatus.ONLINE,
    price_precision=1,
    qty_precision=4,
    cost_precision=5,
    price_increment=Decimal("0.1"),
    qty_increment=Decimal("0.0001"),
    qty_min=Decimal("0.05"),
    cost_min=Decimal(1),
)


@pytest.fixture
def make():
    return SimpleNamespace(
        order=make_order,
        report=make_report,
        fill=make_fill,
        venue_order=make_venue_order,
        venue_fill=make_venue_fill,
        trade=make_trade,
        instrument=INSTRUMENT,
        at=AT,
    )
