"""An event sink that keeps what it was told."""

from __future__ import annotations

from typing import Any


class Events:
    """Implements `EventSink`; `rows` are (name, fields) in order."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, dict[str, Any]]] = []

    def emit(self, name: str, **fields: object) -> None:
        self.rows.append((name, fields))

    def names(self) -> list[str]:
        return [name for name, _ in self.rows]

    def of(self, name: str) -> list[dict[str, Any]]:
        return [fields for found, fields in self.rows if found == name]
