"""The execution leader's lease: one row, fenced by a rising epoch, timed by the database's clock.

A leader keeps a connection apart from the pool and holds an advisory lock named after its epoch. A process that is
killed loses that lock at once, so its successor need not wait for the row to expire; one that is only slow or stopped
keeps it, and nobody takes its lease before the time is up. A leader that has lost its connection only takes the lock
again when it renews, so an heir takes over when it has found the lock free for longer than that. An heir on the same
machine need not wait even so long: it can see that the leader's process has ended.

Renewals go over that connection too, not through the pool: transactions that hang there must not cost the lease. An
heir that is stopped at any moment must not either, so it holds the row only while it takes the lease.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import anyio
import psycopg
from psycopg import AsyncConnection

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.failures import translated
from krakenbot.adapters.postgres.process_mark import has_ended
from krakenbot.adapters.postgres.rows import Row
from krakenbot.domain.errors import LeaseLost, StoreUnavailable
from krakenbot.domain.values import LeaseEpoch

_LOOK = """
SELECT holder, lease_epoch, expires_at::text, holder IS NULL OR expires_at <= clock_timestamp(), process
FROM leases WHERE name = 'execution'
"""
_LOCK = f"{_LOOK} FOR UPDATE"
_TAKE = """
UPDATE leases SET holder = %s, lease_epoch = lease_epoch + 1,
    expires_at = clock_timestamp() + make_interval(secs => %s), process = lease_epoch + 1 || '/' || %s::text
WHERE name = 'execution' RETURNING lease_epoch
"""
_RENEW = """
UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => %s)
WHERE name = 'execution' AND lease_epoch = %s AND holder IS NOT NULL AND expires_at > clock_timestamp()
RETURNING true
"""
_RELEASE = """
UPDATE leases SET holder = NULL, expires_at = 'epoch'
WHERE name = 'execution' AND lease_epoch = %s AND holder = %s RETURNING true
"""
_LOCK_CLASS = 0x6B62  # "kb": advisory locks of others in the same database are not ours
_MISSING = "the lease row is missing; run: krakenbot migrate"
_SESSION_WAIT_S = 1.0
_ROW_WAIT_S = 2.0
_CUT_WAIT_S = 0.5
_GRACE_S = 5.0


class PostgresLease:
    """Lease on the decision database; the same holder may take its own lease again, with a new epoch.

    `grace_s` is how long the lock of a lease in force must have been free before it is taken over; it is longer than
    a living leader takes to renew. `mark` names this process to others of the machine, who take the lease at once when
    they see that it has ended.
    """

    def __init__(self, database: Database, *, grace_s: float = _GRACE_S, mark: str | None = None) -> None:
        self._database = database
        self._grace_s = grace_s
        self._mark = mark
        self._holder: str | None = None
        self._session: AsyncConnection | None = None
        self._in_use = anyio.Lock()
        self._locked: int | None = None
        self._free_since: tuple[int, float] | None = None

    async def acquire(self, holder: str, ttl_s: float) -> LeaseEpoch:
        """Take the lease; raises LeaseLost naming who has it and until when."""
        seen = await self._database.read(_look)
        may_take = seen[3] or seen[0] == holder or await self._is_dead(seen)
        if not may_take:
            raise _held(seen)
        async with self._in_use:
            # Not while the row is locked.
            await self._connected()
        self._holder = holder
        epoch: LeaseEpoch | None = None

        async def body(connection: AsyncConnection) -> LeaseEpoch:
            row = await _look(connection, _LOCK)
            # What was renewed or taken since we looked belongs to a living process.
            if not row[3] and row[0] != holder and row[:3] != seen[:3]:
                raise _held(row)
            taken = await (await connection.execute(_TAKE, [holder, ttl_s, self._mark])).fetchone()
            if taken is None:
                raise LeaseLost(_MISSING)
            # Before the commit: whoever sees the new epoch finds it locked.
            await self._lock(taken[0])
            nonlocal epoch
            epoch = LeaseEpoch(taken[0])
            return epoch

        try:
            return await self._database.write(body)
        except asyncio.CancelledError:
            # Taken after all, and nobody will use it.
            with anyio.CancelScope(shield=True), contextlib.suppress(StoreUnavailable):
                if epoch is not None:
                    await self.release(epoch)
            raise

    async def renew(self, lease_epoch: LeaseEpoch, ttl_s: float) -> None:
        """Extend our lease; an expired one is lost even if nobody took it."""
        values: list[float | str | None] = [ttl_s, lease_epoch]
        try:
            is_ours = await self._ask(_RENEW, values, wait_s=_ROW_WAIT_S)
        except StoreUnavailable:
            # To extend a lease twice does no harm; only the connection may be what is broken.
            await self.aclose()
            is_ours = await self._ask(_RENEW, values, wait_s=_ROW_WAIT_S)
        if not is_ours:
            await self.aclose()
            raise LeaseLost(f"lease epoch {lease_epoch} is not in force any more")
        if self._locked != lease_epoch:
            # Lost with its connection; the row in force protects us until the next try.
            with contextlib.suppress(StoreUnavailable):
                await self._lock(lease_epoch)

    async def release(self, lease_epoch: LeaseEpoch) -> None:
        """Give the lease up; harmless when it is not ours."""
        try:
            await self._ask(_RELEASE, [lease_epoch, self._holder], wait_s=_ROW_WAIT_S)
        finally:
            await self.aclose()

    async def aclose(self) -> None:
        """Close the connection that holds the lock."""
        # Never under a query of another task: libpq's memory would be freed while it waits. Bounded by that query.
        with anyio.CancelScope(shield=True):
            async with self._in_use:
                session, self._session, self._locked = self._session, None, None
                if session is not None:
                    await session.close()

    async def _is_dead(self, row: Row) -> bool:
        """Tell whether an epoch's lock is free, for the grace or since the end of its process was seen.

        Our own lock says nothing of another's.
        """
        lease_epoch = row[1]
        if self._locked == lease_epoch or not await self._try_lock(lease_epoch):
            self._free_since = None
            return False
        await self._ask("SELECT pg_advisory_unlock(%s, %s)", [_LOCK_CLASS, lease_epoch])
        epoch, _, mark = (row[4] or "").partition("/")
        # Another version may have taken the lease and left the mark of the holder before it.
        if epoch == str(lease_epoch) and has_ended(mark):
            return True
        now = anyio.current_time()
        if self._free_since is None or self._free_since[0] != lease_epoch:
            self._free_since = (lease_epoch, now)
        return now - self._free_since[1] >= self._grace_s

    async def _lock(self, lease_epoch: int) -> None:
        if await self._try_lock(lease_epoch):
            self._locked = lease_epoch

    async def _try_lock(self, lease_epoch: int) -> bool:
        return await self._ask("SELECT pg_try_advisory_lock(%s, %s)", [_LOCK_CLASS, lease_epoch])

    async def _connected(self) -> AsyncConnection:
        session = self._session
        if session is None or session.closed:
            self._locked = None
            session = self._session = await self._database.connect()
        return session

    async def _ask(self, query: str, values: list[float | str | None], *, wait_s: float = _SESSION_WAIT_S) -> bool:
        """Return the first column; raises StoreUnavailable also when the connection is open but nobody answers."""
        async with self._in_use:
            session = await self._connected()
            # In a task of its own: a query on a dead connection can't be cancelled, only cut off.
            task = asyncio.get_running_loop().create_task(_first_column(session, query, values))
            try:
                await asyncio.wait([task], timeout=wait_s)
            finally:
                if not task.done():
                    _cut(session)
                    task.add_done_callback(_forget)
                    # Left to its query: closed under it, its descriptor could be another connection's next.
                    self._session = self._locked = None
            if not task.done():
                await asyncio.wait([task], timeout=_CUT_WAIT_S)
                raise StoreUnavailable(f"the connection of the lease did not answer within {wait_s} s")
            with translated():
                return bool(task.result())


async def _look(connection: AsyncConnection, query: str = _LOOK) -> Row:
    row = await (await connection.execute(query.encode())).fetchone()
    if row is None:
        raise LeaseLost(_MISSING)
    return row


def _held(row: Row) -> LeaseLost:
    return LeaseLost(f"held by {row[0]} until {row[2]} (epoch {row[1]})", holder=row[0])


async def _first_column(session: AsyncConnection, query: str, values: list[float | str | None]) -> object:
    row = await (await session.execute(query.encode(), values)).fetchone()
    return None if row is None else row[0]


def _cut(session: AsyncConnection) -> None:
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(session.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def _forget(task: asyncio.Task[object]) -> None:
    if not task.cancelled():
        task.exception()
