"""Parts of a recording: no line is lost or doubled where one part ends and the next begins."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import zstandard

from krakenbot.adapters.kraken.recording_parts import RecordingParts
from krakenbot.domain.values import NS_PER_S

LINES = [b'{"t":%d}' % number for number in range(40)]
INSTRUMENTS = b'{"assets":[],"pairs":[{"symbol":"BTC/USD","price_increment":0.10}]}'


def begun(folder: Path, *, part_bytes: int = 1 << 20, part_age_s: float = 60) -> RecordingParts:
    parts = RecordingParts(folder, part_bytes=part_bytes, part_age_s=part_age_s)
    parts.begin(["BTC/USD"], INSTRUMENTS)
    return parts


def lines_of(folder: Path) -> list[list[bytes]]:
    """Return the lines of each part, its header first."""
    found = []
    for file in sorted(folder.iterdir()):
        with file.open("rb") as source, zstandard.ZstdDecompressor().stream_reader(source) as reader:
            found.append(reader.read().splitlines())
    return found


@pytest.mark.parametrize("batch", [1, 3, 40])
def test_parts_rotated_by_size_hold_every_line_once_in_order_behind_a_header_each(tmp_path: Path, batch: int) -> None:
    parts = begun(tmp_path, part_bytes=250)

    for start in range(0, len(LINES), batch):
        parts.write(LINES[start : start + batch], start)
    parts.write([], len(LINES), is_last=True)
    found = lines_of(tmp_path)

    assert len(found) > 2
    assert LINES == [line for part in found for line in part[1:]]
    assert list(range(1, len(found) + 1)) == [msgspec.json.decode(part[0])["part"] for part in found]
    assert all(b"0.10" in part[0] for part in found)


def test_part_of_its_full_age_ends_and_takes_no_line_more(tmp_path: Path) -> None:
    parts = begun(tmp_path, part_age_s=2)

    for at_s, line in enumerate(LINES[:5]):
        parts.write([line], at_s * NS_PER_S)
    parts.write([], 5 * NS_PER_S, is_last=True)

    assert [LINES[0:2], LINES[2:4], LINES[4:5]] == [part[1:] for part in lines_of(tmp_path)]


def test_what_was_written_is_readable_before_the_part_ends(tmp_path: Path) -> None:
    parts = begun(tmp_path)

    parts.write(LINES[:3], 0)

    assert [LINES[:3]] == [part[1:] for part in lines_of(tmp_path)]
    parts.write([], 1, is_last=True)
