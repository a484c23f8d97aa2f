"""Views of orders, positions and fills on the decision database: implements `ports.order_views`.

Enters: filters. Leaves: rows for people. Reads the `status_*` views only, in one read-only transaction a question, so
that a login which may read the status is enough.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, TypeVar

import psycopg
from psycopg import AsyncConnection

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.rows import (
    FILL_COLUMNS,
    ORDER_COLUMNS,
    POSITION_COLUMNS,
    Row,
    fill_of,
    order_of,
    position_of,
)
from krakenbot.domain.decision.plan import ExitKind
from krakenbot.domain.errors import ConfigError, StoreError
from krakenbot.domain.execution.change import OrderEventRow
from krakenbot.domain.execution.position import Protection
from krakenbot.domain.execution.round_trips import LedgerFill
from krakenbot.domain.values import ClOrdId, ExecId, Symbol, VenueId
from krakenbot.ports.order_views import OrderFilter, OrderRecord, OrderView, PositionView, TradeRows

FILLS_MAX: Final = 200_000
_RELATED_MAX: Final = 200
_EVENTS_MAX: Final = 10_000
_CHANGES_MAX: Final = 10_000
_ORDER_WIDTH: Final = ORDER_COLUMNS.count(",") + 1
_FILL_WIDTH: Final = FILL_COLUMNS.count(",") + 1
_POSITION_WIDTH: Final = POSITION_COLUMNS.count(",") + 1
_BOUND: Final = "lineage_id, epoch_id, generation_id, lease_epoch"
_ORDERS: Final = f"SELECT {ORDER_COLUMNS}, {_BOUND} FROM krakenbot.status_orders "
_LIST: Final = (
    _ORDERS + "WHERE (%(symbol)s::text IS NULL OR symbol = %(symbol)s) AND (%(states)s::text[] IS NULL"
    " OR state = ANY(%(states)s)) AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s)"
    " ORDER BY created_at DESC, cl_ord_id DESC LIMIT %(limit)s"
)
_RELATED: Final = (
    _ORDERS + "WHERE cl_ord_id <> %(id)s AND (cl_ord_id = %(parent)s OR parent_id IN (%(id)s, %(parent)s))"
    " ORDER BY created_at, cl_ord_id LIMIT %(limit)s"
)
_EVENTS: Final = """
SELECT cl_ord_id, at, event, from_state, to_state, detail FROM krakenbot.status_order_events
WHERE cl_ord_id = %s ORDER BY event_no LIMIT %s
"""
_MARKOUTS: Final = """
SELECT m.exec_id, m.horizon_s, m.markout_bps
FROM krakenbot.status_markouts m JOIN krakenbot.status_fills f USING (venue_id, exec_id)
WHERE (%(id)s::text IS NULL OR f.cl_ord_id = %(id)s) AND (%(symbol)s::text IS NULL OR f.symbol = %(symbol)s)
"""
_POSITIONS: Final = f"""
SELECT p.venue_id, {", ".join(f"p.{name}" for name in POSITION_COLUMNS.split(", "))},
    s.bid, s.computed_at - make_interval(secs => coalesce(s.l2_age_s, 0)), i.qty_min, i.cost_min,
    (SELECT max(at) FROM krakenbot.status_processes WHERE process = 'execution')
FROM krakenbot.status_positions p
LEFT JOIN LATERAL (
    SELECT bid, computed_at, l2_age_s FROM krakenbot.status_symbol_state
    WHERE symbol = p.symbol AND bid IS NOT NULL ORDER BY generation_id DESC LIMIT 1) s ON true
LEFT JOIN krakenbot.status_instruments i ON i.symbol = p.symbol
WHERE p.qty <> 0 AND (%(symbol)s::text IS NULL OR p.symbol = %(symbol)s)
ORDER BY p.symbol, p.venue_id
"""
# The change that was in force when the position opened, and all since; the newest, when they are too many.
_CHANGES: Final = """
SELECT at, protection, protected_qty FROM krakenbot.status_protection
WHERE venue_id = %(venue_id)s AND symbol = %(symbol)s AND event_no >= coalesce((
    SELECT max(event_no) FROM krakenbot.status_protection
    WHERE venue_id = %(venue_id)s AND symbol = %(symbol)s AND at <= %(opened_at)s), 0)
ORDER BY event_no DESC LIMIT %(limit)s
"""
_FILLS: Final = f"""
SELECT {", ".join(f"f.{name}" for name in FILL_COLUMNS.split(", "))}, o.exit_kind
FROM krakenbot.status_fills f JOIN krakenbot.status_orders o USING (cl_ord_id)
WHERE (%(symbol)s::text IS NULL OR f.symbol = %(symbol)s)
ORDER BY f.at DESC, f.exec_id DESC LIMIT %(limit)s
"""
_SYMBOLS: Final = """
SELECT symbol FROM krakenbot.status_instruments UNION SELECT symbol FROM krakenbot.status_orders ORDER BY 1
"""
_IDS: Final = "SELECT cl_ord_id FROM krakenbot.status_orders ORDER BY created_at DESC, cl_ord_id DESC LIMIT %s"
T = TypeVar("T")


class PostgresOrderViews:
    """OrderViews over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> datetime:
        """Return the database's time."""
        rows = await self._rows("SELECT clock_timestamp()", {})
        at: datetime = rows[0][0]
        return at

    async def symbols(self) -> Sequence[Symbol]:
        """Return every symbol that is listed or was ever traded."""
        return [Symbol(row[0]) for row in await self._rows(_SYMBOLS, {})]

    async def orders(self, wanted: OrderFilter) -> Sequence[OrderView]:
        """Return orders, newest first."""
        params = {
            "symbol": wanted.symbol,
            "states": sorted(wanted.states) or None,
            "since": wanted.since,
            "limit": wanted.limit,
        }
        return [_view_of(row) for row in await self._rows(_LIST, params)]

    async def recent_ids(self, limit: int) -> Sequence[ClOrdId]:
        """Return ids of the newest orders."""
        return [ClOrdId(row[0]) for row in await self._rows(_IDS, [limit])]

    async def record(self, cl_ord_id: ClOrdId) -> OrderRecord | None:
        """Return all that is known of an order; None when there is none."""

        async def body(connection: AsyncConnection) -> OrderRecord | None:
            found = await _fetch(connection, _ORDERS + "WHERE cl_ord_id = %s", [cl_ord_id])
            if not found:
                return None
            view = _view_of(found[0])
            related = {"id": cl_ord_id, "parent": view.order.parent_id, "limit": _RELATED_MAX}
            fills = await _fetch(
                connection,
                f"SELECT {FILL_COLUMNS} FROM krakenbot.status_fills WHERE cl_ord_id = %s ORDER BY at, exec_id",
                [cl_ord_id],
            )
            return OrderRecord(
                view=view,
                related=tuple(_view_of(row) for row in await _fetch(connection, _RELATED, related)),
                events=tuple(_event_of(row) for row in await _fetch(connection, _EVENTS, [cl_ord_id, _EVENTS_MAX])),
                fills=tuple(fill_of(row) for row in fills),
                markouts_bps=_markouts_of(await _fetch(connection, _MARKOUTS, {"id": cl_ord_id, "symbol": None})),
            )

        return await self._read(body)

    async def positions(self, symbol: Symbol | None) -> Sequence[PositionView]:
        """Return positions with a quantity, by symbol."""

        async def body(connection: AsyncConnection) -> list[PositionView]:
            return [
                await _position_view(connection, row)
                for row in await _fetch(connection, _POSITIONS, {"symbol": symbol})
            ]

        return await self._read(body)

    async def trades(self, symbol: Symbol | None) -> TradeRows:
        """Return the fills of one symbol or of all; the newest FILLS_MAX of them."""

        async def body(connection: AsyncConnection) -> TradeRows:
            rows = await _fetch(connection, _FILLS, {"symbol": symbol, "limit": FILLS_MAX + 1})
            minimums = await _fetch(connection, "SELECT symbol, qty_min FROM krakenbot.status_instruments", {})
            return TradeRows(
                fills=tuple(
                    LedgerFill(fill=fill_of(row[:_FILL_WIDTH]), exit_kind=ExitKind(row[-1]) if row[-1] else None)
                    for row in reversed(rows[:FILLS_MAX])
                ),
                markouts_bps=_markouts_of(await _fetch(connection, _MARKOUTS, {"id": None, "symbol": symbol})),
                qty_min={Symbol(row[0]): row[1] for row in minimums},
                is_cut=len(rows) > FILLS_MAX,
            )

        return await self._read(body)

    async def _rows(self, query: str, params: Mapping[str, Any] | Sequence[Any]) -> list[Row]:
        async def body(connection: AsyncConnection) -> list[Row]:
            return await _fetch(connection, query, params)

        return await self._read(body)

    async def _read(self, body: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        try:
            return await self._database.read(body)
        except StoreError as error:
            cause = error.__cause__
            if isinstance(cause, psycopg.errors.UndefinedTable):
                raise ConfigError("the decision database has no views of orders; run: krakenbot migrate") from error
            if isinstance(cause, psycopg.errors.InsufficientPrivilege):
                login, why = self._database.login, cause.diag.message_primary
                raise ConfigError(f"login {login} may not read the status: {why}") from error
            raise


async def _position_view(connection: AsyncConnection, row: Row) -> PositionView:
    venue_id, position = VenueId(row[0]), position_of(row[1 : 1 + _POSITION_WIDTH])
    bid, bid_at, qty_min, cost_min, watched_until = row[1 + _POSITION_WIDTH :]
    params = {
        "venue_id": venue_id,
        "symbol": position.symbol,
        "opened_at": position.opened_at,
        "limit": _CHANGES_MAX,
    }
    changes = await _fetch(connection, _CHANGES, params)
    return PositionView(
        venue_id=venue_id,
        position=position,
        changes=tuple((one[0], Protection(one[1]), one[2]) for one in reversed(changes)),
        bid=None if bid is None else Decimal(f"{bid:.12g}"),
        bid_at=bid_at,
        qty_min=qty_min,
        cost_min=cost_min,
        watched_until=watched_until,
    )


def _view_of(row: Row) -> OrderView:
    lineage_id, epoch_id, generation_id, lease_epoch = row[_ORDER_WIDTH:]
    return OrderView(
        order=order_of(row[:_ORDER_WIDTH]),
        lineage_id=lineage_id,
        epoch_id=epoch_id,
        generation_id=generation_id,
        lease_epoch=lease_epoch,
    )


def _event_of(row: Row) -> OrderEventRow:
    return OrderEventRow(
        cl_ord_id=ClOrdId(row[0]), at=row[1], event=row[2], from_state=row[3], to_state=row[4], detail=row[5]
    )


def _markouts_of(rows: Sequence[Row]) -> dict[ExecId, dict[float, float]]:
    markouts: dict[ExecId, dict[float, float]] = defaultdict(dict)
    for exec_id, horizon_s, bps in rows:
        markouts[ExecId(exec_id)][horizon_s] = bps
    return markouts


async def _fetch(connection: AsyncConnection, query: str, params: Mapping[str, Any] | Sequence[Any]) -> list[Row]:
    rows: list[Row] = list(await (await connection.execute(query.encode(), params)).fetchall())
    return rows
