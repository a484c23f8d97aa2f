"""The execution leader's lease: one row, fenced by a rising epoch, timed by the database's clock.

A leader keeps a connection apart from the pool and holds an advisory lock named after its epoch. A process that is
killed loses that lock at once, so its successor need not wait for the row to expire; one that is only slow or stopped
keeps it, and nobody takes its lease before the time is up.
"""

from __future__ import annotations

import contextlib

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


class PostgresLease:
    """Lease on the decision database; the same holder may take its own lease again, with a new epoch."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._session: AsyncConnection | None = None
        self._locked: int | None = None

    async def acquire(self, holder: str, ttl_s: float) -> LeaseEpoch:
        """Take the lease; raises LeaseLost naming who has it and until when."""

        async def body(connection: AsyncConnection) -> LeaseEpoch:
            row = await (await connection.execute(_LOCK)).fetchone()
            if row is None:
                raise LeaseLost("the lease row is missing; run: krakenbot migrate")
            if not row[3] and row[0] != holder and not await self._is_dead(row[1]):
                raise LeaseLost(f"held by {row[0]} until {row[2]} (epoch {row[1]})")
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
        """Tell whether the session that locked an epoch is gone; our own lock says nothing of another's."""
        return self._locked != lease_epoch and await self._try_lock(lease_epoch)

    async def _lock(self, lease_epoch: int) -> None:
        if await self._try_lock(lease_epoch):
            self._locked = lease_epoch

    async def _keep_lock(self, lease_epoch: int) -> None:
        """Take the lock again if its connection was lost; the row in force protects us until the next try."""
        session = self._session
        with contextlib.suppress(StoreUnavailable):
            if session is not None and self._locked == lease_epoch:
                with translated():
                    await session.execute("SELECT 1")
                return
        with contextlib.suppress(StoreUnavailable):
            await self.aclose()
            await self._lock(lease_epoch)

    async def _try_lock(self, lease_epoch: int) -> bool:
        session = self._session
        if session is None or session.closed:
            session = self._session = await self._database.connect()
            self._locked = None
        with translated():
            query = "SELECT pg_try_advisory_lock(%s, %s)"
            row = await (await session.execute(query, [_LOCK_CLASS, lease_epoch])).fetchone()
        return row is not None and bool(row[0])
