"""Structured log lines: one event name plus fields, for people or as JSON.

Enters: `EventSink.emit`. Leaves: one line on a stream. Values of type `Secret` print masked, and every text that was
registered as secret is masked wherever it appears.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import TextIO

import structlog

from krakenbot.ports.clock import Clock

MASK = "****"


class StructuredEvents:
    """Writes events to a stream; implements `EventSink`.

    `secrets` are texts that must never be printed. A stream that cannot be written to is counted, not raised.
    """

    def __init__(
        self, *, clock: Clock, stream: TextIO, process: str, as_json: bool, secrets: Iterable[str] = ()
    ) -> None:
        self._clock = clock
        self._process = process
        self._secrets = tuple(sorted({text for text in secrets if text}, key=len, reverse=True))
        renderer: structlog.typing.Processor = (
            structlog.processors.JSONRenderer(default=_plain)
            if as_json
            else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=24, sort_keys=False)
        )
        self._log = structlog.wrap_logger(
            structlog.WriteLogger(stream),
            processors=[self._mask, renderer],
            wrapper_class=structlog.BoundLogger,
        )
        self.lost = 0

    def emit(self, name: str, **fields: object) -> None:
        """Write one line."""
        stamp = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        try:
            self._log.msg(name, timestamp=stamp, process=self._process, **fields)
        except (OSError, ValueError):
            self.lost += 1

    def _mask(self, _logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if not self._secrets:
            return event
        return {key: self._masked(value) for key, value in event.items()}

    def _masked(self, value: object) -> object:
        if isinstance(value, bool | int | float) or value is None:
            return value
        text = value if isinstance(value, str) else json.dumps(value, default=_plain)
        clean = text
        for secret in self._secrets:
            clean = clean.replace(secret, MASK)
        return value if clean == text else clean


def _plain(value: object) -> object:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
