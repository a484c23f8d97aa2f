"""One database with its pool: units of work that cancellation cannot tear.

Enters: a URL, the database role to act as. Leaves: results of units, or our errors. Called by every store here.
Theory: a cancelled query would run on at the server and lose its connection, so each unit runs in a task of its own
(ENGINEERING_NOTES, psycopg 3). A read is cancelled and awaited; a write is always finished. When the connection
breaks after COMMIT was sent, the transaction's own id is looked up before anything is answered; nothing is retried.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import anyio
import psycopg
from attrs import define
from psycopg import AsyncConnection, sql
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool

from krakenbot.adapters.postgres.failures import translated
from krakenbot.domain.errors import StoreUnavailable

T = TypeVar("T")
Body = Callable[[AsyncConnection], Awaitable[T]]

_BEGIN_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_RESOLVE_POLL_S = 0.05
_CANCEL_WAIT_S = 1.0
_LEFT: set[asyncio.Task[Any]] = set()
# A number alone is not enough: one that was not yet on disk when the server crashed is given out again. When a single
# backend is killed the server recovers without a new start, but its statistics begin anew.
_STARTED = (
    "concat_ws('/', extract(epoch FROM pg_postmaster_start_time()), "
    "extract(epoch FROM pg_stat_get_bgwriter_stat_reset_time()))"
)
_OWN_ID = f"SELECT pg_current_xact_id()::text || '@' || {_STARTED}".encode()
_OWN_ID_IF_ANY = f"SELECT pg_current_xact_id_if_assigned()::text || '@' || {_STARTED}".encode()
_STATUS = f"""
SELECT {_STARTED}, CASE WHEN %s::text::xid8 < pg_snapshot_xmax(pg_current_snapshot())
    THEN pg_xact_status(%s::text::xid8) ELSE 'in progress' END
""".encode()


class CommitInDoubt(StoreUnavailable):
    """Report a transaction that may or may not have been committed; `transaction_id` is what to ask for.

    `is_reused` says that the server was started again and knows a committed transaction of this number, which may be
    another one: asking again tells no more, only what the transaction wrote does.
    """

    def __init__(self, transaction_id: str, cause: str, *, is_reused: bool = False) -> None:
        super().__init__(f"the connection was lost after COMMIT and its outcome could not be found: {cause}")
        self.transaction_id = transaction_id
        self.is_reused = is_reused


@define
class _Unit:
    """A transaction's connection; its id is None until its COMMIT is about to be sent, and when it wrote nothing."""

    connection: AsyncConnection
    transaction_id: str | None = None


class Database:
    """A pool onto one database, acting as `role` where the login is a member of it.

    `statement_timeout_s` bounds each statement at the server, `unit_timeout_s` each unit here, `resolve_s` the
    search for the outcome of a commit in doubt. `connection_wait_s` is how long a unit waits for a connection: while
    it waits the pool does not always try again, so a short wait and a new unit find a server that is back sooner.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str,
        role: str | None = None,
        max_size: int = 6,
        statement_timeout_s: float = 5.0,
        unit_timeout_s: float = 10.0,
        resolve_s: float = 10.0,
        connection_wait_s: float = 3.0,
    ) -> None:
        self.name = name
        self.role = role
        self.login = str(conninfo_to_dict(url).get("user") or "")
        self._url = url
        self._unit_timeout_s = unit_timeout_s
        self._resolve_s = resolve_s
        self._kwargs: dict[str, Any] = {
            "autocommit": True,
            "connect_timeout": 5,
            # A server that vanished without a word is noticed by the kernel, not by the next question alone.
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": 10_000,
            "application_name": f"krakenbot-{name}",
            "options": f"-c statement_timeout={round(statement_timeout_s * 1000)} -c lock_timeout=3000 "
            "-c idle_in_transaction_session_timeout=15000 -c search_path=krakenbot,pg_temp -c timezone=UTC -c jit=off",
        }
        self._pool: AsyncConnectionPool[AsyncConnection] = AsyncConnectionPool(
            url,
            kwargs=self._kwargs,
            min_size=1,
            max_size=max_size,
            open=False,
            name=name,
            timeout=min(connection_wait_s, unit_timeout_s),
            # After an outage a waiting unit brings the pool back at once, in place of a growing pause.
            reconnect_timeout=2.0,
            max_waiting=200,
            configure=self._take_role,
            check=_check,
        )

    async def open(self) -> None:
        """Open the pool and wait for its first connection; raises StoreUnavailable."""
        # Tried apart from the pool, whose own error does not say why.
        async with contextlib.AsyncExitStack() as stack:
            with translated():
                await stack.enter_async_context(await self.connect())
        with translated():
            await self._pool.open(wait=True, timeout=self._unit_timeout_s)

    async def close(self) -> None:
        """Close the pool; units that run are waited for."""
        with anyio.CancelScope(shield=True):
            await self._pool.close(timeout=self._unit_timeout_s)

    async def connect(self) -> AsyncConnection:
        """Open a connection outside the pool (autocommit), for listening and copying; the caller closes it."""
        with translated():
            connection = await AsyncConnection.connect(self._url, **self._kwargs)
            try:
                await self._take_role(connection)
            except BaseException:
                # Nobody else knows of it yet, also when the caller was cancelled.
                await connection.close()
                raise
            return connection

    async def read(self, body: Body[T]) -> T:
        """Run a body in one REPEATABLE READ, read-only transaction."""
        return await in_own_task(self._transact(body, _BEGIN_READ), finish=False)

    async def write(self, body: Body[T]) -> T:
        """Run a body in one transaction and commit it.

        Raises StoreUnavailable when nothing was committed or the outcome could not be found, StoreConflict by
        constraint. Cancellation waits for the end of the unit.
        """
        return await in_own_task(self._transact(body, "BEGIN"), finish=True)

    async def write_pipelined(self, body: Body[T]) -> T:
        """Run a body as `write` does, its statements sent together: two round trips in place of one for each.

        The body must begin all statements before it fetches the first result, and may read results only by fetching.
        Run within `in_own_task`: here is none, since a second one would cost the order on its way to the venue time.
        """
        async with self._unit() as unit, _rolled_back(unit.connection), unit.connection.pipeline():
            await unit.connection.execute("BEGIN")
            cursor = await unit.connection.execute(_OWN_ID)
            result = await body(unit.connection)
            row = await cursor.fetchone()
            unit.transaction_id = row[0] if row else None
            await unit.connection.execute("COMMIT")
        return result

    async def _transact(self, body: Body[T], begin: str) -> T:
        async with self._unit() as unit:
            await unit.connection.execute(begin.encode())
            async with _rolled_back(unit.connection):
                result = await body(unit.connection)
                if begin != _BEGIN_READ:
                    row = await (await unit.connection.execute(_OWN_ID_IF_ANY)).fetchone()
                    unit.transaction_id = row[0] if row else None
            await unit.connection.execute("COMMIT")
        return result

    @contextlib.asynccontextmanager
    async def _unit(self) -> AsyncIterator[_Unit]:
        """Give a connection for one transaction; when it is lost, find out what the COMMIT came to.

        Ends without an error when the transaction was committed after all.
        """
        unit: _Unit | None = None
        with translated():
            try:
                async with asyncio.timeout(self._unit_timeout_s), self._pool.connection() as connection:
                    unit = _Unit(connection)
                    yield unit
            except (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError):
                if unit is None or unit.transaction_id is None:
                    raise
                if not await self.is_committed(unit.transaction_id):
                    raise StoreUnavailable("the connection was lost; the transaction was not committed") from None

    async def is_committed(self, transaction_id: str) -> bool:
        """Tell whether a transaction was committed; raises CommitInDoubt when that can't be found out."""
        number, _, started = transaction_id.partition("@")
        cause = "no answer"
        with anyio.move_on_after(self._resolve_s):
            while True:
                try:
                    async with await AsyncConnection.connect(self._url, **self._kwargs) as connection:
                        row = await (await connection.execute(_STATUS, [number, number])).fetchone()
                except psycopg.Error as error:
                    cause = str(error)
                else:
                    match row:
                        case (since, "committed") if since != started:
                            cause = "the server was started again, and may have given the number to another transaction"
                            raise CommitInDoubt(transaction_id, cause, is_reused=True)
                        case (since, _) if since != started:
                            return False
                        case (_, "committed"):
                            return True
                        case (_, "aborted"):
                            return False
                        case _:
                            cause = "the transaction is still in progress"
                await anyio.sleep(_RESOLVE_POLL_S)
        raise CommitInDoubt(transaction_id, cause)

    async def _take_role(self, connection: AsyncConnection) -> None:
        if self.role is None:
            return
        row = await (
            await connection.execute(
                "SELECT current_user <> rolname AND pg_has_role(session_user, oid, 'MEMBER') "
                "FROM pg_roles WHERE rolname = %s",
                [self.role],
            )
        ).fetchone()
        if row is not None and row[0]:
            await connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self.role)))


@contextlib.asynccontextmanager
async def _rolled_back(connection: AsyncConnection) -> AsyncIterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(psycopg.Error):
            await connection.execute("ROLLBACK")
        raise


async def _check(connection: AsyncConnection) -> None:
    """Ask a connection whether it is alive, but only when its idle socket says something.

    A server that is gone has closed it; a question before each unit would cost a round trip as long as its commit.
    """
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if poll.poll(0):
        await AsyncConnectionPool.check_connection(connection)


async def in_own_task(unit: Coroutine[Any, Any, T], *, finish: bool) -> T:
    """Run a unit in a task of its own; on cancellation let it `finish`, or cancel it, and wait for its end.

    One that was cancelled is left to itself after a moment: a server that hangs would hold up its caller for 10 s.
    """
    task = asyncio.get_running_loop().create_task(unit)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if not finish:
            task.cancel()
        # Bounded: the unit's own timeouts end it.
        with anyio.CancelScope(shield=True):
            await asyncio.wait([task], timeout=None if finish else _CANCEL_WAIT_S)
        # The loop knows its tasks by weak references only.
        _LEFT.add(task)
        task.add_done_callback(_forget)
        raise


def _forget(task: asyncio.Task[Any]) -> None:
    _LEFT.discard(task)
    if not task.cancelled():
        task.exception()
