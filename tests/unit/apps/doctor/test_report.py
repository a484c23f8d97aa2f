"""Findings as text and as JSON: the worst of them, and no secret in either."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from krakenbot.apps.doctor.report import as_json, as_text
from krakenbot.domain.preflight.finding import Finding, fail, ok, warn

AT = datetime(2026, 11, 1, tzinfo=UTC)
FINE, ODD, BAD = ok("one", "fine"), warn("two", "odd", "even", "Look."), fail("three", "bad", "good", "Mend it.")


@pytest.mark.parametrize(
    ("findings", "worst"), [([], "ok"), ([FINE], "ok"), ([FINE, ODD], "warn"), ([BAD, ODD, FINE], "fail")]
)
def test_json_says_the_worst_level_and_every_finding(findings: list[Finding], worst: str) -> None:
    found = json.loads(as_json(findings, AT, ()))

    assert (1, "2026-11-01T00:00:00+00:00", worst) == (found["version"], found["at"], found["worst"])
    assert [one.check for one in findings] == [one["check"] for one in found["findings"]]


def test_text_says_limit_and_fix_of_what_is_not_in_order() -> None:
    text = as_text([FINE, ODD, BAD], ())

    assert ["limit: even", "fix: Look.", "limit: good", "fix: Mend it."] == [
        line.strip() for line in text.splitlines() if "limit:" in line or "fix:" in line
    ]
    assert text.endswith("1 ok, 1 to know, 1 failed")


def test_secret_in_the_words_of_a_server_is_masked() -> None:
    finding = fail("db", "no access with postgres://user:hunter22@host/db", "an answer", "Correct the URL.")

    assert "hunter22" not in as_text([finding], ["hunter22"])
    assert "hunter22" not in as_json([finding], AT, ["hunter22"])
