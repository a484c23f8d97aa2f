"""The pytest fixture in a project of somebody else: a fresh folder, a plain pytest, no plugin for event loops."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from krakenbot.adapters.local_exchange.pytest_plugin import ExchangeFailedError, running_exchange

DOCS = Path(__file__).parents[3] / "docs" / "exchange.md"
USERS_TESTS = """
import json
import urllib.request

import pytest
from krakenbot.adapters.local_exchange.pytest_plugin import kraken_exchange, start_kraken_exchange


def test_the_fixture_has_an_exchange_with_two_symbols(kraken_exchange):
    with urllib.request.urlopen(kraken_exchange.rest_url + "/0/public/Time") as response:
        assert json.load(response)["error"] == []
    assert len(kraken_exchange.symbols) == 2
    assert kraken_exchange.ws_level3_url.endswith("/level3/v2")


@pytest.mark.parametrize("kraken_exchange", [{"symbols": 3, "balances": {"EUR": "7"}}], indirect=True)
def test_options_reach_it(kraken_exchange):
    (account,) = kraken_exchange.truth()["accounts"]
    assert len(kraken_exchange.symbols) == 3
    assert [float(amount) for asset, amount in account["balances"].items() if asset == "EUR"] == [7]


def test_several_run_side_by_side(start_kraken_exchange):
    first, second = (start_kraken_exchange(flow="still", seed=seed) for seed in (1, 2))
    assert first.port != second.port
    first.stop()
    assert second.status()["system"] == "online"


def test_faults_and_the_operator_are_at_hand(kraken_exchange):
    assert kraken_exchange.faults("at private.subscribe.ack: drop") == [1]
    with pytest.raises(ValueError, match="line 1"):
        kraken_exchange.faults("at nowhere: drop")
    assert len(kraken_exchange.fault_report()["rules"]) == 1
    kraken_exchange.clear_faults()
    assert kraken_exchange.fault_report()["rules"] == []
    kraken_exchange.operate("mode", system="post_only")
    assert kraken_exchange.status()["system"] == "post_only"


def test_one_that_dies_fails_the_test(kraken_exchange):
    import os
    import signal

    os.kill(kraken_exchange.pid, signal.SIGKILL)
"""


def run_pytest(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:anyio", "-p", "no:randomly"]
    command += ["-p", "no:xdist", "-p", "no:hypothesispytest", "-p", "no:cacheprovider", "--rootdir", str(folder)]
    return subprocess.run([*command, str(folder)], cwd=folder, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.timeout(90)
def test_a_users_tests_run_in_a_folder_of_their_own(tmp_path):
    (tmp_path / "test_mine.py").write_text(USERS_TESTS, encoding="utf-8")
    done = run_pytest(tmp_path)

    assert "5 passed, 1 error" in done.stdout, done.stdout + done.stderr
    assert "ERROR test_mine.py::test_one_that_dies_fails_the_test" in done.stdout
    assert "the exchange has exit code -9" in done.stdout


def documented_examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.timeout(60)
def test_the_first_order_of_the_documentation_is_placed_and_cancelled(tmp_path):
    script, ready, record = (tmp_path / name for name in ("first_order.py", "ready.json", "record.jsonl"))
    script.write_text(documented_examples()[0], encoding="utf-8")
    command = [sys.executable, "-m", "krakenbot", "exchange", "--symbols", "1", "--until-stdin-ends"]
    command += ["--ready-file", str(ready), "--record", str(record)]
    exchange = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        until = time.perf_counter() + 20
        while not ready.exists() and time.perf_counter() < until:
            time.sleep(0.05)
        done = subprocess.run(
            [sys.executable, str(script), str(ready)], capture_output=True, text=True, check=False, timeout=30
        )
    finally:
        exchange.communicate(timeout=15)

    assert 0 == done.returncode, done.stdout + done.stderr
    kinds = [json.loads(line)["kind"] for line in record.read_text(encoding="utf-8").splitlines()]
    assert ["deposited", "accepted", "opened", "amended", "cancelled"] == kinds


@pytest.mark.timeout(60)
def test_the_example_of_the_documentation_runs(tmp_path):
    _, example = documented_examples()
    (tmp_path / "test_example.py").write_text(example, encoding="utf-8")
    done = run_pytest(tmp_path)

    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_options_that_the_exchange_refuses_are_told():
    with pytest.raises(ExchangeFailedError, match="1 to 619"), running_exchange(symbols=0):
        pass


def test_the_exchange_does_not_outlive_the_process_that_started_it():
    code = (
        "import os, signal; from krakenbot.adapters.local_exchange.pytest_plugin import running_exchange\n"
        "with running_exchange(symbols=1) as exchange:\n"
        "    print(exchange.pid, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    starter = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=15)
    pid = int(starter.stdout)
    until = time.perf_counter() + 10
    while is_running(pid) and time.perf_counter() < until:
        time.sleep(0.05)

    assert -signal.SIGKILL == starter.returncode
    assert not is_running(pid)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (ProcessLookupError, FileNotFoundError):
        return False
