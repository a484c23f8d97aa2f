"""The doctor at a local exchange of its own and two real databases."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
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

TRADE = ["query-funds", "query-open-trades", "query-closed-trades", "modify-trades", "close-trades", "create-ws-token"]
SECRET = base64.b64encode(b"secret of a key of a loopback peer").decode()
INGEST = {"api_key": "ingest-key", "api_secret": SECRET, "permissions": ["create-ws-token"]}
EXECUTION = {"api_key": "execution-key", "api_secret": SECRET, "permissions": [*TRADE, "query-ledger"]}
QUICK: dict[str, Any] = {"symbols": 2, "flow": "still", "latency_median_ms": 1, "latency_p99_ms": 2}
LOOPBACK = {"ip_allowlist": ["127.0.0.1"]}


def accounts(*keys: Mapping[str, Any], balances: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    return [{"name": "trader", "keys": list(keys), "balances": dict(balances or {"USD": "25000"})}]


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of the venue's time come at once: whole seconds are enough for a clock that is right or an age off."""
    monkeypatch.setattr(gathering, "_CLOCK_PAUSE_S", 0.0)


@pytest.fixture
def start_exchange() -> Iterator[Callable[..., KrakenExchange]]:
    """Start an exchange with accounts; all end with the test."""
    with ExitStack() as exchanges:
        yield lambda **options: exchanges.enter_context(running_exchange(**(QUICK | options)))


@pytest.fixture
def settings_at(database_urls: Any, tmp_path: Path) -> Callable[..., Settings]:
    """Settings for an exchange and the test's databases, with changes by environment name."""

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
            "DATABASE_URL": database_urls.ingest,
            "DECISION_DATABASE_URL": database_urls.decision,
            **{name: value for name, value in changes.items() if value is not None},
        }
        for name, value in changes.items():
            if value is None:
                environment.pop(name, None)
        return load_settings(None, environment)[0]

    return make


Findings = dict[str, list[Finding]]


async def look(settings: Settings) -> Findings:
    """Return the doctor's findings by check."""
    checkup = await gather(settings, SystemClock())
    found: Findings = {}
    for finding in [*configuration(settings, checkup), *judge(checkup, settings.doctor)]:
        found.setdefault(finding.check, []).append(finding)
    return found
