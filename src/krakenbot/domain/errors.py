"""The error tree of krakenbot.

KrakenbotError
├─ InvariantViolated        our bug; ends the process, never caught
├─ Refused                  a rule said no: the gate of an order row, a lease, a limit
├─ VenueError
│  ├─ VenueUnavailable      not reachable or overloaded; a read may be tried again
│  ├─ VenueRejected         a definite no, with the venue's own words
│  ├─ OutcomeUnknown        a request was sent and nothing proves what became of it
│  └─ VenueProtocolError    the venue sent what its documentation does not allow
├─ StoreError
│  ├─ StoreUnavailable      the database is away
│  ├─ StoreConflict         a constraint said no
│  ├─ JournalFailed         the local journal cannot keep a record
│  └─ LeaseLost             another process leads
└─ ConfigError              settings that cannot be used
"""

from __future__ import annotations


class KrakenbotError(Exception):
    """Any error that krakenbot raises on purpose."""


class InvariantViolated(KrakenbotError):
    """Report a broken invariant of our own; never caught."""


class Refused(KrakenbotError):
    """Report that a rule said no; `code` is a blocker code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class VenueError(KrakenbotError):
    """Any error at or on the way to the venue."""


class VenueUnavailable(VenueError):
    """Report that the venue could not be reached or did not serve a read."""


class VenueRejected(VenueError):
    """Report a definite refusal; `reason` holds the venue's own words."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class OutcomeUnknown(VenueError):
    """Report that a sent request's outcome is not known; it is never a rejection and never resent."""

    def __init__(self, cl_ord_id: str, cause: str) -> None:
        super().__init__(f"{cl_ord_id}: {cause}")
        self.cl_ord_id = cl_ord_id
        self.cause = cause


class VenueProtocolError(VenueError):
    """Report a message that breaks the venue's own documentation."""


class StoreError(KrakenbotError):
    """Any error of a database."""


class StoreUnavailable(StoreError):
    """Report that the database is away; what was asked for may or may not have been committed."""


class SecondWriteFailed(StoreUnavailable):
    """Report that the ingest database has what the decision database still lacks: publishing is to be repeated."""


class StoreConflict(StoreError):
    """Report a violated constraint by its name."""

    def __init__(self, constraint: str, message: str = "") -> None:
        super().__init__(message or constraint)
        self.constraint = constraint


class JournalFailed(StoreError):
    """Report that the local journal cannot keep a record: the disk or its limit says no."""


class LeaseLost(StoreError):
    """Report that another process holds the lease, or that ours has expired; `holder` names it where it is known."""

    def __init__(self, message: str, *, holder: str | None = None) -> None:
        super().__init__(message)
        self.holder = holder


class ConfigError(KrakenbotError):
    """Report settings that cannot be used: key, value and what is allowed."""


def invariant(condition: object, invariant_id: str, message: str) -> None:
    """Raise InvariantViolated unless `condition` holds; unlike assert it survives `python -O`."""
    if not condition:
        raise InvariantViolated(f"{invariant_id}: {message}")
