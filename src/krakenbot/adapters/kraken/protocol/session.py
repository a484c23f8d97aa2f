"""The contract between a Sans-I/O session and the socket that carries it.

A session is made anew for every connection. The shell calls `receive` for every text frame, then sends whatever
`to_send` returns, calls `on_deadline` when `next_deadline` has passed, and closes the socket as soon as
`close_reason` is not None. Sessions never raise for what the venue sends: bad input is counted, named in an event,
or becomes a close reason.
"""

from __future__ import annotations

from typing import Protocol


class Session(Protocol):
    """One connection's protocol state."""

    def receive(self, text: str | bytes, now_mono: float) -> None:
        """Take one frame as received."""

    def to_send(self) -> list[str]:
        """Return and forget the frames to be sent, in order."""

    def next_deadline(self) -> float | None:
        """Return the monotonic time at which `on_deadline` wants to be called; None when nothing is due."""

    def on_deadline(self, now_mono: float) -> None:
        """Take notice that a deadline has passed: liveness, acks, resubscribes."""

    @property
    def close_reason(self) -> str | None:
        """Return why the connection must be closed; None while it is good."""


class Tap:
    """A session as its connection sees it: hands everything on; subclasses add what they do beside it."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def receive(self, text: str | bytes, now_mono: float) -> None:
        """Hand on one frame."""
        self._session.receive(text, now_mono)

    def to_send(self) -> list[str]:
        """Return the session's frames."""
        return self._session.to_send()

    def next_deadline(self) -> float | None:
        """Return the session's next deadline."""
        return self._session.next_deadline()

    def on_deadline(self, now_mono: float) -> None:
        """Hand on that a deadline has passed."""
        self._session.on_deadline(now_mono)

    @property
    def close_reason(self) -> str | None:
        """Return the session's reason."""
        return self._session.close_reason
