"""Parse fault scripts: one rule per line, `when: what`, with comments after `#`.

In: the text of a script. Out: rules. Every error names line and column, what was expected, and the nearest known
word. The grammar is in docs/faults.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Final, Literal

from attrs import define, field, frozen

from krakenbot.adapters.local_exchange.faults.rules import Action, Rule
from krakenbot.adapters.local_exchange.faults.vocabulary import (
    NOISE,
    PATTERNS,
    PLACES,
    UNITS_NS,
    WORD_LISTS,
    Pattern,
    Place,
    Stage,
)

MAX_LINES: Final = 2000
MAX_LINE_CHARS: Final = 20_000
COUNTS: Final = {"bloat": (1, 65_536), "duplicate": (1, 1000), "skip_sequence": (1, 999_999_999)}
"""Least and most of the counts that would otherwise do nothing, or fill the memory."""
WHEN_WORDS: Final = ("at", "on", "after", "every", "for", "from", "of", "with", "once")
TYPES: Final = {
    "int": "a whole number",
    "number": "a number",
    "duration": "a duration such as 5 s",
    "text": 'a text in "quotes"',
    "word": "a word",
    "name": "a name",
    "names": "one or more names",
    "value": "a value",
}
_TOKEN = re.compile(
    r"""(?P<space>\s+)|(?P<comment>\#.*)|(?P<text>"(?:[^"\\]|\\.)*")|(?P<ordinal>\d+(?:st|nd|rd|th)\b)"""
    r"""|(?P<number>-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)|(?P<word>[A-Za-z_*][\w./*-]*)|(?P<mark>[:%])"""
)


class ScriptError(ValueError):
    """A script that cannot be played: where, and why."""

    def __init__(self, line: int, column: int, reason: str) -> None:
        super().__init__(f"line {line}, column {column}: {reason}")
        self.line, self.column, self.reason = line, column, reason


@frozen
class _Token:
    kind: str
    text: str
    column: int


@define
class _Reader:
    """The tokens of one line and the place in them."""

    line: int
    tokens: list[_Token]
    end_column: int
    position: int = 0

    def peek(self, ahead: int = 0) -> _Token:
        index = self.position + ahead
        return self.tokens[index] if index < len(self.tokens) else _Token("end", "", self.end_column)

    def take(self) -> _Token:
        token = self.peek()
        self.position += 1
        return token

    def error(self, token: _Token, reason: str, known: Iterable[str] = ()) -> ScriptError:
        found = f", not {token.text!r}" if token.text else ", but the line ends"
        near = get_close_matches(token.text, list(known), 1, 0.6) if token.text else []
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return ScriptError(self.line, token.column, f"{reason}{found}{hint}")


def parse_script(text: str) -> list[Rule]:
    """Return the rules of a script.

    Raises ScriptError at the first line that is no rule.
    """
    lines = text.splitlines()
    if len(lines) > MAX_LINES:
        raise ScriptError(MAX_LINES + 1, 1, f"a script has at most {MAX_LINES} lines")
    rules = []
    for number, line in enumerate(lines, 1):
        tokens = _tokens(line, number)
        if tokens:
            rules.append(_rule(_Reader(number, tokens, len(line) + 1), _shown(line)))
    return rules


def _tokens(line: str, number: int) -> list[_Token]:
    if len(line) > MAX_LINE_CHARS:
        raise ScriptError(number, MAX_LINE_CHARS + 1, f"a line has at most {MAX_LINE_CHARS} characters")
    tokens, position = [], 0
    while position < len(line):
        match = _TOKEN.match(line, position)
        if match is None:
            raise ScriptError(number, position + 1, f"cannot read {line[position]!r}")
        kind = str(match.lastgroup)
        if kind == "comment":
            break
        if kind != "space" and match.group() not in NOISE:
            tokens.append(_Token(kind, match.group(), position + 1))
        position = match.end()
    return tokens


def _shown(line: str) -> str:
    """Return a line without its comment."""
    match = re.match(r'(?:[^"#]|"(?:[^"\\]|\\.)*")*', line)
    return (match.group() if match else line).strip()


@define
class _When:
    """What the words before the colon say."""

    place: Place | None = None
    place_token: _Token | None = None
    fields: dict[str, Any] = field(factory=dict)


def _rule(reader: _Reader, text: str) -> Rule:
    when = _when(reader)
    action_token = reader.peek()
    action, place_word = _action(reader)
    if place_word is not None:
        if when.place is not None:
            raise ScriptError(reader.line, action_token.column, "a rule has one place, before or after the colon")
        when.place = PLACES[place_word]
    _check_scope(reader, action_token, action, when)
    if action.name == "stall" and not action.text("duration"):
        window = when.fields.pop("window_ns", None)
        if window is None:
            raise ScriptError(reader.line, action_token.column, "stall needs a duration: `for 10 s` on either side")
        action.arguments["duration"] = str(window[1] - window[0])
        when.fields["at_ns"] = window[0]
    if when.place is None:
        _check_timed(reader, action_token, when)
    if "at_ns" in when.fields or when.fields.get("count", ("",))[0] == "exact":
        when.fields.setdefault("limit", 1)
    return Rule(line=reader.line, text=text, action=action, place=when.place, **when.fields)


def _check_timed(reader: _Reader, token: _Token, when: _When) -> None:
    for name, word in (("window_ns", "for"), ("subject", "of"), ("count", "on"), ("probability", "with probability")):
        if name in when.fields:
            raise ScriptError(reader.line, token.column, f"`{word}` needs a place, and this rule has none")


def _check_scope(reader: _Reader, token: _Token, action: Action, when: _When) -> None:
    stage = Stage.NOW if when.place is None else when.place.stage
    scopes = {scope for pattern in PATTERNS if pattern.action == action.name for scope in pattern.scopes}
    if stage in scopes:
        if stage is Stage.NOW and not {"at_ns", "every_ns", "window_ns"} & set(when.fields):
            raise ScriptError(reader.line, 1, "say when: a place, or a time such as `after 5 s`")
        return
    fits = ", ".join(sorted(scope for scope in scopes if scope is not Stage.NOW))
    if stage is Stage.NOW:
        raise ScriptError(reader.line, token.column, f"`{token.text}` needs a place; it fits: {fits}")
    raise ScriptError(
        reader.line, token.column, f"`{_words(action)}` does not fit a place of kind {stage}; fits: {fits}"
    )


def _words(action: Action) -> str:
    return action.name.replace("_", " ")


def _when(reader: _Reader) -> _When:
    when = _When()
    first = reader.peek()
    while not (reader.peek().kind == "mark" and reader.peek().text == ":"):
        token = reader.take()
        if token.kind == "end":
            raise reader.error(token, "expected `:` and an action")
        _clause(reader, token, when)
    if reader.position == 0:
        raise reader.error(first, "expected a place or a time before `:`")
    reader.take()
    return when


def _clause(reader: _Reader, token: _Token, when: _When) -> None:
    following = reader.peek()
    match token.text:
        case "at" | "after" if following.kind == "number":
            _put(reader, token, when, "at_ns", _duration(reader))
        case "at":
            _put_place(reader, when, reader.take())
        case "on":
            _ordinal(reader, when, "exact")
        case "every" if following.kind == "ordinal":
            _ordinal(reader, when, "every")
        case "every":
            every_ns = _duration(reader)
            if every_ns <= 0:
                raise reader.error(following, "expected a duration above zero")
            _put(reader, token, when, "every_ns", every_ns)
        case "from":
            _ordinal(reader, when, "from")
        case "for":
            length, start = _duration(reader), 0
            if reader.peek().text == "from" and reader.peek(1).kind == "number":
                reader.take()
                start = _duration(reader)
            _put(reader, token, when, "window_ns", (start, start + length))
        case "of":
            _put(reader, token, when, "subject", _unquoted(_expect(reader, "word", "name")))
        case "with":
            _literal(reader, "probability")
            _put(reader, token, when, "probability", _probability(reader))
        case "once":
            _put(reader, token, when, "limit", 1)
        case _ if token.kind == "number" and following.text == "times":
            reader.take()
            _put(reader, token, when, "limit", _whole(reader, token))
        case _:
            _put_place(reader, when, token)


def _put(reader: _Reader, token: _Token, when: _When, name: str, value: Any) -> None:
    if name in when.fields:
        raise ScriptError(reader.line, token.column, f"{token.text!r} says again what was said before")
    when.fields[name] = value


def _put_place(reader: _Reader, when: _When, token: _Token) -> None:
    if token.text not in PLACES:
        raise reader.error(token, "expected a place or a time", (*PLACES, *WHEN_WORDS))
    if when.place is not None:
        raise ScriptError(reader.line, token.column, "a rule has one place")
    when.place, when.place_token = PLACES[token.text], token


def _ordinal(reader: _Reader, when: _When, kind: Literal["exact", "from", "every"]) -> None:
    token = _expect(reader, "ordinal", "ordinal")
    number = int(token.text[:-2])
    if number < 1:
        raise reader.error(token, "expected 1st or later")
    _put(reader, token, when, "count", (kind, number))
    _put_place(reader, when, reader.take())


def _probability(reader: _Reader) -> float:
    token = _expect(reader, "number", "number")
    if not 0 < float(token.text) <= 1:
        raise reader.error(token, "expected a probability above 0 and up to 1")
    return float(token.text)


def _duration(reader: _Reader, *, is_signed: bool = False) -> int:
    number = _expect(reader, "number", "duration")
    unit = reader.take()
    if unit.text not in UNITS_NS:
        raise reader.error(unit, f"expected a unit out of {', '.join(UNITS_NS)}", UNITS_NS)
    nanoseconds = round(float(number.text) * UNITS_NS[unit.text])
    if abs(nanoseconds) > 366 * 24 * UNITS_NS["h"]:
        raise reader.error(number, "expected a duration of a year at most")
    if nanoseconds < 0 and not is_signed:
        raise reader.error(number, "expected a duration that is not negative")
    return nanoseconds


def _expect(reader: _Reader, kind: str, described: str) -> _Token:
    token = reader.take()
    kinds = ("word", "text") if described == "name" else (kind,)
    if token.kind not in kinds:
        raise reader.error(token, f"expected {TYPES.get(described, 'an ordinal such as 3rd')}")
    return token


def _literal(reader: _Reader, word: str) -> None:
    token = reader.take()
    if token.text != word:
        raise reader.error(token, f"expected {word!r}", [word])


def _whole(reader: _Reader, token: _Token) -> int:
    if not re.fullmatch(r"-?\d{1,9}", token.text):
        raise reader.error(token, "expected a whole number")
    return int(token.text)


def _unquoted(token: _Token) -> str:
    return re.sub(r"\\(.)", r"\1", token.text[1:-1]) if token.kind == "text" else token.text


def _action(reader: _Reader) -> tuple[Action, str | None]:
    """Return the action of a line, and the place that it names."""
    start, verb = reader.position, reader.peek()
    candidates = [pattern for pattern in PATTERNS if pattern.words.split()[0] == verb.text]
    if not candidates:
        raise reader.error(verb, "expected an action", {pattern.words.split()[0] for pattern in PATTERNS})
    best: ScriptError | None = None
    for pattern in candidates:
        reader.position = start
        try:
            return _match(reader, pattern)
        except ScriptError as error:
            # The pattern that got furthest tells best what is wrong.
            best = error if best is None or error.column > best.column else best
    raise best or reader.error(verb, "expected an action")


def _match(reader: _Reader, pattern: Pattern) -> tuple[Action, str | None]:
    action = Action(pattern.action)
    groups: list[str] = re.findall(r"\[[^]]*\]|<[^>]*>|\S+", pattern.words)
    is_after = False
    for group in groups:
        if not group.startswith("["):
            _element(reader, group, action)
            continue
        elements = group[1:-1].split()
        if _fits(reader, elements, groups, group):
            for element in elements:
                _element(reader, element, action)
            is_after = is_after or group == "[after executing]"
    if reader.peek().kind != "end":
        raise reader.error(reader.peek(), f"expected the end of the line after `{pattern.words}`")
    place = action.arguments.pop("place", None)
    return Action(action.name, action.arguments, is_after), place


def _fits(reader: _Reader, elements: list[str], groups: list[str], group: str) -> bool:
    """Tell whether an optional group is there, by its first element."""
    token, first = reader.peek(), elements[0]
    if token.kind == "end":
        return False
    if not first.startswith("<"):
        return token.text == first
    if first.startswith("<place"):
        following = groups[groups.index(group) + 1 : groups.index(group) + 2]
        return token.kind == "word" and token.text not in following
    return token.kind == "number"


def _element(reader: _Reader, element: str, action: Action) -> None:
    if not element.startswith("<"):
        _literal(reader, element)
        return
    name, kind = element[1:-1].split(":")
    token = reader.peek()
    if kind in WORD_LISTS:
        reader.take()
        if token.text not in WORD_LISTS[kind]:
            listed = "a place" if kind == "place" else f"{kind}: one of {', '.join(WORD_LISTS[kind])}"
            raise reader.error(token, f"expected {listed}", WORD_LISTS[kind])
        action.arguments[name] = token.text
    elif kind == "duration":
        action.arguments[name] = str(_duration(reader, is_signed=action.name == "shift_timestamps"))
    elif kind == "int":
        count = _whole(reader, token := _expect(reader, "number", "int"))
        least, most = COUNTS.get(action.name, (count, count))
        if not least <= count <= most:
            raise reader.error(token, f"expected a number from {least} to {most}")
        action.arguments[name] = str(count)
    elif kind == "number":
        number = _expect(reader, "number", "number")
        if not re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", number.text):
            raise reader.error(number, "expected a number of at most 15 digits each side of the point")
        action.arguments[name] = number.text
    elif kind == "names":
        names = [_expect(reader, "word", "names").text]
        while reader.peek().kind == "word":
            names.append(reader.take().text)
        action.arguments[name] = " ".join(names)
    elif kind == "value":
        action.arguments[name] = _value(reader, reader.take())
    elif kind in ("text", "name"):
        action.arguments[name] = _unquoted(_expect(reader, kind, kind))
    else:
        action.arguments[name] = _expect(reader, kind, kind).text


def _value(reader: _Reader, token: _Token) -> str:
    """Return a JSON value as it will be sent; NaN and endless exponents are sent as they stand."""
    if token.kind in ("text", "number") or token.text in ("true", "false", "null", "NaN", "Infinity"):
        return token.text
    raise reader.error(token, 'expected a value: a number, a "text", true, false, null or NaN')
