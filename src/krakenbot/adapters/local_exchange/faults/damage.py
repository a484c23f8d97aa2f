"""Change the content of one message as an action says: text in, text out, numbers kept as they were written.

The link and the REST player call `damage`. It returns None when the action does not apply to this message, so
that a rule which changes nothing is seen to change nothing.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from krakenbot.adapters.local_exchange.clock_step import moved_stamps
from krakenbot.adapters.local_exchange.faults.rules import Action

EXTRA_LEVELS: Final = 5
CHECKED_LEVELS: Final = 10
MAX_KB: Final = 16 * 1024
_CHECKSUM = re.compile(r'"checksum":(\d+)')
_SEQUENCE = re.compile(r'"sequence":(\d+)')


class _Raw(str):
    """A JSON number with its own text."""

    __slots__ = ()


def damage(action: Action, text: str) -> str | None:
    """Return the changed text; None when the action does not apply to it."""
    try:
        changed = _CHANGES[action.name](action, text)
    except (AttributeError, LookupError, TypeError, ValueError):
        # A frame of another shape than the action is made for, such as one that a rule before has damaged.
        return None
    return None if changed == text else changed


def is_damage(action: Action) -> bool:
    """Tell whether an action changes the content of a message."""
    return action.name in _CHANGES


def as_update(text: str) -> str | None:
    """Return a snapshot's content as an update; None for any other frame."""
    changed = text.replace('"type":"snapshot"', '"type":"update"', 1)
    return None if changed == text else changed


def renumber(text: str, offset: int) -> str:
    """Return a frame with its sequence moved by an offset."""
    return _SEQUENCE.sub(lambda match: f'"sequence":{int(match[1]) + offset}', text, count=1)


def sequence_of(text: str) -> int | None:
    """Return a frame's sequence; None when it has none."""
    match = _SEQUENCE.search(text)
    return int(match[1]) if match else None


def loads(text: str) -> Any:
    """Return a JSON document whose numbers keep their text; None when the text is no JSON."""
    try:
        return json.loads(text, parse_float=_Raw, parse_int=_Raw, parse_constant=_Raw)
    except (ValueError, RecursionError):
        return None


def dumps(value: Any) -> str:
    """Return the JSON text of what `loads` gave."""
    match value:
        case _Raw():
            return str(value)
        case dict():
            return "{" + ",".join(f"{json.dumps(name)}:{dumps(item)}" for name, item in value.items()) + "}"
        case list():
            return "[" + ",".join(dumps(item) for item in value) + "]"
        case _:
            return json.dumps(value)


def number(value: int) -> str:
    """Return a number for a document that `loads` gave."""
    return _Raw(value)


def _corrupt_checksum(_action: Action, text: str) -> str | None:
    return _CHECKSUM.sub(lambda match: f'"checksum":{int(match[1]) ^ 1}', text)


def _truncate(_action: Action, text: str) -> str | None:
    return text[: len(text) // 2]


def _replace(action: Action, _text: str) -> str | None:
    return action.text("text")


def _bloat(action: Action, text: str) -> str | None:
    missing = min(action.whole("count"), MAX_KB) * 1024 - len(text) - len(',"padding":""')
    if missing <= 0 or not text.endswith("}"):
        return None
    return f'{text[:-1]},"padding":"{"x" * missing}"}}'


def _shift_timestamps(action: Action, text: str) -> str | None:
    return moved_stamps(text, action.whole("duration"))


def _set(action: Action, text: str) -> str | None:
    return _change_field(text, action.text("field"), lambda at, key: at.__setitem__(key, _Raw(action.text("value"))))


def _remove(action: Action, text: str) -> str | None:
    def drop(at: Any, key: Any) -> None:
        if isinstance(at, list) or key in at:
            del at[key]

    return _change_field(text, action.text("field"), drop)


def _change_field(text: str, path: str, change: Callable[[Any, Any], None]) -> str | None:
    document = loads(text)
    if document is None:
        return None
    *parents, last = path.split(".")
    nodes = [document]
    for name in parents:
        nodes = [child for node in nodes for child in _children(node, name)]
    changed = False
    for node in nodes:
        for key in reversed(list(_keys(node, last))):
            change(node, key)
            changed = True
    return dumps(document) if changed else None


def _children(node: Any, name: str) -> Iterator[Any]:
    for key in _keys(node, name):
        if isinstance(node, list) or key in node:
            yield node[key]


def _keys(node: Any, name: str) -> Iterator[Any]:
    """Yield the keys that a name of a field path stands for; `*` stands for all."""
    if isinstance(node, list):
        if name == "*":
            yield from range(len(node))
        elif name.isdigit() and int(name) < len(node):
            yield int(name)
    elif isinstance(node, dict):
        yield from list(node) if name == "*" else [name]


def _double_rows(_action: Action, text: str) -> str | None:
    return _with_rows(text, lambda rows: [*rows, *rows])


def _keep_only(action: Action, text: str) -> str | None:
    names = set(action.text("names").split())
    return _with_rows(text, lambda rows: [_only(row, names) for row in rows])


def _only(row: Any, names: set[str]) -> Any:
    return {name: value for name, value in row.items() if name in names} if isinstance(row, dict) else row


def _with_rows(text: str, change: Callable[[list[Any]], list[Any]]) -> str | None:
    document = loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        return None
    document["data"] = change(document["data"])
    return dumps(document)


def _cross_book(_action: Action, text: str) -> str | None:
    def cross(bids: list[Any], asks: list[Any], price: str) -> bool:
        if not bids or not asks:
            return False
        bids[0] = bids[0] | {price: asks[min(1, len(asks) - 1)][price]}
        return True

    return _change_book(text, cross)


def _empty_book(_action: Action, text: str) -> str | None:
    def empty(bids: list[Any], asks: list[Any], _price: str) -> bool:
        bids.clear()
        asks.clear()
        return True

    return _change_book(text, empty)


def _overflow_depth(_action: Action, text: str) -> str | None:
    def overflow(bids: list[Any], _asks: list[Any], price: str) -> bool:
        if len({row[price] for row in bids}) < CHECKED_LEVELS:
            return False
        last = bids[-1]
        point = len(last[price].partition(".")[2])
        units = int(last[price].replace(".", ""))
        for step in range(1, EXTRA_LEVELS + 1):
            digits = str(max(1, units - step)).rjust(point + 1, "0")
            worse = f"{digits[:-point]}.{digits[-point:]}" if point else digits
            row = last | {price: _Raw(worse)}
            bids.append(row | {"order_id": f"{row['order_id']}-{step}"} if "order_id" in row else row)
        return True

    return _change_book(text, overflow)


def _change_book(text: str, change: Callable[[list[Any], list[Any], str], bool]) -> str | None:
    """Change a snapshot of a book and make its checksum right again: only what was changed shall be wrong."""
    document = loads(text)
    if not isinstance(document, dict) or document.get("type") != "snapshot":
        return None
    if document.get("channel") not in ("book", "level3"):
        return None
    row = document["data"][0]
    price, qty = ("limit_price", "order_qty") if document["channel"] == "level3" else ("price", "qty")
    if not change(row["bids"], row["asks"], price):
        return None
    row["checksum"] = _Raw(_checksum(row["asks"], row["bids"], price, qty))
    return dumps(document)


def _checksum(asks: list[Any], bids: list[Any], price: str, qty: str) -> int:
    parts: list[str] = []
    for rows in (asks, bids):
        best = list(dict.fromkeys(row[price] for row in rows))[:CHECKED_LEVELS]
        parts.extend(_token(row[price]) + _token(row[qty]) for row in rows if row[price] in best)
    return zlib.crc32("".join(parts).encode())


def _token(number: str) -> str:
    return number.replace(".", "").lstrip("0")


def _unknown_level(_action: Action, text: str) -> str | None:
    """Remove a level at the lowest price there is, which nobody holds."""
    document = loads(text)
    if not isinstance(document, dict) or document.get("channel") != "book":
        return None
    row = document["data"][0]
    sample = (row["bids"] + row["asks"])[:1]
    if not sample:
        return None
    lowest = {name: _Raw(re.sub(r"\d", "0", number.partition(".")[2])) for name, number in sample[0].items()}
    price = f"0.{lowest['price'][:-1]}1" if lowest["price"] else "1"
    qty = f"0.{lowest['qty']}" if lowest["qty"] else "0"
    row["bids"].append({"price": _Raw(price), "qty": _Raw(qty)})
    return dumps(document)


_CHANGES: Final[dict[str, Callable[[Action, str], str | None]]] = {
    "corrupt_checksum": _corrupt_checksum,
    "truncate": _truncate,
    "replace_text": _replace,
    "bloat": _bloat,
    "shift_timestamps": _shift_timestamps,
    "set": _set,
    "remove": _remove,
    "double_rows": _double_rows,
    "keep_only": _keep_only,
    "cross_book": _cross_book,
    "empty_book": _empty_book,
    "overflow_depth": _overflow_depth,
    "unknown_level": _unknown_level,
}
