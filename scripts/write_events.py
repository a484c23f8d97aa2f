"""Write docs/events.md: every event with its level, its fields and when it is said.

Enters: the catalogue, and the calls of `emit` in the package, whose keywords are the fields. Leaves: one Markdown page.
A unit test fails when the page in the repository is not what this writes, or when the catalogue and the code differ.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

from attrs import frozen

from krakenbot.adapters.telemetry.catalogue import CATALOGUE, ORDER_PREFIX, ORDER_STATE

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/krakenbot"
PAGE = ROOT / "docs/events.md"
INTRODUCTION = """# Events

Written by `scripts/write_events.py` from the calls in the code and from `adapters/telemetry/catalogue.py`; do not edit.

A line of the log is one event: its name, its fields, and always `timestamp`, `level` and `process`. `info` is the order
of things, `warning` something to know of, `error` something to act on. Fields in brackets are not in every line of
that name; `...` stands for fields that are those of a value.

| Event | Level | Fields | When | Said by |
|---|---|---|---|---|
"""


@frozen(kw_only=True)
class Call:
    """One place that says an event."""

    name: str
    module: str
    fields: tuple[str, ...]


def calls(package: Path = PACKAGE) -> list[Call]:
    """Return every call that says an event, in order of module and line."""
    return [call for path in sorted(package.rglob("*.py")) for call in _calls_of(path, package)]


def render(found: Iterable[Call]) -> str:
    """Return the whole page for the calls of the package."""
    said: dict[str, list[Call]] = {}
    for call in found:
        said.setdefault(call.name, []).append(call)
    return INTRODUCTION + "".join(_row(name, said.get(name, [])) for name in sorted(CATALOGUE))


def _row(name: str, found: list[Call]) -> str:
    event = CATALOGUE[name]
    names = dict.fromkeys(each for call in found for each in call.fields)
    fields = [each if all(each in call.fields for call in found) else f"[{each}]" for each in names]
    modules = ", ".join(dict.fromkeys(f"`{call.module}`" for call in found))
    return f"| `{name}` | {event.level} | {', '.join(fields) or '–'} | {event.when} | {modules} |\n"


def _calls_of(path: Path, package: Path) -> Iterator[Call]:
    text = path.read_text(encoding="utf-8")
    if ".emit(" not in text:
        return
    module, tree = path.relative_to(package).with_suffix("").as_posix(), ast.parse(text)
    forwarders = dict(_forwarders(tree))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
            continue
        own = () if node.func.attr == "emit" else forwarders.get(node.func.attr)
        if own is not None:
            fields = tuple(dict.fromkeys((*own, *_keywords(node))))
            for name in _names(node.args[0]):
                yield Call(name=name, module=module, fields=fields)


def _forwarders(tree: ast.Module) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the functions that hand a name on to `emit`, with the fields that they add."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or function.name == "emit":
            continue
        parameters = {argument.arg for argument in function.args.args}
        for node in ast.walk(function):
            match node:
                case ast.Call(func=ast.Attribute(attr="emit"), args=[ast.Name(id=name)]) if name in parameters:
                    yield function.name, tuple(each for each in _keywords(node) if each != "...")


def _keywords(call: ast.Call) -> list[str]:
    return [keyword.arg or "..." for keyword in call.keywords]


def _names(argument: ast.expr) -> list[str]:
    """Return the names that an argument stands for; none for one that is handed on."""
    match argument:
        case ast.Constant(value=str() as name):
            return [name]
        case ast.IfExp(body=body, orelse=orelse):
            return [*_names(body), *_names(orelse)]
        case ast.JoinedStr(values=[ast.Constant(value=prefix), ast.FormattedValue()]) if prefix == ORDER_PREFIX:
            return [ORDER_STATE]
        case ast.Name():
            return []
        case _:
            raise ValueError(f"line {argument.lineno}: the name of an event is computed: {ast.unparse(argument)}")


if __name__ == "__main__":
    PAGE.write_text(render(calls()), encoding="utf-8")
