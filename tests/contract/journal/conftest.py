"""Both sides of the journal's contract: in memory, and files in a folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from krakenbot.adapters.journal.files import FileJournal
from krakenbot.adapters.memory.journal import JournalPlace, MemoryJournal
from krakenbot.ports.journal import Journal


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["memory", "files"])
def make_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Journal]:
    """Return a maker of journals of one place, as one process after another opens it."""
    if request.param == "memory":
        place = JournalPlace()
        return lambda: MemoryJournal(place)
    return lambda: FileJournal(tmp_path / "journal")
