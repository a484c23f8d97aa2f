"""Readers of the output that leave early, as `head` does, and output that cannot be written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

KRAKENBOT = [sys.executable, "-m", "krakenbot"]


def environment(home: Path) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8"}  # noqa: TID251  # passed on


def test_the_exchange_ends_without_a_traceback_when_its_reader_leaves(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*KRAKENBOT, "exchange", "--symbols", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
        bufsize=0,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, errors = process.communicate(timeout=15)

    assert (128 + signal.SIGPIPE, b"") == (process.returncode, errors)


def test_help_ends_without_a_traceback_when_its_reader_leaves(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*KRAKENBOT, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path), bufsize=0
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, errors = process.communicate(timeout=15)

    assert b"" == errors


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["exchange", "--symbols", "1", "--flow", "still"],
        ["exchange", "check-flow", "--profile", "null", "--duration-s", "600", "--symbols", "1"],
    ],
)
def test_a_full_disk_behind_the_output_is_said_on_one_line(arguments: list[str], tmp_path: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        ended = subprocess.run(
            [*KRAKENBOT, *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(tmp_path),
            timeout=20,
            check=False,
        )

    assert (1, b"krakenbot: standard output: No space left on device\n") == (ended.returncode, ended.stderr)


def test_a_closed_output_is_said_on_one_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        ["/bin/sh", "-c", '"$0" -m krakenbot exchange >&-', sys.executable],
        stderr=subprocess.PIPE,
        env=environment(tmp_path),
        timeout=20,
        check=False,
    )

    assert (1, b"krakenbot: standard output: it is closed\n") == (ended.returncode, ended.stderr)
