"""One process that wants the lease: `python _standby.py URL NAME TTL_S`; says on each line what it knows.

Leads as the engine does: it acquires, renews, and asks right before each of its sends whether it may be made. A line
`sent EPOCH` stands for a request that would have left.
"""

from __future__ import annotations

import sys

import anyio

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import EXECUTION_ROLE
from krakenbot.adapters.postgres.lease import PostgresLease
from krakenbot.adapters.postgres.process_mark import own_mark
from krakenbot.domain.engine.lease_keeper import LeaseKeeper


class _Printed:
    def emit(self, name: str, **fields: object) -> None:
        _say(name, *(f"{key}={value}" for key, value in fields.items()))


def _say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


async def _lead(url: str, name: str, ttl_s: float) -> None:
    database = Database(url, name="decision", role=EXECUTION_ROLE, max_size=2)
    await database.open()
    keeper = LeaseKeeper(
        clock=SystemClock(),
        lease=PostgresLease(database, mark=own_mark()),
        event_sink=_Printed(),
        holder=name,
        ttl_s=ttl_s,
        margin_s=ttl_s / 5,
    )
    await keeper.acquire()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(keeper.run)
        while True:
            if await keeper.may_act(2.0):
                _say("sent", keeper.epoch)
            await anyio.sleep(0.02)


anyio.run(_lead, sys.argv[1], sys.argv[2], float(sys.argv[3]))
