"""Reconciliation: asks the venue what is true, and applies the named corrections.

Enters: requests (at start, after a gap, when a fill is missing, when an outcome is unknown) and the passage of time.
Leaves: booked fills, corrected orders, cancelled strangers, proofs of absence. No entry is sent until it is clean.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import anyio
from attrs import frozen

from krakenbot.domain.engine.desk import OrderDesk
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.errors import StoreUnavailable, VenueRejected, VenueUnavailable
from krakenbot.domain.execution.applied import Applied
from krakenbot.domain.execution.ids import is_own
from krakenbot.domain.execution.order import Order, OrderEvent, OrderState
from krakenbot.domain.execution.reconcile import (
    Correction,
    CorrectionKind,
    Proof,
    Shortfall,
    VenueView,
    diff,
    shortfalls,
)
from krakenbot.domain.state.safety import SafetyMode, SymbolSafety
from krakenbot.domain.values import ClOrdId, Symbol
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.execution_feed import ExecutionFeed
from krakenbot.ports.order_store import OrderStore
from krakenbot.ports.venue_query import VenueQuery

_RETRY_S = 2.0
_SPACING_MIN_S = 1.0
_BALANCES_EVERY_S = 30.0
# Queries lag the stream by up to 60 s, and clocks differ; what is asked for reaches back further than that.
_LOOK_BACK = timedelta(seconds=180)


@frozen(kw_only=True)
class _Asked:
    view: VenueView
    short: tuple[Shortfall, ...] | None


class Reconciler:
    """Compares our rows with the venue and makes them agree.

    `is_clean` is False from a request until a ladder has answered it. `corrections` counts by kind.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        query: VenueQuery,
        execution_feed: ExecutionFeed,
        order_store: OrderStore,
        recorder: Recorder,
        desk: OrderDesk,
        settings: ExecutionSettings,
        event_sink: EventSink,
    ) -> None:
        self._clock = clock
        self._query = query
        self._feed = execution_feed
        self._store = order_store
        self._recorder = recorder
        self._tracker = recorder.tracker
        self._desk = desk
        self._settings = settings
        self._sink = event_sink
        self._proof = Proof(deadline_s=settings.deadline_s, visibility_margin_s=settings.visibility_margin_s)
        self._lock = anyio.Lock()
        self._wakeup = anyio.Event()
        self._reasons: set[str] = {"start"}
        self._clean_ladders: dict[ClOrdId, int] = {}
        self._short_before: set[Symbol] = set()
        self._restricted: set[Symbol] = set()
        self._named: set[tuple[str, str]] = set()
        self._last_fill_at: datetime | None = None
        self._since: datetime | None = None
        self._balances_mono: float | None = None
        self.is_clean = False
        self.ladders = 0
        self.corrections: dict[str, int] = {}

    def request(self, reason: str) -> None:
        """Ask for a ladder soon; entries wait for it."""
        self._reasons.add(reason)
        self.is_clean = False
        self._wakeup.set()

    def ask_soon(self, reason: str) -> None:
        """Ask for a ladder soon; entries in other symbols go on meanwhile."""
        self._reasons.add(reason)
        self._wakeup.set()

    def start_from(self, last_fill_at: datetime | None) -> None:
        """Say up to when the ledger was complete."""
        self._last_fill_at = last_fill_at

    async def run(self) -> None:
        """Run ladders on request, while an outcome is unknown, and periodically, until cancelled."""
        while True:
            interval_s = self._settings.reconcile_interval_s
            if any(order.state is OrderState.UNKNOWN for order in self._tracker.live()):
                interval_s = self._settings.ladder_interval_s
            if not self._reasons:
                with anyio.move_on_after(interval_s):
                    await self._wakeup.wait()
            done = await self.reconcile()
            await self._clock.sleep(_SPACING_MIN_S if done else _RETRY_S)

    async def reconcile(self) -> bool:
        """Run one ladder; True when every query answered and all corrections were applied."""
        async with self._lock:
            reasons, self._reasons = self._reasons, set()
            self._wakeup = anyio.Event()
            try:
                asked = await self._ask()
            except (VenueUnavailable, VenueRejected, StoreUnavailable, TimeoutError) as error:
                self._reasons |= reasons
                self._sink.emit("reconcile_failed", reasons=sorted(reasons), error=str(error) or "timeout")
                return False
            self.ladders += 1
            found = diff(
                self._rows_for(asked.view),
                self._tracker.exec_ids,
                asked.view,
                clean_ladders=self._clean_ladders,
                proof=self._proof,
            )
            self._clean_ladders = found.clean_ladders
            for correction in found.corrections:
                await self._apply(correction, asked.view.at)
            if asked.short is not None:
                await self._mind_shortfalls(asked.short, asked.view.at)
            await self._desk.resolve_doubtful()
            self._since = asked.view.at
            if not self._reasons:
                self.is_clean = True
            self._sink.emit("reconciled", reasons=sorted(reasons), corrections=len(found.corrections))
            return True

    async def _ask(self) -> _Asked:
        if not self._feed.is_connected:
            raise VenueUnavailable("the executions feed is not connected")
        at = self._clock.now()
        since = self._look_back(at)
        with anyio.fail_after(self._settings.query_timeout_s):
            # Open orders before closed ones: an order that closes in between is then seen twice, not missed.
            open_orders = tuple(await self._query.open_orders())
            closed_orders = tuple(await self._query.closed_orders(since))
            fills = tuple(await self._query.fills(since))
            short = await self._ask_shortfalls()
        view = VenueView(at=at, open_orders=open_orders, closed_orders=closed_orders, fills=fills)
        await self._load_rows(view)
        return _Asked(view=view, short=short)

    async def _ask_shortfalls(self) -> tuple[Shortfall, ...] | None:
        """Return positions without their coins; None while the last look is recent, since every query costs points."""
        mono = self._clock.mono()
        if self._balances_mono is not None and mono - self._balances_mono < _BALANCES_EVERY_S:
            return None
        short = shortfalls(self._tracker.positions(), await self._query.balances())
        self._balances_mono = mono
        return short

    def _look_back(self, at: datetime) -> datetime:
        bounds = [order.created_at for order in self._tracker.live()]
        bounds.append(self._since or self._last_fill_at or at - timedelta(hours=1))
        return min(bounds) - _LOOK_BACK

    async def _load_rows(self, view: VenueView) -> None:
        """Load rows of own orders that the venue speaks of and memory no longer holds."""
        named = {order.cl_ord_id for order in (*view.open_orders, *view.closed_orders) if is_own(order.cl_ord_id)}
        for cl_ord_id in sorted(name for name in named if name is not None):
            if self._tracker.get(cl_ord_id) is None:
                with anyio.fail_after(self._settings.store_timeout_s):
                    row = await self._store.find_order(cl_ord_id)
                if row is not None:
                    self._recorder.take(self._tracker.adopt(row, view.at))

    def _rows_for(self, view: VenueView) -> Iterable[Order]:
        rows = {order.cl_ord_id: order for order in self._tracker.live()}
        for shown in (*view.open_orders, *view.closed_orders):
            row = self._tracker.find(shown.order_id)
            if row is None and shown.cl_ord_id is not None:
                row = self._tracker.get(shown.cl_ord_id)
            if row is not None:
                rows[row.cl_ord_id] = row
        for fill in view.fills:
            row = self._tracker.find(fill.order_id)
            if row is not None:
                rows[row.cl_ord_id] = row
        return rows.values()

    async def _apply(self, correction: Correction, at: datetime) -> None:
        self.corrections[correction.kind] = self.corrections.get(correction.kind, 0) + 1
        self._tell(correction)
        cl_ord_id = correction.cl_ord_id
        row = None if cl_ord_id is None else self._tracker.get(cl_ord_id)
        match correction.kind:
            case CorrectionKind.BOOK_FILL:
                if row is not None and correction.fill is not None:
                    self._take(self._tracker.book_query_fill(row, correction.fill, at))
            case CorrectionKind.UPDATE_ORDER:
                if correction.order is not None and self._is_settled(row, at):
                    self._take(self._tracker.apply_venue_order(correction.order, at))
            case CorrectionKind.CANCEL_ALIVE | CorrectionKind.CANCEL_STRANGER:
                if cl_ord_id is not None and (row is None or row.state.is_terminal):
                    await self._desk.cancel_stranger(cl_ord_id)
                elif cl_ord_id is not None:
                    await self._desk.cancel(cl_ord_id)
            case CorrectionKind.PROVEN_ABSENT:
                if row is not None and row.state is OrderState.UNKNOWN:
                    applied = self._tracker.apply_event(
                        row.cl_ord_id, OrderEvent.PROVEN_ABSENT, at=at, reason=correction.detail
                    )
                    self._take(applied)
            case CorrectionKind.UNKNOWN_FILL:
                await self._restrict(correction.symbol, f"fill {correction.detail} of an order without a row", at)
            case CorrectionKind.STILL_UNKNOWN | CorrectionKind.NOT_SHOWN:
                pass

    def _is_settled(self, row: Order | None, at: datetime) -> bool:
        """Tell whether a query may speak for an order: an amend younger than the deadline is still on its way."""
        if row is None or row.state is not OrderState.PENDING_AMEND or row.state_at is None:
            return True
        return (at - row.state_at).total_seconds() >= self._settings.deadline_s

    def _take(self, applied: Applied) -> None:
        self._recorder.take(applied)

    def _tell(self, correction: Correction) -> None:
        """Emit a correction; one that stands from ladder to ladder is told once."""
        key = (correction.kind, f"{correction.cl_ord_id}:{correction.order_id}")
        is_standing = correction.kind in {CorrectionKind.STILL_UNKNOWN, CorrectionKind.NOT_SHOWN}
        if is_standing and key in self._named:
            return
        if is_standing and len(self._named) < 10_000:
            self._named.add(key)
        self._sink.emit(
            "correction",
            kind=correction.kind,
            symbol=correction.symbol,
            cl_ord_id=correction.cl_ord_id,
            order_id=correction.order_id,
            detail=correction.detail,
        )

    async def _mind_shortfalls(self, short: tuple[Shortfall, ...], at: datetime) -> None:
        """Stop entries where the balance lacks coins of the ledger in two ladders running; lift it when they agree."""
        now_short = {item.symbol for item in short}
        for item in short:
            if item.symbol in self._short_before and item.symbol not in self._restricted:
                await self._restrict(item.symbol, f"position {item.position_qty}, balance {item.balance_qty}", at)
        for symbol in sorted(self._restricted & self._short_before - now_short):
            safety = SymbolSafety(
                symbol=symbol, mode=SafetyMode.NORMAL, reason="balance agrees again", since=at, until=None
            )
            if await self._desk.set_safety(safety):
                self._restricted.discard(symbol)
        self._short_before = now_short | (self._short_before & self._restricted)

    async def _restrict(self, symbol: Symbol, reason: str, at: datetime) -> None:
        if symbol in self._restricted:
            return
        safety = SymbolSafety(symbol=symbol, mode=SafetyMode.EXIT_ONLY, reason=reason, since=at, until=None)
        if await self._desk.set_safety(safety):
            self._restricted.add(symbol)
