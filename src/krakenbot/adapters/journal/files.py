"""The journal as files in one folder: a line of JSON with its checksum per record, on disk before `append` returns.

Enters: records of what is about to be sent. Leaves: the same after a crash, oldest first. Called by the engine's
recorder; the work is done in a thread, since every call may wait for the disk.

Each process has a file of its own, `NNNNNNNN.journal`, locked while it lives, so that a standby can read what a dead or
stopped leader wrote. Room is allocated when the file is made: where the file system keeps what it has promised, a disk
that is full can't stop a record. Unused room is zeros. Reading ends at the first line that is not whole: only the last
write can be torn, and nothing was sent after it. A file in which a write failed is left, and the next one is begun,
since after a failed fsync nothing is known of its cache.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import anyio.to_thread
import msgspec
from attrs import define, frozen

from krakenbot.domain.errors import JournalFailed
from krakenbot.domain.execution.journal import JournalRecord

T = TypeVar("T")
_DECODER = msgspec.json.Decoder(JournalRecord)
_CRC_BYTES = 9
_NAMES_MAX = 1000


@frozen(kw_only=True)
class JournalLimits:
    """`reserve_bytes` are allocated at a time, `bytes_max` bounds the file of one process."""

    reserve_bytes: int = 1 << 20
    bytes_max: int = 64 << 20


@define
class _File:
    path: Path
    descriptor: int
    reserved: int
    used: int = 0


class FileJournal:
    """Journal in a folder; one object per process."""

    def __init__(self, folder: Path, limits: JournalLimits | None = None) -> None:
        self._folder = folder
        self._limits = limits or JournalLimits()
        self._file: _File | None = None
        self._earlier: list[Path] = []
        self._lock = threading.Lock()

    async def open(self) -> Sequence[JournalRecord]:
        """Read the files of the folder and begin an own one."""
        return await self._in_thread(self._open)

    async def append(self, record: JournalRecord) -> None:
        """Write one line and wait for the disk."""
        await self._in_thread(partial(self._append, _line(record)))

    async def clear(self) -> None:
        """Zero what was written, and delete files that no living process has."""
        await self._in_thread(self._clear)

    async def aclose(self) -> None:
        """Close the own file; it is deleted when nothing is in it."""
        await self._in_thread(self._close)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        given_up = threading.Event()

        def locked() -> T:
            with self._lock:
                if given_up.is_set():
                    # Done late it could undo what came after it.
                    raise OSError("given up before it began")
                return work()

        try:
            # A disk that hangs must not hold up its caller for longer than the caller is ready to wait.
            return await anyio.to_thread.run_sync(locked, abandon_on_cancel=True)
        except OSError as error:
            raise JournalFailed(f"journal {self._folder}: {error}") from error
        finally:
            given_up.set()

    def _open(self) -> list[JournalRecord]:
        self._close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths = sorted(self._folder.glob("*.journal"))
        found = {path: read_records(path) for path in paths}
        self._delete([path for path in paths if not found[path]])
        self._file = self._begin()
        # Only what was read may be cleared later.
        self._earlier = [path for path in paths if found[path]]
        return [record for path in paths for record in found[path]]

    def _begin(self) -> _File:
        numbers = [int(path.stem) for path in self._folder.glob("*.journal") if path.stem.isdigit()]
        first = max(numbers, default=0) + 1
        for number in range(first, first + _NAMES_MAX):
            path = self._folder / f"{number:08d}.journal"
            with contextlib.suppress(FileExistsError):
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
                return self._reserved(path, descriptor)
        raise FileExistsError(f"no free name from {first:08d} on")

    def _reserved(self, path: Path, descriptor: int) -> _File:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.posix_fallocate(descriptor, 0, self._limits.reserve_bytes)
            os.fsync(descriptor)
            _sync_folder(self._folder)
            if not os.fstat(descriptor).st_nlink:
                raise FileNotFoundError(f"{path.name} was deleted before it was locked")
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        return _File(path, descriptor, reserved=self._limits.reserve_bytes)

    def _append(self, line: bytes) -> None:
        file = self._file
        if file is None:
            file = self._file = self._begin()
        end = file.used + len(line)
        if end > self._limits.bytes_max:
            raise OSError(f"the limit of {self._limits.bytes_max} bytes is reached")
        try:
            if end > file.reserved:
                more = max(self._limits.reserve_bytes, end - file.reserved)
                os.posix_fallocate(file.descriptor, file.reserved, more)
                file.reserved += more
            _write_all(file.descriptor, line, file.used)
            os.fdatasync(file.descriptor)
        except OSError:
            self._abandon(file)
            raise
        file.used = end

    def _abandon(self, file: _File) -> None:
        """Cut off a write that failed and leave the file: what is whole in it stays."""
        with contextlib.suppress(OSError):
            os.ftruncate(file.descriptor, file.used)
            os.fsync(file.descriptor)
        os.close(file.descriptor)
        self._earlier.append(file.path)
        self._file = None

    def _clear(self) -> None:
        file = self._file
        if file is not None and file.used:
            # From the front, so that a clearing that is torn leaves nothing that can be read.
            _write_all(file.descriptor, bytes(file.used), 0)
            os.fdatasync(file.descriptor)
            file.used = 0
        self._delete(self._earlier)
        self._earlier = [path for path in self._earlier if path.exists()]
        if self._file is None:
            self._file = self._begin()

    def _delete(self, paths: list[Path]) -> None:
        """Delete files whose process has ended."""
        for path in paths:
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDWR)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink()
                finally:
                    os.close(descriptor)
        _sync_folder(self._folder)

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        os.close(file.descriptor)
        if not file.used:
            file.path.unlink(missing_ok=True)


def read_records(path: Path) -> list[JournalRecord]:
    """Return the whole records of a file, up to the first line that is not one."""
    found: list[JournalRecord] = []
    for line in path.read_bytes().split(b"\n"):
        body = line[_CRC_BYTES:]
        if line[:_CRC_BYTES] != _crc(body):
            break
        try:
            found.append(_DECODER.decode(body))
        except msgspec.MsgspecError as error:
            raise OSError(f"{path.name}: a whole record can't be read: {error}") from error
    return found


def _line(record: JournalRecord) -> bytes:
    body = msgspec.json.encode(record)
    return _crc(body) + body + b"\n"


def _crc(body: bytes) -> bytes:
    return b"%08x " % zlib.crc32(body)


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
