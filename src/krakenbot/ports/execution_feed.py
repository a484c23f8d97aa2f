"""The private stream of executions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from krakenbot.domain.execution.reports import ExecutionBatch


class ExecutionFeed(Protocol):
    """A live executions feed with snapshot on every (re)connection.

    Each connection starts with an `is_snapshot` batch of open orders and newest fills; a batch with `gap` says that
    reports may have been missed. Batches come in order and none is dropped; the buffer is bounded and a consumer
    that lags past it gets a fresh snapshot with `gap` instead.
    """

    def open(self) -> AbstractAsyncContextManager[AsyncIterator[ExecutionBatch]]:
        """Connect and yield batches until closed; reconnects on its own."""

    @property
    def is_connected(self) -> bool:
        """Tell whether the stream is subscribed and its heartbeat is fresh."""

    @property
    def venue_status(self) -> str:
        """Return the venue's system status: online, post_only, cancel_only, maintenance or unknown."""

    @property
    def max_ratecount(self) -> int | None:
        """Return the threshold of the account's trading counter as the venue states it; None while not connected."""
