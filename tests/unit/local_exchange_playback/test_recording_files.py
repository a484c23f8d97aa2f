"""Recordings on disk: written, read back as a stream, rotated, cut off and corrupt."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zstandard

from krakenbot.adapters.local_exchange.playback.reader import CutOff, Recording
from krakenbot.adapters.local_exchange.playback.recording_format import RecordingError, part_name
from krakenbot.adapters.local_exchange.playback.writer import RecordingWriter
from krakenbot.apps.exchange import exchange

HEADER = {
    "format": "krakenbot-recording",
    "version": 1,
    "part": 1,
    "started_at_ns": 5,
    "symbols": ["BTC/USD"],
    "instruments": None,
}


def line(number: int) -> dict[str, Any]:
    return {"t": number, "c": "public-1", "p": "public", "d": "in", "f": f'{{"n":"\u00e9 {number}"}}'}


def write_part(folder: Path, rows: list[Any], *, number: int = 1, tail: bytes = b"") -> Path:
    text = b"".join((row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows)
    file = folder / part_name(number)
    file.write_bytes(zstandard.ZstdCompressor().compress(text + tail))
    return file


def numbers(recording: Recording) -> list[int]:
    return [frame.t for frame in recording.frames()]


def test_frames_come_back_byte_for_byte_over_rotated_parts(tmp_path: Path) -> None:
    texts = [f'{{"qty":1.{n:03d}00,"x":"\u00df\\u00e9\\n"}}' for n in range(500)]
    with RecordingWriter(tmp_path, symbols=["BTC/USD"], instruments=b'{"pairs":[]}', part_bytes=5_000) as writer:
        for n, text in enumerate(texts):
            writer.write(n, "public-1", "public", "in", text)

    recording = Recording(tmp_path)

    assert texts == [frame.f for frame in recording.frames()]
    assert len(list(tmp_path.iterdir())) > 5
    assert recording.header.symbols == ["BTC/USD"]
    assert b'{"pairs":[]}' == bytes(recording.header.instruments)
    assert recording.cut_offs == []


def test_a_recording_can_be_read_twice(tmp_path: Path) -> None:
    write_part(tmp_path, [HEADER, line(1), line(2)])

    recording = Recording(tmp_path)

    assert [1, 2] == numbers(recording) == numbers(recording)


def test_streams_one_after_the_other_in_a_file_are_read_as_one(tmp_path: Path) -> None:
    file = write_part(tmp_path, [HEADER, line(1)])
    first = file.read_bytes()
    file.write_bytes(first + write_part(tmp_path, [line(2), line(3)]).read_bytes())

    recording = Recording(tmp_path)

    assert [1, 2, 3] == numbers(recording)
    assert recording.cut_offs == []


def test_a_crash_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    writer = RecordingWriter(tmp_path, symbols=[])
    for n in range(100):
        writer.write(n, "public-1", "public", "in", "x" * 50)
    writer.flush()
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    (crashed / part_name(1)).write_bytes((tmp_path / part_name(1)).read_bytes())
    writer.close()

    recording = Recording(crashed)

    assert list(range(100)) == numbers(recording)
    assert recording.cut_offs == [CutOff(part=1, lines=101)]


def test_a_last_line_without_end_is_left_out_and_said(tmp_path: Path) -> None:
    write_part(tmp_path, [HEADER, line(1), line(2)], tail=b'{"t":3,"c":"pub')

    recording = Recording(tmp_path)

    assert [1, 2] == numbers(recording)
    assert recording.cut_offs == [CutOff(part=1, lines=3)]


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9, 0.999])
def test_a_file_cut_anywhere_gives_a_prefix_of_its_lines_and_says_so(tmp_path: Path, keep: float) -> None:
    file = write_part(tmp_path, [HEADER, *(line(n) for n in range(20_000))])
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * keep)])

    recording = Recording(tmp_path)
    read = numbers(recording)

    assert list(range(len(read))) == read
    assert [CutOff(part=1, lines=len(read) + 1)] == recording.cut_offs


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"{not json", "part-000001.jsonl.zst line 3"),
        (b'{"t":"soon","c":"x","p":"public","d":"in","f":""}', "line 3: Expected `int`"),
        (b'{"t":1,"c":"x","p":"elsewhere","d":"in","f":""}', "line 3: Invalid enum value 'elsewhere'"),
        (b'{"t":1,"c":"x","p":"public","d":"in"}', "line 3: Object missing required field `f`"),
        (b"\xff\xfe", "part-000001.jsonl.zst line 3"),
    ],
)
def test_a_corrupt_line_is_an_error_with_part_and_line(tmp_path: Path, bad: bytes, why: str) -> None:
    write_part(tmp_path, [HEADER, line(1), bad, line(2)])

    with pytest.raises(RecordingError, match=why):
        numbers(Recording(tmp_path))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"format": "other"}, "format 'other'"),
        ({"version": 2}, "version 2, this program reads 1"),
        ({"part": 7}, "says that it is part 7"),
        ({"symbols": 3}, "no header"),
    ],
)
def test_a_foreign_header_is_refused(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    write_part(tmp_path, [HEADER | change])

    with pytest.raises(RecordingError, match=why):
        Recording(tmp_path)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    write_part(tmp_path, [HEADER])
    write_part(tmp_path, [HEADER | {"part": 3}], number=3)

    with pytest.raises(RecordingError, match=r"part-000002\.jsonl\.zst is missing"):
        Recording(tmp_path)


def test_an_empty_folder_is_no_recording(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no recording in"):
        Recording(tmp_path)


def test_an_endless_line_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("krakenbot.adapters.local_exchange.playback.reader.MAX_LINE_BYTES", 1000)
    monkeypatch.setattr("krakenbot.adapters.local_exchange.playback.reader.CHUNK_BYTES", 10)
    write_part(tmp_path, [HEADER], tail=b"x" * 5000)

    with pytest.raises(RecordingError, match="line 2: longer than"):
        numbers(Recording(tmp_path))


def test_a_long_recording_is_read_in_little_memory(tmp_path: Path) -> None:
    random = Random(1)
    with RecordingWriter(tmp_path, symbols=[]) as writer:
        for n in range(60_000):
            writer.write(n, "public-1", "public", "in", f'{{"qty":{random.random()},"price":{random.random()}}}')
    tracemalloc.start()
    count = sum(1 for _ in Recording(tmp_path).frames())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert 60_000 == count
    assert peak < 2_000_000


def test_the_command_refuses_a_corrupt_recording_on_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_part(tmp_path, [HEADER, line(1), b"{not json"])

    code = exchange(flow="playback", recording=tmp_path)

    shown = capsys.readouterr()
    assert (2, "", 1) == (code, shown.out, shown.err.count("\n"))
    assert "exchange: part-000001.jsonl.zst line 3: " in shown.err
