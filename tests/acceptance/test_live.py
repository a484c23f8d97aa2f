"""Ingest and execution in one process on embedded clusters, as a trader with one server runs them.

Goal: `run-execution-live` does the whole job, `status` tells of it while it runs, SIGTERM ends it in order.
Method: the local exchange and the live process as real processes; the exchange's own record says what was traded.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from krakenbot.apps.rehearsal import setup

KEPT = {"PATH", "TMPDIR"}


def command(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    kept = {name: value for name, value in os.environ.items() if name in KEPT}  # noqa: TID251  # handed on
    environment = {**kept, "HOME": str(tmp_path), "CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    return {"args": [sys.executable, "-m", "krakenbot", *arguments], "env": environment, "text": True}


@pytest.fixture
def exchange(tmp_path: Path) -> Iterator[dict[str, object]]:
    """A running exchange with an account; settings and credentials for it lie in tmp_path."""
    ingest, execution = setup.new_key_pair(), setup.new_key_pair()
    setup.write_accounts(tmp_path / "accounts.json", ingest, execution)
    ready = tmp_path / "ready.json"
    process = subprocess.Popen(
        **command(
            tmp_path,
            *("exchange", "--symbols", "7", "--seed", "6"),
            *("--accounts", str(tmp_path / "accounts.json"), "--ready-file", str(ready)),
        ),
        stdout=subprocess.DEVNULL,
    )
    for _ in range(400):
        if ready.exists():
            break
        time.sleep(0.05)
    content = json.loads(ready.read_text())
    setup.write_settings(tmp_path / "settings.toml", content, tmp_path / "data")
    values = {"ingest_api_key": ingest.key, "ingest_api_secret": ingest.secret}
    values |= {"execution_api_key": execution.key, "execution_api_secret": execution.secret}
    setup.write_credentials(tmp_path / "credentials", values)
    yield content
    process.terminate()
    process.wait(10)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_one_process_ingests_trades_and_stops_in_order(exchange: dict[str, object], tmp_path: Path) -> None:
    config = str(tmp_path / "settings.toml")
    live = subprocess.Popen(
        **command(tmp_path, "run-execution-live", "--config", config), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        time.sleep(25)
        status = subprocess.run(
            **command(tmp_path, "status", "--json", "--config", config), capture_output=True, check=False, timeout=30
        )
        live.send_signal(signal.SIGTERM)
        output, errors = live.communicate(timeout=40)
    finally:
        live.kill()

    assert live.returncode == 0, errors[-3000:]
    said = json.loads(status.stdout)
    assert {row["process"] for row in said["processes"]} == {"ingest", "execution"}
    assert said["epoch"][0]["status"] == "valid"
    events = {json.loads(line)["event"] for line in output.splitlines()}
    assert {"ingest_started", "lease_acquired", "reconciled", "entry", "fill", "stopped", "ingest_stopped"} <= events
    truth = httpx.get(f"{exchange['rest_url']}/control/truth", trust_env=False).json()
    (account,) = truth["accounts"]
    assert account["fills"]
    open_orders = [order for order in account["orders"] if order["status"] in {"new", "partially_filled"}]
    assert {order["order_type"] for order in open_orders} <= {"stop-loss"}, "only protective stops are left"
    held = {asset for asset, amount in account["balances"].items() if asset != "USD" and Decimal(amount) > 0}
    assert held == {order["symbol"].split("/")[0] for order in open_orders}, "every position has its stop"
