"""A mark by which one process of a machine can prove that another one of it has ended.

Enters: nothing, or another's mark. Leaves: our own mark, or the proof. Called by the lease. Theory: a process is named
for good by the boot of its kernel, its namespaces of pids and of time, its pid and its start; a pid alone is given out
again, and a host name is shared by containers. Whatever can't be read proves nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

_START_FIELD = 19  # starttime, counted from the field after the name in brackets


def own_mark() -> str | None:
    """Return this process's mark; None where the system does not tell (no /proc)."""
    try:
        return f"{_place()}/{os.getpid()}/{_start(os.getpid())}"
    except (OSError, IndexError):
        return None


def has_ended(mark: str | None) -> bool:
    """Tell whether the process of a mark is known to have ended; False also when that can't be known from here."""
    place, _, process = (mark or "").rpartition("/")
    place, _, pid = place.rpartition("/")
    try:
        if not place or place != _place():
            return False
        return _start(int(pid)) != process
    except FileNotFoundError:
        return _is_gone(int(pid))
    except (OSError, IndexError, ValueError):
        return False


def _is_gone(pid: int) -> bool:
    """Tell whether a pid is nobody's; /proc may also hide the processes of other users."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


def _place() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}/{Path('/proc/self/ns/pid').readlink()},{Path('/proc/self/ns/time').readlink()}"


def _start(pid: int) -> str:
    # The name in brackets may hold spaces and brackets itself.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[_START_FIELD]
