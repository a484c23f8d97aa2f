"""Our own side: the ingest cluster away, ingest killed, stopped, its spool without room."""

from __future__ import annotations

import resource
import signal

import anyio
from tests.faults.fault import Dark, Fault
from tests.faults.world import World

from krakenbot.domain.decision.blocker import BlockerCode

CLUSTER_AWAY_S = 30.0
RESTART_AFTER_S = 10.0
STOPPED_S = 60.0
SPOOL_BYTES = 64 * 1024
NO_REFRESH = frozenset({BlockerCode.GENERATION})


async def kill_cluster(world: World) -> int:
    world.ingest_cluster.kill()
    await anyio.sleep(CLUSTER_AWAY_S)
    await world.ingest_cluster.start()
    return 1


async def fill_spool(world: World) -> int:
    """Take the cluster away, and let no file of ingest grow beyond a size: a write to the spool is cut short.

    It struck if ingest says that its spool is full; what then holds is not taken from its word.
    """
    pid = world.children["ingest"].pid
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (SPOOL_BYTES, before[1]))
    try:
        world.ingest_cluster.kill()
        await anyio.sleep(CLUSTER_AWAY_S)
        is_full = await world.held.is_spool_full()
        await world.ingest_cluster.start()
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, before)
    return int(is_full)


async def kill_ingest(world: World) -> int:
    world.send("ingest", signal.SIGKILL)
    await anyio.sleep(RESTART_AFTER_S)
    world.start_ingest()
    return 1


async def stop_ingest(world: World) -> int:
    world.send("ingest", signal.SIGSTOP)
    try:
        await anyio.sleep(STOPPED_S)
    finally:
        world.send("ingest", signal.SIGCONT)
    return 1


FAULTS = (
    Fault(
        name="kill -9 of the ingest cluster, away for 30 s",
        act=kill_cluster,
        point="postgres of the ingest cluster",
        hold_s=0.0,
        dark=Dark(epoch_after_s=8.0, is_told=False, blocked_after_s=8.0, codes=NO_REFRESH),
        recover_within_s=90.0,
    ),
    Fault(
        name="kill -9 of the ingest cluster for 30 s, and no room for the spool",
        act=fill_spool,
        point="postgres of the ingest cluster, files of ingest bounded to 64 KiB",
        hold_s=0.0,
        dark=Dark(epoch_after_s=8.0, is_told=False, blocked_after_s=8.0, codes=NO_REFRESH),
        recover_within_s=90.0,
    ),
    Fault(
        name="kill -9 of ingest, started again after 10 s",
        act=kill_ingest,
        point="ingest",
        hold_s=0.0,
        dark=Dark(epoch_after_s=0.5, is_told=False, blocked_after_s=4.0, codes=NO_REFRESH),
        recover_within_s=90.0,
    ),
    Fault(
        name="SIGSTOP of ingest for 60 s",
        act=stop_ingest,
        point="ingest",
        hold_s=0.0,
        dark=Dark(epoch_after_s=0.5, is_told=False, blocked_after_s=6.0, codes=NO_REFRESH),
        recover_within_s=90.0,
    ),
)
