"""Start a local exchange as a process of its own, for the benches that measure it from outside."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench._subscriber import ACCOUNTS

START_PATIENCE_S = 60


@contextmanager
def answering(program: str) -> Iterator[int]:
    """Run a program that serves on a port and prints it; yield the port."""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline() if process.stdout else "")
        finally:
            process.kill()


@contextmanager
def exchange_process(folder: Path, *options: str) -> Iterator[dict[str, Any]]:
    """Run `krakenbot exchange` with the bench's accounts; yield what its ready file says."""
    accounts, ready, log = folder / "accounts.json", folder / "ready.json", folder / "exchange.log"
    accounts.write_text(json.dumps(ACCOUNTS))
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "krakenbot", "exchange", "--accounts", str(accounts), "--ready-file", str(ready)]
    with log.open("wb") as output:
        process = subprocess.Popen([*command, *options], stdout=output, stderr=output)
    try:
        until = time.perf_counter() + START_PATIENCE_S
        while not ready.exists():
            if process.poll() is not None or time.perf_counter() > until:
                raise RuntimeError(f"the exchange did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield json.loads(ready.read_text())
    finally:
        process.terminate()
        process.wait(20)
