"""One finding of the doctor, and what a list of them means.

Enters: what a judgement found. Leaves: findings, worst first for a refusal. Called by the other modules of this
package, by `krakenbot doctor` and by the start of execution.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence

from attrs import frozen


class Level(enum.StrEnum):
    """What a finding means: nothing to do, something to know, or no start."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@frozen(kw_only=True)
class Finding:
    """One check: `found` against `limit`, and `fix`, one sentence; empty when there is nothing to do."""

    check: str
    level: Level
    found: str
    limit: str = ""
    fix: str = ""


def ok(check: str, found: str, limit: str = "") -> Finding:
    """Return a finding with nothing to do."""
    return Finding(check=check, level=Level.OK, found=found, limit=limit)


def warn(check: str, found: str, limit: str, fix: str) -> Finding:
    """Return a finding that does not stop a start."""
    return Finding(check=check, level=Level.WARN, found=found, limit=limit, fix=fix)


def fail(check: str, found: str, limit: str, fix: str) -> Finding:
    """Return a finding with which nothing may start."""
    return Finding(check=check, level=Level.FAIL, found=found, limit=limit, fix=fix)


Judge = Callable[[str, str, str, str], Finding]
"""`warn` or `fail`: check, found, limit, fix -> finding."""


def some_of(names: Sequence[str], shown: int = 5) -> str:
    """Return the first names as one text, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level; OK for no findings."""
    levels = {finding.level for finding in findings}
    return Level.FAIL if Level.FAIL in levels else Level.WARN if Level.WARN in levels else Level.OK


def refusal(findings: Iterable[Finding]) -> str | None:
    """Return why a start is refused, each reason with its fix; None when nothing failed."""
    failed = [finding for finding in findings if finding.level is Level.FAIL]
    return "; ".join(f"{one.check}: {one.found} ({one.limit}): {one.fix}" for one in failed) or None
