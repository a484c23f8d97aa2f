"""The running account: when, who, what, which symbol, why; and nothing that a process prints can stop it."""

from __future__ import annotations

import io
import json
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from krakenbot.apps.rehearsal.narrate import Narrator


def told(*lines: str) -> str:
    stream = io.StringIO()
    narrator = Narrator(stream)
    for line in lines:
        narrator.line("ingest", line)
    return stream.getvalue()


def event(**fields: object) -> str:
    return json.dumps({"timestamp": "2026-03-01T12:00:00.123Z", "process": "execution", **fields})


def test_an_event_says_when_who_what_symbol_and_why() -> None:
    text = told(event(event="blocked", symbol="ADA/USD", reason="too little history", value=0.123456, codes=["A", "B"]))

    assert text.split() == [
        "12:00:00.123",
        "execution",
        "blocked",
        "ADA/USD",
        "too",
        "little",
        "history",
        "value=0.1235",
        'codes=["A","B"]',
    ]
    assert text.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        "",
        "plain words",
        '{"no": "event"}',
        "[1, 2]",
        '"event"',
        "null",
        "{" * 50_000,
        "[" * 50_000,
        "1" * 5000,
        '{"event": 1e999}',
        "\x00\x1b[2J\ud800",
    ],
)
def test_a_line_that_is_no_event_is_shown_or_left_out_and_the_next_one_comes(line: str) -> None:
    text = told(line, event(event="next"))

    assert "next" in text.splitlines()[-1]


def test_a_plain_line_is_shown_as_it_is() -> None:
    text = told("key=value **** secret password 25000.00 {half json")

    assert "key=value **** secret password 25000.00 {half json\n" in text
    assert "ingest" in text


def test_fields_of_any_kind_are_shown_as_they_are() -> None:
    text = told(event(event="odd", reason=None, symbol=["x"], price="0.10", nested={"api_key": "k"}, flag=True))

    for word in ("price=0.10", 'nested={"api_key":"k"}', "flag=True"):
        assert word in text
    assert "****" not in text


@given(st.text())
def test_no_text_stops_the_narrator(text: str) -> None:
    told(text, json.dumps({"event": text, "timestamp": text, "symbol": text, "reason": text, text: text}))


@settings(max_examples=40)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda part: st.dictionaries(st.text(), part)))
def test_no_event_stops_the_narrator(value: object) -> None:
    assert "ingest" in told(json.dumps({"event": "x", "process": "ingest", "value": value}))


def test_events_are_counted_by_name_and_quiet_ones_are_not_printed() -> None:
    stream = io.StringIO()
    narrator = Narrator(stream)

    for _ in range(3):
        narrator.line("ingest", event(event="status_not_published"))
    narrator.line("ingest", event(event="epoch"))

    assert narrator.events == {"status_not_published": 3, "epoch": 1}
    assert stream.getvalue().count("\n") == 1


def test_a_closed_pipe_does_not_end_the_account() -> None:
    stream = io.StringIO()
    narrator = Narrator(stream)
    stream.close()

    narrator.line("ingest", event(event="epoch"))
    narrator.say("ingest", "words")

    assert narrator.events == {"epoch": 1}


def test_lines_of_several_processes_stay_whole_and_are_all_counted() -> None:
    stream = io.StringIO()
    narrator = Narrator(stream)

    def speak(name: str) -> None:
        for _ in range(300):
            narrator.line(name, event(event="epoch", process=name))

    threads = [threading.Thread(target=speak, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert narrator.events == {"epoch": 900}
    assert {tuple(line.split()[1:]) for line in stream.getvalue().splitlines()} == {
        ("one", "epoch"),
        ("two", "epoch"),
        ("three", "epoch"),
    }
