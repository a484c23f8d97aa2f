"""How a process that receives for months keeps its memory.

Enters: nothing. Leaves: a setting of the C library. Called once when an engine's process begins.
"""

from __future__ import annotations

import ctypes
from typing import Final

MAPPED_FROM_BYTES: Final = 128 * 1024
"""glibc's own first value; blocks from here on are mapped, and given back when they are freed."""
_M_MMAP_THRESHOLD: Final = -3


def map_large_blocks() -> bool:
    """Have malloc map every large block on its own, for ever; False where the C library has no such setting.

    asyncio takes 256 KiB for every read of a socket and cuts them down to what came. glibc raises its threshold once a
    larger block was freed; then these blocks are cut out of the heap, whose holes what lives longer fills, and the
    heap grew by 1 to 2 MiB/min with nothing more in use. A threshold that is set stays.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, MAPPED_FROM_BYTES))
