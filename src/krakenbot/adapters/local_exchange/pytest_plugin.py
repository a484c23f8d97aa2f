"""Give tests a running local exchange: `from krakenbot.adapters.local_exchange.pytest_plugin import kraken_exchange`.

The exchange runs as a process of its own, so it works beside any event loop, or none. Options are those of the
command line with underscores: `@pytest.mark.parametrize("kraken_exchange", [{"symbols": 2}], indirect=True)`.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
import pytest

API_KEY: Final = "demo-key"
API_SECRET: Final = base64.b64encode(b"the secret of the key of a local exchange, of no worth elsewhere").decode()
BALANCES: Final[Mapping[str, str]] = {"USD": "25000"}
START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
CONTROL_TIMEOUT_S: Final = 300.0


class ExchangeFailedError(RuntimeError):
    """The exchange did not start, or ended by itself; the message holds what it wrote."""


class KrakenExchange:
    """A running exchange, as a test sees it."""

    def __init__(self, process: subprocess.Popen[bytes], ready: dict[str, Any], log: Path) -> None:
        self._process = process
        self._log = log
        self._control = httpx.Client(base_url=ready["rest_url"], timeout=CONTROL_TIMEOUT_S, trust_env=False)
        self.host: str = ready["host"]
        self.port: int = ready["port"]
        self.pid: int = ready["pid"]
        self.rest_url: str = ready["rest_url"]
        self.ws_public_url: str = ready["ws_public_url"]
        self.ws_private_url: str = ready["ws_private_url"]
        self.ws_level3_url: str = ready["ws_level3_url"]
        self.symbols: list[str] = ready["symbols"]
        self.api_key = API_KEY
        self.api_secret = API_SECRET

    def truth(self) -> dict[str, Any]:
        """Return the record of truth as it stands: counts, and accounts with balances, holds, orders and fills."""
        return self._answer("GET", "/control/truth")

    def status(self) -> dict[str, Any]:
        """Return the state of the exchange: its time `now_ns`, symbols, flow parameters and counters."""
        return self._answer("GET", "/control/status")

    def advance(self, seconds: float) -> int:
        """Let time pass and return what it is then, in nanoseconds; for `time="stepped"` only.

        It blocks. A test with an event loop that reads sockets calls it in a thread.
        """
        return int(self._answer("POST", "/control/advance", json={"seconds": seconds})["now_ns"])

    def faults(self, script: str) -> list[int]:
        """Add the rules of a fault script and return their ids.

        Raises ValueError with line and column when the script is wrong.
        """
        ids: list[int] = self._answer("POST", "/control/faults", content=script)["ids"]
        return ids

    def fault_report(self) -> dict[str, Any]:
        """Return the rules that are in force, with how often each one struck."""
        return self._answer("GET", "/control/faults")

    def clear_faults(self) -> None:
        """Remove all fault rules."""
        self._answer("DELETE", "/control/faults")

    def operate(self, what: str, **fields: Any) -> dict[str, Any]:
        """Act as the venue's operator: `POST /control/WHAT` with these fields, such as `mode`, `balance` or `key`.

        Raises ValueError with the exchange's reason.
        """
        return self._answer("POST", f"/control/{what}", json=fields)

    def stop(self) -> None:
        """End the exchange; a second call does nothing.

        Raises ExchangeFailedError when it had ended by itself, or ended badly.
        """
        if self._control.is_closed:
            return
        self._control.close()
        ended_before = self._process.poll() is not None
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        if ended_before or self._process.returncode != 0:
            raise ExchangeFailedError(_failure(self._process, self._log))

    def _answer(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        response = self._control.request(method, path, **content)
        answer: dict[str, Any] = response.json()
        if response.is_error:
            raise ValueError(answer["error"])
        return answer


@contextmanager
def running_exchange(**options: Any) -> Iterator[KrakenExchange]:
    """Run an exchange inside the block, with the options of the command line; a list repeats its option.

    Besides them: `balances` (asset to decimal text) of the one demo account, or `accounts`, the content of the
    accounts file, when the test wants keys and accounts of its own. Raises ExchangeFailedError.
    """
    with TemporaryDirectory(prefix="kraken-exchange-") as name, ExitStack() as files:
        folder = Path(name)
        command = [sys.executable, "-m", "krakenbot", "exchange", "--until-stdin-ends", *_arguments(folder, options)]
        log = folder / "log"
        output = files.enter_context(log.open("wb"))
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT)  # noqa: S603, our own command
        try:
            exchange = KrakenExchange(process, _wait_until_ready(process, folder / "ready.json", log), log)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        try:
            yield exchange
        finally:
            exchange.stop()


@pytest.fixture
def kraken_exchange(request: pytest.FixtureRequest) -> Iterator[KrakenExchange]:
    """Give a running exchange with two symbols; other options by indirect parametrisation."""
    with running_exchange(**({"symbols": 2} | getattr(request, "param", {}))) as exchange:
        yield exchange


@pytest.fixture
def start_kraken_exchange() -> Iterator[Callable[..., KrakenExchange]]:
    """Give a function that starts an exchange with options; all of them end with the test."""
    with ExitStack() as exchanges:
        yield lambda **options: exchanges.enter_context(running_exchange(**({"symbols": 2} | options)))


def _arguments(folder: Path, options: dict[str, Any]) -> Sequence[str]:
    options = dict(options)
    balances = options.pop("balances", BALANCES)
    accounts = options.pop("accounts", None) or [
        {"name": "demo", "keys": [{"api_key": API_KEY, "api_secret": API_SECRET}], "balances": dict(balances)}
    ]
    (folder / "accounts.json").write_text(json.dumps(accounts), encoding="utf-8")
    arguments = ["--accounts", str(folder / "accounts.json"), "--ready-file", str(folder / "ready.json")]
    for option, value in options.items():
        name = option.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{name}" if value else f"--no-{name}")
        else:
            for each in value if isinstance(value, list) else [value]:
                arguments += [f"--{name}", str(each)]
    return arguments


def _wait_until_ready(process: subprocess.Popen[bytes], ready: Path, log: Path) -> dict[str, Any]:
    waited_s = 0.0
    while not ready.exists():
        if process.poll() is not None or waited_s > START_TIMEOUT_S:
            raise ExchangeFailedError(_failure(process, log))
        time.sleep(0.02)
        waited_s += 0.02
    document: dict[str, Any] = json.loads(ready.read_text(encoding="utf-8"))
    return document


def _failure(process: subprocess.Popen[bytes], log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace")[-4000:]
    return f"the exchange has exit code {process.poll()} and wrote:\n{text}"
