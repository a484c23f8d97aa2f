"""`krakenbot doctor` as a whole: its exit status, and when an order may be placed to learn something."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from krakenbot.apps.doctor import command
from krakenbot.apps.doctor.gather import purpose_of
from krakenbot.apps.settings import Settings, load_settings
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.preflight.checkup import Checkup, judge
from krakenbot.domain.preflight.disk import DiskFacts
from krakenbot.domain.preflight.finding import Finding, ok
from krakenbot.domain.preflight.venue import VenueFacts
from krakenbot.domain.values import Symbol

SECRET = "aGVsbG8="  # base64 of a greeting
DISKS = {"ok": 1 << 40, "warn": 1 << 30, "fail": 0}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def settings() -> Settings:
    environment = {
        "KRAKENBOT_KEYS__EXECUTION_API_KEY": "key",
        "KRAKENBOT_KEYS__EXECUTION_API_SECRET": SECRET,
        "KRAKENBOT_EXECUTION__CAPITAL_LIMIT_QUOTE": "100",
    }
    return load_settings(None, environment)[0]


@pytest.fixture
def probed(monkeypatch: pytest.MonkeyPatch) -> list[Symbol]:
    """Which symbols an order was placed on."""
    symbols: list[Symbol] = []

    async def probe(settings: Settings, symbol: Symbol) -> list[Finding]:
        symbols.append(symbol)
        return [ok("holds", "learnt")]

    monkeypatch.setattr(command, "probe_holds", probe)
    return symbols


Find = Callable[..., None]


@pytest.fixture
def find(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Find:
    """Have everything in order but the disk, as it is named, and what needs a venue."""

    def found(disk: str, **facts: Any) -> None:
        disks = (DiskFacts(purpose="data", path="data", free_bytes=DISKS[disk]),)
        at, purpose = datetime(2026, 11, 1, tzinfo=UTC), purpose_of(settings)

        async def gather(*_: object) -> Checkup:
            return Checkup(at=at, purpose=purpose, disks=disks, **facts)

        monkeypatch.setattr(command, "gather", gather)
        monkeypatch.setattr(command, "judge", lambda checkup, limits: judge(checkup, limits)[-1:])

    return found


@pytest.mark.parametrize(("disk", "status"), [("ok", 0), ("warn", 0), ("fail", 1)])
async def test_only_what_failed_is_an_exit_status(
    find: Find, capsys: pytest.CaptureFixture[str], settings: Settings, disk: str, status: int
) -> None:
    find(disk)

    assert status == await command.run_doctor(settings, json=True)
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [("db", "warn"), ("disk.data", disk)] == [(one["check"], one["level"]) for one in found]


@pytest.mark.parametrize("disk", ["ok", "warn", "fail"])
async def test_no_order_is_placed_to_learn_something_where_a_check_failed(
    find: Find, capsys: pytest.CaptureFixture[str], settings: Settings, probed: list[Symbol], disk: str
) -> None:
    expected = [] if disk == "fail" else ["BTC/USD"]
    find(disk)
    status = await command.run_doctor(settings, json=False, probe_holds_of=" btc/usd ")

    assert expected == probed
    assert (0 if expected else 1) == status
    assert ("learnt" if expected else "not learnt: something failed above") in capsys.readouterr().out


async def test_no_order_is_placed_on_a_symbol_that_the_venue_does_not_list(
    find: Find, settings: Settings, probed: list[Symbol]
) -> None:
    find("ok", venue=VenueFacts(instruments={Symbol("ABC/USD"): None}))  # type: ignore[dict-item]

    with pytest.raises(ConfigError, match=r"--probe-holds ABD/USD: .* did you mean ABC/USD\?"):
        await command.run_doctor(settings, json=False, probe_holds_of="ABD/USD")
    assert [] == probed


async def test_an_order_is_placed_by_a_key_that_trades_alone(find: Find, probed: list[Symbol]) -> None:
    settings = load_settings(None, {"KRAKENBOT_EXECUTION__CAPITAL_LIMIT_QUOTE": "100"})[0]
    find("ok")

    with pytest.raises(ConfigError, match="places an order"):
        await command.run_doctor(settings, json=False, probe_holds_of="BTC/USD")
    assert [] == probed
