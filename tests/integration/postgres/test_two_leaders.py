"""Two real processes and one lease: who sends, who waits, and what a stopped or cut off leader does afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import anyio
import pytest
from attrs import define, field
from psycopg import AsyncConnection

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.lease import PostgresLease
from krakenbot.adapters.postgres.process_mark import own_mark
from krakenbot.adapters.postgres.rows import Row
from krakenbot.domain.errors import LeaseLost
from krakenbot.domain.values import LeaseEpoch

CLOCK = SystemClock()
pytestmark = [pytest.mark.postgres, pytest.mark.timeout(60)]


@define
class Process:
    popen: subprocess.Popen[str]
    lines: list[str] = field(factory=list)

    def read(self) -> None:
        if self.popen.stdout is not None:
            self.lines.extend(line.strip() for line in self.popen.stdout)

    def sent(self) -> int:
        return sum(line.startswith("sent ") for line in self.lines)

    def has(self, text: str) -> bool:
        return any(text in line for line in self.lines)


@contextlib.contextmanager
def process(url: str, name: str, ttl_s: float) -> Iterator[Process]:
    command = [sys.executable, str(Path(__file__).parent / "_standby.py"), url, name, str(ttl_s)]
    popen = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1)
    found = Process(popen)
    reader = threading.Thread(target=found.read)
    reader.start()
    try:
        yield found
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(popen.pid, signal.SIGCONT)
        popen.kill()
        popen.wait(10)
        reader.join(10)
        if popen.stdout is not None:
            popen.stdout.close()


def wait(is_reached: Callable[[], bool], timeout_s: float = 20.0) -> None:
    until = CLOCK.mono() + timeout_s
    while not is_reached():
        assert CLOCK.mono() < until, "not reached in time"
        time.sleep(0.01)


def test_one_sends_the_other_names_it_and_a_stopped_leader_sends_nothing_when_it_goes_on(database_urls):
    url = database_urls.decision
    with process(url, "first", 2.0) as first:
        wait(lambda: first.sent() > 0)
        with process(url, "second", 2.0) as second:
            wait(lambda: second.has("lease_waiting"))

            assert second.has("holder=first")
            assert 0 == second.sent()

            os.kill(first.popen.pid, signal.SIGSTOP)
            wait(lambda: second.sent() > 0)
            time.sleep(0.2)
            before = first.sent()
            os.kill(first.popen.pid, signal.SIGCONT)
            code = first.popen.wait(20)
            wait(lambda: first.has("LeaseLost"))

            assert before == first.sent()
            assert code != 0
            assert 1 == sum("lease_waiting" in line for line in second.lines)


@contextlib.asynccontextmanager
async def heir_of(url: str) -> AsyncIterator[PostgresLease]:
    database = Database(url, name="decision", max_size=2)
    await database.open()
    lease = PostgresLease(database, mark=own_mark())
    try:
        yield lease
    finally:
        await lease.aclose()
        await database.close()


async def taken_after_s(heir: PostgresLease, most_s: float) -> float:
    """Ask for the lease until it is ours; return how long that took, at most `most_s`."""
    began = CLOCK.mono()
    while CLOCK.mono() - began < most_s:
        with contextlib.suppress(LeaseLost):
            await heir.acquire("heir", 60.0)
            break
        await anyio.sleep(0.05)
    return CLOCK.mono() - began


async def test_lease_of_a_process_that_is_seen_to_have_ended_is_taken_without_the_grace(database_urls):
    url = database_urls.decision
    async with heir_of(url) as heir:
        with process(url, "first", 60.0) as first:
            wait(lambda: first.sent() > 0)
            first.popen.kill()
            first.popen.wait(10)

            assert await taken_after_s(heir, 8.0) < 3.0


@pytest.mark.parametrize("whose", ["living", "of another epoch"])
async def test_lock_that_is_free_gives_no_lease_away_while_its_process_may_live(database_urls, whose):
    url = database_urls.decision
    async with heir_of(url) as heir, await AsyncConnection.connect(url, autocommit=True) as connection:
        with process(url, "first", 60.0) as first:
            wait(lambda: first.sent() > 0)
            if whose == "living":
                os.kill(first.popen.pid, signal.SIGSTOP)
                await connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = %s",
                    [0x6B62],
                )
            else:
                first.popen.kill()
                first.popen.wait(10)
                await connection.execute(
                    "UPDATE krakenbot.leases SET process = '0' || substr(process, strpos(process, '/'))"
                )

            assert await taken_after_s(heir, 3.5) >= 3.5


async def test_lease_that_is_taken_while_its_taker_is_told_to_stop_is_given_back(database_urls):
    async with heir_of(database_urls.decision) as stopped, heir_of(database_urls.decision) as other:
        async with await AsyncConnection.connect(database_urls.decision) as connection:
            await connection.execute("SELECT 1 FROM krakenbot.leases FOR UPDATE")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stopped.acquire, "stopped", 60.0)
                await anyio.sleep(0.5)
                tasks.cancel_scope.cancel()
                tasks.start_soon(_end_soon, connection)

        assert await taken_after_s(other, 8.0) < 1.0


async def _end_soon(connection: AsyncConnection) -> None:
    with anyio.CancelScope(shield=True):
        await connection.rollback()


async def test_connection_of_the_lease_that_no_longer_answers_is_replaced_and_the_lease_stays(database_urls):
    database = Database(database_urls.decision, name="decision", max_size=2)
    await database.open()
    lease = PostgresLease(database)
    try:
        epoch = await lease.acquire("a", 30)
        session = lease._session
        assert session is not None
        backend = session.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        try:
            with anyio.fail_after(10):
                await lease.renew(epoch, 30)
        finally:
            os.kill(backend, signal.SIGCONT)
        await lease.renew(epoch, 30)

        assert lease._session is not None
        assert lease._session.info.backend_pid != backend
        await lease.renew(epoch, 30)
    finally:
        await lease.aclose()
        await database.close()


async def test_connections_of_the_lease_that_stop_answering_again_and_again_end_nothing_but_themselves(database_urls):
    """In a process of its own: a connection that is closed under its query ends the process with SIGSEGV."""
    program = """
import os, signal, sys, anyio
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.lease import PostgresLease

async def main():
    database = Database(sys.argv[1], name="decision", max_size=2)
    await database.open()
    lease = PostgresLease(database)
    epoch = await lease.acquire("a", 300)
    for _ in range(2):
        backend = lease._session.info.backend_pid
        os.kill(backend, signal.SIGSTOP)
        await lease.renew(epoch, 300)
        await anyio.sleep(0.2)
        os.kill(backend, signal.SIGCONT)
        await anyio.sleep(0.2)
    await lease.aclose()
    await database.close()

anyio.run(main)
"""
    ended = await anyio.run_process([sys.executable, "-c", program, database_urls.decision], check=False)

    assert (0, b"") == (ended.returncode, ended.stderr)


async def test_transactions_that_hang_in_the_pool_do_not_cost_the_lease(database_urls):
    database = Database(database_urls.decision, name="decision", max_size=1)
    await database.open()
    lease = PostgresLease(database)
    try:
        epoch = await lease.acquire("a", 30)
        backend = await database.read(_backend)
        os.kill(backend, signal.SIGSTOP)
        try:
            with anyio.fail_after(3):
                await lease.renew(epoch, 30)
        finally:
            os.kill(backend, signal.SIGCONT)
    finally:
        await lease.aclose()
        await database.close()


async def _backend(connection: AsyncConnection) -> int:
    row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
    assert row is not None
    return int(row[0])


async def test_heir_that_is_stopped_while_it_looks_does_not_hold_up_the_leader(database_urls, monkeypatch):
    databases = [Database(database_urls.decision, name="decision", max_size=2) for _ in range(2)]
    for database in databases:
        await database.open()
    leader, heir = (PostgresLease(database) for database in databases)
    looking = anyio.Event()

    async def stopped(row: Row) -> bool:
        looking.set()
        await anyio.sleep(5.0)
        return False

    monkeypatch.setattr(heir, "_is_dead", stopped)
    try:
        epoch = await leader.acquire("a", 30)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(heir.acquire, "b", 30)
            await looking.wait()
            with anyio.fail_after(1.5):
                await leader.renew(epoch, 30)
            tasks.cancel_scope.cancel()
    finally:
        for lease in (leader, heir):
            await lease.aclose()
        for database in databases:
            await database.close()


async def test_heir_that_took_the_leader_for_dead_sees_that_it_renewed_since(database_urls, monkeypatch):
    databases = [Database(database_urls.decision, name="decision", max_size=2) for _ in range(2)]
    for database in databases:
        await database.open()
    leader, heir = (PostgresLease(database) for database in databases)

    async def renewed_meanwhile(row: Row) -> bool:
        await leader.renew(LeaseEpoch(row[1]), 30)
        return True

    monkeypatch.setattr(heir, "_is_dead", renewed_meanwhile)
    try:
        await leader.acquire("a", 30)

        with pytest.raises(LeaseLost, match="held by a"):
            await heir.acquire("b", 30)
    finally:
        for lease in (leader, heir):
            await lease.aclose()
        for database in databases:
            await database.close()


async def test_heir_leaves_a_living_leader_its_lease_when_only_its_connection_broke(database_urls):
    databases = [Database(database_urls.decision, name="decision", max_size=2) for _ in range(2)]
    for database in databases:
        await database.open()
    leader, heir = (PostgresLease(database, grace_s=2.0) for database in databases)
    try:
        epoch = await leader.acquire("a", 30)
        assert leader._session is not None
        await leader._session.close()
        refused = 0
        for _ in range(3):
            with contextlib.suppress(Exception):
                await heir.acquire("b", 30)
                break
            refused += 1
            await leader.renew(epoch, 30)

        assert 3 == refused
        assert leader._locked == epoch
    finally:
        for lease in (leader, heir):
            await lease.aclose()
        for database in databases:
            await database.close()
