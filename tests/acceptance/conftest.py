"""A rehearsal as its user runs it: one process, real sockets, real PostgreSQL, a data directory of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

from krakenbot.adapters.local_exchange.flow.recording import find_recordings

ROOT = Path(__file__).parents[2]
KEPT = {"PATH", "TMPDIR", "KRAKENBOT_RECORDINGS"}


@frozen(kw_only=True)
class Finished:
    """How a rehearsal ended; `report` is None when it wrote none."""

    code: int
    output: str
    report: dict[str, Any] | None


def _with_report(arguments: tuple[str, ...], report: Path) -> list[str]:
    return [*arguments] if "--report" in arguments else ["--report", str(report), *arguments]


@pytest.fixture
def recordings() -> Path:
    try:
        return find_recordings()
    except FileNotFoundError as exc:
        pytest.skip(f"the recording is not here: {exc}")


@pytest.fixture
def rehearse(tmp_path: Path) -> Callable[..., Finished]:
    """Run `krakenbot rehearse` with arguments; `signal_after` seconds an interrupt is sent if it is given."""

    def run(*arguments: str, signal_after: float | None = None, number: int = signal.SIGINT) -> Finished:
        report = tmp_path / "report.json"
        kept = {name: value for name, value in os.environ.items() if name in KEPT}  # noqa: TID251  # handed on
        environment = {**kept, "HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data"), "LANG": "C.UTF-8"}
        process = subprocess.Popen(
            [sys.executable, "-m", "krakenbot", "rehearse", *_with_report(arguments, report)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        if signal_after is not None:
            time.sleep(signal_after)
            process.send_signal(number)
        try:
            output, _ = process.communicate(timeout=150)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            pytest.fail(f"the rehearsal did not end:\n{output[-4000:]}")
        left = list((tmp_path / "data").rglob("rehearsals/*"))
        assert left == [], "a rehearsal leaves nothing behind"
        content = json.loads(report.read_text()) if report.exists() else None
        return Finished(code=process.returncode, output=output, report=content)

    return run
