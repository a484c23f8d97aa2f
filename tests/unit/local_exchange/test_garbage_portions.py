"""The collector of the exchange's process: portions by schedule, and what was frozen is given back."""

from __future__ import annotations

import gc
import weakref

import anyio
import pytest

from krakenbot.adapters.local_exchange import garbage


class Loop:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def anyio_backend():
    return "asyncio"


def test_lasting_objects_are_out_of_sight_inside_the_block_only():
    thresholds = gc.get_threshold()

    with garbage.lasting_objects():
        inside = (gc.get_freeze_count(), gc.get_threshold())

    assert inside[0] > 1000
    assert inside[1][:2] == thresholds[:2]
    assert inside[1][2] > 10_000
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() == 0


@pytest.mark.anyio
async def test_a_cycle_that_survived_both_young_generations_goes_with_a_whole_collection(monkeypatch):
    monkeypatch.setattr(garbage, "PORTION_S", 0.001)
    monkeypatch.setattr(garbage, "ALL_EVERY", 3)
    one = Loop()
    reference = weakref.ref(one)
    gc.collect()
    del one

    gc.disable()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(garbage.collect_garbage)
            with anyio.move_on_after(10):
                while reference() is not None:
                    await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    finally:
        gc.enable()

    assert reference() is None
