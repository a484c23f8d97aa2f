"""The execution leader's lease: one row, fenced by a rising epoch, timed by the database's clock."""

from __future__ import annotations

from psycopg import AsyncConnection

from krakenbot.adapters.postgres.database import Database
from krakenbot.domain.errors import LeaseLost
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


class PostgresLease:
    """Lease on the decision database; the same holder may take its own lease again, with a new epoch."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, holder: str, ttl_s: float) -> LeaseEpoch:
        """Take the lease; raises LeaseLost naming who has it and until when."""

        async def body(connection: AsyncConnection) -> LeaseEpoch:
            row = await (await connection.execute(_LOCK)).fetchone()
            if row is None:
                raise LeaseLost("the lease row is missing; run: krakenbot migrate")
            if not row[3] and row[0] != holder:
                raise LeaseLost(f"held by {row[0]} until {row[2]} (epoch {row[1]})")
            taken = await (await connection.execute(_TAKE, [holder, ttl_s])).fetchone()
            if taken is None:
                raise LeaseLost("the lease row is missing; run: krakenbot migrate")
            return LeaseEpoch(taken[0])

        return await self._database.write(body)

    async def renew(self, lease_epoch: LeaseEpoch, ttl_s: float) -> None:
        """Extend our lease; an expired one is lost even if nobody took it."""

        async def body(connection: AsyncConnection) -> None:
            if (await connection.execute(_RENEW, [ttl_s, lease_epoch])).rowcount != 1:
                raise LeaseLost(f"lease epoch {lease_epoch} is not in force any more")

        await self._database.write(body)

    async def release(self, lease_epoch: LeaseEpoch) -> None:
        """Give the lease up; harmless when it is not ours."""

        async def body(connection: AsyncConnection) -> None:
            await connection.execute(_RELEASE, [lease_epoch])

        await self._database.write(body)
