"""The local journal: what is written before it is sent while the decision database is away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from krakenbot.domain.execution.journal import JournalRecord


class Journal(Protocol):
    """Records on local disk that survive the process; one leader writes at a time."""

    async def open(self) -> Sequence[JournalRecord]:
        """Take the place, and return what was kept and not forgotten, oldest first, also by earlier processes.

        A record whose end is torn was never answered for, so it is left out. Raises JournalFailed when the place can't
        be used.
        """

    async def append(self, record: JournalRecord) -> None:
        """Keep a record; when this returns it survives the loss of power. Raises JournalFailed and keeps no part."""

    async def clear(self) -> None:
        """Forget all records: the database has them. Raises JournalFailed; then they may come back at the next open."""

    async def aclose(self) -> None:
        """Let the place go; what was kept stays."""
