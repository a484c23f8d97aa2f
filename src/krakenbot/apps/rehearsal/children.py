"""Child processes of a rehearsal: started, read line by line, stopped, never left behind."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1


class Child:
    """One process in a session of its own, so that Ctrl-C reaches only the parent, which then stops it in order.

    Lines of its output go to `on_line(name, line)` from a reader thread; its errors go to a file.
    """

    def __init__(
        self,
        name: str,
        arguments: list[str],
        *,
        environment: Mapping[str, str],
        error_file: Path,
        on_line: Callable[[str, str], None],
    ) -> None:
        self.name = name
        self.error_file = error_file
        with error_file.open("wb") as errors:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter with our own arguments
                [sys.executable, "-m", "krakenbot", *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                errors="replace",
                bufsize=1,
                start_new_session=True,
                preexec_fn=functools.partial(_die_with, os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509  # one prctl call, before any thread
            )
        stdout = self._process.stdout
        if stdout is None:  # a pipe was asked for above
            raise RuntimeError(f"{name}: no output pipe")
        self._reader = threading.Thread(target=self._read, args=(stdout, on_line), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """Return the exit status; None while it runs."""
        return self._process.poll()

    def stop(self, wait_s: float) -> int:
        """Ask it to end, wait, and kill it when it does not; return the exit status."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            code = self._process.wait(wait_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._reader.join(2.0)
        return code

    def error_tail(self, lines: int = 20) -> str:
        """Return the last lines that it wrote to its error stream."""
        text = self.error_file.read_text(encoding="utf-8", errors="replace") if self.error_file.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def _read(self, stream: IO[str], on_line: Callable[[str, str], None]) -> None:
        with stream:
            for line in stream:
                on_line(self.name, line.rstrip("\n"))


def _die_with(parent_pid: int) -> None:
    """Ask the kernel to send SIGTERM when the parent dies, so that no process outlives a killed rehearsal."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent_pid:  # it died before the request was made
        os._exit(1)
