"""Read the fields of a WS request and refuse wrong ones in the venue's words.

Sessions wrap `params` in `Fields`, ask for each field by name and type, and end with `finish`, which refuses
what nobody asked for.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

MALFORMED = "Malformed request"
MAX_LISTED = 1000
"""Entries of a list in a request: more of them would keep everybody else waiting."""

T = TypeVar("T")


class BadRequestError(Exception):
    """A request that is refused with this text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def parse_request(text: str) -> dict[str, Any]:
    """Return the JSON object of a request, numbers exact.

    Raises BadRequestError when it is no JSON object.
    """
    try:
        document = json.loads(text, parse_float=Decimal, parse_constant=_refuse_constant)
    except (ValueError, RecursionError, ArithmeticError) as error:
        raise BadRequestError(MALFORMED) from error
    if not isinstance(document, dict) or not is_text(document, text):
        raise BadRequestError(MALFORMED)
    return document


def is_text(document: Any, text: str) -> bool:
    """Tell whether every text of a JSON document can be written again: an escape may name half a character."""
    if "\\u" not in text and text.isascii():
        return True
    try:
        msgspec.json.encode(document)
    except (ValueError, RecursionError):
        return False
    return True


class Fields:
    """The fields of one `params` object."""

    def __init__(self, values: Any, method: str) -> None:
        if not isinstance(values, dict):
            raise BadRequestError(MALFORMED)
        self._values: dict[str, Any] = values
        self._method = method
        self._known: set[str] = set()

    def has(self, name: str) -> bool:
        """Tell whether a field is present and not null."""
        self._known.add(name)
        return self._values.get(name) is not None

    def need(self, name: str) -> None:
        """Refuse the request when a field is absent."""
        if not self.has(name):
            raise BadRequestError(f"Missing field: '{name}' for the given msg type: {self._method}")

    def text(self, name: str, default: str | None = None, *, of: tuple[str, ...] = ()) -> str | None:
        """Return a text field, one of `of` when given."""
        if not self.has(name):
            return default
        value = self._values[name]
        if not isinstance(value, str):
            raise BadRequestError(f"{name.capitalize()} field must be a string")
        if of and value not in of:
            raise BadRequestError(f"EGeneral:Invalid arguments:{name}")
        return value

    def number(self, name: str) -> Decimal | None:
        """Return a number field exactly; a text is refused even when it looks like a number."""
        if not self.has(name):
            return None
        value = self._values[name]
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise BadRequestError(f"{name.capitalize()} field must be a number_float")
        return Decimal(value)

    def integer(self, name: str) -> int | None:
        """Return an integer field."""
        if not self.has(name):
            return None
        value = self._values[name]
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadRequestError(f"{name.capitalize()} field must be a number_integer")
        return value

    def flag(self, name: str, *, default: bool) -> bool:
        """Return a boolean field."""
        if not self.has(name):
            return default
        value = self._values[name]
        if not isinstance(value, bool):
            raise BadRequestError(f"{name.capitalize()} field must be a boolean")
        return value

    def texts(self, name: str) -> list[str]:
        """Return a list of texts; empty when absent."""
        if not self.has(name):
            return []
        value = self._values[name]
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise BadRequestError(f"{name.capitalize()} field must be an array of strings")
        return _bounded(name, value)

    def integers(self, name: str) -> list[int]:
        """Return a list of integers; empty when absent."""
        if not self.has(name):
            return []
        value = self._values[name]
        if not isinstance(value, list) or any(isinstance(i, bool) or not isinstance(i, int) for i in value):
            raise BadRequestError(f"{name.capitalize()} field must be an array of integers")
        return _bounded(name, value)

    def nested(self, name: str) -> Fields | None:
        """Return the fields of an object inside."""
        return Fields(self._values[name], self._method) if self.has(name) else None

    def finish(self) -> None:
        """Refuse fields that nobody asked for."""
        for name in self._values:
            if name not in self._known:
                raise BadRequestError(f"Unsupported field: '{name}' for the given msg type: {self._method}")


def _bounded(name: str, values: list[T]) -> list[T]:
    if len(values) > MAX_LISTED:
        raise BadRequestError(f"EGeneral:Invalid arguments:{name}")
    return values


def _refuse_constant(text: str) -> float:
    raise ValueError(text)
