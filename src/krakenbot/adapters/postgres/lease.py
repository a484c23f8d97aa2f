"""The execution leader's lease: one row, fenced by a rising epoch, timed by the database's clock.

A leader keeps a connection apart from the pool and holds an advisory lock named after its epoch. A process that is
killed loses that lock at once, so its successor need not wait for the row to expire; one that is only slow or stopped
keeps it, and nobody takes its lease before the time is up. A leader that has lost its connection only takes the lock
again when it renews, so an heir takes over when it has found the lock free for longer than that.
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
from krakenbot.domain.errors import LeaseLost, StoreUnavailable
from krakenbot.domain.values import LeaseEpoch

_LOCK = """
SELECT holder, lease_epoch, expires_at::text, holder IS NULL OR expires_at <= clock_timestamp()
FROM leases WHERE name = 'execution' FOR UPDATE
"""
_TAKE = """
UPDATE leases SET holder = %s, lease_epoch = lease_epoch + 1, expires_at = clock_timestamp() + make_interval(secs => %s)
WHERE name = 'execution' RETURNING lease_epoch
"""
_RENEW = """
UPDATE leases SET expires_at = clock_timestamp() + make_interval(secs => %s)
WHERE name = 'execution' AND lease_epoch = %s AND holder IS NOT NULL AND expires_at > clock_timestamp()
"""
_RELEASE = "UPDATE leases SET holder = NULL, expires_at = 'epoch' WHERE name = 'execution' AND lease_epoch = %s"
_LOCK_CLASS = 0x6B62  # "kb": advisory locks of others in the same database are not ours


_SESSION_WAIT_S = 1.0
_GRACE_S = 5.0


class PostgresLease:
    """Lease on the decision database; the same holder may take its own lease again, with a new epoch.

    `grace_s` is how long the lock of a lease in force must have been free before it is taken over; it is longer than
    a living leader takes to renew.
    """

    def __init__(self, database: Database, *, grace_s: float = _GRACE_S) -> None:
        self._database = database
        self._grace_s = grace_s
        self._session: AsyncConnection | None = None
        self._locked: int | None = None
        self._free_since: tuple[int, float] | None = None

    async def acquire(self, holder: str, ttl_s: float) -> LeaseEpoch:
        """Take the lease; raises LeaseLost naming who has it and until when."""

        async def body(connection: AsyncConnection) -> LeaseEpoch:
            row = await (await connection.execute(_LOCK)).fetchone()
            if row is None:
                raise LeaseLost("the lease row is missing; run: krakenbot migrate")
            if not row[3] and row[0] != holder and not await self._is_dead(row[1]):
                raise LeaseLost(f"held by {row[0]} until {row[2]} (epoch {row[1]})", holder=row[0])
            taken = await (await connection.execute(_TAKE, [holder, ttl_s])).fetchone()
            if taken is None:
                raise LeaseLost("the lease row is missing; run: krakenbot migrate")
            # Before the commit: whoever sees the new epoch finds it locked.
            await self._lock(taken[0])
            return LeaseEpoch(taken[0])

        return await self._database.write(body)

    async def renew(self, lease_epoch: LeaseEpoch, ttl_s: float) -> None:
        """Extend our lease; an expired one is lost even if nobody took it."""

        async def body(connection: AsyncConnection) -> None:
            if (await connection.execute(_RENEW, [ttl_s, lease_epoch])).rowcount != 1:
                raise LeaseLost(f"lease epoch {lease_epoch} is not in force any more")

        await self._database.write(body)
        await self._keep_lock(lease_epoch)

    async def release(self, lease_epoch: LeaseEpoch) -> None:
        """Give the lease up; harmless when it is not ours."""

        async def body(connection: AsyncConnection) -> None:
            await connection.execute(_RELEASE, [lease_epoch])

        await self._database.write(body)
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection that holds the lock."""
        session, self._session, self._locked = self._session, None, None
        if session is not None:
            await session.close()

    async def _is_dead(self, lease_epoch: int) -> bool:
        """Tell whether nobody has held an epoch's lock for the grace; our own lock says nothing of another's."""
        if self._locked == lease_epoch or not await self._try_lock(lease_epoch):
            self._free_since = None
            return False
        await self._ask("SELECT pg_advisory_unlock(%s, %s)", lease_epoch)
        now = anyio.current_time()
        if self._free_since is None or self._free_since[0] != lease_epoch:
            self._free_since = (lease_epoch, now)
        return now - self._free_since[1] >= self._grace_s

    async def _lock(self, lease_epoch: int) -> None:
        if await self._try_lock(lease_epoch):
            self._locked = lease_epoch

    async def _keep_lock(self, lease_epoch: int) -> None:
        """Take the lock again if its connection was lost; the row in force protects us until the next try."""
        with contextlib.suppress(StoreUnavailable):
            if self._session is not None and self._locked == lease_epoch:
                await self._ask("SELECT %s, %s", lease_epoch)
                return
        with contextlib.suppress(StoreUnavailable):
            await self.aclose()
            await self._lock(lease_epoch)

    async def _try_lock(self, lease_epoch: int) -> bool:
        session = self._session
        if session is None or session.closed:
            self._session = await self._database.connect()
            self._locked = None
        return await self._ask("SELECT pg_try_advisory_lock(%s, %s)", lease_epoch)

    async def _ask(self, query: str, lease_epoch: int) -> bool:
        """Return the first column; raises StoreUnavailable also when the connection is open but nobody answers."""
        session = self._session
        if session is None:
            raise StoreUnavailable("the connection of the lease is closed")
        # In a task of its own: a query on a dead connection can't be cancelled, only cut off.
        task = asyncio.get_running_loop().create_task(_first_column(session, query, [_LOCK_CLASS, lease_epoch]))
        try:
            done, _ = await asyncio.wait([task], timeout=_SESSION_WAIT_S)
        finally:
            if not task.done():
                _cut(session)
                task.add_done_callback(_forget)
        if not done:
            raise StoreUnavailable(f"the connection of the lease did not answer within {_SESSION_WAIT_S} s")
        with translated():
            return bool(task.result())


async def _first_column(session: AsyncConnection, query: str, values: list[int]) -> object:
    row = await (await session.execute(query.encode(), values)).fetchone()
    return None if row is None else row[0]


def _cut(session: AsyncConnection) -> None:
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(session.fileno())) as line:
        line.shutdown(socket.SHUT_RDWR)


def _forget(task: asyncio.Task[object]) -> None:
    if not task.cancelled():
        task.exception()
