"""Ties own fills out with the venue's ledger and balances: at start, now and then, and when a balance is strange.

Enters: the venue's ledger and balances, own fills of the store. Leaves: named differences for the status, and the
assets whose difference nothing explains: entries there stop, exits never do. Called by the supervisor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import anyio
from attrs import frozen

from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.engine.steady_time import SteadyTime
from krakenbot.domain.errors import StoreUnavailable, VenueRejected, VenueUnavailable
from krakenbot.domain.execution.ledger import (
    CLOCKS,
    OVERLAP,
    VISIBLE_AFTER,
    Acceptance,
    Cause,
    Cursor,
    LedgerEntry,
    Named,
    Unexplained,
)
from krakenbot.domain.execution.ledger_chain import first_cursor
from krakenbot.domain.execution.tie_out import TieOut, tie_out
from krakenbot.domain.values import Asset
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink
from krakenbot.ports.ledger_store import LedgerStore
from krakenbot.ports.order_store import OrderStore
from krakenbot.ports.venue_query import VenueQuery

# A history costs four points of the REST counter and two balances two: at the lowest tier that is 18 s of it.
_AGAIN_S = 20.0
_LATER_S = 65.0
# Pages of a long ledger wait for the counter; nothing else waits for them. The next look goes on where they ended.
_READ_S = 300.0
# A balance may be ahead of its entry for as long as the ledger lags.
_LAG_S = (VISIBLE_AFTER + CLOCKS).total_seconds()


@frozen(kw_only=True)
class _Suspicion:
    """Amounts that every look since `since_mono` has found possible."""

    possible: frozenset[Decimal]
    since_mono: float


@frozen(kw_only=True)
class _FirstLook:
    """What the first look saw, until a later one has seen all that was hidden then.

    `firm` are assets whose entries said where to begin; for the others their balance did.
    """

    at: datetime
    shown: frozenset[str]
    firm: frozenset[Asset]

    def lacked(self, unexplained: Sequence[Unexplained], entries: Sequence[LedgerEntry]) -> bool:
        """Tell whether a balance to begin with already held an entry that shows only now, and that is a difference."""
        doubted = {one.asset for one in unexplained} - self.firm
        return any(
            entry.asset in doubted and entry.at <= self.at + CLOCKS and entry.ledger_id not in self.shown
            for entry in entries
        )


class LedgerKeeper:
    """Runs tie-outs. `untied` says what is wrong by asset.

    A difference counts when two tie-outs in a row find it; one that a late entry may explain, when they have found it
    for as long as an entry can be late.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        query: VenueQuery,
        order_store: OrderStore,
        ledger_store: LedgerStore,
        recorder: Recorder,
        settings: ExecutionSettings,
        event_sink: EventSink,
    ) -> None:
        self._clock = clock
        self._time = SteadyTime(clock)
        self._query = query
        self._orders = order_store
        self._store = ledger_store
        self._recorder = recorder
        self._settings = settings
        self._sink = event_sink
        self._wakeup = anyio.Event()
        self._suspected: dict[Asset, _Suspicion] = {}
        self._amounts: dict[Asset, Decimal] = {}
        self._untied: dict[Asset, str] = {}
        self._totals: dict[tuple[Cause, Asset], tuple[Decimal, int]] = {}
        self._first: _FirstLook | None = None
        self._tied_at: datetime | None = None
        self.tie_outs = 0
        self.failed = 0

    def ask(self, reason: str) -> None:
        """Ask for a tie-out soon."""
        self._sink.emit("tie_out_asked", reason=reason)
        self._wakeup.set()

    def untied(self) -> dict[Asset, str]:
        """Return what the ledger does not explain, by asset."""
        return dict(self._untied)

    def status(self) -> dict[str, object]:
        """Return the state as plain JSON values; amounts as exact texts."""
        return {
            "tie_outs": self.tie_outs,
            "failed": self.failed,
            "tied_at": None if self._tied_at is None else self._tied_at.isoformat(),
            "unexplained": {str(asset): text for asset, text in sorted(self._untied.items())},
            "unexplained_amounts": {str(asset): f"{amount:f}" for asset, amount in sorted(self._amounts.items())},
            "named": [
                {"cause": cause.value, "asset": asset, "amount": f"{amount:f}", "entries": count}
                for (cause, asset), (amount, count) in sorted(self._totals.items())
                if cause is not Cause.OWN_TRADE
            ],
        }

    async def run(self) -> None:
        """Tie out until cancelled."""
        while True:
            self._wakeup = anyio.Event()
            wait_s = await self._attempt()
            with anyio.move_on_after(wait_s):
                await self._wakeup.wait()
            # However often it is asked for: the reads that exits may need come first.
            if wait_s > _AGAIN_S:
                await self._clock.sleep(_AGAIN_S)

    async def _attempt(self) -> float:
        """Tie out once; return how long to wait for the next one unless somebody asks."""
        try:
            result = await self.tie_out()
        except VenueRejected as rejected:
            # A key without the right to query the ledger: asking more often changes nothing.
            self.failed += 1
            self._sink.emit("tie_out_failed", error=rejected.reason)
            return self._settings.tie_out_interval_s
        except (VenueUnavailable, StoreUnavailable, TimeoutError) as error:
            self.failed += 1
            self._sink.emit("tie_out_failed", error=str(error) or "timeout")
            return _AGAIN_S
        if result is None:
            return _AGAIN_S
        is_open = result.is_pending or bool(self._suspected) or self._first is not None
        return min(_LATER_S, self._settings.tie_out_interval_s) if is_open else self._settings.tie_out_interval_s

    async def tie_out(self) -> TieOut | None:
        """Compare once; None when the ledger does not say where to begin, or the store cannot hold all fills.

        Trading goes on meanwhile: balances first, then the ledger that leads through them, then the fills.
        """
        with anyio.fail_after(self._settings.store_timeout_s):
            cursor = await self._store.load_cursor(self._settings.venue_id)
        at = self._time.now()
        with anyio.fail_after(_READ_S):
            balances = await self._balances()
            entries = await self._query.ledger((at - OVERLAP if cursor is None else cursor.at) - OVERLAP)
        if not self._recorder.is_store_available:
            return None
        if cursor is None:
            cursor = await self._begin(entries, balances, at)
        if cursor is None:
            return None
        with anyio.fail_after(self._settings.store_timeout_s):
            fills = await self._orders.fills_between(cursor.at - OVERLAP, self._time.now(), None)
            acceptances = await self._store.open_acceptances(self._settings.venue_id)
        result = tie_out(cursor, entries, balances, fills, at, acceptances=acceptances)
        if self._first is not None and self._first.lacked(result.unexplained, entries):
            cursor = await self._begin(entries, balances, at)
            if cursor is None:
                return None
            result = tie_out(cursor, entries, balances, fills, at, acceptances=acceptances)
        self.tie_outs += 1
        await self._conclude(result, has_moved=result.cursor != cursor)
        if self._first is not None and at - self._first.at > VISIBLE_AFTER + CLOCKS:
            self._first = None
        if not result.is_pending:
            there = {(one.asset, amount) for one in result.unexplained for amount in one.possible}
            there |= {(one.asset, one.amount) for one in result.accepted}
            await self._refuse([one for one in acceptances if (one.asset, one.amount) not in there], result.cursor)
        return result

    async def _refuse(self, stale: Sequence[Acceptance], cursor: Cursor) -> None:
        """Settle acceptances of differences that are not there, so that none of them covers a later one."""
        if stale:
            await self._save(cursor, (), {one.number: False for one in stale})
        for one in stale:
            self._sink.emit("ledger_acceptance_void", asset=one.asset, amount=f"{one.amount:f}", who=one.who)

    async def _balances(self) -> dict[Asset, Decimal]:
        return {asset: row.balance for asset, row in (await self._query.balances()).items() if row.balance}

    async def _begin(
        self, entries: Sequence[LedgerEntry], balances: dict[Asset, Decimal], at: datetime
    ) -> Cursor | None:
        cursor = first_cursor(entries, balances, at)
        if cursor is None:
            return None
        await self._save(cursor, ())
        self._first = _FirstLook(
            at=at,
            shown=frozenset(entry.ledger_id for entry in entries),
            firm=frozenset(entry.asset for entry in entries if cursor.at < entry.at < at - VISIBLE_AFTER),
        )
        self._suspected, self._untied, self._amounts = {}, {}, {}
        self._sink.emit("ledger_cursor_set", at=cursor.at.isoformat(), assets=len(cursor.balances))
        return cursor

    async def _conclude(self, result: TieOut, *, has_moved: bool) -> None:
        found = _by_asset(result.unexplained)
        untied: dict[Asset, str] = {}
        suspected: dict[Asset, _Suspicion] = {}
        mono = self._clock.mono()
        for asset, differences in found.items():
            possible = frozenset[Decimal]().union(*(one.possible for one in differences))
            before = self._suspected.get(asset)
            again = frozenset[Decimal]() if before is None else possible & before.possible
            since_mono = before.since_mono if before is not None and again else mono
            # What is suspected again with another amount is neither proven nor gone.
            suspected[asset] = _Suspicion(possible=again or possible, since_mono=since_mono)
            is_due = mono - since_mono >= _LAG_S or not all(one.may_be_late for one in differences)
            if (again and is_due) or asset in self._untied:
                untied[asset] = differences[0].detail
        for asset in sorted(untied.keys() - self._untied.keys()):
            one = found[asset][0]
            self._sink.emit("ledger_unexplained", asset=asset, amount=f"{one.amount:f}", detail=one.detail)
        for asset in sorted(self._untied.keys() - found.keys()):
            self._sink.emit("ledger_explained", asset=asset)
        self._untied, self._suspected = untied, suspected
        self._amounts = {
            asset: min(suspected[asset].possible, key=lambda amount: (abs(amount), amount)) for asset in untied
        }
        if not has_moved:
            return
        await self._save(result.cursor, result.named, {one.number: True for one in result.accepted})
        self._note(result.named)
        for accepted in result.accepted:
            self._sink.emit(
                "ledger_accepted",
                asset=accepted.asset,
                amount=f"{accepted.amount:f}",
                who=accepted.who,
                reason=accepted.reason,
            )
        if not found:
            self._tied_at = result.cursor.at
            self._sink.emit("tied_out", entries=result.entries)

    def _note(self, named: tuple[Named, ...]) -> None:
        for change in named:
            amount, count = self._totals.get((change.cause, change.asset), (Decimal(0), 0))
            self._totals[change.cause, change.asset] = (amount + change.amount, count + change.count)
            if change.cause is not Cause.OWN_TRADE:
                self._sink.emit(
                    "ledger_named",
                    cause=change.cause,
                    asset=change.asset,
                    amount=f"{change.amount:f}",
                    detail=change.detail,
                )

    async def _save(self, cursor: Cursor, named: tuple[Named, ...], settled: Mapping[int, bool] | None = None) -> None:
        with anyio.fail_after(self._settings.store_timeout_s):
            await self._store.save_cursor(self._settings.venue_id, cursor, named, settled)


def _by_asset(unexplained: Sequence[Unexplained]) -> dict[Asset, list[Unexplained]]:
    found: dict[Asset, list[Unexplained]] = {}
    for one in unexplained:
        found.setdefault(one.asset, []).append(one)
    return found
