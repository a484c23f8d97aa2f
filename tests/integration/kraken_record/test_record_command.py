"""`krakenbot record` as a process against a local exchange: what is in the file, however the process ends."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from krakenbot.adapters.local_exchange.playback.catalog import survey
from krakenbot.adapters.local_exchange.playback.reader import Recording
from krakenbot.adapters.local_exchange.playback.recording_format import FrameLine
from krakenbot.apps import cli

PATIENCE_S = 15.0


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.perf_counter() + PATIENCE_S
    while not condition():
        assert time.perf_counter() < end, what
        time.sleep(0.05)


def flushed(folder: Path) -> int:
    """Return how many lines can be read of a recording that is being written."""
    try:
        return sum(1 for _ in Recording(folder).frames())
    except (FileNotFoundError, ValueError):
        return 0


def kinds(frames: list[FrameLine]) -> Counter[tuple[str, str]]:
    """Count frames by channel and type, replies by method and channel."""
    found: Counter[tuple[str, str]] = Counter()
    for frame in frames:
        document = json.loads(frame.f) if frame.d == "in" else {}
        result = document.get("result", {})
        found[
            document.get("channel") or document.get("method", frame.d),
            document.get("type") or result.get("channel", ""),
        ] += 1
    return found


def test_a_recording_holds_every_channel_its_acks_and_both_ends_of_each_connection(
    venue: dict[str, Any], recorder: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "recording"

    process = recorder(folder, "--duration", "3")
    _, errors = process.communicate(timeout=PATIENCE_S)
    recording = Recording(folder)
    frames = list(recording.frames())
    found = kinds(frames)

    assert (0, "") == (process.returncode, errors)
    for channel in ("book", "level3", "trade", "ticker"):
        assert len(venue["symbols"]) == found["subscribe", channel]
        assert found[channel, "update"] > 0
    assert len(venue["symbols"]) == found["level3", "snapshot"]
    assert 2 == found["open", ""] == found["close", ""]
    assert ["public-1.1", "level3-1.1"] == sorted({frame.c for frame in frames}, reverse=True)
    assert frames == sorted(frames, key=lambda frame: frame.t)
    assert venue["symbols"] == recording.header.symbols
    assert set(venue["symbols"]) == survey(recording).rules.keys()
    assert [] == recording.cut_offs
    assert not any("token" in frame.f for frame in frames)


def test_without_a_key_the_public_channels_are_recorded_and_parts_are_rotated_by_age(
    venue: dict[str, Any], recorder: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "recording"

    process = recorder(folder, "--part-age", "1", key=False)
    until(lambda: len(list(folder.glob("part-*"))) >= 3, "no third part")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=PATIENCE_S)
    recording = Recording(folder)
    frames = list(recording.frames())
    for number in (1, 2):
        (folder / f"part-{number:06d}.jsonl.zst").unlink()
    rest = survey(Recording(folder))

    assert (0, "") == (process.returncode, errors)
    assert {"public"} == {frame.p for frame in frames}
    assert [] == recording.cut_offs
    assert ("close", "the recorder was stopped") == (frames[-1].d, frames[-1].f)
    assert set(venue["symbols"]) == rest.rules.keys()


def test_kill_9_leaves_a_readable_file_and_the_next_start_goes_on_in_the_next_part(
    recorder: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "recording"

    process = recorder(folder)
    until(lambda: flushed(folder) > 200, "nothing recorded")
    process.kill()
    process.communicate(timeout=PATIENCE_S)
    before = flushed(folder)
    again = recorder(folder, "--duration", "2")
    _, errors = again.communicate(timeout=PATIENCE_S)
    recording = Recording(folder)
    frames = list(recording.frames())

    assert (0, "") == (again.returncode, errors)
    assert before > 200
    assert [1] == [cut.part for cut in recording.cut_offs]
    assert {"public-1.1", "level3-1.1", "public-2.1", "level3-2.1"} == {frame.c for frame in frames}
    assert len(frames) > before


def test_a_full_disk_ends_the_recorder_with_its_reason_and_leaves_a_readable_file(
    recorder: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "recording"

    process = recorder(folder, file_bytes=40_000)
    _, errors = process.communicate(timeout=PATIENCE_S)

    assert 1 == process.returncode, errors
    assert "krakenbot: cannot write" in errors
    assert "part-000001.jsonl.zst: File too large" in errors
    assert 1 == errors.count("\n")
    recording = Recording(folder)
    assert sum(1 for _ in recording.frames()) > 0
    assert [1] == [cut.part for cut in recording.cut_offs]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "nothing to record: name symbols with --symbol"),
        (("--symbol", "NO/SUCH"), "the venue lists none of NO/SUCH"),
        (("--symbol", "BTC/USD", "--part-mib", "0"), "'part_mib' must be in"),
        (("--symbol", "BTC/USD", "--part-age", "0"), "'part_age_s' must be >= 1"),
    ],
)
def test_what_cannot_be_recorded_is_refused_by_name(
    *,
    venue: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: str,
) -> None:
    for name in ("rest_url", "ws_public_url"):
        monkeypatch.setenv(f"KRAKENBOT_VENUE__{name.upper()}", venue[name])
    monkeypatch.setenv("KRAKENBOT_PROCESS__DATA_DIR", str(tmp_path / "data"))

    with pytest.raises(SystemExit) as ended:
        sys.exit(cli.app(["record", str(tmp_path / "recording"), *options]))
    errors = capsys.readouterr().err

    assert 2 == ended.value.code
    assert words in errors
    assert 1 == errors.count("\n")
