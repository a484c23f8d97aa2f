"""The command line as a user meets it: exit statuses, one message on standard error, and no secret anywhere."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from krakenbot.adapters.postgres import binaries
from krakenbot.adapters.postgres.embedded import Login
from krakenbot.apps import cli
from krakenbot.apps.databases import process_databases
from krakenbot.apps.settings import load_settings
from krakenbot.domain.errors import ConfigError

Start = Callable[..., Any]
VERBS = (
    *("run-ingest", "run-execution-live", "run-execution-only", "rehearse", "exchange", "migrate"),
    *("status", "doctor", "orders", "positions", "trades"),
)
KEYS = {
    "KRAKENBOT_KEYS__INGEST_API_KEY": "canaryKey1",
    "KRAKENBOT_KEYS__INGEST_API_SECRET": "Y2FuYXJ5U2VjcmV0MQ==",
    "KRAKENBOT_KEYS__EXECUTION_API_KEY": "canaryKey2",
    "KRAKENBOT_KEYS__EXECUTION_API_SECRET": "Y2FuYXJ5U2VjcmV0Mg==",
}
DEAD_VENUE = {
    "KRAKENBOT_VENUE__REST_URL": "http://127.0.0.1:1",
    "KRAKENBOT_VENUE__WS_PUBLIC_URL": "ws://127.0.0.1:1/v2",
    "KRAKENBOT_VENUE__WS_PRIVATE_URL": "ws://127.0.0.1:1/v2",
    "KRAKENBOT_VENUE__WS_LEVEL3_URL": "ws://127.0.0.1:1/v2",
}
CAPITAL = {"KRAKENBOT_EXECUTION__CAPITAL_LIMIT_QUOTE": "100"}


def assert_clean(text: str) -> None:
    for canary in ("canary", "Y2FuYXJ5", "Password"):
        assert canary not in text


def called(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command in this process."""
    with pytest.raises(SystemExit) as ended:
        sys.exit(cli.app(list(arguments)))
    shown = capsys.readouterr()
    return int(ended.value.code or 0), shown.out, shown.err


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """No setting of the caller, and an empty data directory."""
    for name in list(os.environ):  # noqa: TID251  # cleared for the test
        if name.startswith("KRAKENBOT_") or name in {"DATABASE_URL", "DECISION_DATABASE_URL", "EXECUTION_ONLY"}:
            monkeypatch.delenv(name)
    monkeypatch.setenv("KRAKENBOT_PROCESS__DATA_DIR", str(tmp_path / "data"))
    return monkeypatch


def test_help_lists_every_verb(clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = called(capsys, "--help")

    assert status == 0
    assert err == ""
    for verb in VERBS:
        assert f" {verb} " in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run-ingest", "--nonsense"], "--nonsense"),
        (["run-everything"], "run-everything"),
        (["rehearse", "--symbols", "many"], "many"),
        (["rehearse", "--profile", "lucky"], "lucky"),
        (["rehearse", "--duration", "1"], "--duration 1: allowed are 5 to 86400 seconds"),
        (["rehearse", "--symbols", "0"], "--symbols 0: allowed are 1 to 600"),
        (["rehearse", "--report", "/nowhere/at/all.json"], "--report /nowhere/at/all.json"),
        (["run-ingest", "--config", "/nowhere.toml"], "settings file /nowhere.toml does not exist"),
        (["exchange", "--host", "192.168.0.1"], "192.168.0.1"),
    ],
)
def test_bad_arguments_give_one_message_and_status_2(
    clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    status, out, err = called(capsys, *arguments)

    assert status == 2
    assert words in err
    assert "Traceback" not in err
    if arguments[0] != "rehearse":
        assert out == ""


@pytest.mark.parametrize("verb", ["run-ingest", "run-execution-live", "run-execution-only", "migrate", "status"])
def test_bad_settings_give_one_message_and_status_2(
    clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    clean.setenv("KRAKENBOT_UNIVERSE__L2_LIMITT", "3")

    status, out, err = called(capsys, verb)

    assert status == 2
    assert err.count("krakenbot: ") == 1
    assert "did you mean universe.l2_limit?" in err
    assert out == ""


@pytest.mark.parametrize(
    ("arguments", "environment", "words"),
    [
        (["run-execution-only"], CAPITAL, "DECISION_DATABASE_URL is not set: execution needs the decision database"),
        (["run-execution-live", "--no-ingest"], CAPITAL, "DECISION_DATABASE_URL is not set"),
        (["run-execution-live"], {**CAPITAL, "EXECUTION_ONLY": "1"}, "DECISION_DATABASE_URL is not set"),
        (["run-execution-only"], {}, "execution.capital_limit_quote is not set"),
        (["run-execution-live"], {}, "execution.capital_limit_quote is not set"),
        (["run-ingest"], {"DECISION_DATABASE_URL": "postgresql://h/x"}, "DATABASE_URL is not set: ingest needs"),
        (["status"], {}, "set DECISION_DATABASE_URL, or start run-ingest"),
        (["orders"], {}, "set DECISION_DATABASE_URL, or start run-ingest"),
    ],
)
def test_what_is_not_set_is_said_with_what_to_do(
    clean: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    environment: dict[str, str],
    words: str,
) -> None:
    for name, value in environment.items():
        clean.setenv(name, value)

    status, _, err = called(capsys, *arguments)

    assert status == 2
    assert err.count("krakenbot: ") == 1
    assert words in err


@pytest.mark.parametrize("verb", ["run-ingest", "migrate", "status"])
def test_a_database_that_does_not_answer_is_a_named_failure(
    clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    clean.setenv("DATABASE_URL", "postgresql://me:canaryPassword@127.0.0.1:1/x")

    status, _, err = called(capsys, verb)

    assert status == 1
    assert err.count("krakenbot: ") == 1
    assert "127.0.0.1" in err
    assert_clean(err)


@pytest.mark.postgres
@pytest.mark.parametrize("verb", ["run-ingest", "run-execution-live"])
def test_two_urls_to_one_live_cluster_are_refused(
    clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], clusters: Any, verb: str
) -> None:
    clean.setenv("DATABASE_URL", clusters.migrated(clusters.decision, "kb_both"))
    clean.setenv("DECISION_DATABASE_URL", clusters.migrated(clusters.decision, "kb_both"))
    clean.setenv("KRAKENBOT_EXECUTION__CAPITAL_LIMIT_QUOTE", "100")

    status, _, err = called(capsys, verb)

    assert status == 2
    assert "lead to the same PostgreSQL cluster: set only DATABASE_URL" in err


@pytest.mark.postgres
def test_a_database_without_our_schema_is_said_with_what_to_do(
    clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], clusters: Any
) -> None:
    clean.setenv("DATABASE_URL", clusters.decision.url(Login.OWNER, "postgres"))

    answers = [called(capsys, verb) for verb in ("run-ingest", "status")]

    for status, _, err in answers:
        assert status == 2
        assert "migrate" in err


@pytest.mark.postgres
def test_migrate_says_what_it_applied_and_then_that_nothing_is_left(
    clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], database_urls: Any
) -> None:
    clean.setenv("DATABASE_URL", database_urls.ingest)
    clean.setenv("DECISION_DATABASE_URL", database_urls.decision)

    status, out, _ = called(capsys, "migrate")

    assert status == 0
    assert out.splitlines() == ["DATABASE_URL: up to date", "DECISION_DATABASE_URL: up to date"]


def test_a_folder_without_postgresql_is_refused_with_what_to_install(
    clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clean.setenv("KRAKENBOT_DATABASE__BINDIR", str(tmp_path))

    status, _, err = called(capsys, "run-ingest")

    assert status == 2
    assert f"database.bindir: the configured folder: {tmp_path}" in err
    for word in ("apt install postgresql", "DATABASE_URL", "PostgreSQL >= 15"):
        assert word in err


def test_no_postgresql_anywhere_is_refused_with_what_to_install(
    clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    clean.setattr(binaries, "_WHEELS", ())
    clean.setattr(binaries, "_SYSTEM_FOLDERS", ())
    clean.setenv("PATH", str(tmp_path))

    status, _, err = called(capsys, "run-ingest")

    assert status == 2
    assert "no usable PostgreSQL" in err
    assert "apt install postgresql" in err


def test_a_postgresql_that_is_too_old_is_refused_by_its_version(
    clean: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("postgres", "initdb"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 14.11'\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    clean.setenv("KRAKENBOT_DATABASE__BINDIR", str(tmp_path))

    status, _, err = called(capsys, "run-ingest")

    assert status == 2
    assert "14.11" in err
    assert ">= 15 is needed" in err


async def test_execution_alone_never_starts_clusters(tmp_path: Path) -> None:
    from krakenbot.adapters.postgres.databases import ProcessKind

    settings, _ = load_settings(None, {"KRAKENBOT_PROCESS__DATA_DIR": str(tmp_path)})

    with pytest.raises(ConfigError, match="run-execution-live without --no-ingest"):
        async with process_databases(settings, ProcessKind.EXECUTION):
            raise AssertionError("it was opened")
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # no path object in an async test


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_dead_database_shows_no_secret_of_a_real_process(krakenbot: Start, log_format: str) -> None:
    process = krakenbot(
        "run-ingest",
        environment={
            **KEYS,
            **DEAD_VENUE,
            "KRAKENBOT_PROCESS__LOG_FORMAT": log_format,
            "DATABASE_URL": "postgresql://me:canaryPassword@127.0.0.1:1/x",
        },
    )

    assert process.end() == 1
    assert process.errors.startswith("krakenbot: ")
    assert process.errors.count("krakenbot: ") == 1
    assert "Traceback" not in process.errors
    assert_clean(process.output + process.errors)


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_dead_venue_shows_no_secret_and_leaves_nothing_behind(krakenbot: Start, tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    environment = {
        **DEAD_VENUE,
        "KRAKENBOT_PROCESS__DATA_DIR": str(data_dir),
        "KRAKENBOT_PROCESS__LOG_FORMAT": "json",
    }
    with_key = krakenbot("run-ingest", environment={**environment, **KEYS})
    with_key.wait_for('"start_waiting"', timeout_s=19)
    assert with_key.end(signal.SIGTERM) == 0, with_key.errors
    without_key = krakenbot("run-ingest", environment=environment)
    without_key.wait_for('"connection_down"')
    asked = [krakenbot("status", *arguments, environment=environment) for arguments in ((), ("--json",))]
    statuses = [one.end() for one in asked]

    status = without_key.end(signal.SIGTERM)

    assert status == 0, without_key.errors
    assert statuses == [0, 0], asked[0].errors + asked[1].errors
    assert "engine mode" in asked[0].output
    assert json.loads(asked[1].output)["lease"]
    for process in (with_key, without_key):
        last = json.loads(process.output.splitlines()[-1])
        assert (last["event"], last["reason"]) == ("process_stopped", "SIGTERM")
        assert process.errors == ""
    assert "ingest_stopped" in without_key.output
    everything = "".join(one.output + one.errors for one in (with_key, without_key, *asked))
    passwords = [
        password for path in data_dir.rglob("credentials.json") for password in json.loads(path.read_text()).values()
    ]
    assert_clean(everything)
    assert len(passwords) == 10
    assert not [password for password in passwords if password in everything]
    left = subprocess.run(["pgrep", "-f", str(data_dir)], capture_output=True, check=False).stdout
    assert left == b""
