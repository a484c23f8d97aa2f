"""The spool file: what is appended comes back in order; torn ends, damage, limits and a full disk are survived."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from krakenbot.adapters.postgres.spool import SampleSpool, SpoolFull, SpoolLimits
from krakenbot.domain.errors import ConfigError


def opened(folder: Path, **limits: int) -> SampleSpool:
    spool = SampleSpool(folder, SpoolLimits(**limits))
    spool.open()
    return spool


def drained(spool: SampleSpool) -> list[tuple[bytes, bytes | None]]:
    found = []
    while (record := spool.first()) is not None:
        found.append((record.head, record.body))
        spool.done()
    return found


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size: writing then fails like on a full disk, with EFBIG."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_records_come_back_in_order_and_leave_nothing_behind(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=100)
    records = [(b"head %d" % i, b"body" * i) for i in range(20)]
    for head, body in records:
        spool.append(head, body)
    assert 20 == len(spool)
    assert len(files(tmp_path)) > 1

    assert records == drained(spool)
    assert [] == files(tmp_path)
    assert 0 == spool.size_bytes


def test_next_process_finds_what_is_left_and_appends_behind_it(tmp_path: Path) -> None:
    first = opened(tmp_path)
    for number in range(3):
        first.append(b"%d" % number, b"x")
    first.done()
    first.close()

    second = SampleSpool(tmp_path)
    heads = second.open()
    second.append(b"3", b"y")

    # The segment of a done record is kept until all its records are done: the batch id tells that it was committed.
    assert [b"0", b"1", b"2"] == heads
    assert [b"0", b"1", b"2", b"3"] == [head for head, _ in drained(second)]


def test_segment_cut_at_any_byte_keeps_every_whole_record(tmp_path: Path) -> None:
    """Cut a segment of three records at each byte, as kill -9 or a power failure may."""
    spool = opened(tmp_path / "whole")
    ends = []
    for number in range(3):
        spool.append(b"head%d" % number, b"body%d" % number)
        ends.append(spool.size_bytes)
    spool.close()
    whole = files(tmp_path / "whole")[0].read_bytes()
    for size in range(len(whole)):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / "00000001.spool").write_bytes(whole[:size])
        cut = SampleSpool(folder)

        heads = cut.open()

        count = sum(end <= size for end in ends)
        assert [b"head%d" % number for number in range(count)] == heads
        assert size - ([0, *ends][count]) == cut.torn_bytes
        cut.append(b"next", b"n")
        assert [*heads, b"next"] == [head for head, _ in drained(cut)]
        cut.close()


@pytest.mark.parametrize("place", range(8))
def test_damaged_body_is_said_by_its_head_and_the_others_stay(tmp_path: Path, place: int) -> None:
    spool = opened(tmp_path)
    for number in range(3):
        spool.append(b"head%d" % number, b"body%4d" % number)
    path = files(tmp_path)[0]
    spool.close()
    content = bytearray(path.read_bytes())
    content[len(content) // 3 * 2 - 8 + place] ^= 0x10
    path.write_bytes(content)

    after = SampleSpool(tmp_path)
    after.open()

    assert [(b"head0", b"body   0"), (b"head1", None), (b"head2", b"body   2")] == drained(after)


def test_damaged_head_ends_its_segment_and_is_counted(tmp_path: Path) -> None:
    spool = opened(tmp_path, segment_bytes=60)
    for number in range(4):
        spool.append(b"head%d" % number, b"body%d" % number)
    spool.close()
    first, second = files(tmp_path)
    content = bytearray(first.read_bytes())
    content[21] ^= 1
    first.write_bytes(content)

    after = SampleSpool(tmp_path)

    assert [b"head2", b"head3"] == after.open()
    assert len(content) == after.torn_bytes
    assert [second] == files(tmp_path)


def test_limit_refuses_a_record_whole_and_takes_others_when_there_is_room(tmp_path: Path) -> None:
    spool = opened(tmp_path, bytes_max=300)
    spool.append(b"a", b"x" * 200)

    with pytest.raises(SpoolFull, match="limit of 300"):
        spool.append(b"b", b"y" * 200)

    assert [(b"a", b"x" * 200)] == drained(spool)
    spool.append(b"b", b"y" * 200)
    assert [(b"b", b"y" * 200)] == drained(spool)


def test_full_disk_leaves_no_part_of_a_record(tmp_path: Path) -> None:
    spool = opened(tmp_path)
    spool.append(b"a", b"x" * 100)
    size = files(tmp_path)[0].stat().st_size

    with largest_file(size + 50), pytest.raises(SpoolFull, match="File too large"):
        spool.append(b"b", b"y" * 100)

    assert size == files(tmp_path)[0].stat().st_size
    spool.append(b"c", b"z")
    assert [b"a", b"c"] == [head for head, _ in drained(spool)]


def test_failed_sync_undoes_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = opened(tmp_path)
    spool.append(b"a", b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _fails)
        with pytest.raises(SpoolFull, match="no space"):
            spool.append(b"b", b"y")

    spool.append(b"c", b"z")
    assert [b"a", b"c"] == [head for head, _ in drained(spool)]


def test_two_processes_do_not_share_a_spool(tmp_path: Path) -> None:
    spool = opened(tmp_path)

    with pytest.raises(ConfigError, match="another process writes to the spool"):
        SampleSpool(tmp_path).open()

    spool.close()
    assert [] == SampleSpool(tmp_path).open()


def _fails(_: int) -> None:
    raise OSError(28, "no space")
