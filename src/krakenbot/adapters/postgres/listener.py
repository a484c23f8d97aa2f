"""Wait for NOTIFY on a connection of its own, which is opened when needed and opened again when lost."""

from __future__ import annotations

import asyncio
import contextlib

import anyio
import psycopg
from psycopg import AsyncConnection, sql

from krakenbot.adapters.postgres.database import Database, in_own_task
from krakenbot.adapters.postgres.failures import translated

REQUEST_CHANNEL = "krakenbot_refresh"
"""Execution asked for a generation."""
GENERATION_CHANNEL = "krakenbot_generation"
"""A generation was synced, or answers a request."""


class Listener:
    """A wake-up call: `wait` returns when something was notified or the time is over.

    A notification is a hint, never data: the caller reads the tables. `ready` must be awaited before the tables are
    read for the first time, so that nothing falls between.
    """

    def __init__(self, database: Database, channel: str) -> None:
        self._database = database
        self._channel = channel
        self._connection: AsyncConnection | None = None
        self._opening = asyncio.Lock()

    async def ready(self) -> None:
        """Listen, connecting if need be; raises StoreUnavailable."""
        async with self._opening:
            if self._connection is None or self._connection.closed:
                await in_own_task(self._open(), finish=True)

    async def wait(self, wait_s: float) -> None:
        """Return at a notification, or after `wait_s`, or at once when the connection is lost."""
        if self._connection is None or wait_s <= 0:
            return
        await in_own_task(self._first(self._connection, wait_s), finish=False)

    async def aclose(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with anyio.CancelScope(shield=True):
                await connection.close()

    async def _open(self) -> None:
        connection = await self._database.connect()
        with translated():
            try:
                await connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
            except BaseException:
                await connection.close()
                raise
        # Kept here, so that a caller that was cancelled meanwhile loses no connection.
        self._connection = connection

    async def _first(self, connection: AsyncConnection, wait_s: float) -> None:
        try:
            async with contextlib.aclosing(connection.notifies(timeout=wait_s, stop_after=1)) as notifies:
                async for _ in notifies:
                    pass
        except (psycopg.Error, OSError):
            await connection.close()
            self._connection = None
            # A server that is away must not turn the caller's loop into a spin.
            await anyio.sleep(min(wait_s, 0.2))
