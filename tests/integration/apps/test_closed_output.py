"""Readers of the output that leave early, as `head` does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

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
