"""Running until told to stop: SIGINT and SIGTERM end a process in order, a second one at once."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio
from anyio.abc import TaskStatus


async def run_until_signal(work: Callable[[], Awaitable[None]]) -> str:
    """Run `work` until it returns or a signal comes; return why it ended.

    The first signal cancels `work`, whose own clean-up is shielded; the second one ends the process without it.
    Embedded clusters notice the end of their parent and stop by themselves.
    """
    reason = "finished"
    async with anyio.create_task_group() as tasks:

        async def watch(task_status: TaskStatus[None]) -> None:
            nonlocal reason
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                task_status.started()
                async for number in signals:
                    if reason != "finished":
                        with suppress(OSError):  # the output may be what hangs
                            sys.stdout.flush()
                        os._exit(128 + number)
                    reason = signal.Signals(number).name
                    worker.cancel()

        worker = anyio.CancelScope()
        await tasks.start(watch)  # before any work, which a signal would otherwise cut short
        with worker:
            await work()
        tasks.cancel_scope.cancel()
    return reason
