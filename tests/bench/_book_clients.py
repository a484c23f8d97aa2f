"""Run the book paths of other people's clients beside ours, each as a process of a locked environment of its own.

The environment is installed from `book_clients/uv.lock` and `book_clients/cryptofeed.txt`, both with hashes, into
.tools, and has nothing of this project.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "book_clients"
TOOLS = Path(__file__).parents[2] / ".tools"
NAMES = ("cryptofeed", "ccxt", "python_kraken_sdk")
INSTALL_TIMEOUT_S = 300


class Client:
    """A client's process; `turn` measures one pass over all frames."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def turn(self) -> list[float]:
        """Return the CPU seconds of each slice of frames."""
        found: list[float] = self._ask("turn")
        return found

    def touch(self) -> dict[str, list[float]]:
        """Return the best bid and ask of every book after the last turn."""
        found: dict[str, list[float]] = self._ask("end")
        return found

    def _ask(self, what: str) -> Any:
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self._process.stdin.write(what + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a client ended: {self._process.communicate()[1][-2000:]}")
        return json.loads(line)


@contextmanager
def clients(names: tuple[str, ...], **given: Any) -> Iterator[dict[str, Client]]:
    """Start the named clients with the same frames; what `given` holds is in measure.py."""
    python = install() if names else Path()
    with ExitStack() as stack:
        running = {}
        for name in names:
            # -I: the client sees nothing of this project, neither its packages nor its settings.
            command = [str(python), "-I", str(FOLDER / "measure.py"), json.dumps(given | {"client": name})]
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
            process: subprocess.Popen[str] = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]
            stack.callback(process.communicate)
            stack.callback(process.kill)
            running[name] = Client(process)
        yield running


def install() -> Path:
    """Install the locked environment; return its interpreter."""
    uv = os.getenv("KB_UV") or shutil.which("uv") or shutil.which("uv", path=str(TOOLS / "bin"))
    if uv is None:
        raise RuntimeError("uv was not found: run the bench with ./kb, or put uv on PATH")
    folder = TOOLS / "clients" / "bench_books"
    python = folder / "bin" / "python"
    # --inexact: what is installed after it stays.
    run([uv, "sync", "--quiet", "--frozen", "--inexact", "--project", str(FOLDER), "--python", sys.executable], folder)
    has_cryptofeed = [str(python), "-I", "-c", "import cryptofeed.exchanges.kraken"]
    if subprocess.run(has_cryptofeed, capture_output=True, check=False, timeout=INSTALL_TIMEOUT_S).returncode:
        options = ["--no-deps", "--ignore-requires-python", "--no-build-isolation", "--no-cache-dir"]
        required = ["--force-reinstall", "--require-hashes", "-r", str(FOLDER / "cryptofeed.txt")]
        run([str(python), "-I", "-m", "pip", "install", "-q", *options, *required], folder)
    return python


def run(command: list[str], folder: Path) -> None:
    """Run an installer; raises RuntimeError with its words when it fails."""
    inherited = {name: text for name, text in os.environ.items() if name != "VIRTUAL_ENV"}  # noqa: TID251, passed on
    ours = {"UV_PROJECT_ENVIRONMENT": str(folder), "CFLAGS": f"-include {FOLDER / 'before_3_13.h'}"}
    done = subprocess.run(
        command, env=inherited | ours, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT_S
    )
    if done.returncode:
        raise RuntimeError(f"could not install the clients: {done.stderr[-2000:]}")
