"""A process that writes trades without end and says how many it has spooled; a test kills it, or it does so itself."""

from __future__ import annotations

import os
import signal
import sys
from decimal import Decimal
from pathlib import Path

import anyio

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.postgres.copy_writer import PostgresSampleSink, SpoolPlace
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.telemetry.events import StructuredEvents
from krakenbot.domain.market.samples import TradeSample
from krakenbot.domain.values import RunId, Side, Symbol


async def main(url: str, folder: str, run_id: str, end: str) -> None:
    sink = PostgresSampleSink(
        Database(url, name="killed", unit_timeout_s=5),
        events=StructuredEvents(clock=SystemClock(), stream=sys.stderr, process="killed", as_json=True),
        batch_s=0.005,
        batch_rows=50,
        spool=SpoolPlace(folder=Path(folder)),
        spool_after_s=0.0,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sink.run)
        for start in range(1, 100_000, 10):
            trades = [
                TradeSample(
                    symbol=Symbol("BTC/USD"),
                    trade_id=number,
                    side=Side.SELL,
                    price=Decimal("2.5"),
                    qty=Decimal(1),
                    at_ns=number,
                    received_at_ns=number,
                )
                for number in range(start, start + 10)
            ]
            sink.put(RunId(int(run_id)), trades)
            await anyio.sleep(0.002)
            if start == 201:
                await sink.flush()
                sys.stdout.write("started\n")
                sys.stdout.flush()
            if (spooled := sink.stats().spooled) > 0:
                sys.stdout.write(f"spooled{spooled}\n")
                sys.stdout.flush()
                if end == "dies in the replay" and sink.stats().replayed:
                    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4])
