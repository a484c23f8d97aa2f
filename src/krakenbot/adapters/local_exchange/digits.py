"""Turn integers into the exact texts of the wire, and numbers of requests into integers.

Prices and sizes live as integers scaled by the instrument's precisions; nothing here passes through a float.
Every encoder of the local exchange calls this module.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache

MAX_DIGITS = 18
"""Digits before or after the point that a request may use; beyond, it is refused before any arithmetic."""
MAX_REMEMBERED = 2000


def fixed_text(units: int, precision: int) -> str:
    """Return `units` of 10^-precision as fixed-point text with exactly `precision` digits."""
    if precision == 0:
        return str(units)
    text = str(units)
    if len(text) > precision and units > 0:
        return f"{text[:-precision]}.{text[-precision:]}"
    text = str(abs(units)).zfill(precision + 1)
    sign = "-" if units < 0 else ""
    return f"{sign}{text[:-precision]}.{text[-precision:]}"


class FixedTexts(dict[int, str]):
    """Fixed-point texts of one precision, remembered: a symbol's prices come again and again."""

    def __init__(self, precision: int) -> None:
        super().__init__()
        self._precision = precision

    def __missing__(self, units: int) -> str:
        if len(self) >= MAX_REMEMBERED:
            self.clear()
        text = self[units] = fixed_text(units, self._precision)
        return text


def plain_text(value: Decimal) -> str:
    """Return a Decimal in fixed point, never with an exponent."""
    return f"{value:f}"


def to_units(value: Decimal | int, precision: int) -> int | None:
    """Return a number in units of 10^-precision; None when it is not exact or out of range."""
    number = Decimal(value)
    _sign, figures, exponent = number.as_tuple()
    if not isinstance(exponent, int) or abs(number.adjusted()) > MAX_DIGITS or len(figures) > 2 * MAX_DIGITS:
        return None
    digits = int("".join(map(str, figures)))
    shift = exponent + precision
    if shift >= 0:
        units = digits * int(10**shift)
    else:
        units, rest = divmod(digits, int(10**-shift))
        if rest:
            return None
    return -units if number < 0 else units


def rescale(value: int, have: int, want: int, *, up: bool = False) -> int:
    """Return a non-negative integer moved from 10^-have to 10^-want, rounded half up (or always up)."""
    if want >= have:
        return int(value * 10 ** (want - have))
    divisor = 10 ** (have - want)
    return int((value + (divisor - 1 if up else divisor // 2)) // divisor)


def from_units(units: int, precision: int) -> Decimal:
    """Return integer units of 10^-precision as an exact Decimal with that many digits."""
    return Decimal(fixed_text(units, precision))


@lru_cache(maxsize=64)
def _second_text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def rfc3339_us(at_ns: int) -> str:
    """Return a time with microseconds, as most channels print it."""
    second, rest = divmod(at_ns, 1_000_000_000)
    return f"{_second_text(second)}.{rest // 1000:06d}Z"


def rfc3339_ns(at_ns: int) -> str:
    """Return a time with nanoseconds, as level3 prints it."""
    second, rest = divmod(at_ns, 1_000_000_000)
    return f"{_second_text(second)}.{rest:09d}Z"


def rfc3339_s(at_ns: int) -> str:
    """Return a time with whole seconds."""
    return f"{_second_text(at_ns // 1_000_000_000)}Z"


def parse_rfc3339(text: str) -> int | None:
    """Return nanoseconds since the epoch; None when the text is no RFC 3339 time with a zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return ((delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds) * 1000


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_ID_SPACE = 32**16
_ID_FACTOR = 0x9E3779B97F4A7C15F39D


def venue_id(prefix: str, number: int, seed: int) -> str:
    """Return the id text of a counter, as `OXXXXX-XXXXX-XXXXXX`; distinct counters give distinct ids."""
    value = (number * _ID_FACTOR + seed * 7_919_777 + ord(prefix)) % _ID_SPACE
    text = "".join([_PAIRS[value >> shift & 1023] for shift in range(70, -10, -10)])
    return f"{prefix}{text[:5]}-{text[5:10]}-{text[10:]}"
