"""One planted mistake: which lines of the source become which wrong ones, and the tests that must notice."""

from __future__ import annotations

import ast
from pathlib import Path

from attrs import frozen


class StaleMistake(Exception):
    """The source does not hold the lines that a mistake would replace."""


@frozen(kw_only=True)
class Edit:
    """Text of one file under `src/krakenbot` and what stands there instead; the text must be there exactly once."""

    path: str
    old: str
    new: str


@frozen(kw_only=True)
class Mistake:
    """A mistake that loses money somewhere else in the world; `tests` are paths from the root of the checkout."""

    name: str
    breaks: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


def plant(mistake: Mistake, root: Path) -> dict[Path, str]:
    """Write a mistake into a checkout and return the files as they were.

    Raises StaleMistake when an edit finds its text not exactly once, changes nothing, or leaves no Python.
    """
    before: dict[Path, str] = {}
    after: dict[Path, str] = {}
    for edit in mistake.edits:
        path = root / "src" / "krakenbot" / edit.path
        text = after.get(path) or path.read_text(encoding="utf-8")
        before.setdefault(path, text)
        if text.count(edit.old) != 1:
            raise StaleMistake(f"{mistake.name}: {edit.path} holds {text.count(edit.old)} times: {edit.old!r}")
        after[path] = text.replace(edit.old, edit.new)
    for path, text in after.items():
        if text == before[path]:
            raise StaleMistake(f"{mistake.name}: {path.name} stays as it is")
        try:
            ast.parse(text)
        except SyntaxError as error:
            raise StaleMistake(f"{mistake.name}: {path.name} is no Python: {error}") from error
    for path, text in after.items():
        path.write_text(text, encoding="utf-8")
    return before
