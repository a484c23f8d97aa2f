"""Settings of the whole program: every section from every source, and what is refused in which words."""

# mypy: disable-error-code="type-arg"
from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import get_args, get_type_hints

import attrs
import pytest

from krakenbot.apps.settings import LogFormat, Settings, load_settings
from krakenbot.domain.decision import risk_settings
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.secret import Secret

# One key of every section, with a text that is not its default.
EVERY_SECTION = {
    "doctor.key_days_min": "21.0",
    "process.log_format": "human",
    "database.url": "postgresql://a@localhost/b",
    "venue.rest_url": "http://127.0.0.1:8080",
    "keys.ingest_api_key": "left",
    "keys.ingest_api_secret": "right",
    "universe.l2_limit": "7",
    "standing.rest_s": "120.0",
    "ingest.epoch_interval_s": "3.5",
    "runs.max_rows": "1000",
    "retention.max_age_s": "86400.0",
    "writer.spool_after_s": "3.5",
    "refill.pages_max": "7",
    "probes.max_active": "10",
    "refresh.retry_s": "0.75",
    "windows.short_s": "30.0",
    "decision.regime.dwell_s": "60.0",
    "decision.strategy.move_ttl_s": "20.0",
    "decision.edge.min_labels": "300",
    "decision.fill.max_l3_age_s": "4.0",
    "decision.queue.min_rest_s": "20.0",
    "decision.readiness.max_l2_age_s": "4.0",
    "decision.sizing.risk_bps": "5.0",
    "decision.risk.max_open_entries": "2",
    "execution.capital_limit_quote": "1250.5",
    "execution.exits.tp_rest_s": "11.0",
}


def variable(key: str) -> str:
    return "KRAKENBOT_" + "__".join(part.upper() for part in key.split("."))


def value_of(settings: Settings, key: str) -> object:
    node: object = settings
    for name in key.split("."):
        node = getattr(node, name)
    return node.reveal() if isinstance(node, Secret) else node


def from_toml_text(tmp_path: Path, text: str) -> Settings:
    file = tmp_path / "kb.toml"
    file.write_text(text)
    return load_settings(file, {})[0]


def refused(environment: dict[str, str], config: Path | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(config, environment)
    return str(caught.value)


def leaf_sections(cls: type, path: tuple[str, ...] = ()) -> set[str]:
    found = set()
    for name, hint in get_type_hints(cls).items():
        kind = next((part for part in (hint, *get_args(hint)) if attrs.has(part)), None)
        found |= leaf_sections(kind, (*path, name)) if kind else {".".join(path)}
    return found


def test_the_list_of_sections_here_is_complete() -> None:
    assert {key.rpartition(".")[0] for key in EVERY_SECTION} == leaf_sections(Settings)


def test_every_section_is_read_from_a_toml_file(tmp_path: Path) -> None:
    lines = []
    for key, text in EVERY_SECTION.items():
        section, _, name = key.rpartition(".")
        plain = text if text.replace(".", "").isdigit() else f'"{text}"'
        existing = f"[{section}]"
        if existing not in lines:
            lines.append(existing)
        lines.insert(lines.index(existing) + 1, f"{name} = {plain}")

    settings = from_toml_text(tmp_path, "\n".join(lines))

    assert EVERY_SECTION == {key: str(value_of(settings, key)) for key in EVERY_SECTION}
    assert settings.require_execution().capital_limit_quote == Decimal("1250.5")


def test_every_section_is_read_from_the_environment() -> None:
    settings, sources = load_settings(None, {variable(key): text for key, text in EVERY_SECTION.items()})

    assert EVERY_SECTION == {key: str(value_of(settings, key)) for key in EVERY_SECTION}
    assert sources == {key: f"environment {variable(key)}" for key in EVERY_SECTION}


def test_the_environment_wins_over_the_file_and_credentials_over_both(tmp_path: Path) -> None:
    file = tmp_path / "kb.toml"
    file.write_text('[ingest]\nepoch_interval_s = 2\nstatus_interval_s = 2\n[database]\nurl = "postgresql://file/x"\n')
    (tmp_path / "database_url").write_text("postgresql://credential/x\n")
    environment = {
        "KRAKENBOT_INGEST__EPOCH_INTERVAL_S": "4",
        "DATABASE_URL": "postgresql://environment/x",
        "CREDENTIALS_DIRECTORY": str(tmp_path),
    }

    settings, sources = load_settings(file, environment)

    assert settings.ingest.epoch_interval_s == 4.0
    assert settings.ingest.status_interval_s == 2.0
    assert settings.database.url == Secret("postgresql://credential/x")
    assert sources["database.url"] == "credential database_url"


def test_the_configuration_file_is_named_by_a_variable_and_must_exist(tmp_path: Path) -> None:
    file = tmp_path / "kb.toml"
    file.write_text("[universe]\nl2_limit = 5\n")

    settings, _ = load_settings(None, {"KRAKENBOT_CONFIG": str(file)})

    assert settings.universe.l2_limit == 5
    assert "absent.toml does not exist" in refused({"KRAKENBOT_CONFIG": str(tmp_path / "absent.toml")})


def test_the_three_aliases_set_what_their_names_say() -> None:
    settings, _ = load_settings(
        None,
        {"DATABASE_URL": "postgresql://a/x", "DECISION_DATABASE_URL": "postgresql://b/x", "EXECUTION_ONLY": "true"},
    )

    assert settings.database.url == Secret("postgresql://a/x")
    assert settings.database.decision_url == Secret("postgresql://b/x")
    assert settings.process.execution_only is True
    assert "process.execution_only = 'perhaps' (environment EXECUTION_ONLY)" in refused({"EXECUTION_ONLY": "perhaps"})


def test_every_credential_file_is_read(tmp_path: Path) -> None:
    for name in ("ingest_api_key", "ingest_api_secret", "execution_api_key", "execution_api_secret"):
        (tmp_path / name).write_text(f"value-of-{name}\n")
    for name in ("database_url", "decision_database_url"):
        (tmp_path / name).write_text(f"postgresql:///{name}\n")

    settings, _ = load_settings(None, {"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert settings.database.url == Secret("postgresql:///database_url")
    assert settings.database.decision_url == Secret("postgresql:///decision_database_url")
    assert settings.keys.ingest_api_key == Secret("value-of-ingest_api_key")
    assert settings.keys.ingest_api_secret == Secret("value-of-ingest_api_secret")
    assert settings.keys.execution_api_key == Secret("value-of-execution_api_key")
    assert settings.keys.execution_api_secret == Secret("value-of-execution_api_secret")


@pytest.mark.parametrize(("content", "words"), [(b"\xff\xfe", "cannot be read"), (b" \n", "is empty")])
def test_a_credential_that_cannot_be_used_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "execution_api_key").write_bytes(content)

    message = refused({"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert "execution_api_key" in message
    assert words in message


def test_defaults_alone_are_enough_for_ingest() -> None:
    settings, sources = load_settings(None, {"PATH": "/bin", "HOME": "/nowhere"})

    assert settings == Settings()
    assert sources == {}
    assert settings.process.log_format is LogFormat.AUTO


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"KRAKENBOT_UNIVERSE__L2_LIMITT": "3"}, ["unknown setting universe.l2_limitt", "universe.l2_limit?"]),
        ({"KRAKENBOT_DECISION__RISK__DAY_LOS_SHARE": "1"}, ["decision.risk.day_los_share", "risk.day_loss_share?"]),
        ({"KRAKENBOT_EXECUTON__CYCLE_S": "3"}, ["unknown setting executon", "did you mean execution?"]),
        ({"KRAKENBOT_EXECUTION__QQQQ": "3"}, ["unknown setting execution.qqqq", "known: capital_limit_quote"]),
        ({"KRAKENBOT_L2_LIMIT": "3"}, ["KRAKENBOT_L2_LIMIT", "KRAKENBOT_SECTION__KEY"]),
        ({"KRAKENBOT_UNIVERSE": "3"}, ["KRAKENBOT_UNIVERSE", "KRAKENBOT_SECTION__KEY"]),
        ({"KRAKENBOT___": "3"}, ["unknown setting", "KRAKENBOT___"]),
        ({"KRAKENBOT_DECISION__RISK": "3"}, ["decision.risk", "is a section"]),
    ],
)
def test_unknown_variables_are_refused_with_the_nearest_name(environment: dict[str, str], words: list[str]) -> None:
    message = refused(environment)

    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[universe]\nl3_limt = 1", ["unknown setting universe.l3_limt", "did you mean universe.l3_limit?", "kb.toml"]),
        ("[uniwerse]\nl3_limit = 1", ["unknown setting uniwerse", "did you mean universe?"]),
        ("[uniwerse]", ["unknown setting uniwerse", "did you mean universe?"]),
        ("universe = 3", ["universe", "is a section"]),
        ("l2_limit = 3", ["unknown setting l2_limit"]),
        ("[universe.l2_limit]\nx = 3", ["universe.l2_limit", "is a value"]),
    ],
)
def test_unknown_keys_of_a_file_are_refused_with_the_nearest_name(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_toml_text(tmp_path, text)

    for word in words:
        assert word in str(caught.value)


def test_an_empty_section_changes_nothing(tmp_path: Path) -> None:
    settings = from_toml_text(tmp_path, "[windows]\n[decision.risk]\n[universe]\nl2_limit = 5\n")

    assert settings.universe.l2_limit == 5
    assert settings.decision == Settings().decision


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("universe.l2_limit", "0", ["[universe]", "l2_limit", ">= 1", "0"]),
        ("ingest.sample_interval_s", "0.01", ["[ingest]", "sample_interval_s", ">= 0.1", "0.01"]),
        ("refresh.retry_s", "0", ["[refresh]", "retry_s", ">= 0.05", "0"]),
        ("refresh.request_wait_s", "-1", ["[refresh]", "request_wait_s", "> 0", "-1"]),
        ("windows.short_s", "9999", ["[windows]", "short_s <= medium_s"]),
        ("decision.edge.min_surplus_bps", "4.9", ["[decision.edge]", "min_surplus_bps", ">= 5", "4.9"]),
        ("decision.readiness.max_state_age_s", "46", ["[decision.readiness]", "max_state_age_s", "<= 45", "46"]),
        ("process.log_format", "xml", ["process.log_format", "'xml'", "auto, human, json"]),
        ("universe.l2_limit", "1e3", ["universe.l2_limit", "'1e3'", "int"]),
        ("execution.capital_limit_quote", "lots", ["execution.capital_limit_quote", "'lots'", "Decimal"]),
        ("execution.capital_limit_quote", "-5", ["execution.capital_limit_quote", "-5", "above 0"]),
        ("execution.deadline_s", "61", ["execution.deadline_s", "61", "0.5 to 60"]),
        ("execution.exits.tp_rest_s", "0", ["exits.tp_rest_s", "0", "above 0"]),
    ],
)
def test_a_value_out_of_range_names_key_value_and_what_is_allowed(key: str, text: str, words: list[str]) -> None:
    message = refused({variable("execution.capital_limit_quote"): "100", variable(key): text})

    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("name", "ceiling"),
    [
        ("total_exposure_share", risk_settings.MAX_TOTAL_EXPOSURE_SHARE),
        ("symbol_exposure_share", risk_settings.MAX_SYMBOL_EXPOSURE_SHARE),
        ("max_open_entries", risk_settings.MAX_OPEN_ENTRIES),
        ("max_entries_per_min", risk_settings.MAX_ENTRIES_PER_MIN),
        ("day_loss_share", risk_settings.MAX_DAY_LOSS_SHARE),
        ("drawdown_share", risk_settings.MAX_DRAWDOWN_SHARE),
        ("price_band_bps", risk_settings.MAX_PRICE_BAND_BPS),
        ("correlated_fills", risk_settings.MAX_CORRELATED_FILLS),
    ],
)
def test_hard_ceilings_of_risk_hold_and_may_be_reached(name: str, ceiling: float) -> None:
    above = ceiling + 1 if isinstance(ceiling, int) else ceiling * 1.001

    settings, _ = load_settings(None, {variable(f"decision.risk.{name}"): str(ceiling)})
    message = refused({variable(f"decision.risk.{name}"): str(above)})

    assert getattr(settings.decision.risk, name) == ceiling
    assert name in message
    assert str(ceiling) in message


def test_capital_without_a_limit_is_said_clearly(tmp_path: Path) -> None:
    settings, _ = load_settings(None, {})
    other, _ = load_settings(None, {variable("process.data_dir"): str(tmp_path)})

    for found in (settings, other):
        with pytest.raises(ConfigError, match=r"execution\.capital_limit_quote is not set: say how much"):
            found.require_execution()
    assert "execution.capital_limit_quote is not set" in refused({variable("execution.cycle_s"): "3"})
    with pytest.raises(ConfigError, match=r"execution\.capital_limit_quote is not set"):
        from_toml_text(tmp_path, "[execution]\n")


@pytest.mark.parametrize("name", ["ingest", "execution"])
@pytest.mark.parametrize("half", ["key", "secret"])
def test_half_a_key_is_refused_without_showing_it(name: str, half: str) -> None:
    message = refused({variable(f"keys.{name}_api_{half}"): "canary-half"})

    assert f"{name}_api_key and {name}_api_secret must be set together" in message
    assert "canary" not in message


def test_one_key_for_both_processes_is_refused_without_showing_it() -> None:
    names = ("ingest_api_key", "ingest_api_secret", "execution_api_key", "execution_api_secret")
    environment = {variable(f"keys.{name}"): "canary-both" for name in names}

    message = refused(environment)

    assert "use two keys" in message
    assert "canary" not in message


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("rest_url", "http://api.kraken.com"),
        ("rest_url", "https://kraken.com.evil.example"),
        ("rest_url", "https://evilkraken.com"),
        ("rest_url", "https://evil.example#.kraken.com"),
        ("rest_url", "https://evil.example/api.kraken.com"),
        ("rest_url", "wss://api.kraken.com"),
        ("rest_url", "ftp://127.0.0.1/"),
        ("rest_url", "api.kraken.com"),
        ("rest_url", "http://127.0.0.1:port"),
        ("rest_url", "http://[::1"),
        ("rest_url", "http://0.0.0.0:80"),
        ("ws_public_url", "ws://ws.kraken.com/v2"),
        ("ws_public_url", "https://ws.kraken.com/v2"),
        ("ws_private_url", "wss://192.168.0.1/v2"),
        ("ws_level3_url", "wss://localhost.evil.example/v2"),
    ],
)
def test_a_venue_that_is_neither_kraken_over_tls_nor_loopback_is_refused(name: str, url: str) -> None:
    message = refused({variable(f"venue.{name}"): url})

    assert f"[venue] {name} = {url}" in message
    assert "allowed are" in message
    assert "kraken.com" in message


@pytest.mark.parametrize("url", ["https://api.kraken.com@evil.example", "https://me:canary@api.kraken.com"])
def test_a_venue_url_with_a_user_is_refused_without_showing_it(url: str) -> None:
    message = refused({variable("venue.rest_url"): url})

    assert "[venue] rest_url" in message
    assert "not allowed" in message
    assert url not in message
    assert "canary" not in message


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("rest_url", "http://127.0.0.1:8080"),
        ("rest_url", "http://[::1]:8080"),
        ("rest_url", "https://localhost"),
        ("rest_url", "https://futures.kraken.com"),
        ("ws_public_url", "ws://localhost:9/x"),
        ("ws_private_url", "wss://beta-ws.kraken.com/v2"),
    ],
)
def test_kraken_over_tls_and_loopback_are_allowed(name: str, url: str) -> None:
    settings, _ = load_settings(None, {variable(f"venue.{name}"): url})

    assert getattr(settings.venue, name) == url


@pytest.mark.parametrize(
    "url",
    [
        "postgres//me:canary@host/db",
        "postgresql://me:can%ZZary@host/db",
        "postgresql://me:can@ary@host/db",
        "canary",
        "postgresql://me:canary@host/db?nonsense=1",
    ],
)
@pytest.mark.parametrize("name", ["DATABASE_URL", "DECISION_DATABASE_URL"])
def test_a_database_url_that_cannot_be_read_is_refused_without_showing_it(name: str, url: str) -> None:
    message = refused({name: url})

    assert "[database]" in message
    assert "= ****" in message
    assert "postgresql://user:password@host:port/database" in message
    assert "can" not in message.replace("percent-encoded", "")
    assert "ary" not in message
