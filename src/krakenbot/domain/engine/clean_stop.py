"""The clean stop: what execution still does when it is told to end.

Enters: the parts of the execution engine, all still running. Leaves: no entry of ours at the venue, every position
with its stop, what is known committed; or, when the time is over, an event that names what is left. Called by
supervise.py.
"""

from __future__ import annotations

import anyio

from krakenbot.domain.engine.desk import OrderDesk
from krakenbot.domain.engine.exits import PositionMonitor
from krakenbot.domain.engine.reconcile import Reconciler
from krakenbot.domain.engine.recorder import Recorder
from krakenbot.domain.execution.order import OrderRole
from krakenbot.domain.execution.tracker import OrderTracker
from krakenbot.domain.values import ClOrdId
from krakenbot.ports.event_sink import EventSink

_LOOK_AGAIN_S = 1.0


async def stop_cleanly(
    *,
    desk: OrderDesk,
    tracker: OrderTracker,
    reconciler: Reconciler,
    monitor: PositionMonitor,
    recorder: Recorder,
    sink: EventSink,
    timeout_s: float,
) -> None:
    """Cancel own entries and confirm it, protect every position, commit what is known.

    `timeout_s` is shared out among the steps; the two that wait for the venue's last answers add a quarter to it, and
    a request that was sent is waited for in any case.
    """
    sink.emit("stopping")
    await _cancel_entries(desk, tracker, timeout_s / 2)
    if _entries_alive(tracker):
        with anyio.move_on_after(timeout_s / 4):
            await reconciler.reconcile()
    async with anyio.create_task_group() as last:
        # A connection that died under the first cancels may be back by now.
        last.start_soon(_cancel_entries, desk, tracker, timeout_s / 4)
        with anyio.move_on_after(timeout_s / 4):
            await monitor.protect_all()
    committed = await recorder.drain(timeout_s / 4)
    sink.emit(
        "stopped",
        entries_left=_entries_alive(tracker),
        positions=len(tracker.positions()),
        stops_left=[o.cl_ord_id for o in tracker.live() if o.role is OrderRole.PROTECTIVE_STOP],
        committed=committed,
    )


async def _cancel_entries(desk: OrderDesk, tracker: OrderTracker, timeout_s: float) -> None:
    """Cancel every entry; one that is not seen to end is asked for again."""

    async def cancel(cl_ord_id: ClOrdId) -> None:
        while not await desk.cancel_and_wait(cl_ord_id, _LOOK_AGAIN_S):
            pass

    with anyio.move_on_after(timeout_s):
        async with anyio.create_task_group() as cancels:
            for cl_ord_id in _entries_alive(tracker):
                cancels.start_soon(cancel, cl_ord_id)


def _entries_alive(tracker: OrderTracker) -> list[ClOrdId]:
    return [order.cl_ord_id for order in tracker.live() if order.role is OrderRole.ENTRY]
