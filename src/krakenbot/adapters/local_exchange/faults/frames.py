"""Say which places a message passes, cheaply, from its text alone.

The link of each connection calls `classify_frame` for what leaves and `classify_request` for what arrives.
"""

from __future__ import annotations

import json
import re
from typing import Any

from krakenbot.adapters.local_exchange.faults.vocabulary import METHODS

_CHANNEL = re.compile(r'"channel":"(\w+)"')
_TYPE = re.compile(r'"type":"(snapshot|update)"')
_METHOD = re.compile(r'"method":"(\w+)"')
_SYMBOL = re.compile(r'"symbol":"([^"]+)"')
_EXEC_TYPE = re.compile(r'"exec_type":"(\w+)"')
_UNTYPED = frozenset({"status", "heartbeat"})
Names = tuple[str, ...]


def classify_frame(text: str) -> tuple[Names, frozenset[str]]:
    """Return every name of a frame's place, the most telling one last, and its channel and symbols."""
    method = None if text.startswith('{"channel"') else _METHOD.search(text)
    channel = _CHANNEL.search(text)
    subjects = {channel[1]} if channel else set()
    if method is not None:
        subjects.update(_SYMBOL.findall(text))
        if method[1] == "pong":
            return ("frame", "pong"), frozenset(subjects)
        return ("frame", "ack", f"{method[1]}.ack"), frozenset(subjects)
    if channel is None:
        return ("frame",), frozenset()
    if channel[1] in _UNTYPED:
        return ("frame", channel[1]), frozenset(subjects)
    kind = _TYPE.search(text)
    names = ["frame", channel[1]]
    if kind is not None:
        names.append(f"{channel[1]}.{kind[1]}")
    if channel[1] != "instrument":
        subjects.update(_SYMBOL.findall(text))
    if channel[1] == "executions" and kind is not None and kind[1] == "update":
        # The same name once, in the order of the rows.
        names.extend(dict.fromkeys(f"executions.{exec_type}" for exec_type in _EXEC_TYPE.findall(text)))
    return tuple(names), frozenset(subjects)


def classify_request(text: str) -> tuple[Names, frozenset[str], dict[str, Any]]:
    """Return the names of a request's place, its channel and symbols, and its envelope for an answer."""
    try:
        request = json.loads(text)
    except (ValueError, RecursionError):
        request = None
    if not isinstance(request, dict):
        return ("request",), frozenset(), {"method": "error"}
    method, params = request.get("method"), request.get("params")
    names = ("request", method) if isinstance(method, str) and method in METHODS else ("request",)
    envelope = {"method": method if isinstance(method, str) else "error"}
    if isinstance(request.get("req_id"), int):
        envelope["req_id"] = request["req_id"]
    return names, _subjects(params), envelope


def _subjects(params: Any) -> frozenset[str]:
    if not isinstance(params, dict):
        return frozenset()
    values = [params.get("channel"), params.get("symbol"), params.get("pair")]
    flat = [item for value in values for item in (value if isinstance(value, list) else [value])]
    return frozenset(item for item in flat if isinstance(item, str))
