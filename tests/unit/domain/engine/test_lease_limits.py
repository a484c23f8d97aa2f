"""The lease by our own clock: it counts from the question, and a rival at the venue ends what the database cannot."""

# mypy: disable-error-code="arg-type"
from __future__ import annotations

import anyio

from krakenbot.domain.execution.applied import Applied
from krakenbot.domain.execution.reports import ExecType, ExecutionReport


async def test_renewed_lease_counts_from_the_question_not_from_the_answer(world):
    """The database set the end when it was asked: what the answer took is not ours to use."""
    renew = world.lease.renew

    async def slow(lease_epoch, ttl_s):
        await anyio.sleep(1.0)
        await renew(lease_epoch, ttl_s)

    async with world.running() as engine:
        world.lease.renew = slow
        await anyio.sleep(4.0)
        youngest_s = engine.lease.age_s
        for _ in range(200):
            await anyio.sleep(0.05)
            youngest_s = min(youngest_s, engine.lease.age_s)

    assert youngest_s >= 1.0


async def test_own_order_without_a_row_while_the_lease_has_run_out_ends_exits_too(world):
    engine = world.engine
    await engine.lease.acquire()
    report = ExecutionReport(
        order_id="O-7", exec_type=ExecType.NEW, at=world.clock.now(), cl_ord_id="kbe999999999999", symbol="ABC/USD"
    )
    engine.lease._renewed_mono -= 60.0
    engine.lease._away_mono = world.clock.mono()
    before = await engine.lease.may_act(0.1)
    engine.recorder.take(Applied(strangers=(report,)))

    assert before
    assert not await engine.lease.may_act(0.1)
