"""Read a recording as a stream: one line in memory at a time, parts in order.

In: a folder or file. Out: its header, then its frames. A part that ends in the middle of a line or of a
compressed block was cut off by a crash: it is read up to its last whole line, and `cut_offs` says so. Everything
else that is wrong raises `RecordingError` with part and line.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import zstandard
from attrs import field, frozen

from krakenbot.adapters.local_exchange.playback.recording_format import (
    FORMAT,
    MAX_LINE_BYTES,
    VERSION,
    FrameLine,
    Header,
    RecordingError,
    find_parts,
)

CHUNK_BYTES: Final = 64 * 1024
_decode_header = msgspec.json.Decoder(Header).decode
_decode_frame = msgspec.json.Decoder(FrameLine).decode


@frozen(kw_only=True)
class CutOff:
    """A part that ends in the middle of something; `lines` whole lines were read from it."""

    part: int
    lines: int


class Recording:
    """One recording. `cut_offs` fills while frames are read.

    Raises FileNotFoundError when nothing is there, and RecordingError when the first header cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._parts = find_parts(path)
        self.cut_offs: list[CutOff] = []
        number, file = self._parts[0]
        first = next(_lines(file, number, []), None)
        if first is None:
            raise RecordingError(f"{file.name}: no header line")
        self.header = _header(first, file, number)

    def frames(self) -> Iterator[FrameLine]:
        """Yield every frame of every part, in the order in which they were written."""
        self.cut_offs.clear()
        for number, file in self._parts:
            for line_number, line in enumerate(_lines(file, number, self.cut_offs), start=1):
                if line_number == 1:
                    _header(line, file, number)
                    continue
                try:
                    yield _decode_frame(line)
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    raise RecordingError(f"{file.name} line {line_number}: {error}") from error


@frozen(kw_only=True)
class _Chunks:
    """The decompressed chunks of one file; `is_cut` holds one item once the compressed stream broke off."""

    file: Path
    is_cut: list[bool] = field(factory=list)

    def read(self) -> Iterator[bytes]:
        """Yield what decompresses; a file may hold several compressed streams, one after the other."""
        stream = zstandard.ZstdDecompressor().decompressobj()
        with self.file.open("rb") as source:
            while block := source.read(CHUNK_BYTES):
                while block:
                    if stream.eof:
                        stream = zstandard.ZstdDecompressor().decompressobj()
                    try:
                        yield stream.decompress(block)
                    except zstandard.ZstdError:
                        self.is_cut.append(True)
                        return
                    block = stream.unused_data if stream.eof else b""
        if not stream.eof:
            self.is_cut.append(True)


def _lines(file: Path, number: int, cut_offs: list[CutOff]) -> Iterator[bytes]:
    """Yield the whole lines of a part without their ends; note a cut-off at its end."""
    chunks = _Chunks(file=file)
    rest, count = b"", 0
    for chunk in chunks.read():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            count += 1
            yield line
        if len(rest) > MAX_LINE_BYTES:
            raise RecordingError(f"{file.name} line {count + 1}: longer than {MAX_LINE_BYTES} bytes")
    if rest or chunks.is_cut:
        cut_offs.append(CutOff(part=number, lines=count))


def _header(line: bytes, file: Path, number: int) -> Header:
    try:
        header = _decode_header(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecordingError(f"{file.name} line 1: no header: {error}") from error
    if header.format != FORMAT:
        raise RecordingError(f"{file.name} line 1: format {header.format!r}, expected {FORMAT!r}")
    if header.version != VERSION:
        raise RecordingError(f"{file.name} line 1: version {header.version}, this program reads {VERSION}")
    if header.part != number and file.name.startswith("part-"):
        raise RecordingError(f"{file.name} line 1: says that it is part {header.part}")
    return header
