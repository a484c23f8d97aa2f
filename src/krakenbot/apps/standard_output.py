"""Give standard output errors of its own: a full disk behind it is no fault of ours and has no name by itself.

The command line sets it up before any command runs, and turns `OutputError` into one line and an exit status.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import Any


class OutputError(OSError):
    """Standard output cannot be written; `is_reader_gone` when that is because nobody reads it any more."""

    @property
    def is_reader_gone(self) -> bool:
        """Tell whether the other end of a pipe was closed, as `head` does."""
        return self.errno == errno.EPIPE


def watch_standard_output() -> None:
    """Let every failed write of `sys.stdout` raise OutputError; raises it at once when there is none."""
    if sys.stdout is None:
        raise OutputError(errno.EBADF, "it is closed")
    if not isinstance(sys.stdout, io.TextIOWrapper):
        return  # replaced in this process, by a test for one
    old = sys.stdout
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(old.fileno(), "wb", closefd=False)),
        encoding=old.encoding,
        errors=old.errors,
        line_buffering=old.line_buffering,
    )


def discard_standard_output() -> None:
    """Let what is still buffered go nowhere, so that the interpreter's last flush does not fail again."""
    if sys.stdout is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


class _Output(io.FileIO):
    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OutputError(error.errno, error.strerror) from error
