"""Where the engine says what happened, for people: one event name and its fields."""

from __future__ import annotations

from typing import Protocol


class EventSink(Protocol):
    """A sink of named events; logs and the running account of a rehearsal read from it.

    Names are snake_case and fields are plain JSON values. A sink must not raise and must not wait.
    """

    def emit(self, name: str, **fields: object) -> None:
        """Take one event."""
