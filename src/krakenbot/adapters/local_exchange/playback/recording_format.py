"""Define the recording of raw frames: a folder of zstd-compressed parts, one JSON object a line.

The first line of each part is its header, every other line one frame with its time of receipt. Called by the
reader and by the writer; docs/recording.md is the page for those who write recordings elsewhere.
"""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Final, Literal

import msgspec

FORMAT: Final = "krakenbot-recording"
VERSION: Final = 1
SUFFIX: Final = ".jsonl.zst"
MAX_LINE_BYTES: Final = 16 * 1024 * 1024
"""A longer line is no frame: the reader holds one line at a time."""

SocketPath = Literal["public", "level3", "private"]
Direction = Literal["in", "out", "open", "close"]
_PART_NAME = re.compile(r"part-(\d{6})\.jsonl\.zst")


class RecordingError(ValueError):
    """A recording that cannot be played; the text names part and line."""


class Header(msgspec.Struct, kw_only=True, frozen=True):
    """The first line of a part.

    `started_at_ns` is when the part began, `instruments` the `data` object of an `instrument` snapshot with the
    rows of the recorded symbols at least, or null when the instrument channel is among the frames.
    """

    format: str
    version: int
    part: int
    started_at_ns: int
    symbols: list[str]
    instruments: msgspec.Raw = msgspec.Raw(b"null")


class FrameLine(msgspec.Struct, kw_only=True, frozen=True):
    """One frame: `t` time of receipt in ns since the epoch, `c` connection id, `p` path, `d` direction, `f` text.

    A connection id is never used again after a reconnect. With direction `open` or `close` the text is the
    reason, with `out` it is what the recorder sent, its token blotted out.
    """

    t: int
    c: str
    p: SocketPath
    d: Direction
    f: str


def part_name(number: int) -> str:
    """Return the file name of a part; numbers start at 1."""
    return f"part-{number:06d}{SUFFIX}"


def find_parts(path: Path) -> list[tuple[int, Path]]:
    """Return (number, file) of every part of a recording in order; a single file is a recording of one part.

    Raises FileNotFoundError when there is none, and RecordingError when a part between two others is missing.
    """
    if path.is_file():
        name = _PART_NAME.fullmatch(path.name)
        return [(int(name[1]) if name else 1, path)]
    found = sorted(
        (int(name[1]), file) for file in path.glob(f"*{SUFFIX}") if (name := _PART_NAME.fullmatch(file.name))
    )
    if not found:
        raise FileNotFoundError(f"no recording in {path}: a recording is a folder with {part_name(1)} and so on")
    for (number, _), (following, _) in itertools.pairwise(found):
        if following != number + 1:
            raise RecordingError(f"{path}: {part_name(number + 1)} is missing")
    return found
