"""Orders, fills and positions in the decision database: one transaction per report, row before order.

Enters: rows to insert or change. Leaves: commits, or Refused, LeaseLost, StoreConflict, StoreUnavailable. Called by
the desk, the executions loop and start-up. What the database itself guards (append-only, terminal states, fills by
exec_id) is in the migrations.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from attrs import define
from psycopg import AsyncConnection

from krakenbot.adapters.postgres.database import Body, CommitInDoubt, Database, in_own_task
from krakenbot.adapters.postgres.entry_gate import GATE, LEASE, check_gate, check_lease
from krakenbot.adapters.postgres.rows import (
    FILL_COLUMNS,
    ORDER_COLUMNS,
    POSITION_COLUMNS,
    decimal_texts,
    fill_of,
    fill_values,
    json_value,
    order_of,
    order_values,
    placeholders,
    position_of,
    position_values,
)
from krakenbot.domain.errors import LeaseLost, StoreConflict
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order
from krakenbot.domain.execution.position import Position, ProtectionEvent
from krakenbot.domain.values import ClOrdId, ExecId, LeaseEpoch, Symbol, VenueId
from krakenbot.ports.order_store import EntryGate, LiveBook, OrderChange, OrderEventRow

MAX_EXEC_IDS = 10_000
MAX_FILLS = 100_000
_GATE_COLUMNS = "lineage_id, epoch_id, generation_id, lease_epoch"
_TERMINAL = "('filled', 'canceled', 'expired', 'rejected', 'never_accepted')"

_INSERT_ORDER = (
    f"INSERT INTO execution_orders ({ORDER_COLUMNS}, {_GATE_COLUMNS}) "
    f"VALUES ({placeholders(ORDER_COLUMNS)}, {placeholders(_GATE_COLUMNS)})"
)
_NAMES = {row: [f"{row}_{column}" for column in ORDER_COLUMNS.split(", ")] for row in ("entry", "protective")}
_ENTRY_NAMES = [*_NAMES["entry"], *_NAMES["protective"], *_GATE_COLUMNS.split(", ")]
# Both rows share the gate's values by name: a statement with more than 50 values psycopg parses anew each time.
_INSERT_ENTRY = f"INSERT INTO execution_orders ({ORDER_COLUMNS}, {_GATE_COLUMNS}) VALUES " + ", ".join(
    "(" + ", ".join(f"%({name})s" for name in [*_NAMES[row], *_GATE_COLUMNS.split(", ")]) + ")" for row in _NAMES
)
_UPDATE_ORDER = """
UPDATE execution_orders SET qty = %s, limit_price = %s, trigger_price = %s, state = %s, deadline_at = %s,
    expire_at = %s, venue_order_id = %s, cum_qty = %s, state_at = %s, reason = %s, record = %s, exit_kind = %s
WHERE cl_ord_id = %s AND venue_id = %s
"""
_INSERT_EVENT = """
INSERT INTO execution_order_events (cl_ord_id, at, event, from_state, to_state, detail) VALUES (%s, %s, %s, %s, %s, %s)
"""
_INSERT_FILL = f"INSERT INTO fills ({FILL_COLUMNS}) VALUES ({placeholders(FILL_COLUMNS)})"
_INSERT_JOURNAL = "INSERT INTO order_journal (journal_id, lease_epoch) VALUES (%s, %s)"
_OLD_POSITION = "SELECT realized_quote, entry_id FROM positions WHERE venue_id = %s AND symbol = %s FOR UPDATE"
_PUT_POSITION = f"""
INSERT INTO positions (venue_id, {POSITION_COLUMNS}) VALUES (%s, {placeholders(POSITION_COLUMNS)})
ON CONFLICT (venue_id, symbol) DO UPDATE SET qty = excluded.qty, cost_quote = excluded.cost_quote,
    realized_quote = excluded.realized_quote, opened_at = excluded.opened_at, entry_id = excluded.entry_id,
    updated_at = clock_timestamp()
"""
_INSERT_PNL = "INSERT INTO realized_pnl (venue_id, symbol, entry_id, amount_quote, at) VALUES (%s, %s, %s, %s, %s)"
_INSERT_PROTECTION = """
INSERT INTO protection_events (venue_id, symbol, at, protection, position_qty, protected_qty, reason)
VALUES (%s, %s, %s, %s, %s, %s, %s)
"""
_MOVE_CURSOR = """
INSERT INTO reconciled AS r (venue_id, reconciled_at) VALUES (%s, %s)
ON CONFLICT (venue_id) DO UPDATE SET reconciled_at = excluded.reconciled_at, written_at = clock_timestamp()
WHERE r.reconciled_at < excluded.reconciled_at
"""
# From symbol to symbol by the index: a grouping would read every order there ever was.
_LAST_CHANGES = """
WITH RECURSIVE traded AS (
    SELECT min(symbol) AS symbol FROM execution_orders WHERE venue_id = %(venue_id)s
    UNION ALL
    SELECT (SELECT min(o.symbol) FROM execution_orders o WHERE o.venue_id = %(venue_id)s AND o.symbol > t.symbol)
    FROM traded t WHERE t.symbol IS NOT NULL
)
SELECT t.symbol, (SELECT max(greatest(o.created_at, o.state_at)) FROM execution_orders o
    WHERE o.venue_id = %(venue_id)s AND o.symbol = t.symbol)
FROM traded t WHERE t.symbol IS NOT NULL
"""


@define
class _Attempt:
    """A change that was handed in; what became of it as far as it is known."""

    change: OrderChange
    transaction_id: str | None = None
    is_committed: bool = False


class PostgresOrderStore:
    """OrderStore on the decision database, for one venue account."""

    def __init__(self, database: Database, *, venue_id: VenueId) -> None:
        self._database = database
        self._venue_id = venue_id
        self._attempt: _Attempt | None = None
        self._in_doubt: dict[ClOrdId, str] = {}

    async def insert_entry(self, order: Order, protective: Order, gate: EntryGate) -> None:
        """Insert an entry and its protective intent, both fenced by lease, generation and epoch."""

        async def body(connection: AsyncConnection) -> None:
            # All are sent together; the rows are there only if what follows lets the transaction commit.
            found = await connection.execute(GATE, [gate.generation_id, gate.epoch_id, gate.lineage_id])
            bound = [gate.lineage_id, gate.epoch_id, gate.generation_id, gate.lease_epoch]
            values = [*order_values(order), *order_values(protective), *bound]
            await connection.execute(_INSERT_ENTRY, dict(zip(_ENTRY_NAMES, values, strict=True)))
            row = await found.fetchone()
            check_lease(row, gate.lease_epoch)
            check_gate(row[3:] if row else None, gate)

        await in_own_task(self._insert((order.cl_ord_id, protective.cl_ord_id), body), finish=True)

    async def _insert(self, cl_ord_ids: tuple[ClOrdId, ...], body: Body[None]) -> None:
        try:
            await self._database.write_pipelined(body)
        except CommitInDoubt as doubt:
            # Also when the caller has given up meanwhile: he reads back by `find_order`.
            self._in_doubt |= dict.fromkeys(cl_ord_ids, doubt.transaction_id)
            raise

    async def apply(self, change: OrderChange, lease_epoch: LeaseEpoch) -> None:
        """Commit one change whole, unless the lease was taken over: a paused process must not write over its heir.

        When the same change is handed in again after an answer was lost, the transaction of the try before is asked
        for first, so that it is committed once.
        """
        attempt = self._attempt
        if attempt is None or attempt.change is not change:
            attempt = self._attempt = _Attempt(change)
        await in_own_task(self._apply(attempt, lease_epoch), finish=True)

    async def _apply(self, attempt: _Attempt, lease_epoch: LeaseEpoch) -> None:
        if attempt.transaction_id is not None:
            try:
                attempt.is_committed = await self._database.is_committed(attempt.transaction_id)
            except CommitInDoubt as doubt:
                if not doubt.is_reused:
                    raise
                attempt.is_committed = await self._database.read(
                    lambda each: _is_written(each, self._venue_id, attempt.change)
                )
            attempt.transaction_id = None
        if attempt.is_committed:
            return

        async def body(connection: AsyncConnection) -> None:
            await self._write_change(connection, attempt.change, lease_epoch)

        try:
            await self._database.write(body)
        except CommitInDoubt as doubt:
            attempt.transaction_id = doubt.transaction_id
            raise
        attempt.is_committed = True

    async def _write_change(self, connection: AsyncConnection, change: OrderChange, lease_epoch: LeaseEpoch) -> None:
        row = await (await connection.execute(LEASE)).fetchone()
        if row is None or row[0] != lease_epoch:
            raise LeaseLost(f"lease epoch {lease_epoch} was taken over by {row[0] if row else None}")
        # First what may be repeated: a known record or exec_id must be what the conflict names.
        for journal_id in change.journal_ids:
            await connection.execute(_INSERT_JOURNAL, [journal_id, lease_epoch])
        for order in change.inserts:
            await connection.execute(_INSERT_ORDER, [*order_values(order), None, None, None, lease_epoch])
        for fill in change.fills:
            await connection.execute(_INSERT_FILL, fill_values(fill))
        for order in change.orders:
            await _update_order(connection, order)
        for event in change.events:
            await connection.execute(_INSERT_EVENT, _event_values(event))
        for position in change.positions:
            await self._put_position(connection, position, change.fills)
        for protection in change.protection:
            await connection.execute(_INSERT_PROTECTION, _protection_values(self._venue_id, protection))
        if change.reconciled_at is not None:
            await connection.execute(_MOVE_CURSOR, [self._venue_id, change.reconciled_at])

    async def load_live(self, venue_id: VenueId) -> LiveBook:
        """Load orders that are not terminal, every position's row, and the newest MAX_EXEC_IDS exec_ids."""

        async def body(connection: AsyncConnection) -> LiveBook:
            orders = await connection.execute(
                f"SELECT {ORDER_COLUMNS} FROM execution_orders WHERE venue_id = %s AND state NOT IN {_TERMINAL} "
                "ORDER BY created_at, cl_ord_id",
                [venue_id],
            )
            live = tuple(order_of(row) for row in await orders.fetchall())
            positions = await connection.execute(
                f"SELECT {POSITION_COLUMNS} FROM positions WHERE venue_id = %s ORDER BY symbol", [venue_id]
            )
            held = tuple(position_of(row) for row in await positions.fetchall())
            fills = await connection.execute(
                "SELECT exec_id, at FROM fills WHERE venue_id = %s ORDER BY at DESC LIMIT %s", [venue_id, MAX_EXEC_IDS]
            )
            booked = await fills.fetchall()
            changes = await connection.execute(_LAST_CHANGES, {"venue_id": venue_id})
            cursors = await connection.execute("SELECT reconciled_at FROM reconciled WHERE venue_id = %s", [venue_id])
            cursor = await cursors.fetchone()
            return LiveBook(
                orders=live,
                positions=held,
                exec_ids=frozenset(ExecId(row[0]) for row in booked),
                last_fill_at=booked[0][1] if booked else None,
                reconciled_at=cursor[0] if cursor else None,
                changed_at={Symbol(row[0]): row[1] for row in await changes.fetchall()},
            )

        return await self._database.read(body)

    async def find_order(self, cl_ord_id: ClOrdId) -> Order | None:
        """Return a row, terminal or not; raises StoreUnavailable while the commit that inserts it may still come."""
        transaction_id = self._in_doubt.get(cl_ord_id)
        if transaction_id is not None:
            try:
                await in_own_task(self._database.is_committed(transaction_id), finish=False)
            except CommitInDoubt as doubt:
                # Since the server's new start nothing of before it is in progress, and the row itself is what tells.
                if not doubt.is_reused:
                    raise
            self._in_doubt.pop(cl_ord_id, None)

        async def body(connection: AsyncConnection) -> Order | None:
            rows = await connection.execute(
                f"SELECT {ORDER_COLUMNS} FROM execution_orders WHERE cl_ord_id = %s", [cl_ord_id]
            )
            row = await rows.fetchone()
            return order_of(row) if row else None

        return await self._database.read(body)

    async def booked(self, exec_ids: Sequence[ExecId]) -> frozenset[ExecId]:
        """Return which of these fills the ledger holds."""

        async def body(connection: AsyncConnection) -> frozenset[ExecId]:
            rows = await connection.execute(
                "SELECT exec_id FROM fills WHERE venue_id = %s AND exec_id = ANY(%s)", [self._venue_id, list(exec_ids)]
            )
            return frozenset(ExecId(row[0]) for row in await rows.fetchall())

        return await self._database.read(body)

    async def entry_notional_since(self, since: datetime) -> tuple[int, Decimal]:
        """Return count and notional of the entries inserted since a time."""

        async def body(connection: AsyncConnection) -> tuple[int, Decimal]:
            rows = await connection.execute(
                "SELECT count(*), coalesce(sum(qty * limit_price), 0) FROM execution_orders "
                "WHERE role = 'entry' AND venue_id = %s AND created_at >= %s",
                [self._venue_id, since],
            )
            row = await rows.fetchone()
            return (row[0], row[1]) if row else (0, Decimal(0))

        return await self._database.read(body)

    async def realized_since(self, since: datetime) -> Decimal:
        """Return realised profit and loss since a time."""

        async def body(connection: AsyncConnection) -> Decimal:
            rows = await connection.execute(
                "SELECT coalesce(sum(amount_quote), 0) FROM realized_pnl WHERE venue_id = %s AND at >= %s",
                [self._venue_id, since],
            )
            row = await rows.fetchone()
            return Decimal(row[0]) if row else Decimal(0)

        return await self._database.read(body)

    async def record_account(
        self, at: datetime, balances: dict[str, Decimal], equity_quote: Decimal, venue_id: VenueId
    ) -> None:
        """Append an account snapshot and an equity sample."""

        async def body(connection: AsyncConnection) -> None:
            await connection.execute(
                "INSERT INTO account_snapshots (venue_id, at, balances) VALUES (%s, %s, %s)",
                [venue_id, at, decimal_texts(balances)],
            )
            await connection.execute(
                "INSERT INTO equity_samples (venue_id, at, equity_quote) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                [venue_id, at, equity_quote],
            )

        await self._database.write(body)

    async def record_markout(
        self, exec_id: ExecId, horizon_s: float, markout_bps: float, at: datetime, venue_id: VenueId
    ) -> None:
        """Append one markout; a repeated one is ignored."""

        async def body(connection: AsyncConnection) -> None:
            await connection.execute(
                "INSERT INTO markouts (venue_id, exec_id, horizon_s, markout_bps, at) VALUES (%s, %s, %s, %s, %s) "
                "ON CONFLICT DO NOTHING",
                [venue_id, exec_id, horizon_s, markout_bps, at],
            )

        await self._database.write(body)

    async def fills_between(self, start: datetime, end: datetime, symbol: Symbol | None) -> Sequence[Fill]:
        """Return this venue's fills with start <= at < end, oldest first, at most MAX_FILLS."""

        async def body(connection: AsyncConnection) -> list[Fill]:
            rows = await connection.execute(
                f"SELECT {FILL_COLUMNS} FROM fills WHERE venue_id = %s AND at >= %s AND at < %s "
                "AND (%s::text IS NULL OR symbol = %s) ORDER BY at, exec_id LIMIT %s",
                [self._venue_id, start, end, symbol, symbol, MAX_FILLS],
            )
            return [fill_of(row) for row in await rows.fetchall()]

        return await self._database.read(body)

    async def _put_position(self, connection: AsyncConnection, position: Position, fills: tuple[Fill, ...]) -> None:
        rows = await connection.execute(_OLD_POSITION, [self._venue_id, position.symbol])
        old = await rows.fetchone()
        gain = position.realized_quote - (old[0] if old else Decimal(0))
        await connection.execute(_PUT_POSITION, [self._venue_id, *position_values(position)])
        if gain:
            at = max((fill.at for fill in fills if fill.symbol == position.symbol), default=None)
            if at is None:
                raise StoreConflict("realized_pnl_fill", f"{position.symbol}: profit without a fill")
            # The fill that closes a position clears its entry_id.
            entry_id = position.entry_id or (old[1] if old else None)
            await connection.execute(_INSERT_PNL, [self._venue_id, position.symbol, entry_id, gain, at])


async def _is_written(connection: AsyncConnection, venue_id: VenueId, change: OrderChange) -> bool:
    """Tell whether a change is in the tables, by the one row of it that is surest; a cursor alone may move twice."""
    query: str
    values: list[Any]
    if change.journal_ids:
        query, values = "SELECT 1 FROM order_journal WHERE journal_id = %s", [change.journal_ids[0]]
    elif change.inserts:
        query, values = "SELECT 1 FROM execution_orders WHERE cl_ord_id = %s", [change.inserts[0].cl_ord_id]
    elif change.fills:
        fill = change.fills[0]
        query, values = "SELECT 1 FROM fills WHERE venue_id = %s AND exec_id = %s", [fill.venue_id, fill.exec_id]
    elif change.events:
        event = change.events[0]
        query = (
            "SELECT 1 FROM execution_order_events "
            "WHERE cl_ord_id = %s AND at = %s AND event = %s AND from_state = %s AND to_state = %s"
        )
        values = [event.cl_ord_id, event.at, event.event, event.from_state, event.to_state]
    elif change.protection:
        turn = change.protection[0]
        query = "SELECT 1 FROM protection_events WHERE venue_id = %s AND symbol = %s AND at = %s AND protection = %s"
        values = [venue_id, turn.symbol, turn.at, turn.protection.value]
    else:
        return False
    return await (await connection.execute(query.encode(), values)).fetchone() is not None


async def _update_order(connection: AsyncConnection, order: Order) -> None:
    changed = await connection.execute(
        _UPDATE_ORDER,
        [
            order.qty,
            order.limit_price,
            order.trigger_price,
            order.state.value,
            order.deadline_at,
            order.expire_at,
            order.venue_order_id,
            order.cum_qty,
            order.state_at,
            order.reason,
            json_value(order.record),
            order.exit_kind.value if order.exit_kind else None,
            order.cl_ord_id,
            order.venue_id,
        ],
    )
    if changed.rowcount != 1:
        raise StoreConflict("execution_orders_row", f"order {order.cl_ord_id} has no row at {order.venue_id}")


def _event_values(event: OrderEventRow) -> list[Any]:
    return [event.cl_ord_id, event.at, event.event, event.from_state, event.to_state, json_value(event.detail)]


def _protection_values(venue_id: VenueId, event: ProtectionEvent) -> list[Any]:
    return [
        venue_id,
        event.symbol,
        event.at,
        event.protection.value,
        event.position_qty,
        event.protected_qty,
        event.reason,
    ]
