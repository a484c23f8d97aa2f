"""From files, environment and credentials to one frozen settings object.

Enters: nested mappings with the origin of each value. Leaves: an instance of an attrs class tree, and the origin of
every key that was set. Raises `ConfigError` with key, value and what is allowed; an unknown key names the nearest
known one.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import attrs
from cattrs import BaseValidationError, Converter
from cattrs.gen import make_dict_unstructure_fn

from krakenbot.domain.errors import ConfigError
from krakenbot.domain.secret import Secret

SettingsT = TypeVar("SettingsT")

_TRUE = frozenset({"true", "yes", "on", "1"})
_FALSE = frozenset({"false", "no", "off", "0"})


@attrs.frozen(kw_only=True)
class Origin:
    """One value and where it came from."""

    path: tuple[str, ...]
    value: object
    source: str


def load(cls: type[SettingsT], origins: list[Origin]) -> tuple[SettingsT, dict[str, str]]:
    """Build settings from values in rising order of precedence; return them with the origin of each key."""
    tree: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for origin in origins:
        _check_path(cls, origin)
        node = tree
        for name in origin.path[:-1]:
            node = node.setdefault(name, {})
        if origin.value == {}:  # an empty section adds nothing, but its name was checked
            node.setdefault(origin.path[-1], {})
            continue
        node[origin.path[-1]] = origin.value
        sources[".".join(origin.path)] = origin.source
    return _build(cls, tree, (), sources), sources


def from_toml(path: Path) -> list[Origin]:
    """Read a TOML file; raises ConfigError when it cannot be read or parsed."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path}: {exc}") from exc
    return [Origin(path=keys, value=value, source=str(path)) for keys, value in _leaves(document, ())]


def from_environment(
    environment: Mapping[str, str], prefix: str, aliases: Mapping[str, str], reserved: frozenset[str]
) -> list[Origin]:
    """Take PREFIX_SECTION__KEY variables and the given aliases; empty values are left out.

    A variable with our prefix that is neither a setting nor `reserved` is refused: it would be ignored in silence.
    """
    origins = []
    for name, value in sorted(environment.items()):
        if name in aliases:
            path = tuple(aliases[name].split("."))
        elif name in reserved or not name.startswith(prefix):
            continue
        elif "__" in name:
            path = tuple(part.lower() for part in name.removeprefix(prefix).split("__"))
        else:
            raise ConfigError(f"unknown environment variable {name}; settings are {prefix}SECTION__KEY")
        if value.strip():
            origins.append(Origin(path=path, value=value.strip(), source=f"environment {name}"))
    return origins


def from_credentials(directory: Path, names: Mapping[str, str]) -> list[Origin]:
    """Take credential files, one value a file, as systemd's LoadCredential lays them out."""
    origins = []
    for name, key in names.items():
        file = directory / name
        if file.is_file():
            try:
                value = file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as exc:
                raise ConfigError(f"credential {file} cannot be read: {type(exc).__name__}") from exc
            if not value:
                raise ConfigError(f"credential {file} is empty; write the value of {key} to it, or remove it")
            origins.append(Origin(path=tuple(key.split(".")), value=value, source=f"credential {name}"))
    return origins


def to_toml(settings: Mapping[str, Any]) -> str:
    """Write nested plain values as TOML; `Secret` values are refused."""
    lines: list[str] = []
    _write_table(settings, (), lines)
    return "\n".join(lines) + "\n"


def unstructure(settings: object) -> dict[str, Any]:
    """Return settings as plain nested values with secrets masked."""
    converter = Converter()
    converter.register_unstructure_hook(Secret, str)
    converter.register_unstructure_hook(Decimal, str)
    converter.register_unstructure_hook(Path, str)
    plain = make_dict_unstructure_fn(type(settings), converter)(settings)
    return dict(plain)


def _check_path(cls: type, origin: Origin) -> None:
    """Refuse a path that no settings class knows, naming the nearest key."""
    current: type = cls
    for depth, name in enumerate(origin.path):
        hints = get_type_hints(current)
        known = [field.name for field in attrs.fields(current) if field.init]
        if name not in known:
            here = ".".join(origin.path[: depth + 1])
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            hint = (
                f"; did you mean {'.'.join((*origin.path[:depth], near[0]))}?"
                if near
                else f"; known: {', '.join(known)}"
            )
            raise ConfigError(f"unknown setting {here} ({origin.source}){hint}")
        kind = _section(hints[name])
        last = depth == len(origin.path) - 1
        if attrs.has(kind):
            if last and origin.value != {}:
                raise ConfigError(f"{'.'.join(origin.path)} ({origin.source}) is a section, not a value")
            current = kind
        elif not last:
            if get_origin(kind) is dict and depth == len(origin.path) - 2:
                return
            raise ConfigError(f"{'.'.join(origin.path[: depth + 1])} ({origin.source}) is a value, not a section")


def _build(
    cls: type[SettingsT], tree: Mapping[str, Any], path: tuple[str, ...], sources: Mapping[str, str]
) -> SettingsT:
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for field in attrs.fields(cls):  # type: ignore[arg-type]  # cls is an attrs class by construction
        if not field.init:
            continue
        kind, here = _section(hints[field.name]), (*path, field.name)
        if attrs.has(kind):
            if field.name in tree or kind is hints[field.name]:
                values[field.name] = _build(kind, tree.get(field.name, {}), here, sources)
        elif field.name in tree:
            values[field.name] = _value(kind, tree[field.name], here, sources)
        elif field.default is attrs.NOTHING:
            raise ConfigError(f"{'.'.join(here)} is not set, and it has no default")
    try:
        return cls(**values)
    except (ValueError, TypeError) as exc:
        section = ".".join(path) or "settings"
        raise ConfigError(f"[{section}] {exc.args[0] if exc.args else exc}") from exc


def _section(kind: Any) -> Any:
    """Return the settings class of an optional section, anything else as it is."""
    inner = [part for part in get_args(kind) if attrs.has(part)]
    return inner[0] if type(None) in get_args(kind) and inner else kind


def _value(kind: Any, value: object, path: tuple[str, ...], sources: Mapping[str, str]) -> object:
    try:
        return _converter().structure(value, kind)
    except (BaseValidationError, ValueError, TypeError, ArithmeticError) as exc:
        key = ".".join(path)
        shown = "****" if _holds_secret(kind) else repr(value)
        name = getattr(kind, "__name__", str(kind)).replace("typing.", "")
        allowed = ", ".join(str(member.value) for member in kind) if _is_enum(kind) else f"a value of type {name}"
        source = sources.get(key, "settings")
        raise ConfigError(f"{key} = {shown} ({source}): expected {allowed}") from exc


def _is_tuple(kind: Any) -> bool:
    return get_origin(kind) is tuple


def _is_frozenset(kind: Any) -> bool:
    return get_origin(kind) is frozenset


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and hasattr(kind, "__members__")


def _holds_secret(kind: Any) -> bool:
    return kind is Secret or Secret in get_args(kind)


def _converter() -> Converter:
    converter = Converter()
    converter.register_structure_hook(bool, lambda value, _: _to_bool(value))
    converter.register_structure_hook(int, lambda value, _: _to_int(value))
    converter.register_structure_hook(float, lambda value, _: _to_float(value))
    converter.register_structure_hook(Decimal, lambda value, _: _to_decimal(value))
    converter.register_structure_hook_func(lambda kind: kind is str, lambda value, _: _to_str(value))
    converter.register_structure_hook(Path, lambda value, _: Path(_to_str(value)).expanduser())
    converter.register_structure_hook(Secret, lambda value, _: Secret(_to_str(value)))
    converter.register_structure_hook_func(_is_enum, lambda value, kind: kind(value))
    converter.register_structure_hook_func(
        _is_tuple,
        lambda value, kind: tuple(converter.structure(part, get_args(kind)[0]) for part in _parts(value)),
    )
    converter.register_structure_hook_func(
        _is_frozenset,
        lambda value, kind: frozenset(converter.structure(part, get_args(kind)[0]) for part in _parts(value)),
    )
    # a NewType is read as what it renames
    converter.register_structure_hook_func(
        lambda kind: hasattr(kind, "__supertype__"),
        lambda value, kind: converter.structure(value, kind.__supertype__),
    )
    converter.register_structure_hook_func(
        lambda kind: type(None) in get_args(kind),
        lambda value, kind: converter.structure(value, next(a for a in get_args(kind) if a is not type(None))),
    )
    return converter


def _parts(value: object) -> list[object]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    if isinstance(value, list | tuple):
        return list(value)
    raise TypeError("not a list")


def _to_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text in _TRUE | _FALSE:
        return text in _TRUE
    raise ValueError("not true or false")


def _to_int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise TypeError("not a whole number")
    return int(value)


def _to_float(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError("not a number")
    number = float(value)
    if number != number or number in {float("inf"), float("-inf")}:  # noqa: PLR0124  # NaN is the one value unlike itself
        raise ValueError("not a finite number")
    return number


def _to_decimal(value: object) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise TypeError("not a number")
    try:
        number = Decimal(str(value))
    except InvalidOperation as exc:
        raise ValueError("not a number") from exc
    if not number.is_finite():
        raise ValueError("not a finite number")
    return number


def _to_str(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _leaves(node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], object]]:
    for name, value in node.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, (*path, name))
        else:
            yield (*path, name), value


def _write_table(node: Mapping[str, Any], path: tuple[str, ...], lines: list[str]) -> None:
    scalars = {name: value for name, value in node.items() if not isinstance(value, Mapping)}
    if scalars and path:
        lines.append(f"\n[{'.'.join(_toml_key(part) for part in path)}]")
    for name, value in scalars.items():
        lines.append(f"{_toml_key(name)} = {_toml_value(value)}")
    for name, value in node.items():
        if isinstance(value, Mapping):
            _write_table(value, (*path, name), lines)


def _toml_key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else f'"{name}"'


def _toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(part) for part in value) + "]"
    if isinstance(value, str | Decimal | Path):
        text = str(value).replace("\\", "\\\\").replace('"', '\\"')
        return f'"{text}"'
    raise ConfigError(f"a {type(value).__name__} is not written to a settings file")
