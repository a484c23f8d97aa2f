"""Rows and values: the one place that knows the columns of each table and how a value is written in them.

Enters: domain values, or rows as psycopg loads them. Leaves: the other. Called by the stores of this package.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import asdict, fields
from psycopg.types.json import Jsonb

from krakenbot.domain.decision.plan import ExitKind, StopTrigger
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order, OrderRole, OrderState, OrderType
from krakenbot.domain.execution.position import Position
from krakenbot.domain.instrument import Instrument, InstrumentStatus
from krakenbot.domain.state.epoch import Epoch, EpochCriteria, EpochStatus, UniverseSnapshot
from krakenbot.domain.state.safety import EngineMode, EngineState, SafetyMode, SymbolSafety
from krakenbot.domain.state.symbol_state import SymbolState
from krakenbot.domain.values import (
    Asset,
    ClOrdId,
    EpochId,
    ExecId,
    LineageId,
    RunId,
    Side,
    Symbol,
    VenueId,
    VenueOrderId,
)

Row = Sequence[Any]

ORDER_COLUMNS = (
    "cl_ord_id, venue_id, symbol, side, role, order_type, qty, limit_price, trigger_price, trigger, post_only, state, "
    "created_at, deadline_at, expire_at, parent_id, exit_kind, venue_order_id, cum_qty, state_at, reason, record"
)
FILL_COLUMNS = (
    "exec_id, cl_ord_id, venue_order_id, venue_id, symbol, side, price, qty, cost, fee_asset, fee_qty, is_maker, at, "
    "recorded_at, source"
)
POSITION_COLUMNS = "symbol, qty, cost_quote, realized_quote, opened_at, entry_id"
INSTRUMENT_COLUMNS = (
    "symbol, base, quote, status, price_precision, qty_precision, cost_precision, price_increment, qty_increment, "
    "qty_min, cost_min, has_index"
)
EPOCH_COLUMNS = "epoch_id, lineage_id, run_id, status, created_at, criteria, reasons"
STATE_FIELDS = tuple(field.name for field in fields(SymbolState))
STATE_COLUMNS = ", ".join(STATE_FIELDS)


def placeholders(columns: str) -> str:
    """Return as many %s as there are columns."""
    return ", ".join(["%s"] * (columns.count(",") + 1))


def json_value(value: object) -> Jsonb:
    """Wrap a plain value for jsonb; numbers that JSON lacks become their names, decimals and times become text."""
    return Jsonb(value, dumps=_dumps)


def _dumps(value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False, default=str)
    except ValueError:
        return json.dumps(_named(value), allow_nan=False, default=str)


def _named(value: object) -> object:
    match value:
        case float() if not math.isfinite(value):
            return repr(value)
        case dict():
            return {key: _named(item) for key, item in value.items()}
        case list() | tuple():
            return [_named(item) for item in value]
        case _:
            return value


def order_values(order: Order) -> list[Any]:
    """Return an order's values in the order of ORDER_COLUMNS."""
    return [
        order.cl_ord_id,
        order.venue_id,
        order.symbol,
        order.side.value,
        order.role.value,
        order.order_type.value,
        order.qty,
        order.limit_price,
        order.trigger_price,
        order.trigger.value if order.trigger else None,
        order.post_only,
        order.state.value,
        order.created_at,
        order.deadline_at,
        order.expire_at,
        order.parent_id,
        order.exit_kind.value if order.exit_kind else None,
        order.venue_order_id,
        order.cum_qty,
        order.state_at,
        order.reason,
        json_value(order.record),
    ]


def order_of(row: Row) -> Order:
    """Return the order of a row in the order of ORDER_COLUMNS."""
    return Order(
        cl_ord_id=ClOrdId(row[0]),
        venue_id=VenueId(row[1]),
        symbol=Symbol(row[2]),
        side=Side(row[3]),
        role=OrderRole(row[4]),
        order_type=OrderType(row[5]),
        qty=row[6],
        limit_price=row[7],
        trigger_price=row[8],
        trigger=StopTrigger(row[9]) if row[9] is not None else None,
        post_only=row[10],
        state=OrderState(row[11]),
        created_at=row[12],
        deadline_at=row[13],
        expire_at=row[14],
        parent_id=ClOrdId(row[15]) if row[15] is not None else None,
        exit_kind=ExitKind(row[16]) if row[16] is not None else None,
        venue_order_id=VenueOrderId(row[17]) if row[17] is not None else None,
        cum_qty=row[18],
        state_at=row[19],
        reason=row[20],
        record=row[21],
    )


def fill_values(fill: Fill) -> list[Any]:
    """Return a fill's values in the order of FILL_COLUMNS."""
    return [
        fill.exec_id,
        fill.cl_ord_id,
        fill.venue_order_id,
        fill.venue_id,
        fill.symbol,
        fill.side.value,
        fill.price,
        fill.qty,
        fill.cost,
        fill.fee_asset,
        fill.fee_qty,
        fill.is_maker,
        fill.at,
        fill.recorded_at,
        fill.source,
    ]


def fill_of(row: Row) -> Fill:
    """Return the fill of a row in the order of FILL_COLUMNS."""
    return Fill(
        exec_id=ExecId(row[0]),
        cl_ord_id=ClOrdId(row[1]),
        venue_order_id=VenueOrderId(row[2]),
        venue_id=VenueId(row[3]),
        symbol=Symbol(row[4]),
        side=Side(row[5]),
        price=row[6],
        qty=row[7],
        cost=row[8],
        fee_asset=Asset(row[9]),
        fee_qty=row[10],
        is_maker=row[11],
        at=row[12],
        recorded_at=row[13],
        source=row[14],
    )


def position_values(position: Position) -> list[Any]:
    """Return a position's values in the order of POSITION_COLUMNS."""
    return [
        position.symbol,
        position.qty,
        position.cost_quote,
        position.realized_quote,
        position.opened_at,
        position.entry_id,
    ]


def position_of(row: Row) -> Position:
    """Return the position of a row in the order of POSITION_COLUMNS."""
    return Position(
        symbol=Symbol(row[0]),
        qty=row[1],
        cost_quote=row[2],
        realized_quote=row[3],
        opened_at=row[4],
        entry_id=ClOrdId(row[5]) if row[5] is not None else None,
    )


def instrument_values(instrument: Instrument) -> list[Any]:
    """Return an instrument's values in the order of INSTRUMENT_COLUMNS."""
    return [
        instrument.symbol,
        instrument.base,
        instrument.quote,
        instrument.status.value,
        instrument.price_precision,
        instrument.qty_precision,
        instrument.cost_precision,
        instrument.price_increment,
        instrument.qty_increment,
        instrument.qty_min,
        instrument.cost_min,
        instrument.has_index,
    ]


def instrument_of(row: Row) -> Instrument:
    """Return the instrument of a row in the order of INSTRUMENT_COLUMNS."""
    return Instrument(
        symbol=Symbol(row[0]),
        base=Asset(row[1]),
        quote=Asset(row[2]),
        status=InstrumentStatus(row[3]),
        price_precision=row[4],
        qty_precision=row[5],
        cost_precision=row[6],
        price_increment=row[7],
        qty_increment=row[8],
        qty_min=row[9],
        cost_min=row[10],
        has_index=row[11],
    )


def epoch_values(epoch: Epoch) -> list[Any]:
    """Return an epoch's values in the order of EPOCH_COLUMNS."""
    return [
        epoch.epoch_id,
        epoch.lineage_id,
        epoch.run_id,
        epoch.status.value,
        epoch.created_at,
        json_value(asdict(epoch.criteria)),
        list(epoch.reasons),
    ]


def epoch_of(row: Row) -> Epoch:
    """Return the epoch of a row in the order of EPOCH_COLUMNS."""
    return Epoch(
        epoch_id=EpochId(row[0]),
        lineage_id=LineageId(row[1]),
        run_id=RunId(row[2]),
        status=EpochStatus(row[3]),
        created_at=row[4],
        criteria=EpochCriteria(**row[5]),
        reasons=tuple(row[6]),
    )


def universe_of(row: Row) -> UniverseSnapshot:
    """Return the snapshot of a row (epoch_id, execution, l3, pinned)."""
    return UniverseSnapshot(
        epoch_id=EpochId(row[0]),
        execution=tuple(Symbol(symbol) for symbol in row[1]),
        l3=tuple(Symbol(symbol) for symbol in row[2]),
        pinned=tuple(Symbol(symbol) for symbol in row[3]),
    )


def state_of(row: Row) -> SymbolState:
    """Return the state of a row in the order of STATE_COLUMNS."""
    return SymbolState(**dict(zip(STATE_FIELDS, row, strict=True)))


def engine_state_of(row: Row | None) -> EngineState:
    """Return the engine's state of a row (mode, reason, since, latch); normal when there is none yet."""
    if row is None:
        return EngineState(mode=EngineMode.NORMAL, reason="", since=None)
    return EngineState(mode=EngineMode(row[0]), reason=row[1], since=row[2], latch=row[3])


def safety_of(row: Row) -> SymbolSafety:
    """Return a symbol's safety of a row (symbol, mode, reason, since, until)."""
    return SymbolSafety(symbol=Symbol(row[0]), mode=SafetyMode(row[1]), reason=row[2], since=row[3], until=row[4])


def decimal_texts(values: dict[Any, Decimal]) -> Jsonb:
    """Wrap decimals for jsonb as exact text."""
    return Jsonb({str(key): format(value, "f") for key, value in values.items()})


def seconds_before(at: datetime, then: datetime) -> float:
    """Return how many seconds `then` lies before `at`."""
    return (at - then).total_seconds()
