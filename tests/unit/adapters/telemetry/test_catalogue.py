"""The catalogue of events and docs/events.md against what the code says."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tests.scripts import ROOT, script

from krakenbot.adapters.telemetry.catalogue import CATALOGUE, EventLevel, level_of
from krakenbot.domain.execution.order import OrderState

COMMAND = "run: python scripts/write_events.py"


@pytest.fixture(scope="module")
def writer() -> Iterator[ModuleType]:
    with script("write_events") as module:
        yield module


@pytest.fixture(scope="module")
def calls(writer: ModuleType) -> Any:
    return writer.calls()


def test_every_event_that_the_code_says_is_in_the_catalogue_and_no_other(calls: Any) -> None:
    said = {call.name for call in calls}

    assert len(said) > 100
    assert set() == said - CATALOGUE.keys(), f"add them to adapters/telemetry/catalogue.py, then {COMMAND}"
    assert set() == CATALOGUE.keys() - said, f"nothing says them: take them out of catalogue.py, then {COMMAND}"


def test_the_page_in_the_repository_is_current(writer: ModuleType, calls: Any) -> None:
    page = (ROOT / "docs/events.md").read_text(encoding="utf-8")

    assert writer.render(calls) == page, f"docs/events.md is stale; {COMMAND}"


def test_every_event_says_when_in_a_sentence() -> None:
    assert [] == [event.name for event in CATALOGUE.values() if not event.when[:1].isupper() or event.when[-1] != "."]


def test_levels_are_those_of_the_catalogue_also_for_the_states_of_an_order() -> None:
    assert (EventLevel.ERROR, EventLevel.WARNING) == (level_of("spool_full"), level_of("nobody_knows_this"))
    assert {EventLevel.INFO} == {level_of(f"order_{state}") for state in OrderState}


def test_fields_are_those_of_the_calls_and_brackets_mean_not_always(writer: ModuleType, calls: Any) -> None:
    rows = {
        line.split("`")[1]: line.split(" | ") for line in writer.render(calls).splitlines() if line.startswith("| `")
    }

    assert "symbol, first, last, cause, missing, reason" == rows["trade_gap_left"][2]
    assert "step, reason" in rows["start_waiting"][2].replace("[", "").replace("]", "")
    assert "[error]" in rows["start_waiting"][2]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('self._sink.emit("a", x=1)', [("a", ("x",))]),
        ('events.emit("a" if up else "b", **more)', [("a", ("...",)), ("b", ("...",))]),
        ('def say(name, **f):\n  s.emit(name, y=1, **f)\nself.say("a", z=2)', [("a", ("y", "z"))]),
        ('s.emit(f"order_{state}", x=1)', [("order_STATE", ("x",))]),
    ],
)
def test_calls_are_found_in_each_form(
    writer: ModuleType, tmp_path: Path, source: str, found: list[tuple[str, tuple[str, ...]]]
) -> None:
    (tmp_path / "m.py").write_text(source)

    assert found == [(call.name, call.fields) for call in writer.calls(tmp_path)]


def test_a_computed_name_is_refused(writer: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("s.emit(names[0])")

    with pytest.raises(ValueError, match="the name of an event is computed"):
        writer.calls(tmp_path)
