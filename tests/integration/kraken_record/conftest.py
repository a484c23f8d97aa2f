"""A local exchange of three symbols, and `krakenbot record` in front of it, as processes."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SECRET = "YSBzZWNyZXQgb2YgdGhlIHRlc3Rz"
ACCOUNTS = [{"name": "reader", "keys": [{"api_key": "reader", "api_secret": SECRET}], "balances": {"USD": "1000"}}]
PATIENCE_S = 15.0


def until(condition: Any, what: str) -> None:
    end = time.perf_counter() + PATIENCE_S
    while not condition():
        assert time.perf_counter() < end, what
        time.sleep(0.05)


@pytest.fixture(scope="module")
def venue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("venue")
    accounts, ready = folder / "accounts.json", folder / "ready.json"
    accounts.write_text(json.dumps(ACCOUNTS))
    options = ["--symbols", "3", "--accounts", str(accounts), "--ready-file", str(ready), "--latency-median-ms", "0"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "krakenbot", "exchange", *options], stdout=log, stderr=log)
    try:
        until(ready.exists, "the exchange did not start")
        # one for all: nonces of a key go on from process to process
        yield json.loads(ready.read_text()) | {"data_dir": str(folder / "data")}
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def recorder(venue: dict[str, Any], tmp_path: Path) -> Iterator[Any]:
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, *options: str, key: bool = True, file_bytes: int | None = None) -> subprocess.Popen[str]:
        names = ("rest_url", "ws_public_url", "ws_private_url", "ws_level3_url")
        environment = {f"KRAKENBOT_VENUE__{name.upper()}": venue[name] for name in names}
        foreign = {name: value for name, value in os.environ.items() if not name.startswith("KRAKENBOT_")}  # noqa: TID251
        environment = foreign | environment | {"KRAKENBOT_PROCESS__DATA_DIR": venue["data_dir"]}
        if key:
            environment |= {"KRAKENBOT_KEYS__INGEST_API_KEY": "reader", "KRAKENBOT_KEYS__INGEST_API_SECRET": SECRET}
        symbols = [option for symbol in venue["symbols"] for option in ("--symbol", symbol)]

        with (tmp_path / "out").open("ab") as out:
            command = [sys.executable, "-m", "krakenbot", "record", str(folder), *symbols, *options]
            process = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.PIPE, text=True)
        if file_bytes is not None:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
        started.append(process)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=10)
