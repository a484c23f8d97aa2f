"""What the consumer of the executions feed asks for: each sign of reports that may have been missed, by itself."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

import anyio
import pytest

from krakenbot.domain.execution.reports import ExecutionBatch


def batch(**fields):
    return ExecutionBatch(**({"reports": (), "is_snapshot": False, "gap": False, "sequence": 7} | fields))


@pytest.mark.parametrize(
    ("fields", "is_clean", "gaps"), [({}, True, 0), ({"is_snapshot": True}, False, 0), ({"gap": True}, False, 1)]
)
async def test_snapshot_and_gap_each_stop_entries_until_a_ladder_has_answered(world, fields, is_clean, gaps):
    async with world.running() as engine:
        before, told = engine.reconciler.ladders, len(world.events.of("executions_gap"))
        engine.executions.take(batch(**fields))

        assert is_clean is engine.reconciler.is_clean
        assert [{"sequence": 7}] * gaps == world.events.of("executions_gap")[told:]
        if not is_clean:
            await world.until(lambda: engine.reconciler.is_clean)

            assert engine.reconciler.ladders > before


async def test_feed_that_ends_stops_entries_at_once_and_is_opened_again(world):
    async with world.running() as engine:
        snapshots = engine.executions.snapshots
        world.venue._send.close()
        await anyio.sleep(0.5)

        assert not world.venue.is_connected
        assert not engine.reconciler.is_clean

        await world.until(lambda: engine.reconciler.is_clean)

    assert snapshots + 1 == engine.executions.snapshots
