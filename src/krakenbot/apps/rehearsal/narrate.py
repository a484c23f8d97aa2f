"""The running account of a rehearsal: JSON event lines in, one readable line each out.

A line says when, who, what, which symbol, and why. Lines that are not events are shown as they are.
"""

from __future__ import annotations

import json
import threading
from typing import TextIO

QUIET = frozenset({"status_not_published"})
_WIDTH_EVENT = 24
_WIDTH_SYMBOL = 11
_FIRST = ("timestamp", "level", "process", "event", "symbol", "reason")


class Narrator:
    """Prints events of all processes, from their reader threads; never raises for what it is given."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self.events: dict[str, int] = {}

    def line(self, process: str, text: str) -> None:
        """Take one output line of a process."""
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict) or "event" not in event:
            self.say(process, text)
            return
        name = str(event["event"])
        with self._lock:
            self.events[name] = self.events.get(name, 0) + 1
        if name not in QUIET:
            self._print(_clock(str(event.get("timestamp", ""))), str(event.get("process", process)), name, event)

    def say(self, process: str, text: str) -> None:
        """Print a plain line."""
        self.write(f"{'':12}  {process:<9} {text}")

    def write(self, text: str) -> None:
        """Write a text as it is; a reader that has gone away is no failure."""
        try:
            with self._lock:
                self._stream.write(text + "\n")
                self._stream.flush()
        except (OSError, ValueError):  # a closed pipe must not end the run before its report
            return

    def _print(self, clock: str, process: str, name: str, event: dict[str, object]) -> None:
        symbol = str(event.get("symbol", ""))
        why = str(event.get("reason", ""))
        rest = "  ".join(f"{key}={_short(value)}" for key, value in event.items() if key not in _FIRST)
        detail = "  ".join(part for part in (why, rest) if part)
        self.write(f"{clock:<12}  {process:<9} {name:<{_WIDTH_EVENT}} {symbol:<{_WIDTH_SYMBOL}} {detail}".rstrip())


def _clock(timestamp: str) -> str:
    return timestamp[11:23]


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"))
    return str(value)
