"""The journal's contract, and what its files survive: kill -9, torn ends, damage, a disk that is full."""

from __future__ import annotations

import fcntl
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import pytest
from attrs import evolve

from krakenbot.adapters.journal.files import FileJournal, JournalLimits, read_records
from krakenbot.domain.decision.plan import ExitKind, StopTrigger
from krakenbot.domain.errors import JournalFailed
from krakenbot.domain.execution.journal import JournalKind, JournalRecord
from krakenbot.domain.execution.order import Order, OrderRole, OrderState, OrderType
from krakenbot.domain.values import ClOrdId, JournalId, Side, Symbol, VenueId
from krakenbot.ports.journal import Journal

AT = datetime(2026, 11, 23, 1, 2, 3, 456789, tzinfo=UTC)


def make_record(number: int, **changes: Any) -> JournalRecord:
    stop = Order(
        cl_ord_id=ClOrdId(f"kbs{number:012d}"),
        venue_id=VenueId("loopback:test"),
        symbol=Symbol("BTC/USD"),
        side=Side.SELL,
        role=OrderRole.PROTECTIVE_STOP,
        order_type=OrderType.STOP_LOSS,
        qty=Decimal("0.10000000"),
        limit_price=None,
        trigger_price=Decimal("49000.10"),
        trigger=StopTrigger.INDEX,
        post_only=False,
        state=OrderState.PENDING_SUBMIT,
        created_at=AT,
        exit_kind=ExitKind.STOP_LOSS,
        reason="é\n\0",
        record={"exit_profile": {"time_stop_s": 60.5, "trail": None}},
    )
    record = JournalRecord(
        journal_id=JournalId(f"j{number}"),
        at=AT + timedelta(seconds=number),
        kind=JournalKind.SUBMIT,
        order=stop,
        qty=Decimal("0.05"),
        deadline_at=AT + timedelta(seconds=5),
    )
    return evolve(record, **changes)


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.journal"))


async def append_all(journal: Journal, numbers: range) -> None:
    for number in numbers:
        await journal.append(make_record(number))


async def test_records_come_back_as_they_were_and_in_order(make_journal: Callable[[], Journal]) -> None:
    first = make_journal()
    kept = [make_record(1), make_record(2, kind=JournalKind.CANCEL, qty=None), make_record(3)]

    assert [] == list(await first.open())
    for record in kept:
        await first.append(record)
    await first.aclose()

    assert kept == list(await make_journal().open())


async def test_records_of_several_processes_come_back_oldest_first(make_journal: Callable[[], Journal]) -> None:
    for number in (1, 2):
        journal = make_journal()
        await journal.open()
        await journal.append(make_record(number))
        await journal.aclose()
    third = make_journal()

    assert [make_record(1), make_record(2)] == list(await third.open())


async def test_cleared_journal_is_empty_and_goes_on(make_journal: Callable[[], Journal]) -> None:
    for number in (1, 2):
        journal = make_journal()
        await journal.open()
        await journal.append(make_record(number))
    await journal.clear()
    await journal.append(make_record(3))
    await journal.aclose()
    found = list(await make_journal().open())

    # A process that still lives keeps its own file; what it wrote comes again and is known by its id.
    assert make_record(3) == found[-1]
    assert make_record(2) not in found


WRITER = """
import sys
import anyio
from pathlib import Path
from krakenbot.adapters.journal.files import FileJournal
sys.path.insert(0, sys.argv[2])
from test_journal import make_record

async def main():
    journal = FileJournal(Path(sys.argv[1]))
    await journal.open()
    for number in range(100_000):
        await journal.append(make_record(number))
        print(number, flush=True)

anyio.run(main)
"""


async def test_every_record_that_was_answered_for_survives_kill_9(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: ASYNC220  # the test waits
        assert process.stdout is not None
        answered = [int(process.stdout.readline()) for _ in range(40)]
        os.kill(process.pid, signal.SIGKILL)
        answered += [int(line) for line in process.stdout]
    found = list(await FileJournal(tmp_path).open())

    assert [make_record(number) for number in answered] == found[: len(answered)]
    assert len(found) <= len(answered) + 1


async def test_torn_last_record_is_left_out_wherever_it_is_torn(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    await journal.open()
    await journal.append(make_record(1))
    await journal.append(make_record(2))
    await journal.aclose()
    path = files_of(tmp_path)[0]
    whole = path.read_bytes().rstrip(b"\0")
    first_end = whole.index(b"\n") + 1
    found = []
    for end in range(first_end, len(whole) - 1, 7):
        path.write_bytes(whole[:end] + bytes(64))
        found.append(read_records(path))
        path.write_bytes(whole[:end] + b"\xff" + whole[end + 1 :])
        found.append(read_records(path))

    assert all(records == [make_record(1)] for records in found)


async def test_room_is_allocated_beforehand(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, JournalLimits(reserve_bytes=1 << 16))
    await journal.open()
    path = files_of(tmp_path)[0]

    assert 1 << 16 == path.stat().st_size
    assert path.stat().st_blocks * 512 >= 1 << 16


async def test_write_that_fails_keeps_no_part_and_the_next_one_works(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, JournalLimits(reserve_bytes=2000))
    await journal.open()
    await journal.append(make_record(1))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
        with pytest.raises(JournalFailed):
            await append_all(journal, range(2, 9))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    await journal.append(make_record(9))
    await journal.aclose()
    found = [record.journal_id for record in await FileJournal(tmp_path).open()]

    assert "j1" == found[0]
    assert "j9" == found[-1]
    assert found == [f"j{number}" for number in range(1, len(found))] + ["j9"]


async def test_limit_is_refused_by_name_and_what_is_kept_stays(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path, JournalLimits(reserve_bytes=500, bytes_max=1000))
    await journal.open()
    await journal.append(make_record(1))

    with pytest.raises(JournalFailed, match="limit of 1000"):
        await journal.append(make_record(2))
    await journal.aclose()

    assert [make_record(1)] == list(await FileJournal(tmp_path).open())


async def test_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(JournalFailed):
        await FileJournal(tmp_path / "file").open()


async def test_file_that_another_process_deletes_before_it_is_locked_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start deletes files without records that nobody has locked; one that was only just made is such a file."""
    journal, real = FileJournal(tmp_path), fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        for path in files_of(tmp_path):
            path.unlink()
        real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(JournalFailed, match="deleted"):
        await journal.append(make_record(1))
    monkeypatch.undo()
    await journal.append(make_record(2))
    await journal.aclose()

    assert [make_record(2)] == list(await FileJournal(tmp_path).open())


async def test_clearing_that_was_given_up_while_the_disk_hung_does_not_happen_later(tmp_path: Path) -> None:
    journal = FileJournal(tmp_path)
    await journal.open()
    await journal.append(make_record(1))
    with journal._lock, anyio.move_on_after(0.05) as waited:
        await journal.clear()
    await journal.append(make_record(2))
    await journal.aclose()

    assert waited.cancelled_caught
    assert [make_record(1), make_record(2)] == list(await FileJournal(tmp_path).open())


async def test_files_without_records_do_not_pile_up(tmp_path: Path) -> None:
    for _ in range(3):
        journal = FileJournal(tmp_path)
        await journal.open()
        await journal.append(make_record(1))
        await journal.clear()
        await journal.aclose()

    assert [] == files_of(tmp_path)
