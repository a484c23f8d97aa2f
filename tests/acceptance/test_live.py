"""Ingest and execution in one process on embedded clusters, as a trader with one server runs them.

Goal: `run-execution-live` does the whole job, `status`, `doctor` and the views of the ledger tell of it while it runs,
SIGTERM ends it in order.
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
import msgspec
import pytest
from tests.integration.apps import view_schema

from krakenbot.apps.rehearsal import setup

KEPT = {"PATH", "TMPDIR"}
REST_NAMES = {"XBT": "BTC", "XDG": "DOGE"}


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


def ask(tmp_path: Path, config: str) -> dict[str, str]:
    """Return what each command prints as JSON beside the running process, all asked at once."""
    all_ = ("--limit", "10000")
    asked = {
        verb: subprocess.Popen(
            **command(tmp_path, verb, *more, "--json", "--config", config),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for verb, *more in (("status",), ("doctor",), ("orders", *all_), ("positions",), ("trades", *all_))
    }
    answers = {}
    for verb, process in asked.items():
        try:
            output, errors = process.communicate(timeout=40)
        finally:
            process.kill()
        assert (0, "") == (process.returncode, errors), f"{verb}: {errors[-2000:]}{output[-2000:]}"
        answers[verb] = output
    return answers


def account_of(exchange: dict[str, object]) -> dict[str, Any]:
    """Return the one account as the exchange has it."""
    (account,) = httpx.get(f"{exchange['rest_url']}/control/truth", trust_env=False).json()["accounts"]
    found: dict[str, Any] = account
    return found


def least_sizes(exchange: dict[str, object]) -> dict[str, Decimal]:
    """Return the smallest order by base asset: the exchange takes no stop for less than that."""
    pairs = httpx.get(f"{exchange['rest_url']}/0/public/AssetPairs", trust_env=False).json()["result"].values()
    bases = ((pair["wsname"].split("/")[0], Decimal(pair["ordermin"])) for pair in pairs)
    return {REST_NAMES.get(base, base): least for base, least in bases}


def assert_views_agree(answers: dict[str, str], traded: set[str]) -> None:
    """Check the shapes, that the doctor found no fault, and that what had been traded before is in every view."""
    doctor = msgspec.json.decode(answers["doctor"], type=view_schema.Doctor)
    found = {one.check: one for one in doctor.findings}
    assert "warn" == doctor.worst, "the key of a rehearsal works from any address"
    assert "held by execution@" in found["lease"].found
    assert {"exchange.tier", "db.decision.durability", "disk.journal"} <= found.keys()
    orders = msgspec.json.decode(answers["orders"], type=view_schema.Orders).orders
    trades = msgspec.json.decode(answers["trades"], type=view_schema.Trades).trades
    positions = msgspec.json.decode(answers["positions"], type=view_schema.Positions).positions
    assert orders
    # asked at once: what began between two answers may be in one of them alone, what was there before is in all
    assert traded <= {order.symbol for order in orders if Decimal(order.cum_qty) > 0}
    assert traded <= {trade.symbol for trade in trades}
    assert all(Decimal(one.qty) > 0 for one in positions)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_one_process_ingests_trades_and_stops_in_order(exchange: dict[str, object], tmp_path: Path) -> None:
    config = str(tmp_path / "settings.toml")
    live = subprocess.Popen(
        **command(tmp_path, "run-execution-live", "--config", config), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        time.sleep(25)
        assert live.poll() is None, "".join(live.communicate())[-3000:]
        traded = {fill["symbol"] for fill in account_of(exchange)["fills"]}
        answers = ask(tmp_path, config)
        live.send_signal(signal.SIGTERM)
        output, errors = live.communicate(timeout=40)
    finally:
        live.kill()

    assert live.returncode == 0, errors[-3000:]
    assert_views_agree(answers, traded)
    said = json.loads(answers["status"])
    assert {row["process"] for row in said["processes"]} == {"ingest", "execution"}
    assert said["epoch"][0]["status"] == "valid"
    events = {json.loads(line)["event"] for line in output.splitlines()}
    assert {"ingest_started", "lease_acquired", "reconciled", "entry", "fill", "stopped", "ingest_stopped"} <= events
    account = account_of(exchange)
    assert account["fills"]
    open_orders = [order for order in account["orders"] if order["status"] in {"new", "partially_filled"}]
    assert {order["order_type"] for order in open_orders} <= {"stop-loss"}, "only protective stops are left"
    least = least_sizes(exchange)
    balances = {asset: Decimal(amount) for asset, amount in account["balances"].items() if asset != "USD"}
    held = {asset: str(amount) for asset, amount in balances.items() if amount >= least[asset]}
    differing = set(held) ^ {order["symbol"].split("/")[0] for order in open_orders}
    told = [line for line in output.splitlines() if any(f"{asset}/USD" in line for asset in differing)]
    assert not differing, f"every position has its stop: {held}\n" + "\n".join(told[-40:])
