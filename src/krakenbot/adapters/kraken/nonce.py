"""Nonces of one API key: strictly increasing, also over restarts and clocks that were set back.

Enters: the clock and an optional state file. Leaves: `max(now_ns, last + 1)`. One source per key; rest.py calls it
while it holds the key's lock. Without the file a clock set back by an hour locks the key out for an hour, since
Kraken refuses every nonce that is not above the last.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import Final

from krakenbot.domain.errors import ConfigError
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import NS_PER_S
from krakenbot.ports.clock import Clock

_RESERVE_NS: Final = 10 * NS_PER_S
_MAX_NONCE: Final = 2**64 - 1


class NonceSource:
    """Make the nonces of one key.

    The state file holds a ceiling that no nonce ever made exceeds; it is raised ten seconds ahead at a time, so that
    most nonces cost no write. It is not fsynced: only the loss of the machine within ten seconds of a step of its
    clock could bring a nonce back.
    """

    def __init__(self, *, clock: Clock, state_file: Path | None = None) -> None:
        self._clock = clock
        self._state_file = state_file
        self._ceiling = _read(state_file) if state_file is not None else 0
        self._last = self._ceiling

    def next(self) -> int:
        """Return the next nonce; raises ConfigError when the state file cannot be written."""
        nonce = max(self._clock.now_ns(), self._last + 1)
        if nonce > _MAX_NONCE:
            raise ConfigError("the nonce has passed 64 bits: check the clock and the nonce state file")
        if self._state_file is not None and nonce > self._ceiling:
            self._ceiling = nonce + _RESERVE_NS
            _write(self._state_file, self._ceiling)
        self._last = nonce
        return nonce


def nonces_are_ahead(state_file: Path, now_ns: int) -> bool:
    """Tell whether a key's nonces have left the clock behind: the clock was set back. Raises ConfigError."""
    return _read(state_file) > now_ns + _RESERVE_NS


def nonce_state_file(directory: Path, api_key: Secret) -> Path:
    """Return the state file of a key in a directory; its name does not show the key."""
    digest = hashlib.sha256(b"krakenbot nonce " + api_key.reveal().encode()).hexdigest()
    return directory / f"nonce-{digest[:16]}"


def _read(path: Path) -> int:
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return 0
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the nonce state file {path} cannot be read: {error}") from error
    if not text.isdigit() or int(text) > _MAX_NONCE:
        raise ConfigError(f"the nonce state file {path} does not hold a nonce: repair it or make a new API key")
    return int(text)


def _write(path: Path, ceiling: int) -> None:
    # a rename replaces the file whole: a process killed here leaves the old or the new ceiling
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(str(ceiling), encoding="ascii")
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise ConfigError(f"the nonce state file {path} cannot be written: {error}") from error
