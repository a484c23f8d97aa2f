"""Structured log lines: one event name plus fields, for people or as JSON.

Enters: `EventSink.emit`. Leaves: one line on a stream. Values of type `Secret` print masked, and every text that was
registered as secret is masked wherever a field holds it, however deep.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import TextIO

import structlog

from krakenbot.adapters.telemetry.catalogue import level_of
from krakenbot.ports.clock import Clock

MASK = "****"
_MAX_DEPTH = 8
_OWN_FIELDS = frozenset({"event", "timestamp", "level", "process"})


def mask_secrets(text: str, secrets: Iterable[str]) -> str:
    """Return a text with every secret in it masked, also as Python quotes it; longer ones first."""
    forms = {form for secret in secrets for form in (secret, repr(secret)[1:-1])}
    for secret in sorted(filter(None, forms), key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


class StructuredEvents:
    """Writes events to a stream; implements `EventSink`.

    `secrets` are texts that must never be printed. A stream that cannot be written to is counted, not raised.
    """

    def __init__(
        self, *, clock: Clock, stream: TextIO, process: str, as_json: bool, secrets: Iterable[str] = ()
    ) -> None:
        self._clock = clock
        self._process = process
        self._secrets = frozenset(secrets)
        renderer: structlog.typing.Processor = (
            structlog.processors.JSONRenderer()
            if as_json
            else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=24, sort_keys=False)
        )
        self._log = structlog.wrap_logger(
            structlog.WriteLogger(stream),
            processors=[self._plain_fields, renderer],
            wrapper_class=structlog.BoundLogger,
        )
        self.lost = 0

    def emit(self, name: str, **fields: object) -> None:
        """Write one line."""
        stamp = self._clock.now().strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        try:
            self._log.msg(name, timestamp=stamp, level=level_of(name).value, process=self._process, **fields)
        except (OSError, ValueError):
            self.lost += 1

    def _plain_fields(
        self, _logger: object, _method: str, event: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        return {key: value if key in _OWN_FIELDS else self._plain(value, 0) for key, value in event.items()}

    def _plain(self, value: object, depth: int) -> object:
        """Return a value as JSON can hold it, masked; what is no JSON value becomes text before it is masked."""
        match value:
            case None | bool() | int():
                return value
            case float() if math.isfinite(value):
                return value
            case datetime():
                return value.isoformat()
            case bytes():
                return self._masked(value.decode(errors="replace"))
            case Mapping() if depth < _MAX_DEPTH:
                return {self._masked(str(key)): self._plain(part, depth + 1) for key, part in value.items()}
            case list() | tuple() | set() | frozenset() if depth < _MAX_DEPTH:
                return [self._plain(part, depth + 1) for part in value]
            case _:
                return self._masked(str(value))

    def _masked(self, text: str) -> str:
        return mask_secrets(text, self._secrets)
