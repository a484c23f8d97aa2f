"""Findings as an aligned list for people, and as JSON for machines.

Enters: findings. Leaves: text. Every text passes the mask of secrets: a server's own message may quote a URL.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Collection, Sequence
from datetime import datetime

from attrs import asdict

from krakenbot.adapters.telemetry.events import mask_secrets
from krakenbot.domain.preflight.finding import Finding, Level, worst

FORMAT_VERSION = 1
_WIDTH = 120
_MARKS = {Level.OK: "ok", Level.WARN: "WARN", Level.FAIL: "FAIL"}


def as_json(findings: Sequence[Finding], at: datetime, secrets: Collection[str]) -> str:
    """Return one JSON object: version, time, the worst level and the findings (docs/doctor.md)."""
    document = {
        "version": FORMAT_VERSION,
        "at": at.isoformat(),
        "worst": worst(findings).value,
        "findings": [asdict(finding) for finding in findings],
    }
    return mask_secrets(json.dumps(document, indent=2), secrets)


def as_text(findings: Sequence[Finding], secrets: Collection[str]) -> str:
    """Return a line per finding, with the limit and the fix below what is not ok; at most 120 columns."""
    name_width = max((len(finding.check) for finding in findings), default=0)
    lines = [line for finding in findings for line in _lines(finding, name_width)]
    counts = {level: sum(finding.level is level for finding in findings) for level in Level}
    lines.append("")
    lines.append(f"{counts[Level.OK]} ok, {counts[Level.WARN]} to know, {counts[Level.FAIL]} failed")
    return mask_secrets("\n".join(lines), secrets)


def _lines(finding: Finding, name_width: int) -> list[str]:
    head = f"{_MARKS[finding.level]:<4}  {finding.check:<{name_width}}  "
    indent = " " * len(head)
    lines = _wrapped(finding.found or "-", head, indent)
    if finding.level is Level.OK:
        return lines
    for label, text in (("limit", finding.limit), ("fix", finding.fix)):
        if text:
            lines += _wrapped(f"{label}: {text}", indent, indent + "  ")
    return lines


def _wrapped(text: str, first: str, others: str) -> list[str]:
    return textwrap.wrap(
        text, _WIDTH, initial_indent=first, subsequent_indent=others, break_on_hyphens=False, break_long_words=False
    )
