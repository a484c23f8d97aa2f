"""Turn the driver's errors into ours, once.

Enters: whatever psycopg or the pool raises. Leaves: StoreConflict with the constraint's name, StoreUnavailable, or
StoreError for what the schema or the rights do not allow. Called around every unit of work.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from krakenbot.domain.errors import StoreConflict, StoreError, StoreUnavailable


@contextmanager
def translated() -> Iterator[None]:
    """Raise our errors in place of the driver's; others pass."""
    try:
        yield
    except psycopg.errors.IntegrityError as error:
        raise StoreConflict(error.diag.constraint_name or error.sqlstate or "", str(error)) from error
    except psycopg.DataError as error:
        raise StoreConflict(error.sqlstate or "", str(error)) from error
    except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError) as error:
        # libpq writes a line per address that it tried, and hints; a person and the log read one.
        raise StoreUnavailable(" ".join(str(error).split()) or type(error).__name__) from error
    except psycopg.Error as error:
        raise StoreError(f"{type(error).__name__}: {error}") from error
    except (TimeoutError, OSError) as error:
        raise StoreUnavailable(str(error) or type(error).__name__) from error
