"""The executions feed over the private stream: implements `ports.execution_feed`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from attrs import frozen

from krakenbot.adapters.kraken.private_stream import PrivateStream
from krakenbot.domain.errors import invariant
from krakenbot.domain.execution.reports import ExecutionBatch


@frozen(kw_only=True)
class ExecutionFeedSettings:
    """`buffer_batches` bounds how far a consumer may lag before it gets a fresh snapshot with `gap` instead."""

    buffer_batches: int = 1000


class KrakenExecutionFeed:
    """Execution batches of one account; while it is open, the order gateway of the same stream can send."""

    def __init__(self, *, stream: PrivateStream, settings: ExecutionFeedSettings) -> None:
        self._stream = stream
        self._settings = settings
        self._is_open = False
        self.overflows = 0

    @property
    def is_connected(self) -> bool:
        """Tell whether the stream is subscribed and its heartbeat is fresh."""
        return self._stream.is_connected

    @property
    def venue_status(self) -> str:
        """Return the venue's system status: online, post_only, cancel_only, maintenance or unknown."""
        return self._stream.venue_status

    @property
    def max_ratecount(self) -> int | None:
        """Return the threshold of the account's trading counter; None while not connected."""
        return self._stream.max_ratecount

    @asynccontextmanager
    async def open(self) -> AsyncIterator[AsyncIterator[ExecutionBatch]]:
        """Connect and yield batches until closed; reconnects on its own. Only one opening at a time."""
        invariant(not self._is_open, "one_feed", "the executions feed is open already")
        self._is_open = True
        send, receive = anyio.create_memory_object_stream[ExecutionBatch](self._settings.buffer_batches)

        def deliver(batch: ExecutionBatch) -> bool:
            try:
                send.send_nowait(batch)
            except anyio.WouldBlock:
                # full: what waits is dropped as well, since the next snapshot with `gap` stands for all of it
                self.overflows += 1
                while receive.statistics().current_buffer_used:
                    receive.receive_nowait()
                return False
            return True

        try:
            with send, receive:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._stream.run, deliver)
                    yield receive
                    tasks.cancel_scope.cancel()
        finally:
            self._is_open = False
