"""Collect garbage in small portions, so that no request waits for a long one.

Python counts objects made less objects freed. A venue frees about as many orders as it makes: left alone, the
collector comes rarely and then walks over everything made since, for tens of milliseconds. The process of the
exchange runs `collect_garbage` beside the server.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import anyio

PORTION_S: Final = 0.05
OLDER_EVERY: Final = 10
ALL_EVERY: Final = 6000
"""Every five minutes: what closed connections leave behind goes then, and everybody waits for it once."""
_NEVER: Final = 1_000_000


@contextmanager
def lasting_objects() -> Iterator[None]:
    """Take what exists out of the collector's sight inside the block, and leave whole collections to the schedule."""
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*thresholds[:2], _NEVER)
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


async def collect_garbage() -> None:
    """Collect the youngest objects often, older ones sometimes, all of them rarely; ends by cancellation."""
    number = 0
    while True:
        await anyio.sleep(PORTION_S)
        number += 1
        gc.collect(2 if number % ALL_EVERY == 0 else 1 if number % OLDER_EVERY == 0 else 0)
