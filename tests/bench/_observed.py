"""Run `krakenbot` with a watch on its event loop: `python -m tests.bench._observed OUT VERB ...`.

The program is the same; beside it a timer of the loop notes every 20 ms how late it fires, one line of JSON a second.
With KB_BENCH_PROFILE set the program runs under cProfile, whose figures go to that file.
"""

from __future__ import annotations

import asyncio
import cProfile
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

EVERY_S = 0.02
LINE_S = 1.0


def watch(loop: asyncio.AbstractEventLoop, out: Any) -> None:
    late_ms: list[float] = []
    line_due = loop.time() + LINE_S

    def tick(due: float) -> None:
        nonlocal line_due
        now = loop.time()
        late_ms.append(round(1e3 * (now - due), 2))
        if now >= line_due:
            out.write(json.dumps({"at_s": round(time.time(), 1), "late_ms": late_ms}) + "\n")  # noqa: TID251
            out.flush()
            late_ms.clear()
            line_due = now + LINE_S
        loop.call_at(now + EVERY_S, tick, now + EVERY_S)

    loop.call_later(0, tick, loop.time())


def main() -> None:
    out = Path(sys.argv.pop(1)).open("w")  # noqa: SIM115 - open as long as the process
    run_forever = asyncio.BaseEventLoop.run_forever

    def watched(loop: asyncio.BaseEventLoop) -> None:
        watch(loop, out)
        run_forever(loop)

    asyncio.BaseEventLoop.run_forever = watched  # type: ignore[method-assign,assignment]
    from krakenbot.__main__ import main as krakenbot

    profile = os.environ.get("KB_BENCH_PROFILE")  # noqa: TID251 - of the bench only
    if not profile:
        krakenbot()
        return
    profiler = cProfile.Profile()
    try:
        profiler.runcall(krakenbot)
    finally:
        profiler.dump_stats(profile)


if __name__ == "__main__":
    main()
