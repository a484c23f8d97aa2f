"""Run programs of other people's clients, each with the interpreter of its own environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
TOOLS = HERE.parents[1] / ".tools"
Started = Callable[..., "Program"]


class Program:
    """A client's program that runs; `result` waits for what it prints."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self._result: Any = None

    def result(self, timeout_s: float = 150) -> Any:
        """Return the JSON that the program printed; fail with its errors when it ended badly."""
        if self._result is None:
            output, errors = self.process.communicate(timeout=timeout_s)
            assert self.process.returncode == 0, errors[-4000:]
            self._result = json.loads(output)
        return self._result


@pytest.fixture(scope="session")
def interpreter_of() -> Callable[[str], Path]:
    """Return a function that installs a client's locked environment and gives its interpreter."""

    def install(client: str) -> Path:
        uv = os.getenv("KB_UV") or shutil.which("uv") or shutil.which("uv", path=str(TOOLS / "bin"))
        if uv is None:
            pytest.fail("uv was not found: run the tests with ./kb, or put uv on PATH")
        folder = TOOLS / "clients" / client
        # uv checks the hashes of the lock, and leaves an environment alone that is as the lock says.
        command = [uv, "sync", "--quiet", "--frozen", "--project", str(HERE / client), "--python", sys.executable]
        inherited = {name: text for name, text in os.environ.items() if name != "VIRTUAL_ENV"}  # noqa: TID251, passed on
        environment = inherited | {"UV_PROJECT_ENVIRONMENT": str(folder)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=150)
        assert done.returncode == 0, done.stderr
        return folder / "bin" / "python"

    return install


@pytest.fixture(scope="module")
def start(interpreter_of: Callable[[str], Path]) -> Iterator[Started]:
    """Return a function that starts a program of a client with arguments; what still runs at the end is killed."""
    processes = []

    def run(client: str, program: str, **given: Any) -> Program:
        # -I: the client sees nothing of this project, neither its packages nor its settings.
        command = [interpreter_of(client), "-I", HERE / client / program, json.dumps(given)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(subprocess.Popen(command, text=True, **pipes))  # type: ignore[call-overload]
        return Program(processes[-1])

    yield run
    for process in processes:
        process.kill()
        process.communicate()
