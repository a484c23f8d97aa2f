"""Settings: one message with key, value and what is allowed; secrets never in it."""

from __future__ import annotations

import enum
from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from krakenbot.apps.settings_loader import (
    Origin,
    from_credentials,
    from_environment,
    from_toml,
    load,
    to_toml,
    unstructure,
)
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.secret import Secret


class Mode(enum.StrEnum):
    FAST = "fast"
    SLOW = "slow"


@attrs.frozen(kw_only=True)
class Inner:
    rate_s: float = attrs.field(default=1.0, validator=attrs.validators.ge(0.5))
    count: int = 3
    flag: bool = False
    mode: Mode = Mode.FAST
    names: tuple[str, ...] = ()
    limit: Decimal | None = None
    caps: dict[str, Decimal] = attrs.Factory(dict)
    token: Secret | None = None


@attrs.frozen(kw_only=True)
class Outer:
    inner: Inner = attrs.Factory(Inner)


def one(key: str, value: object) -> list[Origin]:
    return [Origin(path=tuple(key.split(".")), value=value, source="file.toml")]


def test_later_origins_win_and_are_named() -> None:
    settings, sources = load(
        Outer, [*one("inner.count", 5), Origin(path=("inner", "count"), value="7", source="environment X")]
    )

    assert settings.inner.count == 7
    assert sources == {"inner.count": "environment X"}


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("inner.flag", "yes", True),
        ("inner.flag", "off", False),
        ("inner.rate_s", "2.5", 2.5),
        ("inner.rate_s", 2, 2.0),
        ("inner.mode", "slow", Mode.SLOW),
        ("inner.names", "a, b", ("a", "b")),
        ("inner.names", ["a"], ("a",)),
        ("inner.limit", 0.1, Decimal("0.1")),
        ("inner.limit", "12.50", Decimal("12.50")),
    ],
)
def test_values_are_read_as_their_types(key: str, value: object, expected: object) -> None:
    settings, _ = load(Outer, one(key, value))

    assert getattr(settings.inner, key.split(".")[1]) == expected


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("inner.count", "many", ["inner.count", "'many'", "file.toml", "int"]),
        ("inner.count", 1.5, ["inner.count", "1.5", "int"]),
        ("inner.flag", "maybe", ["inner.flag", "'maybe'", "bool"]),
        ("inner.mode", "medium", ["inner.mode", "'medium'", "fast, slow"]),
        ("inner.rate_s", 0.1, ["[inner]", "rate_s", "0.5", "0.1"]),
        ("inner.rate_s", "nan", ["inner.rate_s", "'nan'"]),
        ("inner.limit", "infinity", ["inner.limit", "'infinity'"]),
        ("inner.ratte_s", 1, ["unknown setting inner.ratte_s", "did you mean inner.rate_s"]),
        ("iner.rate_s", 1, ["unknown setting iner", "did you mean inner"]),
        ("inner", 1, ["inner", "section"]),
        ("inner.count.x", 1, ["inner.count", "value"]),
    ],
)
def test_bad_values_are_refused_in_one_message(key: str, value: object, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Outer, one(key, value))

    for word in words:
        assert word in str(caught.value)


def test_a_mapping_of_amounts_is_read_from_a_table(tmp_path: Path) -> None:
    file = tmp_path / "kb.toml"
    file.write_text('[inner.caps]\nUSD = "25000"\nEUR = 10\n')

    settings, _ = load(Outer, from_toml(file))

    assert settings.inner.caps == {"USD": Decimal(25000), "EUR": Decimal(10)}


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "kb.toml"
    file.write_text("[inner\n")

    with pytest.raises(ConfigError, match=r"kb\.toml"):
        from_toml(file)


def test_a_misspelt_variable_is_refused_and_a_reserved_one_is_not() -> None:
    assert from_environment({"KB_RECORDINGS": "x", "HOME": "y"}, "KB_", {}, frozenset({"KB_RECORDINGS"})) == []
    with pytest.raises(ConfigError, match="KB_INNER_COUNT"):
        from_environment({"KB_INNER_COUNT": "1"}, "KB_", {}, frozenset())


def test_environment_and_credentials_name_their_origin(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("canary\n")
    origins = [
        *from_environment(
            {"KB_INNER__COUNT": " 9 ", "URL": "u", "KB_INNER__MODE": ""}, "KB_", {"URL": "inner.names"}, frozenset()
        ),
        *from_credentials(tmp_path, {"token": "inner.token", "absent": "inner.limit"}),
    ]

    settings, sources = load(Outer, origins)

    assert settings.inner.count == 9
    assert settings.inner.token == Secret("canary")
    assert sources["inner.token"] == "credential token"


def test_a_secret_is_masked_in_errors_and_in_what_is_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        load(Outer, one("inner.token", 12345678))
    settings, _ = load(Outer, one("inner.token", "canary-7711"))

    assert "12345678" not in str(caught.value)
    assert "canary" not in repr(settings) + str(unstructure(settings))


def test_what_is_written_reads_back_equal(tmp_path: Path) -> None:
    file = tmp_path / "kb.toml"
    file.write_text(to_toml({"inner": {"rate_s": 2.5, "flag": True, "names": ["a"], "caps": {"USD": Decimal("1.50")}}}))

    settings, _ = load(Outer, from_toml(file))

    assert settings.inner == Inner(rate_s=2.5, flag=True, names=("a",), caps={"USD": Decimal("1.50")})
