"""Kraken's error strings, in one table.

Enters: the strings of a WebSocket `error` or a REST `error[]`. Leaves: what each means, and the domain error that a
read or an order raises for it. Kraken sends the same strings on both ways (docs.kraken.com, guides/spot-errors).
"""

from __future__ import annotations

import enum
import re
from typing import Final

from krakenbot.domain.errors import OutcomeUnknown, VenueError, VenueRejected, VenueUnavailable


class ErrorKind(enum.Enum):
    """What an error string says about the request."""

    CREDENTIALS = enum.auto()
    """The key or its rights; trying again makes it worse."""
    NONCE = enum.auto()
    """The nonce was not above the last; once more with a fresh one."""
    LOCKOUT = enum.auto()
    """Refused for minutes."""
    RATE = enum.auto()
    """A counter is full: refused now, allowed after its decay."""
    STATE_UNKNOWN = enum.auto()
    """The engine or API is down, or the deadline passed: an order may or may not stand."""
    SESSION = enum.auto()
    """The WebSocket token is missing or expired: a new connection with a new token is needed."""
    REFUSED = enum.auto()
    """A definite no; unchanged it stays a no."""
    STRANGE = enum.auto()
    """A word of a category that is not in the table: a read takes it for a no, an order may stand all the same."""


# categories of which every word that is not named is a definite no
_REFUSING: Final = ("EOrder", "EQuery", "EAPI", "EAccount", "EBM", "ETrade", "EFunding", "ESession")
# the first prefix that fits decides
_TABLE: Final[tuple[tuple[str, ErrorKind], ...]] = (
    ("EAPI:Invalid nonce", ErrorKind.NONCE),
    ("EAPI:Invalid key", ErrorKind.CREDENTIALS),
    ("EAPI:Invalid signature", ErrorKind.CREDENTIALS),
    ("EGeneral:Permission denied", ErrorKind.CREDENTIALS),
    ("EAccount:Invalid permissions", ErrorKind.CREDENTIALS),
    ("EGeneral:Temporary lockout", ErrorKind.LOCKOUT),
    ("EAPI:Rate limit exceeded", ErrorKind.RATE),
    ("EAuth:Rate limit exceeded", ErrorKind.RATE),
    ("EAuth:Too many requests", ErrorKind.RATE),
    ("EOrder:Rate limit exceeded", ErrorKind.RATE),
    ("EOrder:Domain rate limit exceeded", ErrorKind.RATE),
    ("EService: Throttled", ErrorKind.RATE),
    ("EService:Throttled", ErrorKind.RATE),
    ("EAuth:", ErrorKind.CREDENTIALS),
    ("EService:Unavailable", ErrorKind.STATE_UNKNOWN),
    ("EService:Busy", ErrorKind.STATE_UNKNOWN),
    ("EService:Deadline elapsed", ErrorKind.STATE_UNKNOWN),
    ("EService:Market in", ErrorKind.REFUSED),
    # a word of the service itself that we have not met: not a definite no
    ("EService:", ErrorKind.STATE_UNKNOWN),
    ("EGeneral:Internal error", ErrorKind.STATE_UNKNOWN),
    ("ESession:Invalid session", ErrorKind.SESSION),
    ("Token(s) not found", ErrorKind.SESSION),
    ("EGeneral:Invalid arguments", ErrorKind.REFUSED),
    ("EGeneral:Unknown method", ErrorKind.REFUSED),
    *((f"{category}:", ErrorKind.REFUSED) for category in _REFUSING),
)
_CATEGORY: Final = re.compile(r"E[A-Z][A-Za-z]*:")


def error_kind(text: str) -> ErrorKind:
    """Return what an error string means.

    A text without a category comes from the WebSocket's own reading of the request, before any order exists: that is a
    definite no.
    """
    for prefix, kind in _TABLE:
        if text.startswith(prefix):
            return kind
    return ErrorKind.STRANGE if _CATEGORY.match(text) else ErrorKind.REFUSED


def read_error(text: str) -> VenueError:
    """Return the error that a read raises: VenueUnavailable when it may be tried again, else VenueRejected."""
    match error_kind(text):
        case ErrorKind.LOCKOUT | ErrorKind.RATE | ErrorKind.STATE_UNKNOWN | ErrorKind.SESSION:
            return VenueUnavailable(text)
        case ErrorKind.CREDENTIALS | ErrorKind.NONCE | ErrorKind.REFUSED | ErrorKind.STRANGE:
            return VenueRejected(text)


def order_error(text: str, cl_ord_id: str) -> VenueError:
    """Return the error that an order request raises: OutcomeUnknown when it may stand, else VenueRejected."""
    if error_kind(text) in {ErrorKind.STATE_UNKNOWN, ErrorKind.STRANGE}:
        return OutcomeUnknown(cl_ord_id, text)
    return VenueRejected(text)
