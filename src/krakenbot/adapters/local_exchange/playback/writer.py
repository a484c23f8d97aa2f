"""Write a recording: for tests, and for tools that capture the local exchange itself.

In: frames as they come. Out: parts as docs/recording.md describes. The engine has a writer of its own.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import msgspec
import zstandard

from krakenbot.adapters.local_exchange.playback.recording_format import (
    FORMAT,
    VERSION,
    Direction,
    FrameLine,
    Header,
    SocketPath,
    part_name,
)

PART_BYTES = 256 * 1024 * 1024
LEVEL = 3
_encode = msgspec.json.Encoder().encode


class RecordingWriter:
    """Append frames to a new recording in `folder`; a part is closed once it holds `part_bytes` of text."""

    def __init__(
        self, folder: Path, *, symbols: list[str], instruments: bytes = b"null", part_bytes: int = PART_BYTES
    ) -> None:
        self._folder = folder
        self._symbols = symbols
        # One line, numbers as printed.
        self._instruments = msgspec.json.format(instruments, indent=-1)
        self._part_bytes = part_bytes
        self._part = 0
        self._written = 0
        self._file: BinaryIO | None = None
        self._stream: zstandard.ZstdCompressionWriter | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the last part."""
        self.close()

    def write(self, at_ns: int, connection: str, path: SocketPath, direction: Direction, text: str) -> None:
        """Append one frame; `at_ns` is its time of receipt."""
        if self._stream is None or self._written >= self._part_bytes:
            self._next_part(at_ns)
        self._append(_encode(FrameLine(t=at_ns, c=connection, p=path, d=direction, f=text)))

    def flush(self) -> None:
        """Hand what was written to the operating system, so that a crash loses nothing of it."""
        if self._stream is not None and self._file is not None:
            self._stream.flush(zstandard.FLUSH_BLOCK)
            self._file.flush()

    def close(self) -> None:
        """End the last part."""
        if self._stream is not None:
            self._stream.close()  # type: ignore[no-untyped-call]
        self._stream = self._file = None

    def _next_part(self, at_ns: int) -> None:
        self.close()
        self._part += 1
        self._written = 0
        # Exclusive: a recording is never written over. Closing the stream closes the file.
        self._file = (self._folder / part_name(self._part)).open("xb")
        self._stream = zstandard.ZstdCompressor(level=LEVEL).stream_writer(self._file)
        self._append(
            _encode(
                Header(
                    format=FORMAT,
                    version=VERSION,
                    part=self._part,
                    started_at_ns=at_ns,
                    symbols=self._symbols,
                    instruments=msgspec.Raw(self._instruments),
                )
            )
        )

    def _append(self, line: bytes) -> None:
        if self._stream is None:
            raise RuntimeError("the recording is closed")
        self._stream.write(line + b"\n")
        self._written += len(line) + 1
