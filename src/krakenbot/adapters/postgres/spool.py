"""An append-only file of batches for as long as the ingest database is away.

Enters: batches as bytes, a head that describes and a body that holds the rows. Leaves: the same, in order, also those
of an earlier process. Called by the COPY writer, in a thread: every call may wait for the disk.

Format: segments `NNNNNNNN.spool` of records: magic, lengths of head and body, CRC-32 of the lengths and the head,
CRC-32 of the body, head, body. Each record is fsynced before `append` returns; the folder too when a segment is made.
A segment is only ever appended to by the process that made it, so what kill -9 tears is the end of a segment: it is
cut off when it is opened. A record whose body does not fit its checksum is handed out by its head alone. A write that
fails (disk full, size limit) is undone to the last whole record. A segment is deleted when all its records are done.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections import deque
from pathlib import Path

from attrs import define, field, frozen

from krakenbot.domain.errors import ConfigError

_FRAME = struct.Struct(">4sIII")
_BODY_CRC = struct.Struct(">I")
_MAGIC = b"KBS1"
_FRAME_BYTES = _FRAME.size + _BODY_CRC.size
# a head that claims more is no head
_HEAD_BYTES_MAX = 64 << 20


class SpoolFull(Exception):
    """The record was not kept: the disk or the limit says no; nothing of it is left in the file."""


@frozen(kw_only=True)
class SpoolRecord:
    """A record: its head, and its body; None when the body is damaged."""

    head: bytes
    body: bytes | None


@frozen(kw_only=True)
class SpoolLimits:
    """`bytes_max` bounds all segments together, `segment_bytes` when the next segment begins."""

    bytes_max: int = 1 << 30
    segment_bytes: int = 64 << 20


@define
class _Place:
    path: Path
    offset: int
    head_bytes: int
    body_bytes: int


@define
class SampleSpool:
    """The spool of one folder; one process at a time."""

    folder: Path
    limits: SpoolLimits = field(factory=SpoolLimits)
    torn_bytes: int = field(default=0, init=False)
    """Bytes that were cut off from ends of segments when the spool was opened."""
    size_bytes: int = field(default=0, init=False)
    """Bytes of records that are kept; what was done in a segment counts until the segment is deleted."""
    _places: deque[_Place] = field(factory=deque, init=False)
    _lock: int | None = field(default=None, init=False)
    _segment: int | None = field(default=None, init=False)
    _segment_path: Path | None = field(default=None, init=False)
    _segment_size: int = field(default=0, init=False)
    _next_number: int = field(default=1, init=False)

    def __len__(self) -> int:
        """Return how many records wait."""
        return len(self._places)

    def open(self) -> list[bytes]:
        """Take the folder, cut torn ends off, and return the heads of what an earlier process left, in order.

        Raises ConfigError when another process has the folder or it cannot be written.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._close_lock()
            raise ConfigError(f"another process writes to the spool {self.folder}") from error
        except OSError as error:
            self._close_lock()
            raise ConfigError(f"cannot use the spool {self.folder}: {error}") from error
        heads: list[bytes] = []
        for path in sorted(self.folder.glob("*.spool")):
            self._next_number = int(path.stem) + 1
            heads += self._scan(path)
        return heads

    def append(self, head: bytes, body: bytes) -> None:
        """Write a record and wait until it is on disk; raises SpoolFull and leaves no part of it."""
        lengths = _FRAME.pack(_MAGIC, len(head), len(body), 0)
        frame = _FRAME.pack(_MAGIC, len(head), len(body), zlib.crc32(head, zlib.crc32(lengths)))
        record = frame + _BODY_CRC.pack(zlib.crc32(body)) + head + body
        if self.size_bytes + len(record) > self.limits.bytes_max:
            raise SpoolFull(f"the limit of {self.limits.bytes_max} bytes is reached")
        try:
            segment = self._writable()
            offset = self._segment_size
            _write_all(segment, record)
            os.fsync(segment)
        except OSError as error:
            self._undo()
            raise SpoolFull(str(error)) from error
        self._segment_size += len(record)
        self.size_bytes += len(record)
        path = self._segment_path
        if path is not None:
            self._places.append(_Place(path, offset, len(head), len(body)))

    def first(self) -> SpoolRecord | None:
        """Return the oldest record; None when there is none."""
        if not self._places:
            return None
        place = self._places[0]
        with place.path.open("rb") as file:
            file.seek(place.offset + _FRAME.size)
            (body_crc,) = _BODY_CRC.unpack(file.read(_BODY_CRC.size))
            head, body = file.read(place.head_bytes), file.read(place.body_bytes)
        is_whole = len(body) == place.body_bytes and zlib.crc32(body) == body_crc
        return SpoolRecord(head=head, body=body if is_whole else None)

    def done(self) -> None:
        """Forget the oldest record: it is committed."""
        place = self._places.popleft()
        if not self._places or self._places[0].path != place.path:
            self._delete(place.path)

    def close(self) -> None:
        """Let the folder go; records that wait stay."""
        self._end_segment()
        self._close_lock()

    def _writable(self) -> int:
        if self._segment is not None and self._segment_size >= self.limits.segment_bytes:
            self._end_segment()
        if self._segment is None:
            path = self.folder / f"{self._next_number:08d}.spool"
            self._segment = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            self._next_number += 1
            self._segment_path, self._segment_size = path, 0
            _sync_folder(self.folder)
        return self._segment

    def _undo(self) -> None:
        """Cut the segment back to its last whole record and end it: after a failed fsync its cache is not trusted."""
        segment, path = self._segment, self._segment_path
        if segment is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(segment, self._segment_size)
                os.fsync(segment)
        self._end_segment()
        if path is not None and not any(place.path == path for place in self._places):
            self._delete(path)

    def _end_segment(self) -> None:
        segment, self._segment, self._segment_path = self._segment, None, None
        self._segment_size = 0
        if segment is not None:
            os.close(segment)

    def _delete(self, path: Path) -> None:
        if path == self._segment_path:
            self._end_segment()
        with contextlib.suppress(OSError):
            self.size_bytes -= path.stat().st_size
            path.unlink()
            _sync_folder(self.folder)
        if not self._places:
            self.size_bytes = 0

    def _scan(self, path: Path) -> list[bytes]:
        """Note the whole records of a segment and cut off what follows the last one."""
        heads: list[bytes] = []
        size = path.stat().st_size
        offset = 0
        with path.open("rb") as file:
            while offset + _FRAME_BYTES <= size:
                frame = file.read(_FRAME_BYTES)
                magic, head_bytes, body_bytes, crc = _FRAME.unpack(frame[: _FRAME.size])
                end = offset + _FRAME_BYTES + head_bytes + body_bytes
                if magic != _MAGIC or head_bytes > _HEAD_BYTES_MAX or end > size:
                    break
                head = file.read(head_bytes)
                if zlib.crc32(head, zlib.crc32(_FRAME.pack(magic, head_bytes, body_bytes, 0))) != crc:
                    break
                self._places.append(_Place(path, offset, head_bytes, body_bytes))
                heads.append(head)
                offset = end
                file.seek(offset)
        if offset < size:
            self.torn_bytes += size - offset
            with path.open("rb+") as file:
                file.truncate(offset)
        self.size_bytes += offset
        if not heads:
            self._delete(path)
        return heads

    def _close_lock(self) -> None:
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _write_all(segment: int, record: bytes) -> None:
    view = memoryview(record)
    while view:
        view = view[os.write(segment, view) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
