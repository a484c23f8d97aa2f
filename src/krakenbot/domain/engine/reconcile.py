"""Reconciliation: asks the venue what is true, and applies the named corrections.

Enters: requests (at start, after a gap, when a fill is missing, when an outcome is unknown) and the passage of time.
Leaves: booked fills, corrected orders, cancelled strangers, proofs of absence. No entry is sent until it is clean.
"""

from __future__ import annotations

from datetime import datetime

import anyio

from krakenbot.domain.engine.desk import OrderDesk
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.ladder import Asked, Ladder
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.errors import StoreUnavailable, VenueRejected, VenueUnavailable
from krakenbot.domain.execution.applied import AlarmCode, Applied, order_alarm
from krakenbot.domain.execution.change import OrderChange
from krakenbot.domain.execution.order import Order, OrderEvent, OrderState
from krakenbot.domain.execution.reconcile import (
    Correction,
    CorrectionKind,
    Proof,
    Shortfall,
    diff,
    proof_at,
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
# A query may show an order alive for 60 s after its cancel.
_CANCEL_AGAIN_S = 60.0
_CANCEL_FAILED_S = 5.0
_CANCELS_MAX = 1_000
_STRAYS = frozenset({CorrectionKind.CANCEL_ALIVE, CorrectionKind.CANCEL_STRANGER})
_STANDING = frozenset({CorrectionKind.STILL_UNKNOWN, CorrectionKind.NOT_SHOWN})
# A stream that broke may have lost what a query does not show yet: such a ladder proves nothing absent.
_STREAM_BROKE = frozenset({"gap", "snapshot", "executions_closed"})


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
        self._recorder = recorder
        self._tracker = recorder.tracker
        self._desk = desk
        self._settings = settings
        self._sink = event_sink
        self._ladder = Ladder(
            clock=clock,
            query=query,
            execution_feed=execution_feed,
            order_store=order_store,
            recorder=recorder,
            settings=settings,
        )
        self._proof = Proof(deadline_s=settings.deadline_s, visibility_margin_s=settings.visibility_margin_s)
        self._lock = anyio.Lock()
        self._wakeup = anyio.Event()
        self._reasons: set[str] = {"start"}
        self._clean_ladders: dict[ClOrdId, int] = {}
        self._provable_mono: dict[ClOrdId, float] = {}
        self._amend_mono: dict[ClOrdId, float] = {}
        self._not_shown: set[ClOrdId] = set()
        self._cancelled_mono: dict[ClOrdId, float] = {}
        self._is_stray_alive = False
        self._short_before: set[Symbol] = set()
        self._restricted: set[Symbol] = set()
        self._named: set[tuple[str, str]] = set()
        self.is_clean = False
        self.ladders = 0
        self.corrections: dict[str, int] = {}

    def request(self, reason: str) -> None:
        """Ask for a ladder soon; entries wait for it."""
        self._note_unknown()
        self._reasons.add(reason)
        self.is_clean = False
        self._wakeup.set()

    def ask_soon(self, reason: str) -> None:
        """Ask for a ladder soon; entries in other symbols go on meanwhile."""
        self._note_unknown()
        self._reasons.add(reason)
        self._wakeup.set()

    def start_from(self, reconciled_at: datetime | None, last_fill_at: datetime | None) -> None:
        """Say up to when the ledger was complete; see `Ladder`."""
        self._ladder.start_from(reconciled_at, last_fill_at)

    async def run(self) -> None:
        """Run ladders on request, while an outcome is unknown, and periodically, until cancelled.

        Requests that follow each other closely are answered ever more slowly: a query that lags does not know more
        for being asked often, and every ladder costs points.
        """
        spacing_s = _SPACING_MIN_S
        while True:
            if self._reasons:
                spacing_s = min(spacing_s * 2, self._settings.ladder_interval_s)
            else:
                spacing_s = _SPACING_MIN_S
                with anyio.move_on_after(self._interval_s()):
                    await self._wakeup.wait()
            done = await self.reconcile()
            await self._clock.sleep(spacing_s if done else _RETRY_S)

    def _interval_s(self) -> float:
        live, at = self._tracker.live(), self._clock.now()
        if any(order.state is OrderState.UNKNOWN for order in live):
            return self._settings.ladder_interval_s
        # The ladder that a lost amend asks for comes too early to settle it.
        amends = [o.state_at for o in live if o.state is OrderState.PENDING_AMEND and o.state_at is not None]
        left_s = [self._settings.deadline_s - max(0.0, (at - sent_at).total_seconds()) for sent_at in amends]
        if self._is_stray_alive:
            left_s.append(_CANCEL_FAILED_S)
        return min([max(_SPACING_MIN_S, s) for s in left_s] + [self._settings.reconcile_interval_s])

    async def reconcile(self) -> bool:
        """Run one ladder; True when every query answered and all corrections were applied."""
        async with self._lock:
            reasons, self._reasons = self._reasons, set()
            self._wakeup = anyio.Event()
            try:
                asked = await self._ladder.ask(self._not_shown)
            except (VenueUnavailable, VenueRejected, StoreUnavailable, TimeoutError) as error:
                self._reasons |= reasons
                self._sink.emit("reconcile_failed", reasons=sorted(reasons), error=str(error) or "timeout")
                return False
            self.ladders += 1
            corrections = self._compare(asked)
            # One that may not be cancelled again yet is still there.
            self._is_stray_alive = self._is_stray_alive and any(c.kind in _STRAYS for c in corrections)
            for correction in corrections:
                await self._apply(correction, asked.view.at)
            if asked.short is not None:
                await self._mind_shortfalls(asked.short, asked.view.at)
            await self._desk.resolve_doubtful()
            self._move_cursor(asked, corrections)
            self._ladder.settle(asked)
            if not self._reasons:
                self.is_clean = True
            self._sink.emit("reconciled", reasons=sorted(reasons), corrections=len(corrections))
            return True

    def _compare(self, asked: Asked) -> tuple[Correction, ...]:
        rows = self._ladder.rows_for(asked.view)
        is_broken = bool(self._reasons & _STREAM_BROKE)
        found = diff(
            rows,
            self._tracker.exec_ids,
            asked.view,
            clean_ladders={} if is_broken else self._clean_ladders,
            proof=self._proof,
            unripe={row.cl_ord_id for row in rows} if is_broken else self._unripe(),
        )
        self._clean_ladders = found.clean_ladders
        self._not_shown = {
            c.cl_ord_id for c in found.corrections if c.kind is CorrectionKind.NOT_SHOWN and c.cl_ord_id is not None
        }
        return found.corrections

    def _note_unknown(self) -> None:
        """Set a horizon by the steady clock for every UNKNOWN order, before the wall clock can step away from it."""
        mono, at = self._clock.mono(), self._clock.now()
        unknown = [row for row in self._tracker.live() if row.state is OrderState.UNKNOWN]
        self._provable_mono = {
            row.cl_ord_id: self._provable_mono.get(
                # At least the margin: the clock may have stepped while no process of ours was there to see it.
                row.cl_ord_id,
                mono + max(self._settings.visibility_margin_s, (proof_at(row, self._proof) - at).total_seconds()),
            )
            for row in unknown
        }
        amends = [row for row in self._tracker.live() if row.state is OrderState.PENDING_AMEND]
        self._amend_mono = {row.cl_ord_id: self._amend_mono.get(row.cl_ord_id, mono) for row in amends}

    def _unripe(self) -> set[ClOrdId]:
        self._note_unknown()
        mono = self._clock.mono()
        return {cl_ord_id for cl_ord_id, provable_mono in self._provable_mono.items() if mono < provable_mono}

    def _move_cursor(self, asked: Asked, corrections: tuple[Correction, ...]) -> None:
        """Store up to when the ledger is complete, behind the fills that made it so; not while one is missing."""
        shown = [c.fill.exec_id for c in corrections if c.kind is CorrectionKind.BOOK_FILL and c.fill is not None]
        if self._tracker.lacking() or not all(self._tracker.has_fill(exec_id) for exec_id in shown):
            return
        if self._ladder.cursor is None or asked.cursor > self._ladder.cursor:
            self._ladder.cursor = asked.cursor
            self._take(Applied(change=OrderChange(reconciled_at=asked.cursor)))

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
                    await self._cancel_stray(cl_ord_id, row, correction.detail)
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

    async def _cancel_stray(self, cl_ord_id: ClOrdId, row: Order | None, detail: str) -> None:
        """Cancel an own order that should not be there, and once more only when the queries' lag is over."""
        mono = self._clock.mono()
        recent = {cl: at for cl, at in self._cancelled_mono.items() if mono - at < _CANCEL_AGAIN_S}
        self._cancelled_mono = recent
        if cl_ord_id in recent or len(recent) >= _CANCELS_MAX:
            return
        recent[cl_ord_id] = mono
        if row is not None:
            self._take(Applied(alarms=(order_alarm(row, AlarmCode.ALIVE_AFTER_END, detail),)))
        if not await self._desk.cancel_stranger(cl_ord_id):
            recent[cl_ord_id] = mono - _CANCEL_AGAIN_S + _CANCEL_FAILED_S
            self._is_stray_alive = True

    def _is_settled(self, row: Order | None, at: datetime) -> bool:
        """Tell whether a query may speak for an order: an amend younger than the deadline is still on its way."""
        if row is None or row.state is not OrderState.PENDING_AMEND or row.state_at is None:
            return True
        # By the steady clock too: a wall clock that was set back would leave it under way for so long.
        noted_s = self._clock.mono() - self._amend_mono.get(row.cl_ord_id, self._clock.mono())
        return max(noted_s, (at - row.state_at).total_seconds()) >= self._settings.deadline_s

    def _take(self, applied: Applied) -> None:
        self._recorder.take(applied)

    def _tell(self, correction: Correction) -> None:
        """Emit a correction; one that stands from ladder to ladder is told once."""
        key = (correction.kind, f"{correction.cl_ord_id}:{correction.order_id}")
        is_standing = correction.kind in _STANDING
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
