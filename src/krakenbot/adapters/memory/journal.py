"""Twin of the journal on disk: a place that outlives the journals that are opened on it."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import define, field

from krakenbot.domain.errors import JournalFailed
from krakenbot.domain.execution.journal import JournalRecord


@define
class JournalPlace:
    """What survives a process; `room` is how many records fit, None without a limit; it may be unreadable."""

    records: list[JournalRecord] = field(factory=list)
    room: int | None = None
    is_readable: bool = True


class MemoryJournal:
    """Journal in memory."""

    def __init__(self, place: JournalPlace) -> None:
        self._place = place

    async def open(self) -> Sequence[JournalRecord]:
        """Return what was kept."""
        if not self._place.is_readable:
            raise JournalFailed("unreadable")
        return tuple(self._place.records)

    async def append(self, record: JournalRecord) -> None:
        """Keep a record."""
        if self._place.room is not None and len(self._place.records) >= self._place.room:
            raise JournalFailed("no room")
        self._place.records.append(record)

    async def clear(self) -> None:
        """Forget all records."""
        self._place.records.clear()

    async def aclose(self) -> None:
        """Let go; what was kept stays."""
