"""Twins of the lease, the safety store and the cycle store."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal

from attrs import evolve

from krakenbot.adapters.memory.database import MemoryDatabase
from krakenbot.domain.errors import LeaseLost
from krakenbot.domain.state.safety import EngineState, SymbolSafety
from krakenbot.domain.values import LeaseEpoch, VenueId
from krakenbot.ports.clock import Clock
from krakenbot.ports.cycle_store import CycleRow


class MemoryLease:
    """Lease in memory, timed by the clock that stands for the server's."""

    def __init__(self, database: MemoryDatabase, clock: Clock) -> None:
        self._db = database
        self._clock = clock

    async def acquire(self, holder: str, ttl_s: float) -> LeaseEpoch:
        """Take the lease; raises LeaseLost naming who has it."""
        row = self._db.lease
        if self._is_in_force() and row.holder != holder:
            raise LeaseLost(f"held by {row.holder} until {row.expires_at} (epoch {row.lease_epoch})", holder=row.holder)
        row.holder = holder
        row.lease_epoch = LeaseEpoch(row.lease_epoch + 1)
        row.expires_at = self._clock.now() + timedelta(seconds=ttl_s)
        return row.lease_epoch

    async def renew(self, lease_epoch: LeaseEpoch, ttl_s: float) -> None:
        """Extend our lease."""
        if self._db.lease.lease_epoch != lease_epoch or not self._is_in_force():
            raise LeaseLost(f"lease epoch {lease_epoch} is not in force any more")
        self._db.lease.expires_at = self._clock.now() + timedelta(seconds=ttl_s)

    async def release(self, lease_epoch: LeaseEpoch) -> None:
        """Give the lease up; harmless when it is not ours."""
        if self._db.lease.lease_epoch == lease_epoch:
            self._db.lease.holder = None
            self._db.lease.expires_at = None

    def _is_in_force(self) -> bool:
        row = self._db.lease
        return row.holder is not None and row.expires_at is not None and row.expires_at > self._clock.now()


class MemorySafetyStore:
    """SafetyStore in memory."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._db = database

    async def set_engine_state(self, state: EngineState) -> None:
        """Replace the engine's mode."""
        taken_back = self._db.engine_state.latches - state.latches
        self._db.engine_state = state
        if "DRAWDOWN" in taken_back:
            self._db.peaks.clear()

    async def add_latches(self, latches: Collection[str]) -> None:
        """Add to the latch."""
        state = self._db.engine_state
        self._db.engine_state = evolve(state, latch=",".join(sorted(state.latches | set(latches))))

    async def set_symbol_safety(self, safety: SymbolSafety) -> None:
        """Replace a symbol's mode."""
        self._db.safety[safety.symbol] = safety

    async def raise_peak(self, venue_id: VenueId, pnl_quote: Decimal) -> Decimal:
        """Store a profit and loss if it is the highest so far, and return the highest."""
        self._db.peaks[venue_id] = max(pnl_quote, self._db.peaks.get(venue_id, pnl_quote))
        return self._db.peaks[venue_id]


class MemoryCycleStore:
    """CycleStore in memory."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._db = database

    async def record_cycle(self, row: CycleRow) -> None:
        """Append a cycle."""
        self._db.cycles.append(row)

    async def publish_status(self, process: str, at: datetime, body: dict[str, object]) -> None:
        """Replace the status of a process."""
        self._db.status[process] = (at, dict(body))
