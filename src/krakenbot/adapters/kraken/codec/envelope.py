"""Encode requests of WS v2 and decode what is not market data: replies, refusals, and frames that cannot be read.

Enters: a method with its parameters; a frame that is no data frame. Leaves: request text; a `Reply`; what can be
salvaged of a malformed frame. Called by the public and level3 sessions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec
from attrs import frozen

BAD_INPUT = (msgspec.MsgspecError, ValueError, RecursionError, OverflowError)
"""What a decoder may raise for any text or bytes."""
_SYMBOL = re.compile(r'"symbol"\s*:\s*"([^"\\]{1,40})"')
_CHANNEL = re.compile(r'"channel"\s*:\s*"([a-z0-9_]{1,20})"')
_SCAN_CHARACTERS = 100_000


class ReplyResult(msgspec.Struct, gc=False):
    """The part of a successful reply that we read."""

    channel: str = ""
    symbol: str = ""


class Reply(msgspec.Struct, gc=False):
    """An answer to a request; pong carries no `success`. `rate_error` is the bare {"Error": ...} of an overload."""

    method: str = ""
    success: bool | None = None
    result: ReplyResult | None = None
    error: str = ""
    symbol: str = ""
    req_id: int | None = None
    rate_error: str = msgspec.field(name="Error", default="")


decode_reply = msgspec.json.Decoder(Reply).decode
"""Decode a reply; raises one of BAD_INPUT. A data frame decodes to a reply without method."""


@frozen(kw_only=True)
class Salvage:
    """What a malformed frame still tells; `is_whole` JSON has the wrong content, other is damaged."""

    is_json: bool
    is_whole: bool
    channel: str
    symbols: frozenset[str]


def encode_request(method: str, params: Mapping[str, object] | None, req_id: int) -> str:
    """Return the text of a request; `params` None leaves them out, as ping demands."""
    request: dict[str, object] = {"method": method}
    if params is not None:
        request["params"] = params
    request["req_id"] = req_id
    return msgspec.json.encode(request).decode()


def readable(text: str, limit: int = 60) -> str:
    """Return the start of a text of the venue with nothing in it that a terminal or PostgreSQL would choke on."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:limit])


def salvage(text: str | bytes) -> Salvage:
    """Find channel and symbols in a frame that could not be decoded, so that the right books are dropped."""
    whole = text.decode(errors="replace") if isinstance(text, bytes) else text
    head = whole[:_SCAN_CHARACTERS]
    channel = _CHANNEL.search(head)
    return Salvage(
        is_json=whole.lstrip()[:1] in {"{", "["},
        is_whole=_is_whole(text),
        channel=channel.group(1) if channel else "",
        symbols=frozenset(_SYMBOL.findall(head)),
    )


def _is_whole(text: str | bytes) -> bool:
    try:
        msgspec.json.decode(text)
    except BAD_INPUT:
        return False
    return True
