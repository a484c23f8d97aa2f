"""The processes: what has to be opened is opened, the container is wired, the engine runs until a signal.

Each function ends when its engine ends or a signal comes; clean-up is the engines' own and shielded.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack

import anyio

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.kraken.rest import KrakenRest
from krakenbot.adapters.postgres.databases import Databases, ProcessKind
from krakenbot.adapters.telemetry.events import StructuredEvents
from krakenbot.apps.container import ExecutionContainer, IngestContainer, make_events, make_rest
from krakenbot.apps.databases import process_databases
from krakenbot.apps.doctor.start import check_start
from krakenbot.apps.lifecycle import run_until_signal
from krakenbot.apps.process_memory import map_large_blocks
from krakenbot.apps.settings import Settings
from krakenbot.domain.engine.ingest import IngestEngine
from krakenbot.domain.engine.supervise import ExecutionEngine
from krakenbot.domain.errors import ConfigError, VenueRejected, VenueUnavailable

KEY_RETRY_S = 2.0
Engine = IngestEngine | ExecutionEngine
EngineMaker = Callable[
    [Settings, SystemClock, StructuredEvents, Databases, AsyncExitStack], Coroutine[None, None, Engine]
]


async def run_ingest(settings: Settings) -> None:
    """Run ingest alone."""
    await _run(settings, "ingest", ProcessKind.INGEST, _ingest_engine)


async def run_execution(settings: Settings) -> None:
    """Run execution alone, on the epochs that an ingest elsewhere publishes."""
    settings.require_execution()
    await _run(settings, "execution", ProcessKind.EXECUTION, _execution_engine)


async def run_both(settings: Settings) -> None:
    """Run ingest and execution in one process; when one ends in an error, both end."""
    settings.require_execution()
    await _run(settings, "live", ProcessKind.BOTH, _ingest_engine, _execution_engine)


async def _run(settings: Settings, process: str, kind: ProcessKind, *makers: EngineMaker) -> None:
    """Open what the engines need, run them side by side until one ends or a signal comes, and say why it ended."""
    map_large_blocks()
    clock = SystemClock()
    events = make_events(settings, clock, process)

    async def work() -> None:
        async with AsyncExitStack() as stack:
            databases = await stack.enter_async_context(process_databases(settings, kind))
            engines = [await make(settings, clock, events, databases, stack) for make in makers]
            async with anyio.create_task_group() as tasks:
                for engine in engines:
                    tasks.start_soon(engine.run)

    # Within this all that matters at the venue is done; what is left then only waits for databases.
    stop_most_s = None if settings.execution is None else settings.execution.stop_timeout_s * 2
    events.emit("process_stopped", reason=await run_until_signal(work, stop_most_s))


async def _ingest_engine(
    settings: Settings, clock: SystemClock, events: StructuredEvents, databases: Databases, stack: AsyncExitStack
) -> IngestEngine:
    rest = await open_ingest_rest(settings, clock, events, stack, doing="running with")
    container = IngestContainer(settings=settings, clock=clock, events=events, databases=databases, rest=rest)
    stack.push_async_callback(container.answers().aclose)
    return container.engine()


async def _execution_engine(
    settings: Settings, clock: SystemClock, events: StructuredEvents, databases: Databases, stack: AsyncExitStack
) -> ExecutionEngine:
    keys = settings.keys
    if not keys.execution_api_key:
        raise ConfigError("keys.execution_api_key is not set: execution needs an API key of its own")
    rest = await stack.enter_async_context(
        make_rest(settings, clock, keys.execution_api_key, keys.execution_api_secret)
    )
    await check_start(settings, clock, events, rest, databases)
    container = ExecutionContainer(settings=settings, clock=clock, events=events, databases=databases, rest=rest)
    stack.push_async_callback(container.state_store().aclose)
    return container.engine()


async def open_ingest_rest(
    settings: Settings, clock: SystemClock, events: StructuredEvents, stack: AsyncExitStack, *, doing: str
) -> KrakenRest:
    """Return a REST client with ingest's key, checked; without a key say what we are `doing` instead of level3."""
    keys = settings.keys
    rest = await stack.enter_async_context(make_rest(settings, clock, keys.ingest_api_key, keys.ingest_api_secret))
    if keys.ingest_api_key:
        await refuse_withdrawal(rest, "ingest", clock, events)
    else:
        events.emit("level3_off", reason=f"no ingest API key: {doing} L2, ticker and trades")
    return rest


async def refuse_withdrawal(rest: KrakenRest, process: str, clock: SystemClock, events: StructuredEvents) -> None:
    """Ask what the key may do; raises ConfigError when it may move funds, or when the venue refuses it.

    Waits for a venue that is away: nothing works before it answers.
    """
    while True:
        try:
            info = await rest.api_key_info()
        except VenueUnavailable as exc:
            events.emit("start_waiting", step="api key", reason=str(exc))
            await clock.sleep(KEY_RETRY_S)
            continue
        except VenueRejected as exc:
            raise ConfigError(f"the venue refuses the {process} API key: {exc.reason}") from exc
        if info.may_move_funds:
            raise ConfigError(
                f"the {process} API key may move funds ({', '.join(sorted(info.permissions))}): "
                "make a key without deposit and withdrawal rights"
            )
        return
