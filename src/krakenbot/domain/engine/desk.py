"""The desk: the only place that sends orders.

Enters: `RiskApproved[EntryPlan]` or `ProtectiveExit`, nothing else. Leaves: a committed row, then a request, then its
outcome in the tracker. Called by the evaluation cycle (entries), the position monitor (exits) and the keeper of resting
entries (cancels).

Row before order: an entry's row and its protective intent are committed in one fenced transaction before anything is
sent, so that a stop needs no new row when seconds count. An outcome that is not known is recorded as such and never
sent again.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import anyio

from krakenbot.domain.decision.plan import EntryPlan, ProtectiveExit, RiskApproved
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.lease_keeper import LeaseKeeper
from krakenbot.domain.engine.live_orders import LiveOrders
from krakenbot.domain.engine.order_rows import entry_rows, exit_row
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.engine.write_ahead import WriteAhead
from krakenbot.domain.errors import (
    OutcomeUnknown,
    Refused,
    StoreConflict,
    StoreUnavailable,
    VenueRejected,
    VenueUnavailable,
    invariant,
)
from krakenbot.domain.execution.change import OrderChange
from krakenbot.domain.execution.exits import check_profile
from krakenbot.domain.execution.journal import JournalKind
from krakenbot.domain.execution.order import Order, OrderEvent, OrderRole, OrderState
from krakenbot.domain.execution.rate import RateBudget
from krakenbot.domain.instrument import Instrument
from krakenbot.domain.state.safety import SafetyMode, SymbolSafety
from krakenbot.domain.values import ClOrdId, Symbol
from krakenbot.ports.clock import Clock, IdSource
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.order_gateway import OrderGateway
from krakenbot.ports.order_store import EntryGate, OrderStore
from krakenbot.ports.safety_store import SafetyStore

# Kraken accepts deadlines from 500 ms ahead (FACTS 12.1); later than that the request would be refused anyway.
_DEADLINE_LEFT_MIN_S = 0.5


class OrderDesk(LiveOrders):
    """Sends entries and exits, and on its base amends and cancels; records what became of each request."""

    def __init__(
        self,
        *,
        clock: Clock,
        ids: IdSource,
        gateway: OrderGateway,
        order_store: OrderStore,
        safety_store: SafetyStore,
        recorder: Recorder,
        lease: LeaseKeeper,
        rate: RateBudget,
        settings: ExecutionSettings,
        event_sink: EventSink,
    ) -> None:
        super().__init__(
            clock=clock,
            gateway=gateway,
            recorder=recorder,
            ahead=WriteAhead(clock=clock, ids=ids, recorder=recorder, event_sink=event_sink),
            lease=lease,
            settings=settings,
            event_sink=event_sink,
        )
        self._ids = ids
        self._store = order_store
        self._safety = safety_store
        self._rate = rate
        self._doubtful: set[ClOrdId] = set()
        self._rejections: dict[Symbol, str] = {}

    # entries

    async def enter(self, approved: RiskApproved[EntryPlan], instrument: Instrument) -> ClOrdId | None:
        """Commit an entry with its protective intent, then send it; None when it was refused before it was sent."""
        plan = approved.plan
        check_profile(plan.exit_profile)
        invariant(plan.qty > 0, "I11", f"{plan.symbol}: an entry of {plan.qty}")
        at = self._clock.now()
        entry, stop = entry_rows(plan, instrument, at, self._settings, self._ids)
        gate = EntryGate(
            lineage_id=plan.lineage_id,
            epoch_id=plan.epoch_id,
            generation_id=plan.generation_id,
            lease_epoch=self._lease.epoch,
            max_generation_age_s=self._settings.max_generation_age_s,
            max_epoch_age_s=self._settings.max_epoch_age_s,
            at=at,
        )
        # Shielded and bounded: once the row is committed its request is sent or withdrawn, and the outcome recorded.
        with anyio.CancelScope(shield=True):
            if not await self._insert_entry(entry, stop, gate):
                return None
            self._tracker.add(entry)
            self._tracker.add(stop)
            self._fresh_intents.add(stop.cl_ord_id)
            late = self._reason_not_to_send(entry)
            if late is not None:
                self._sink.emit("entry_withdrawn", symbol=plan.symbol, cl_ord_id=entry.cl_ord_id, reason=late)
                self._event(entry.cl_ord_id, OrderEvent.WITHDRAWN, reason=late)
                self.withdraw_intent(stop.cl_ord_id, late)
                return None
            await self._submit(entry.cl_ord_id)
        return entry.cl_ord_id

    async def _insert_entry(self, entry: Order, stop: Order, gate: EntryGate) -> bool:
        try:
            with anyio.fail_after(self._settings.store_timeout_s):
                await self._store.insert_entry(entry, stop, gate)
        except Refused as refused:
            self._sink.emit("entry_refused", symbol=entry.symbol, code=refused.code, reason=str(refused))
            return False
        except StoreConflict as conflict:
            self._sink.emit("entry_refused", symbol=entry.symbol, code=conflict.constraint, reason=str(conflict))
            return False
        except (StoreUnavailable, TimeoutError) as error:
            # The commit may have happened. Nothing was sent, so a row that is found later is withdrawn.
            self._doubtful |= {entry.cl_ord_id, stop.cl_ord_id}
            self._sink.emit("entry_not_committed", symbol=entry.symbol, error=str(error))
            return False
        return True

    def _reason_not_to_send(self, entry: Order) -> str | None:
        if not self._lease.is_held:
            return f"lease not renewed for {self._lease.age_s} s"
        left_s = self._settings.deadline_s
        if entry.deadline_at is not None:
            left_s = (entry.deadline_at - self._clock.now()).total_seconds()
        if left_s < _DEADLINE_LEFT_MIN_S or left_s > self._settings.deadline_s + _DEADLINE_LEFT_MIN_S:
            return f"{left_s:.1f} s left to the deadline"
        return None

    # exits

    async def send_exit(self, plan: ProtectiveExit, *, parent_id: ClOrdId | None) -> Order | None:
        """Send a sell of at most the position; None when it is more than that, or its row could not be kept.

        A `cl_ord_id` in the plan names a reserved intent, whose row exists already.
        """
        position_qty = self._tracker.unsold_qty(plan.symbol)
        if plan.qty <= 0 or plan.qty > position_qty:
            self._sink.emit("exit_refused", symbol=plan.symbol, qty=str(plan.qty), position=str(position_qty))
            return None
        with anyio.CancelScope(shield=True):
            if plan.cl_ord_id is not None:
                cl_ord_id = plan.cl_ord_id
                invariant(cl_ord_id in self._fresh_intents, "I2", f"{cl_ord_id} is not an unsent intent")
                self._fresh_intents.discard(cl_ord_id)
            else:
                order = exit_row(plan, parent_id, self._clock.now(), self._settings, self._ids)
                if not await self._ahead.keep_row(order):
                    return None
                self._tracker.add(order)
                cl_ord_id = order.cl_ord_id
            deadline_at = self._clock.now() + timedelta(seconds=self._settings.deadline_s)
            await self._submit(cl_ord_id, qty=plan.qty, trigger_price=plan.trigger_price, deadline_at=deadline_at)
        return self._tracker.get(cl_ord_id)

    def may_trail(self, symbol: Symbol) -> bool:
        """Tell whether a stop may be tightened: the points for a cancel and a sale at market must remain."""
        return self._rate.allows_trail(symbol, self._clock.mono())

    def is_in_reserve(self, symbol: Symbol) -> bool:
        """Tell whether a symbol's exits already spend the points that are kept for them."""
        return self._rate.is_in_reserve(symbol, self._clock.mono())

    async def reserve_exit(self, plan: ProtectiveExit, *, parent_id: ClOrdId | None) -> ClOrdId | None:
        """Keep the row of an exit that is sent later, under the id returned; None when that failed.

        What covers a position now must not be cancelled for an exit whose row can't be kept.
        """
        order = exit_row(plan, parent_id, self._clock.now(), self._settings, self._ids)
        with anyio.CancelScope(shield=True):
            if not await self._ahead.keep_row(order):
                return None
            self._tracker.add(order)
            self._fresh_intents.add(order.cl_ord_id)
        return order.cl_ord_id

    # requests

    async def _submit(
        self,
        cl_ord_id: ClOrdId,
        *,
        qty: Decimal | None = None,
        trigger_price: Decimal | None = None,
        deadline_at: datetime | None = None,
    ) -> None:
        row = self._tracker.get(cl_ord_id)
        invariant(row is not None, "I1", f"{cl_ord_id} has no row")
        if row is None:
            return
        journal_ids = await self._ahead.keep_request(
            JournalKind.SUBMIT, row, qty=qty, trigger_price=trigger_price, deadline_at=deadline_at
        )
        # Last of all: whoever waits after this could have been stopped meanwhile, and another could lead.
        if not await self._may_act("submit", cl_ord_id, journal_ids):
            if not self._lease.is_lost:
                self._after_not_sent(row, "another leader is at work")
            return
        withheld = self._reason_to_withhold(cl_ord_id, row.qty if qty is None else qty)
        if withheld is not None:
            self._sink.emit("exit_refused", symbol=row.symbol, qty=str(qty or row.qty), position=withheld)
            self._recorder.put(OrderChange(journal_ids=journal_ids))
            self._after_not_sent(row, "the position became smaller while it waited")
            return
        order = self._event(
            cl_ord_id,
            OrderEvent.SUBMIT_SENT,
            qty=qty,
            trigger_price=trigger_price,
            deadline_at=deadline_at,
            journal_ids=journal_ids,
        )
        try:
            with anyio.fail_after(self._settings.request_timeout_s):
                venue_order_id = await self._gateway.submit(order)
        except VenueRejected as rejected:
            self._event(cl_ord_id, OrderEvent.REJECTED, reason=rejected.reason)
            await self._count_rejection(order, rejected.reason)
        except VenueUnavailable as error:
            self._event(cl_ord_id, OrderEvent.NOT_SENT, reason=str(error))
            self._after_not_sent(order, str(error))
        except (OutcomeUnknown, TimeoutError) as error:
            self._sink.emit("outcome_unknown", symbol=order.symbol, cl_ord_id=cl_ord_id, cause=str(error))
            self._event(cl_ord_id, OrderEvent.OUTCOME_UNKNOWN, reason=str(error) or "timeout")
            self._ask("outcome_unknown")
        else:
            self._event(cl_ord_id, OrderEvent.ACKED, venue_order_id=venue_order_id)
            self._rejections.pop(order.symbol, None)

    def _reason_to_withhold(self, cl_ord_id: ClOrdId, qty: Decimal) -> str | None:
        """Return the position when it became too small for an exit while that waited; None when it may be sent."""
        order = self._tracker.get(cl_ord_id)
        if order is None or order.role is OrderRole.ENTRY:
            return None
        position_qty = self._tracker.unsold_qty(order.symbol)
        return str(position_qty) if qty > position_qty else None

    def _after_not_sent(self, order: Order, reason: str) -> None:
        if order.role is OrderRole.PROTECTIVE_STOP:
            # Provably never sent, so the reserved id may be used again.
            self._fresh_intents.add(order.cl_ord_id)
            return
        self._event(order.cl_ord_id, OrderEvent.WITHDRAWN, reason=reason)
        for child in self._tracker.live(order.symbol):
            if child.parent_id == order.cl_ord_id and self.is_fresh_intent(child):
                self.withdraw_intent(child.cl_ord_id, "entry was never sent")

    async def _count_rejection(self, order: Order, reason: str) -> None:
        """Quiet a symbol whose entry was rejected twice in the same words."""
        if order.role is not OrderRole.ENTRY:
            return
        if self._rejections.get(order.symbol) != reason:
            self._rejections[order.symbol] = reason
            return
        self._rejections.pop(order.symbol)
        at = self._clock.now()
        until = at + timedelta(seconds=self._settings.quiet_s)
        await self.set_safety(
            SymbolSafety(symbol=order.symbol, mode=SafetyMode.QUIET, reason=f"twice: {reason}", since=at, until=until)
        )

    async def set_safety(self, safety: SymbolSafety) -> bool:
        """Persist a symbol's safety mode; False when the database is away."""
        self._sink.emit("symbol_safety", symbol=safety.symbol, mode=safety.mode, reason=safety.reason)
        try:
            with anyio.fail_after(self._settings.store_timeout_s):
                await self._safety.set_symbol_safety(safety)
        except (StoreUnavailable, TimeoutError) as error:
            self._sink.emit("safety_not_stored", symbol=safety.symbol, error=str(error))
            return False
        return True

    # rows in doubt

    async def resolve_doubtful(self) -> None:
        """Read back rows whose commit was not answered; one that exists was never sent and is withdrawn."""
        for cl_ord_id in sorted(self._doubtful):
            try:
                with anyio.fail_after(self._settings.store_timeout_s):
                    row = await self._store.find_order(cl_ord_id)
            except (StoreUnavailable, TimeoutError):
                return
            self._doubtful.discard(cl_ord_id)
            if row is not None and row.state is OrderState.PENDING_SUBMIT and self._tracker.get(cl_ord_id) is None:
                self._tracker.add(row)
                self._event(cl_ord_id, OrderEvent.WITHDRAWN, reason="commit was not answered, nothing was sent")
