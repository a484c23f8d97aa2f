"""The fault language: what is said, and what is refused with which words."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from krakenbot.adapters.local_exchange.faults.script import ScriptError, parse_script
from krakenbot.adapters.local_exchange.faults.vocabulary import PATTERNS, PLACES, WORD_LISTS, Stage

S = 10**9
PLAYED = Path(__file__).parents[2] / "integration" / "local_exchange_faults"
DOCS = Path(__file__).parents[3] / "docs" / "faults.md"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("at private.subscribe.ack: drop", {"action": "drop", "place": "private.subscribe.ack"}),
        ("every 20 s: duplicate executions", {"action": "duplicate", "place": "executions", "every_ns": 20 * S}),
        ("add_order: accept then drop the connection", {"action": "run_then_drop", "place": "add_order"}),
        ("after 5 s: close public", {"action": "close_path", "at_ns": 5 * S, "limit": 1, "path": "public"}),
        (
            "on 3rd book.update of BTC/USD: corrupt checksum",
            {"action": "corrupt_checksum", "place": "book.update", "subject": "BTC/USD", "count": ("exact", 3)},
        ),
        (
            "at rest.AddOrder: answer 502 after executing",
            {"action": "answer_status", "place": "rest.AddOrder", "status": "502", "after_executing": True},
        ),
        (
            "for 10 s from 30 s: stall level3 out",
            {"action": "stall", "at_ns": 30 * S, "path": "level3", "way": "out", "duration": str(10 * S)},
        ),
        ("with probability 0.01: lose executions", {"action": "lose", "place": "executions", "probability": 0.01}),
        ("at rest.OpenOrders: hide orders for 60 s", {"action": "hide", "what": "orders", "duration": str(60 * S)}),
        ("at 10 s: mode cancel_only", {"action": "mode", "mode": "cancel_only", "at_ns": 10 * S}),
        (
            'at 20 s: cancel order of trader reason "a # b"  # and why',
            {"action": "cancel_order", "account": "trader", "text": "a # b"},
        ),
        ("for 500 ms: lose book.update", {"action": "lose", "window_ns": (0, S // 2)}),
        ("from 2nd public.upgrade: answer 429", {"action": "answer_status", "count": ("from", 2)}),
        ("every 3rd trade.update: lose", {"count": ("every", 3), "limit": None}),
        ("2 times at ping: lose", {"limit": 2, "place": "ping"}),
        ("once with probability 0.5 at pong: delay by 1.5 s", {"limit": 1, "duration": str(3 * S // 2)}),
        ("at book.update: set data.0.bids.*.qty to NaN", {"field": "data.0.bids.*.qty", "value": "NaN"}),
        (r'at status: insert text "say \"hi\""', {"text": 'say "hi"'}),
        ("at 1 min: fill 50 % of the order of trader", {"percent": "50", "at_ns": 60 * S}),
    ],
)
def test_a_line_says(line: str, expected: dict[str, Any]) -> None:
    (rule,) = parse_script(line)

    said = {name: getattr(rule, name) for name in ("subject", "count", "at_ns", "every_ns", "window_ns", "limit")}
    said |= {"probability": rule.probability, "action": rule.action.name, **rule.action.arguments}
    said |= {"after_executing": rule.action.after_executing}
    said["place"] = next((name for name, place in PLACES.items() if place == rule.place), None)
    assert expected == {name: said.get(name) for name in expected}


def test_comments_and_empty_lines_are_no_rules() -> None:
    rules = parse_script("# a comment\n\n   \nat book: lose  # why\n")

    assert [(4, "at book: lose")] == [(rule.line, rule.text) for rule in rules]


@pytest.mark.parametrize(
    ("script", "line", "column", "words"),
    [
        ("at private.subscribe.akc: drop", 1, 4, "did you mean 'private.subscribe.ack'?"),
        ("at book.update: lose\nat book.update: corupt checksum", 2, 17, "did you mean 'corrupt'?"),
        ("every 20 sec: lose book", 1, 10, "a unit out of ms, s, min, h"),
        ("at 10 s: mode onlne", 1, 15, "did you mean 'online'?"),
        ("at book: lose trade", 1, 10, "one place"),
        ("at rest.AddOrder: corrupt checksum", 1, 19, "does not fit a place of kind rest; fits: frame"),
        ("after 5 s: lose", 1, 12, "needs a place"),
        ("with probability 2: lose book", 1, 18, "above 0 and up to 1"),
        ("at book.update corrupt checksum", 1, 16, "expected a place or a time"),
        ("at book: drop with", 1, 15, "expected the end of the line"),
        ("at rest.AddOrder: answer 502 after", 1, 35, "but the line ends"),
        ('at book: replace with text "x', 1, 28, "cannot read '\"'"),
        ("for 3 s: close public", 1, 10, "`for` needs a place"),
        ("at 10 s: stall public out", 1, 10, "stall needs a duration"),
        ("at 10 s at 20 s: mode online", 1, 9, "says again"),
        ("on 0th book: lose", 1, 4, "1st or later"),
        ("every 0 s: lose book", 1, 7, "above zero"),
        (": drop", 1, 1, "before `:`"),
        ("at book", 1, 8, "expected `:`"),
        ("at book:", 1, 9, "expected an action"),
        ("at 500000 h: mode online", 1, 4, "a year at most"),
        ("at book: set data.0.qty to high", 1, 28, "expected a value"),
        ("at add_order: delay by -5 ms", 1, 24, "not negative"),
        ("at -5 s: mode online", 1, 4, "not negative"),
        ("at status: bloat to 99999999 kb", 1, 21, "from 1 to 65536"),
        ("at book: duplicate 1001 times", 1, 20, "from 1 to 1000"),
        ("at executions.new: skip sequence by 0", 1, 37, "from 1 to"),
    ],
)
def test_a_bad_line_is_refused_with_its_place_and_the_nearest_word(
    script: str, line: int, column: int, words: str
) -> None:
    with pytest.raises(ScriptError) as caught:
        parse_script(script)

    assert (line, column) == (caught.value.line, caught.value.column)
    assert words in str(caught.value)
    assert f"line {line}, column {column}: " in str(caught.value)


@given(st.text() | st.text(alphabet='at book:losdrp 0123456789."%#'))
def test_any_text_is_a_script_or_refused(text: str) -> None:
    lines = len(text.splitlines())
    found, place = 0, 1
    try:
        found = len(parse_script(text))
    except ScriptError as error:
        place = error.line

    assert found <= lines
    assert 1 <= place <= max(1, lines)


def test_too_long_scripts_are_refused() -> None:
    with pytest.raises(ScriptError, match="at most 2000 lines"):
        parse_script("#\n" * 2001)
    with pytest.raises(ScriptError, match="at most 20000 characters"):
        parse_script("#" * 20_001)


def documented() -> list[tuple[str, str, str]]:
    """Return the rows of the table of faults: id, script line, test."""
    rows = re.findall(r"^\| (F\d\d) \| [^|]+ \| `(.+?)` \| (.+?) \|$", DOCS.read_text(), re.MULTILINE)
    return [(fault, line.replace("\\|", "|"), test.strip("`")) for fault, line, test in rows]


def test_the_document_has_every_action_of_the_language() -> None:
    text = DOCS.read_text()

    assert [] == [pattern.words for pattern in PATTERNS if f"`{pattern.words}`" not in text]


def test_the_documents_lines_are_scripts() -> None:
    example = re.findall(r"^    (\S.+)$", DOCS.read_text().split("## Grammar")[0], re.MULTILINE)
    lines = [*example, *(line for _fault, line, _test in documented())]

    assert len(lines) == len(parse_script("\n".join(lines)))
    assert len(example) > 5


def test_every_fault_of_the_venue_has_a_line_and_a_test_that_exists() -> None:
    tests = "".join(path.read_text() for path in PLAYED.glob("test_*.py"))
    ids = [*range(1, 13), *range(20, 31), *range(40, 45), 50, 52, 53, 54, 60, 61, 62]

    assert {f"F{number:02d}" for number in ids} == {fault for fault, _line, _test in documented()}
    assert [] == [test for _fault, _line, test in documented() if test != "the same" and f"def {test}(" not in tests]


def as_regex(words: str) -> str:
    """Return what finds an action's words in a script inside a test's text."""
    optional = re.sub(r" ?\[[^]]*\]", "", words)
    slots = {kind: rf"({'|'.join(map(re.escape, known))}|\{{\w+\}})" for kind, known in WORD_LISTS.items()}
    body = re.sub(r"<\w+:(\w+)>", lambda slot: slots.get(slot[1], r"(\S+|\{\w+\})"), optional)
    return rf": {body}[^\n]*[\"']" if optional != words else rf": {body}[\"'\\ ]"


def test_every_action_is_played_in_a_test() -> None:
    tests = "".join(path.read_text() for path in PLAYED.glob("test_*.py"))
    tests = tests.replace(" the ", " ")

    assert [] == [pattern.words for pattern in PATTERNS if re.search(as_regex(pattern.words), tests) is None]


def test_every_stage_has_a_place_but_now() -> None:
    assert set(Stage) - {Stage.NOW} == {place.stage for place in PLACES.values()}
