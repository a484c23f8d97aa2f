"""Become PostgreSQL: give up root where need be, ask to be stopped with the parent, then exec.

Enters: MODE PARENT_PID PROGRAM [ARG ...] on the command line. Leaves: the program in place of this process, or exit
status 97 and one line on stderr. Run as a script by `embedded.py` (`python -I -S launch.py`), so that the steps
between fork and exec run in a process of one thread and the program is a direct child of its owner.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys
from pathlib import Path

LAUNCH_FAILED = 97
MODES = ("plain", "namespace", "user")
"""plain: as we are; namespace: root seen as another user inside a user namespace; user: really another user."""

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1


def unprivileged_user() -> pwd.struct_passwd:
    """Return the account that stands in for root: nobody, else the first that is not root."""
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        return next(entry for entry in pwd.getpwall() if entry.pw_uid != 0)


def _enter_namespace() -> None:
    user = unprivileged_user()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWUSER) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")
    Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
    Path("/proc/self/uid_map").write_text(f"{user.pw_uid} 0 1", encoding="ascii")
    Path("/proc/self/gid_map").write_text(f"{user.pw_gid} 0 1", encoding="ascii")


def _become_user() -> None:
    user = unprivileged_user()
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)


def _die_with_parent(parent_pid: int) -> None:
    # After the change of user, which clears the wish. SIGINT is PostgreSQL's fast shutdown.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != parent_pid:
            raise OSError("the parent has gone")


def main(arguments: list[str]) -> None:
    """Change into `MODE` and exec the program; never returns when all goes well."""
    mode, parent_pid, program = arguments[0], int(arguments[1]), arguments[2:]
    if mode not in MODES:
        sys.exit(LAUNCH_FAILED)
    try:
        match mode:
            case "namespace":
                _enter_namespace()
            case "user":
                _become_user()
        _die_with_parent(parent_pid)
        os.execv(program[0], program)  # noqa: S606 # no shell is wanted; the program is our own choice
    except (OSError, StopIteration) as error:
        sys.stderr.write(f"launch: {mode}: {error}\n")
        sys.exit(LAUNCH_FAILED)


if __name__ == "__main__":
    main(sys.argv[1:])
