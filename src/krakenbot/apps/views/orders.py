"""`krakenbot orders`: the list, and with `--id` the whole record of one order.

Enters: a question. Leaves: a table or JSON of a fixed shape (docs/orders.md). Amounts are exact texts in JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from krakenbot.apps.settings import Settings
from krakenbot.apps.views.query import FORMAT_VERSION, Question, no_such_order, open_views, order_filter
from krakenbot.apps.views.tables import WIDTH, Column, clock_time, number, table
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order
from krakenbot.domain.values import ClOrdId
from krakenbot.ports.order_views import OrderRecord, OrderView

_NEAR_IDS = 2_000
_COLUMNS = (
    Column("created (UTC)"),
    Column("id"),
    Column("symbol", gives_way=True),
    Column("role", gives_way=True),
    Column("state", gives_way=True),
    Column("qty", is_right=True),
    Column("filled", is_right=True),
    Column("price", is_right=True),
    Column("why", gives_way=True),
)
_FILLS = (
    Column("time (UTC)"),
    Column("exec_id", gives_way=True),
    Column("side"),
    Column("qty", is_right=True),
    Column("price", is_right=True),
    Column("fee", is_right=True),
    Column("as"),
    Column("seen by"),
    Column("markouts bps", gives_way=True),
)


async def print_orders(settings: Settings, asked: Question, *, as_json: bool) -> None:
    """Print orders, the oldest of them first."""
    async with open_views(settings) as views:
        wanted = await order_filter(views, asked)
        found = list(reversed(await views.orders(wanted)))
    if as_json:
        print(_dumped({"version": FORMAT_VERSION, "orders": [order_object(view) for view in found]}))
    elif found:
        print("\n".join(table(_COLUMNS, [_row(view.order) for view in found])))
        if len(found) == wanted.limit:
            print(f"the newest {wanted.limit}; --limit shows more")
    else:
        print("no orders" + (" that fit" if asked != Question(limit=asked.limit) else " yet"))


async def print_order(settings: Settings, cl_ord_id: str, *, as_json: bool) -> None:
    """Print everything that is known of one order; raises ConfigError when there is none."""
    async with open_views(settings) as views:
        record = await views.record(ClOrdId(cl_ord_id.strip()))
        if record is None:
            raise no_such_order(cl_ord_id, await views.recent_ids(_NEAR_IDS))
    print(_dumped({"version": FORMAT_VERSION, **record_object(record)}) if as_json else "\n".join(_record(record)))


def order_object(view: OrderView) -> dict[str, Any]:
    """Return an order as JSON has it; `record` is the whole decision record."""
    order = view.order
    return {
        "cl_ord_id": order.cl_ord_id,
        "venue_id": order.venue_id,
        "venue_order_id": order.venue_order_id,
        "parent_id": order.parent_id,
        "symbol": order.symbol,
        "side": order.side.value,
        "role": order.role.value,
        "order_type": order.order_type.value,
        "state": order.state.value,
        "reason": order.reason,
        "exit_kind": order.exit_kind.value if order.exit_kind else None,
        "qty": str(order.qty),
        "cum_qty": str(order.cum_qty),
        "limit_price": _exact(order.limit_price),
        "trigger_price": _exact(order.trigger_price),
        "trigger": order.trigger.value if order.trigger else None,
        "post_only": order.post_only,
        "created_at": order.created_at.isoformat(),
        "state_at": order.state_at.isoformat() if order.state_at else None,
        "deadline_at": order.deadline_at.isoformat() if order.deadline_at else None,
        "expire_at": order.expire_at.isoformat() if order.expire_at else None,
        "lineage_id": view.lineage_id,
        "epoch_id": view.epoch_id,
        "generation_id": view.generation_id,
        "lease_epoch": view.lease_epoch,
        "record": order.record,
    }


def record_object(record: OrderRecord) -> dict[str, Any]:
    """Return the whole record of an order as JSON has it."""
    return {
        "order": order_object(record.view),
        "related": [order_object(view) for view in record.related],
        "events": [
            {
                "at": event.at.isoformat(),
                "event": event.event,
                "from_state": event.from_state,
                "to_state": event.to_state,
                "detail": event.detail,
            }
            for event in record.events
        ],
        "fills": [fill_object(fill, record.markouts_bps.get(fill.exec_id, {})) for fill in record.fills],
    }


def fill_object(fill: Fill, markouts_bps: Mapping[float, float]) -> dict[str, Any]:
    """Return a fill as JSON has it; markouts by horizon in seconds."""
    return {
        "exec_id": fill.exec_id,
        "at": fill.at.isoformat(),
        "recorded_at": fill.recorded_at.isoformat(),
        "side": fill.side.value,
        "qty": str(fill.qty),
        "price": str(fill.price),
        "cost": str(fill.cost),
        "fee_asset": fill.fee_asset,
        "fee_qty": str(fill.fee_qty),
        "is_maker": fill.is_maker,
        "source": str(fill.source),
        "markouts_bps": {f"{horizon:g}": bps for horizon, bps in sorted(markouts_bps.items())},
    }


def _row(order: Order) -> tuple[str, ...]:
    price = order.trigger_price if order.limit_price is None else order.limit_price
    decided = f"{order.record.get('strategy', '?')}, {order.record.get('regime', '?')}"
    why = decided if order.role == "entry" else str(order.exit_kind.value if order.exit_kind else "")
    return (
        clock_time(order.created_at),
        order.cl_ord_id,
        order.symbol,
        order.role.value,
        order.state.value,
        number(order.qty),
        number(order.cum_qty),
        "market" if price is None else number(price),
        f"{why}: {order.reason}" if order.reason else why,
    )


def _record(record: OrderRecord) -> Iterator[str]:
    order = record.view.order
    plain = {name: value for name, value in order_object(record.view).items() if name != "record" and value is not None}
    yield from _pairs(plain, "")
    yield ""
    yield "decision record" if order.role == "entry" else "record"
    yield from _pairs(order.record, "  ") if order.record else iter(["  nothing"])
    yield ""
    yield "events" if record.events else "no events"
    for event in record.events:
        after_s = (event.at - order.created_at).total_seconds()
        moved = event.to_state if event.from_state == event.to_state else f"{event.from_state} -> {event.to_state}"
        detail = ", ".join(f"{name} {value}" for name, value in event.detail.items() if value is not None)
        yield _cut(f"  {clock_time(event.at)}  +{after_s:.3f} s  {event.event}: {moved}  {detail}".rstrip())
    yield ""
    yield "fills" if record.fills else "no fills"
    if record.fills:
        yield from table(_FILLS, [_fill_row(fill, record) for fill in record.fills])
    if record.related:
        yield ""
        yield "related orders"
        yield from table(_COLUMNS, [_row(view.order) for view in record.related])


def _fill_row(fill: Fill, record: OrderRecord) -> tuple[str, ...]:
    markouts = sorted(record.markouts_bps.get(fill.exec_id, {}).items())
    return (
        clock_time(fill.at),
        fill.exec_id,
        fill.side.value,
        number(fill.qty),
        number(fill.price),
        f"{number(fill.fee_qty)} {fill.fee_asset}",
        "maker" if fill.is_maker else "taker",
        str(fill.source),
        ", ".join(f"{horizon:g} s {bps:+.1f}" for horizon, bps in markouts) or "-",
    )


def _pairs(values: Mapping[str, Any], indent: str) -> Iterator[str]:
    """Yield a line per value, a level deeper for values within values."""
    width = max((len(name) for name, value in values.items() if not isinstance(value, Mapping)), default=0)
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield f"{indent}{name}"
            yield from _pairs(value, indent + "  ")
        else:
            text = f"{value:.6g}" if isinstance(value, float) else str(value)
            yield _cut(f"{indent}{name:<{width}}  {text}")


def _cut(line: str) -> str:
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"


def _exact(value: object) -> str | None:
    return None if value is None else str(value)


def _dumped(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2, default=str)
