"""The doctor at one local exchange for the session and two real databases.

The doctor only reads: what a test changes at the exchange it puts back, and its own key or account is its own.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.local_exchange.pytest_plugin import KrakenExchange, running_exchange
from krakenbot.apps.doctor import gather as gathering
from krakenbot.apps.doctor.command import configuration
from krakenbot.apps.doctor.gather import gather
from krakenbot.apps.settings import Settings, load_settings
from krakenbot.domain.preflight.checkup import judge
from krakenbot.domain.preflight.finding import Finding
from krakenbot.ports.clock import Clock

TRADE = ["query-funds", "query-open-trades", "query-closed-trades", "modify-trades", "close-trades", "create-ws-token"]
SECRET = base64.b64encode(b"secret of a key of a loopback peer").decode()
INGEST = {"api_key": "ingest-key", "api_secret": SECRET, "permissions": ["create-ws-token"]}
EXECUTION = {"api_key": "execution-key", "api_secret": SECRET, "permissions": [*TRADE, "query-ledger"]}
QUICK: dict[str, Any] = {"symbols": 2, "flow": "still", "latency_median_ms": 1, "latency_p99_ms": 2, "limits": "off"}
LOOPBACK = {"ip_allowlist": ["127.0.0.1"]}
DAY_S = 86_400
KEYS: dict[str, dict[str, Any]] = {
    "ingest-key": {**INGEST, **LOOPBACK},
    "execution-key": {**EXECUTION, **LOOPBACK},
    "withdraws": {**EXECUTION, "permissions": [*TRADE, "withdraw-funds"]},
    "adds": {**EXECUTION, "permissions": [*TRADE, "add-funds"]},
    "cannot-trade": {**EXECUTION, "permissions": ["query-funds", "create-ws-token"]},
    "no-token": {**EXECUTION, "permissions": [name for name in TRADE if name != "create-ws-token"]},
    "expires": {**EXECUTION, "valid_until": int(time.time()) + 3 * DAY_S},  # noqa: TID251  # of the venue's clock
    "elsewhere": {**EXECUTION, "ip_allowlist": ["192.0.2.7"]},
    "window": {**EXECUTION, "nonce_window": 5_000_000_000},
    "hour-ahead": EXECUTION,
}
PROBES: dict[str, dict[str, str]] = {
    "poor": {},
    **{name: {"BTC": "1"} for name in ("tells", "answer-lost", "cancel-lost", "unproven", "unbooked")},
}
"""Accounts of one key of the same name, with coins beside a hundred dollars."""


def account(name: str, keys: Mapping[str, Mapping[str, Any]], **balances: str) -> dict[str, Any]:
    named = [{**key, "api_key": api_key} for api_key, key in keys.items()]
    return {"name": name, "keys": named, "balances": balances}


def probe_account(name: str, **balances: str) -> dict[str, Any]:
    return account(name, {name: EXECUTION}, USD="100", **balances)


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of the venue's time come at once: whole seconds are enough for a clock that is right or an age off."""
    monkeypatch.setattr(gathering, "_CLOCK_PAUSE_S", 0.0)


@pytest.fixture(scope="session")
def exchange() -> Iterator[KrakenExchange]:
    """An exchange whose stops reserve, with a key for every fault and an account for every probe."""
    trader = account("trader", KEYS, USD="25000", BTC="1.5", ETH="2")
    probes = [probe_account(name, **coins) for name, coins in PROBES.items()]
    with running_exchange(**QUICK, accounts=[trader, *probes]) as running:
        yield running


@pytest.fixture(scope="session")
def read_only_urls(clusters: Any) -> Any:
    """Two databases that no test writes to."""
    ingest = clusters.migrated(clusters.ingest, "kb_ingest")
    return SimpleNamespace(ingest=ingest, decision=clusters.migrated(clusters.decision, "kb_decision"))


@pytest.fixture
def urls(request: pytest.FixtureRequest) -> Any:
    """The test's own databases when it asks for `database_urls`, else those that nobody writes to."""
    own = "database_urls" in request.fixturenames
    return request.getfixturevalue("database_urls" if own else "read_only_urls")


@pytest.fixture
def settings_at(urls: Any, tmp_path: Path) -> Callable[..., Settings]:
    """Settings for an exchange and databases, with changes by environment name."""

    def make(exchange: KrakenExchange, **changes: str | None) -> Settings:
        environment = {
            "KRAKENBOT_PROCESS__DATA_DIR": str(tmp_path / "data"),
            "KRAKENBOT_VENUE__REST_URL": exchange.rest_url,
            "KRAKENBOT_VENUE__WS_PUBLIC_URL": exchange.ws_public_url,
            "KRAKENBOT_VENUE__WS_PRIVATE_URL": exchange.ws_private_url,
            "KRAKENBOT_VENUE__WS_LEVEL3_URL": exchange.ws_level3_url,
            "KRAKENBOT_KEYS__INGEST_API_KEY": "ingest-key",
            "KRAKENBOT_KEYS__INGEST_API_SECRET": SECRET,
            "KRAKENBOT_KEYS__EXECUTION_API_KEY": "execution-key",
            "KRAKENBOT_KEYS__EXECUTION_API_SECRET": SECRET,
            "KRAKENBOT_EXECUTION__CAPITAL_LIMIT_QUOTE": "20000",
            "KRAKENBOT_INGEST__SYMBOLS": ",".join(exchange.symbols),
            "DATABASE_URL": urls.ingest,
            "DECISION_DATABASE_URL": urls.decision,
            **{name: value for name, value in changes.items() if value is not None},
        }
        for name, value in changes.items():
            if value is None:
                environment.pop(name, None)
        return load_settings(None, environment)[0]

    return make


Findings = dict[str, list[Finding]]


async def look(settings: Settings, clock: Clock | None = None) -> Findings:
    """Return the doctor's findings by check."""
    checkup = await gather(settings, clock or SystemClock())
    found: Findings = {}
    for finding in [*configuration(settings, checkup), *judge(checkup, settings.doctor)]:
        found.setdefault(finding.check, []).append(finding)
    return found
