"""No key and no password in what settings, containers and commands show."""

from __future__ import annotations

import io
import sys
import traceback
from pathlib import Path

import anyio
import pytest

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.postgres.databases import Databases
from krakenbot.apps import cli, processes
from krakenbot.apps.container import (
    ExecutionContainer,
    IngestContainer,
    make_events,
    make_execution_settings,
    make_rest,
)
from krakenbot.apps.settings import Settings, load_settings
from krakenbot.apps.settings_loader import unstructure
from krakenbot.domain.errors import ConfigError, InvariantViolated, StoreUnavailable

CANARIES = ("canaryK1", "canaryS1", "canaryK2", "canaryS2", "canaryP1", "canary P2")
ENVIRONMENT = {
    "KRAKENBOT_KEYS__INGEST_API_KEY": "canaryK1",
    "KRAKENBOT_KEYS__INGEST_API_SECRET": "canaryS1",
    "KRAKENBOT_KEYS__EXECUTION_API_KEY": "canaryK2",
    "KRAKENBOT_KEYS__EXECUTION_API_SECRET": "canaryS2",
    "DATABASE_URL": "postgresql://me:canaryP1@127.0.0.1:1/x",
    "DECISION_DATABASE_URL": "postgresql://me:canary%20P2@127.0.0.1:1/y",
    "KRAKENBOT_EXECUTION__CAPITAL_LIMIT_QUOTE": "100",
    "KRAKENBOT_VENUE__REST_URL": "http://127.0.0.1:1",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(None, {**ENVIRONMENT, "KRAKENBOT_PROCESS__DATA_DIR": str(tmp_path)})[0]


def assert_clean(text: str) -> None:
    assert "canary" not in text.replace("%20", " ")


def test_settings_show_no_secret(settings: Settings) -> None:
    parts = (settings, settings.keys, settings.database)
    shown = [f"{part!r} {part} {part!s:>5}" for part in parts]

    assert_clean(" ".join(shown) + str(unstructure(settings)))
    assert shown[1].count("****") == 12


def test_every_secret_and_every_password_is_known_for_masking(settings: Settings) -> None:
    texts = settings.secret_texts()

    assert {*CANARIES, "canary%20P2"} <= set(texts)
    assert {ENVIRONMENT["DATABASE_URL"], ENVIRONMENT["DECISION_DATABASE_URL"]} <= set(texts)


@pytest.mark.parametrize("container_class", [IngestContainer, ExecutionContainer])
async def test_containers_and_what_they_make_show_no_secret(
    settings: Settings, container_class: type[IngestContainer | ExecutionContainer]
) -> None:
    clock = SystemClock()
    events = make_events(settings, clock, "test")
    rest = make_rest(settings, clock, settings.keys.execution_api_key, settings.keys.execution_api_secret)
    databases = Databases(ingest=None, publish=None, decision=None, records=None, single=False)
    async with rest:
        container = container_class(settings=settings, clock=clock, events=events, databases=databases, rest=rest)
        made = [container, container.settings(), container.feed(), rest, *vars(rest).values(), events]
        text = " ".join(f"{item!r} {item}" for item in made)

    assert_clean(text)
    assert_clean(str(make_execution_settings(settings).venue_id))


def test_what_was_learnt_is_kept_apart_by_venue_and_account(settings: Settings, tmp_path: Path) -> None:
    other = {
        **ENVIRONMENT,
        "KRAKENBOT_KEYS__EXECUTION_API_KEY": "canaryK3",
        "KRAKENBOT_PROCESS__DATA_DIR": str(tmp_path),
    }

    mine, theirs = make_execution_settings(settings), make_execution_settings(load_settings(None, other)[0])

    assert mine.venue_id.startswith("127.0.0.1:1/")
    assert mine.venue_id != theirs.venue_id


@pytest.mark.parametrize("as_json", ["human", "json"])
def test_the_log_of_a_process_shows_no_secret(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, as_json: str
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    chosen = {**ENVIRONMENT, "KRAKENBOT_PROCESS__LOG_FORMAT": as_json}
    events = make_events(load_settings(None, chosen)[0], SystemClock(), "test")

    for canary in (*CANARIES, "canary%20P2"):
        events.emit("failed", reason=f"got {canary}!", nested={"list": [canary]}, error=RuntimeError(canary))

    assert_clean(stream.getvalue())
    assert stream.getvalue().count("got ****!") == len(CANARIES) + 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("bad canaryP1"), 2),
        (StoreUnavailable("bad canary%20P2 canary P2"), 1),
        (
            ExceptionGroup("x", [StoreUnavailable("bad canaryS1"), ExceptionGroup("y", [ConfigError("bad canaryK2")])]),
            1,
        ),
        (InvariantViolated("bad canaryS2"), 1),
        (RuntimeError("bad " + ENVIRONMENT["DATABASE_URL"]), 1),
    ],
)
def test_messages_of_the_command_show_no_secret(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    async def fail(_: Settings) -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(processes, "run_ingest", fail)

    status = cli.run_ingest()

    shown = capsys.readouterr()
    assert_clean(shown.out + shown.err)
    assert "bad ****" in shown.err
    assert code == status
    assert shown.out == ""


def test_the_error_that_refuses_a_secret_does_not_carry_it() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(None, {"DATABASE_URL": "postgres//me:canary@h/x"})

    assert_clean(str(caught.value) + repr(caught.value))
    assert_clean("".join(traceback.format_exception_only(caught.value)))
