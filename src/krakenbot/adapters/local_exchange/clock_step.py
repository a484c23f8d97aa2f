"""Let the clock that clients see and are judged by stand a step beside the venue's own, which never steps.

Texts enter as the venue writes them and leave with their times moved; what clients send is moved back. Connections and
the REST gate call it while there is a step. Matching, timers and the record of truth go on in steady time.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import Final

from krakenbot.adapters.local_exchange.digits import parse_rfc3339, rfc3339_ns, rfc3339_s, rfc3339_us
from krakenbot.adapters.local_exchange.limits.counters import S

MAX_STEP_S: Final = 86_400
_STAMP: Final = re.compile(r'"([0-9T:.-]{19,29}Z)"')
_SECONDS: Final = re.compile(r'"(time|opentm|closetm|expiretm|unixtime)":(\d+)(\.\d+)?')
_SENT_SECONDS: Final = ("start", "end", "expiretm")


def moved_stamps(text: str, step_ns: int) -> str:
    """Return a text with every RFC 3339 time in it moved by `step_ns`, in the digits it had."""

    def moved(match: re.Match[str]) -> str:
        at_ns = parse_rfc3339(match[1])
        return match[0] if at_ns is None else f'"{_restamped(match[1], at_ns + step_ns)}"'

    return _STAMP.sub(moved, text)


def moved_answer(content: bytes, step_s: int) -> bytes:
    """Return a REST answer with its RFC 3339 times and its fields of Unix seconds moved; a zero is no time."""

    def moved(match: re.Match[str]) -> str:
        whole = int(match[2])
        return f'"{match[1]}":{whole + step_s if whole else whole}{match[3] or ""}'

    return _SECONDS.sub(moved, moved_stamps(content.decode(), step_s * S)).encode()


def moved_params(params: dict[str, str], step_s: int) -> dict[str, str]:
    """Return the parameters of a REST request with the client's times moved back to the venue's.

    Ids of rows and times relative to now stay.
    """
    found = dict(params)
    for name in _SENT_SECONDS:
        if name in found and not found[name].startswith("+"):
            found[name] = _moved_seconds(found[name], -step_s)
    at_ns = parse_rfc3339(found.get("deadline", ""))
    if at_ns is not None:
        found["deadline"] = rfc3339_us(at_ns - step_s * S)
    return found


def _restamped(text: str, at_ns: int) -> str:
    digits = len(text.partition(".")[2]) - 1
    if digits > 6:
        # Nanoseconds below the microsecond are not parsed; they are carried over as text.
        return f"{rfc3339_ns(at_ns)[:-4]}{text[-4:]}"
    return rfc3339_us(at_ns) if digits > 0 else rfc3339_s(at_ns)


def _moved_seconds(text: str, by_s: int) -> str:
    try:
        seconds = Decimal(text)
    except InvalidOperation:
        return text
    return format(max(Decimal(0), seconds + by_s), "f") if seconds.is_finite() and seconds else text
