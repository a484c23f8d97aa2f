"""Real processes of ours, and what is left of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from attrs import define

ROOT = Path(__file__).parents[3]
KEPT = ("PATH", "TMPDIR")


@define
class Process:
    """One process of the test; standard output and error go to files, so that nothing blocks it."""

    popen: subprocess.Popen[bytes]
    folder: Path

    @property
    def output(self) -> str:
        return (self.folder / "out").read_text(errors="replace")

    @property
    def errors(self) -> str:
        return (self.folder / "err").read_text(errors="replace")

    def wait_for(self, text: str, timeout_s: float = 15.0) -> None:
        until = time.monotonic() + timeout_s  # noqa: TID251  # a test of real processes waits in real time
        while text not in self.output:
            assert self.popen.poll() is None, f"ended before {text!r}:\n{self.output}\n{self.errors}"
            assert time.monotonic() < until, f"no {text!r} in time:\n{self.output}\n{self.errors}"  # noqa: TID251
            time.sleep(0.02)

    def end(self, *signals: signal.Signals, timeout_s: float = 15.0) -> int:
        for number in signals:
            self.popen.send_signal(number)
        return self.popen.wait(timeout_s)


Start = Callable[..., Process]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start Python with arguments in a clean environment; whatever still runs at the end is killed."""
    started: list[Process] = []

    def run(*arguments: str, environment: Mapping[str, str] | None = None) -> Process:
        folder = tmp_path / f"process{len(started)}"
        folder.mkdir()
        kept = {name: value for name, value in os.environ.items() if name in KEPT}  # noqa: TID251  # handed on
        home = {"HOME": str(tmp_path), "XDG_DATA_HOME": str(tmp_path / "data"), "LANG": "C.UTF-8"}
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            popen = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=ROOT,
                env={**kept, **home, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        started.append(Process(popen, folder))
        return started[-1]

    yield run
    for process in started:
        if process.popen.poll() is None:
            os.killpg(process.popen.pid, signal.SIGKILL)
            process.popen.wait(10)


@pytest.fixture
def krakenbot(start: Start) -> Start:
    """Start `krakenbot` with arguments."""

    def run(*arguments: str, environment: Mapping[str, str] | None = None) -> Process:
        return start("-m", "krakenbot", *arguments, environment=environment)

    return run
