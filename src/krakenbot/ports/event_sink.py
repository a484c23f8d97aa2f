"""Events for people: one name and fields per line."""

from __future__ import annotations

from typing import Protocol


class EventSink(Protocol):
    """Where the engine says what happens; emitting never raises and never waits."""

    def emit(self, name: str, **fields: object) -> None:
        """Say that something happened; `name` is snake_case, fields are plain values."""
