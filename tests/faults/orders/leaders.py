"""Two leaders, leases that end unseen, processes that stand still, signals; the decision cluster away for seconds."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import attrs
import psycopg
from tests.faults.orders.case import NS, Case
from tests.faults.orders.fault import OrderFault, fills
from tests.faults.orders.invariants import Away
from tests.faults.orders.strike import Strike
from tests.faults.world import CLOCK

from krakenbot.domain.engine.execution_settings import ExecutionSettings

LEASE_S = 15.0
STOP_TIMEOUT_S = attrs.fields(ExecutionSettings).stop_timeout_s.default or 0.0
WHOLE_STOP_S = 2 * STOP_TIMEOUT_S
ENTRY_OPEN = Strike(point="gateway.submit:after", only="entry", action="note")
STOP_OPEN = Strike(point="gateway.submit:after", only="protective_stop", action="note")


async def second_leader(case: Case) -> None:
    """Start a second execution beside the first, kill the first after a while, and let the second take over."""
    second = case.start_other("second")
    case.hit("two executions at once")
    await anyio.sleep(10.0)
    case.process.send(signal.SIGKILL)
    await case.process.ended(5.0)
    case.hit("kill -9 of the leader")
    _hand_over(case, second)


async def outlived_lease(case: Case) -> None:
    """Let a second execution take over from one that stands still, and wake that one up then."""
    first = case.process
    second = case.start_other("second")
    taken = await case.until(lambda: _lease_is_new(case), LEASE_S + 20.0)
    if not taken:
        case.findings.append("nobody took over from a leader that stood still")
    _hand_over(case, second)
    await anyio.sleep(1.0)
    first.send(signal.SIGCONT)
    if await first.ended(20.0) is None:
        case.findings.append("the woken leader did not end")
        first.send(signal.SIGKILL)


async def short_stop(case: Case) -> None:
    await anyio.sleep(5.0)
    case.process.send(signal.SIGCONT)


async def stolen_lease(case: Case) -> None:
    """Give the lease to somebody else in the table itself, and look that execution ends; then start it again."""
    async with await psycopg.AsyncConnection.connect(case.world.owner_url, autocommit=True) as connection:
        await connection.execute(
            "UPDATE krakenbot.leases SET holder = 'somebody else', lease_epoch = lease_epoch + 1,"
            " expires_at = clock_timestamp() + interval '8 s' WHERE name = 'execution'"
        )
    case.hit("the lease, in its table")
    if await case.process.ended(LEASE_S) is None:
        case.findings.append("execution went on without its lease")
        case.process.send(signal.SIGKILL)
    case.start(())


async def cluster_away(case: Case) -> None:
    """Kill the decision cluster for 8 s while an entry rests and fills."""
    since_ns = CLOCK.now_ns()
    case.world.decision_cluster.kill()
    case.world.proxy.drop_all()
    case.hit("postgres of the decision cluster")
    await case.rules("after 500 ms: fill 50 % of order of {account}")
    await anyio.sleep(8.0)
    await case.world.decision_cluster.start()
    case.away.append(Away(since_ns=since_ns, until_ns=CLOCK.now_ns() + 5 * NS))


async def cluster_away_and_killed(case: Case) -> None:
    """The same, and execution dies meanwhile: what it did without the database is in its journal."""
    since_ns = CLOCK.now_ns()
    case.world.decision_cluster.kill()
    case.world.proxy.drop_all()
    case.hit("postgres of the decision cluster")
    await case.rules("after 500 ms: fill 50 % of order of {account}")
    await anyio.sleep(4.0)
    case.process.send(signal.SIGKILL)
    await case.process.ended(5.0)
    case.hit("kill -9 of execution meanwhile")
    await case.world.decision_cluster.start()
    case.away.append(Away(since_ns=since_ns, until_ns=CLOCK.now_ns() + 5 * NS))
    case.start(())


async def cluster_stands_still_in_a_stop(case: Case) -> None:
    """Stop every process of the decision cluster, which then answers nothing, and tell execution to end.

    The clean stop cancels entries without the database. What it waits for there is cut off.
    """
    since_ns = CLOCK.now_ns()
    still = _process_tree(case.world.decision_cluster.pid)
    for pid in still:
        os.kill(pid, signal.SIGSTOP)
    case.hit("SIGSTOP of the decision cluster")
    try:
        case.process.send(signal.SIGTERM)
        case.hit("SIGTERM meanwhile")
        code = await case.process.ended(WHOLE_STOP_S + 5.0)
        left = [o.cl_ord_id for o in case.truth.orders.values() if o.status == "open" and o.side == "buy"]
    finally:
        for pid in still:
            os.kill(pid, signal.SIGCONT)
    if code is None:
        case.findings.append(f"a stop over a database that stands still took more than {WHOLE_STOP_S:g} s")
        case.process.send(signal.SIGKILL)
    if left:
        case.findings.append(f"entries left open by a stop without the database: {left}")
    case.away.append(Away(since_ns=since_ns, until_ns=CLOCK.now_ns() + 5 * NS))
    case.start(())


def _process_tree(pid: int | None) -> list[int]:
    """Return a process and all below it; each PostgreSQL backend leads a group of its own."""
    if pid is None:
        return []
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [pid, *(below for child in children.split() for below in _process_tree(int(child)))]


def _hand_over(case: Case, second: object) -> None:
    case.others = [process for process in case.others if process is not second]
    if case.current is not None:
        case.others.append(case.current)
    case.current = second  # type: ignore[assignment]
    case.started_ns.append(CLOCK.now_ns())


async def _lease_is_new(case: Case) -> bool:
    held = await case.rows("SELECT holder FROM leases WHERE name = 'execution'")
    first = case.process.pid
    return bool(held) and f":{first}:" not in str(held[0]["holder"])


def _still(point: str, only: str = "") -> OrderFault:
    strike = Strike(point=point, only=only, action="stop")
    return OrderFault(
        name=f"SIGSTOP past the lease at {strike.text}",
        lives=((strike,),),
        helpers=(fills(60),),
        act=outlived_lease,
    )


FAULTS = (
    OrderFault(name="two executions at once", lives=((ENTRY_OPEN,),), helpers=(fills(60),), act=second_leader),
    _still("store.insert_entry:before"),
    _still("store.insert_entry:after"),
    _still("gateway.submit:before", "entry"),
    _still("gateway.submit:after", "entry"),
    _still("store.apply:before", "fill"),
    _still("gateway.submit:before", "protective_stop"),
    OrderFault(
        name="SIGSTOP for 5 s at gateway.submit:before of entry",
        lives=((Strike(point="gateway.submit:before", only="entry", action="stop"),),),
        helpers=(fills(60),),
        act=short_stop,
    ),
    OrderFault(name="the lease is lost in silence", lives=((STOP_OPEN,),), helpers=(fills(60),), act=stolen_lease),
    OrderFault(
        name="kill -9 of the decision cluster for 8 s, an entry fills meanwhile",
        lives=((ENTRY_OPEN,),),
        act=cluster_away,
    ),
    OrderFault(
        name="kill -9 of the decision cluster for 4 s and of execution meanwhile",
        lives=((ENTRY_OPEN,),),
        act=cluster_away_and_killed,
    ),
    OrderFault(
        name="SIGSTOP of the decision cluster, and SIGTERM meanwhile",
        lives=((STOP_OPEN,),),
        helpers=(fills(50),),
        act=cluster_stands_still_in_a_stop,
    ),
    *(
        OrderFault(name=f"SIGTERM at {strike.text}", lives=((strike,),), helpers=(fills(60),))
        for strike in (
            Strike(point="store.insert_entry:before", action="terminate"),
            Strike(point="gateway.submit:before", only="entry", action="terminate"),
            Strike(point="store.apply:before", only="fill", action="terminate"),
            Strike(point="gateway.submit:before", only="protective_stop", action="terminate"),
        )
    ),
    OrderFault(
        name="SIGTERM at gateway.submit:before of entry, and a second one at gateway.cancel:before",
        lives=(
            (
                Strike(point="gateway.submit:before", only="entry", action="terminate"),
                Strike(point="gateway.cancel:before", only="entry", action="terminate"),
            ),
        ),
    ),
)
