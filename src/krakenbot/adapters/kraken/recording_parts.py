"""Write the parts of a recording: zstd-compressed lines, a header each, rotated by size and age.

Enters: encoded lines. Leaves: files as docs/recording.md describes them. Called by the recorder in a worker thread,
one call at a time. Whatever ends the process, every part is readable up to its last flushed block.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import msgspec
import zstandard

from krakenbot.domain.errors import ConfigError, StoreUnavailable
from krakenbot.domain.values import NS_PER_S

FORMAT = "krakenbot-recording"
VERSION = 1
_LEVEL = 3
_NAME = re.compile(r"part-(\d{6})\.jsonl\.zst")


class _Header(msgspec.Struct, kw_only=True):
    format: str = FORMAT
    version: int = VERSION
    part: int
    started_at_ns: int
    symbols: list[str]
    instruments: msgspec.Raw


class _KnownHeader(msgspec.Struct):
    format: str
    symbols: list[str]


_encode = msgspec.json.Encoder().encode


class RecordingParts:
    """The parts of one folder; goes on behind those that an earlier process left.

    A new part begins when one holds `part_bytes` of text or is `part_age_s` old. Raises ConfigError when the folder
    cannot be made or read.
    """

    def __init__(self, folder: Path, *, part_bytes: int, part_age_s: float) -> None:
        self._folder = folder
        self._part_bytes = part_bytes
        self._part_age_ns = round(part_age_s * NS_PER_S)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            numbers = sorted(int(name[1]) for file in folder.iterdir() if (name := _NAME.fullmatch(file.name)))
            self._known = _symbols_of(self._path(numbers[0])) if numbers else None
        except OSError as error:
            raise ConfigError(f"cannot record into {folder}: {error.strerror}") from error
        self.first = (numbers[-1] if numbers else 0) + 1
        """Number of the first part of this process."""
        self.part = self.first - 1
        """Number of the part that is being written; `first - 1` before there is one."""
        self.text_bytes = 0
        """Text written by this process, headers included."""
        self._symbols: list[str] = []
        self._instruments = msgspec.Raw(b"null")
        self._file: BinaryIO | None = None
        self._stream: zstandard.ZstdCompressionWriter | None = None
        self._written = 0
        self._started_at_ns = 0
        self._has_failed = False

    @property
    def has_begun(self) -> bool:
        """Tell whether it is known what is recorded."""
        return bool(self._symbols)

    def begin(self, symbols: Sequence[str], instruments: bytes) -> None:
        """Say what is recorded: `instruments` is the data object of an instrument snapshot with these symbols' rows.

        Raises ConfigError when the folder holds a recording of other symbols.
        """
        if self._known is not None and set(symbols) != set(self._known):
            raise ConfigError(f"{self._folder} holds a recording of other symbols: name another folder")
        self._symbols = list(symbols)
        # one line, numbers as printed
        self._instruments = msgspec.Raw(msgspec.json.format(instruments, indent=-1))

    def write(self, lines: Sequence[bytes], now_ns: int, *, is_last: bool = False) -> None:
        """Append lines, and hand them to the operating system; the last call ends the part.

        Raises StoreUnavailable when the disk is full or failing.
        """
        if self._has_failed:
            return
        try:
            if self._stream is not None and now_ns - self._started_at_ns >= self._part_age_ns:
                self._end_part()
            for line in lines:
                if self._stream is None or self._written >= self._part_bytes:
                    self._next_part(now_ns)
                self._append(line)
            self._flush()
            if is_last:
                self._end_part()
        except OSError as error:
            self._give_up()
            raise StoreUnavailable(f"cannot write {self._path(self.part)}: {error.strerror}") from error

    def _next_part(self, now_ns: int) -> None:
        self._end_part()
        self.part += 1
        self._written = 0
        self._started_at_ns = now_ns
        # exclusive: a recording is never written over
        self._file = self._path(self.part).open("xb")
        self._stream = zstandard.ZstdCompressor(level=_LEVEL).stream_writer(self._file)
        header = _Header(part=self.part, started_at_ns=now_ns, symbols=self._symbols, instruments=self._instruments)
        self._append(_encode(header))

    def _append(self, line: bytes) -> None:
        if self._stream is not None:
            self._stream.write(line + b"\n")
            self._written += len(line) + 1
            self.text_bytes += len(line) + 1

    def _flush(self) -> None:
        if self._stream is not None and self._file is not None:
            self._stream.flush(zstandard.FLUSH_BLOCK)
            self._file.flush()

    def _end_part(self) -> None:
        if self._stream is not None:
            # closes the file too
            self._stream.close()  # type: ignore[no-untyped-call]
        self._stream = self._file = None

    def _give_up(self) -> None:
        """Write no more: the part is readable up to its last whole block, and what follows a hole is worth nothing."""
        self._has_failed = True
        file, self._file, self._stream = self._file, None, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:06d}.jsonl.zst"


def _symbols_of(file: Path) -> list[str] | None:
    """Return what a part says that it records; None when it was cut off before its header."""
    with file.open("rb") as source:
        try:
            line = zstandard.ZstdDecompressor().stream_reader(source).read(16 * 1024 * 1024).partition(b"\n")[0]
            return msgspec.json.decode(line, type=_KnownHeader).symbols
        except (zstandard.ZstdError, msgspec.MsgspecError):
            return None
