"""Running until told to stop: SIGINT and SIGTERM end a process in order, a second one or the end of a budget at once.

Entered by the processes. Theory of the budget: what is cleaned up first matters at the venue, what comes last only
waits for databases, and one that hangs holds up each of them for its own timeout. A process that is killed loses
nothing that the next start does not find again, so the whole is cut off.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import NoReturn

import anyio
from anyio.abc import TaskStatus


async def run_until_signal(work: Callable[[], Awaitable[None]], stop_most_s: float | None = None) -> str:
    """Run `work` until it returns or a signal comes; return why it ended.

    The first signal cancels `work`, whose own clean-up is shielded; the second one ends the process without it.
    Embedded clusters notice the end of their parent and stop by themselves. A stop that takes longer than `stop_most_s`
    ends the process too, with a line on stderr and status 1; None lets it take its time.
    """
    reason = "finished"
    async with anyio.create_task_group() as tasks:

        async def watch(task_status: TaskStatus[None]) -> None:
            nonlocal reason
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                task_status.started()
                async for number in signals:
                    if reason != "finished":
                        _end(128 + number)
                    reason = signal.Signals(number).name
                    worker.cancel()
                    if stop_most_s is not None:
                        tasks.start_soon(_end_after, stop_most_s)

        worker = anyio.CancelScope()
        await tasks.start(watch)  # before any work, which a signal would otherwise cut short
        with worker:
            await work()
        tasks.cancel_scope.cancel()
    return reason


async def _end_after(stop_most_s: float) -> None:
    await anyio.sleep(stop_most_s)
    with suppress(OSError):
        sys.stderr.write(f"the stop took longer than {stop_most_s:g} s and was cut off\n")
    _end(1)


def _end(status: int) -> NoReturn:
    with suppress(OSError):  # the output may be what hangs
        sys.stdout.flush()
    os._exit(status)
