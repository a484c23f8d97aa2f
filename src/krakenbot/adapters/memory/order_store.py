"""Twin of the PostgreSQL order store: the same refusals and conflicts over a MemoryDatabase."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from krakenbot.adapters.memory.database import MemoryDatabase
from krakenbot.domain.decision.blocker import BlockerCode
from krakenbot.domain.errors import LeaseLost, Refused, StoreConflict
from krakenbot.domain.execution.fills import Fill
from krakenbot.domain.execution.order import Order, OrderRole, OrderState
from krakenbot.domain.execution.position import Position
from krakenbot.domain.state.epoch import EpochStatus
from krakenbot.domain.state.safety import EngineMode
from krakenbot.domain.values import ClOrdId, ExecId, LeaseEpoch, Side, Symbol, VenueId
from krakenbot.ports.clock import Clock
from krakenbot.ports.order_store import EntryGate, LiveBook, OrderChange


class MemoryOrderStore:
    """OrderStore in memory, for one venue account."""

    def __init__(self, database: MemoryDatabase, clock: Clock, *, venue_id: VenueId) -> None:
        self._db = database
        self._clock = clock
        self._venue_id = venue_id

    async def insert_entry(self, order: Order, protective: Order, gate: EntryGate) -> None:
        """Insert an entry and its protective intent behind the gate."""
        self._check_lease(gate.lease_epoch)
        self._check_gate(gate)
        self._check_new(order)
        if protective.cl_ord_id == order.cl_ord_id:
            raise StoreConflict("execution_orders_pkey")
        self._check_new(protective, known=order.cl_ord_id)
        self._db.orders[order.cl_ord_id] = order
        self._db.orders[protective.cl_ord_id] = protective

    async def apply(self, change: OrderChange, lease_epoch: LeaseEpoch) -> None:
        """Check everything, then write everything."""
        if self._db.lease.lease_epoch != lease_epoch:
            raise LeaseLost(f"lease epoch {lease_epoch} was taken over by {self._db.lease.lease_epoch}")
        if self._db.journaled & set(change.journal_ids) or len(set(change.journal_ids)) < len(change.journal_ids):
            raise StoreConflict("order_journal_pkey")
        for order in change.inserts:
            self._check_new(order)
        fresh = self._checked_fills(change)
        for order in change.orders:
            self._check_update(order)
        gains = [(position, self._gain(position, change)) for position in change.positions]
        self._db.journaled.update(change.journal_ids)
        self._db.orders.update({order.cl_ord_id: order for order in change.inserts})
        self._db.fills.update(fresh)
        self._db.orders.update({order.cl_ord_id: order for order in change.orders})
        self._db.events.extend(change.events)
        for position, gain in gains:
            self._db.positions[self._venue_id, position.symbol] = position
            if gain is not None:
                self._db.realized.append(gain)
        self._db.protection.extend(change.protection)
        if change.reconciled_at is not None:
            before = self._db.reconciled.get(self._venue_id, change.reconciled_at)
            self._db.reconciled[self._venue_id] = max(before, change.reconciled_at)

    async def load_live(self, venue_id: VenueId) -> LiveBook:
        """Load what is alive at a venue."""
        fills = [fill for (venue, _), fill in self._db.fills.items() if venue == venue_id]
        live = [order for order in self._db.orders.values() if order.venue_id == venue_id]
        positions = [position for (venue, _), position in self._db.positions.items() if venue == venue_id]
        changed_at: dict[Symbol, datetime] = {}
        for order in live:
            at = max(order.created_at, order.state_at or order.created_at)
            changed_at[order.symbol] = max(changed_at.get(order.symbol, at), at)
        return LiveBook(
            orders=tuple(
                sorted(
                    (order for order in live if not order.state.is_terminal),
                    key=lambda order: (order.created_at, order.cl_ord_id),
                )
            ),
            positions=tuple(sorted(positions, key=lambda position: position.symbol)),
            exec_ids=frozenset(fill.exec_id for fill in fills),
            last_fill_at=max((fill.at for fill in fills), default=None),
            changed_at=changed_at,
            reconciled_at=self._db.reconciled.get(venue_id),
        )

    async def find_order(self, cl_ord_id: ClOrdId) -> Order | None:
        """Return a row, terminal or not."""
        return self._db.orders.get(cl_ord_id)

    async def booked(self, exec_ids: Sequence[ExecId]) -> frozenset[ExecId]:
        """Return which of these fills the ledger holds."""
        return frozenset(exec_id for exec_id in exec_ids if (self._venue_id, exec_id) in self._db.fills)

    async def entry_notional_since(self, since: datetime) -> tuple[int, Decimal]:
        """Return count and notional of the entries inserted since a time."""
        notionals = [
            order.qty * (order.limit_price or Decimal(0))
            for order in self._db.orders.values()
            if order.role is OrderRole.ENTRY and order.venue_id == self._venue_id and order.created_at >= since
        ]
        return len(notionals), sum(notionals, Decimal(0))

    async def realized_since(self, since: datetime) -> Decimal:
        """Return realised profit and loss since a time."""
        return sum(
            (gain for venue, at, gain in self._db.realized if venue == self._venue_id and at >= since), Decimal(0)
        )

    async def record_account(
        self, at: datetime, balances: dict[str, Decimal], equity_quote: Decimal, venue_id: VenueId
    ) -> None:
        """Append an account snapshot and an equity sample."""
        self._db.accounts.append((venue_id, at, dict(balances), equity_quote))

    async def record_markout(
        self,
        exec_id: ExecId,
        horizon_s: float,
        markout_bps: float,
        at: datetime,  # noqa: ARG002 # kept by the real one
        venue_id: VenueId,
    ) -> None:
        """Append one markout; a repeated one is ignored."""
        self._db.markouts.setdefault((venue_id, exec_id, horizon_s), markout_bps)

    async def fills_between(self, start: datetime, end: datetime, symbol: Symbol | None) -> Sequence[Fill]:
        """Return fills with start <= at < end, oldest first."""
        found = [
            fill
            for (venue, _), fill in self._db.fills.items()
            if venue == self._venue_id and start <= fill.at < end and symbol in {None, fill.symbol}
        ]
        return sorted(found, key=lambda fill: (fill.at, fill.exec_id))

    def _check_lease(self, lease_epoch: LeaseEpoch) -> None:
        row = self._db.lease
        expired = row.expires_at is None or row.expires_at <= self._clock.now()
        if row.holder is None or row.lease_epoch != lease_epoch or expired:
            raise LeaseLost(f"lease epoch {lease_epoch} is not in force: {row.holder} has {row.lease_epoch}")

    def _check_gate(self, gate: EntryGate) -> None:
        engine = self._db.engine_state
        if engine.mode is not EngineMode.NORMAL or engine.latch:
            raise Refused(BlockerCode.ENGINE_MODE, f"mode {engine.mode}, latch {engine.latch}")
        answers = [answer for _, answer in sorted(self._db.requests.items()) if answer is not None]
        state = self._db.generation
        if not answers or answers[-1] != gate.generation_id or state is None or state.generation_id != answers[-1]:
            raise Refused(BlockerCode.GENERATION, f"generation {gate.generation_id} is not the answered one")
        if (gate.at - state.computed_at).total_seconds() > gate.max_generation_age_s:
            raise Refused(BlockerCode.GENERATION, f"older than {gate.max_generation_age_s} s")
        valid = [epoch for epoch in self._db.epochs if epoch.status is EpochStatus.VALID]
        if state.lineage_id != gate.lineage_id or not valid or valid[-1].lineage_id != gate.lineage_id:
            raise Refused(BlockerCode.EPOCH, f"lineage {gate.lineage_id} is not the newest")
        own = [e for e in valid if e.epoch_id == gate.epoch_id and e.lineage_id == gate.lineage_id]
        if not own or (gate.at - own[0].created_at).total_seconds() > gate.max_epoch_age_s:
            raise Refused(
                BlockerCode.EPOCH, f"epoch {gate.epoch_id} is not valid, or older than {gate.max_epoch_age_s} s"
            )

    def _check_new(self, order: Order, known: ClOrdId | None = None) -> None:
        if order.cl_ord_id in self._db.orders:
            raise StoreConflict("execution_orders_pkey")
        if order.role is OrderRole.ENTRY:
            if order.side is not Side.BUY or order.record.get("regime") is None or order.limit_price is None:
                raise StoreConflict("execution_orders_entry_is_explained")
        elif order.side is not Side.SELL:
            raise StoreConflict("execution_orders_exit_only_sells")
        if order.parent_id is not None and order.parent_id not in self._db.orders and order.parent_id != known:
            raise StoreConflict("execution_orders_parent_id_fkey")

    def _checked_fills(self, change: OrderChange) -> dict[tuple[VenueId, ExecId], Fill]:
        fresh: dict[tuple[VenueId, ExecId], Fill] = {}
        for fill in change.fills:
            key = (fill.venue_id, fill.exec_id)
            if key in self._db.fills or key in fresh:
                raise StoreConflict("fills_pkey")
            if fill.price <= 0 or fill.qty <= 0:
                raise StoreConflict("fills_price_check" if fill.price <= 0 else "fills_qty_check")
            if fill.cl_ord_id not in self._db.orders:
                raise StoreConflict("fills_cl_ord_id_fkey")
            fresh[key] = fill
        return fresh

    def _check_update(self, order: Order) -> None:
        old = self._db.orders.get(order.cl_ord_id)
        if old is None or old.venue_id != order.venue_id:
            raise StoreConflict("execution_orders_row")
        if old.state.is_terminal and OrderState(order.state) is not old.state:
            raise StoreConflict("execution_orders_terminal")
        if order.cum_qty < old.cum_qty:
            raise StoreConflict("execution_orders_cum_qty")

    def _gain(self, position: Position, change: OrderChange) -> tuple[VenueId, datetime, Decimal] | None:
        old = self._db.positions.get((self._venue_id, position.symbol))
        gain = position.realized_quote - (old.realized_quote if old else Decimal(0))
        if not gain:
            return None
        times = [fill.at for fill in change.fills if fill.symbol == position.symbol]
        if not times:
            raise StoreConflict("realized_pnl_fill")
        return self._venue_id, max(times), gain
