"""The `krakenbot` command: one function per verb; each loads settings, wires a container and runs it.

Exit status: 0 on a clean end, 1 on a failure that was named, 2 on settings or arguments that cannot be used; as a
shell has it, 130 when interrupted at once and 141 when the reader of the output has gone away.
"""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import anyio
from cyclopts import App, Parameter

from krakenbot.adapters.telemetry.events import mask_secrets
from krakenbot.apps import check_flow, databases, exchange, processes
from krakenbot.apps import record as recording
from krakenbot.apps.doctor.command import run_doctor
from krakenbot.apps.ledger import accept_difference
from krakenbot.apps.rehearsal.run import RehearsalOptions, rehearse_until_done
from krakenbot.apps.settings import Settings, load_settings
from krakenbot.apps.standard_output import OutputError, discard_standard_output, watch_standard_output
from krakenbot.apps.status import print_status
from krakenbot.apps.views.orders import print_order, print_orders
from krakenbot.apps.views.positions import print_positions
from krakenbot.apps.views.query import LIMIT_DEFAULT, Question
from krakenbot.apps.views.trades import print_trades
from krakenbot.domain.errors import ConfigError, InvariantViolated, KrakenbotError
from krakenbot.domain.values import Symbol

app = App(name="krakenbot", help="A queue-aware, hybrid maker trading engine for Kraken spot.")
exchange_app = App(name="exchange")
exchange_app.default(exchange.exchange)
exchange_app.command(check_flow.check_flow, name="check-flow")
app.command(exchange_app)
ledger_app = App(name="ledger", help="What the venue's ledger does not explain.")
app.command(ledger_app)

_ErrorT = TypeVar("_ErrorT", bound=BaseException)
Config = Annotated[Path | None, Parameter(name="--config", help="TOML file with settings.")]


@app.command(name="run-ingest")
def run_ingest(*, config: Config = None) -> int:
    """Ingest market data until stopped: books, samples, epochs and state."""
    return _run(config, processes.run_ingest)


@app.command(name="run-execution-only")
def run_execution_only(*, config: Config = None) -> int:
    """Decide and trade on the epochs that an ingest elsewhere publishes; needs the decision database only."""
    return _run(config, processes.run_execution)


@app.command(name="run-execution-live")
def run_execution_live(*, config: Config = None, ingest: bool = True) -> int:
    """Run ingest and execution in one process; --no-ingest attaches to a running ingest."""

    async def run(settings: Settings) -> None:
        if settings.process.execution_only or not ingest:
            await processes.run_execution(settings)
        else:
            await processes.run_both(settings)

    return _run(config, run)


@app.command
def migrate(*, config: Config = None) -> int:
    """Bring the databases to the schema of this version."""
    return _run(config, databases.migrate)


@app.command
def status(*, config: Config = None, json: bool = False) -> int:
    """Print what the processes last said of themselves, and why nothing is traded."""

    async def run(settings: Settings) -> None:
        await print_status(settings, as_json=json)

    return _run(config, run)


@app.command
def orders(
    *,
    id: Annotated[str | None, Parameter(name="--id")] = None,  # noqa: A002  # the name of the option
    symbol: str | None = None,
    state: str | None = None,
    since: str | None = None,
    limit: int = LIMIT_DEFAULT,
    config: Config = None,
    json: bool = False,
) -> int:
    """Show orders of the decision database, or everything that is known of one.

    Parameters
    ----------
    id
        Order whose whole record is shown: decision, events with times, fills.
    symbol
        Orders of one symbol.
    state
        Orders in one state, or live, or closed.
    since
        Orders made since then: 30m, 2h, 7d, or a time such as 2026-11-22T10:00.
    limit
        How many, the newest.
    """

    async def run(settings: Settings) -> None:
        asked = Question(symbol=symbol, state=state, since=since, limit=limit)
        if id is None:
            await print_orders(settings, asked, as_json=json)
        elif asked == Question():
            await print_order(settings, id, as_json=json)
        else:
            raise ConfigError("--id shows one order: leave out --symbol, --state, --since and --limit")

    return _run(config, run)


@app.command
def positions(*, symbol: str | None = None, config: Config = None, json: bool = False) -> int:
    """Show positions: cost with fees, how they are covered, worth at the last known bid."""

    async def run(settings: Settings) -> None:
        await print_positions(settings, symbol, as_json=json)

    return _run(config, run)


@app.command
def trades(
    *,
    symbol: str | None = None,
    since: str | None = None,
    limit: int = LIMIT_DEFAULT,
    config: Config = None,
    json: bool = False,
) -> int:
    """Show round trips: entry, exit, fees, net result, how they ended, markouts."""

    async def run(settings: Settings) -> None:
        await print_trades(settings, Question(symbol=symbol, since=since, limit=limit), as_json=json)

    return _run(config, run)


@ledger_app.command
def accept(*, asset: str, reason: str, by: str | None = None, config: Config = None) -> int:
    """Accept the difference between balance and ledger that stops an asset's entries, as it is shown now.

    Parameters
    ----------
    asset
        Asset that `krakenbot status` shows as not explained.
    reason
        Why it may stay; kept with the difference.
    by
        Who accepts it; without it the user of this login.
    """

    async def run(settings: Settings) -> None:
        await accept_difference(settings, asset=asset, reason=reason, who=by)

    return _run(config, run)


@app.command
def doctor(*, probe_holds: str | None = None, config: Config = None, json: bool = False) -> int:
    """Check keys, clock, exchange, account, databases and disks; exit status 1 when something failed.

    Parameters
    ----------
    probe_holds
        Symbol of a coin that the account holds: place a minimal stop far from the market, look whether it reserves
        the coin, and cancel it. An order of real money; only while no execution runs.
    """

    async def run(settings: Settings) -> int:
        return await run_doctor(settings, json=json, probe_holds_of=probe_holds)

    return _run(config, run)


@app.command
def record(
    folder: Path,
    *,
    symbol: Annotated[tuple[str, ...], Parameter(negative=(), show_default=False)] = (),
    part_mib: int = 256,
    part_age: float = 3600.0,
    duration: float | None = None,
    config: Config = None,
) -> int:
    """Record what Kraken sends, frame by frame, for `krakenbot exchange --flow playback` (docs/recording.md).

    Parameters
    ----------
    folder
        Folder of the recording; one that holds a recording of the same symbols is continued with its next part.
    symbol
        Symbol to record, as often as needed; without it those of ingest.symbols.
    part_mib
        A new part begins when one holds so many MiB of text.
    part_age
        A new part begins when one is so many seconds old.
    duration
        Seconds to record; without it until stopped.
    """

    async def run(settings: Settings) -> None:
        try:
            options = recording.RecordOptions(
                folder=folder,
                symbols=tuple(map(Symbol, symbol)),
                part_mib=part_mib,
                part_age_s=part_age,
                duration_s=duration,
            )
        except ValueError as error:
            raise ConfigError(str(error.args[0])) from error
        await recording.record(settings, options)

    return _run(config, run)


@app.command
def rehearse(
    *,
    duration: float = 60.0,
    symbols: int = 12,
    seed: int = 1,
    flow: Literal["seeded", "recorded"] = "seeded",
    profile: Literal["edge", "null", "toxic"] = "edge",
    report: Path | None = None,
    keep: bool = False,
) -> int:
    """Run the whole job on this machine against the local exchange, and report.

    Parameters
    ----------
    duration
        Seconds that execution runs.
    symbols
        Number of instruments that the exchange lists, 1 to 600.
    seed
        Seed of the order flow.
    flow
        Order flow: seeded from chosen parameters, or started from the recording (KRAKENBOT_RECORDINGS).
    profile
        Kind of market; the engine is not told.
    report
        File for the report as JSON.
    keep
        Keep databases, logs and the exchange's record afterwards.
    """
    if not 5.0 <= duration <= 86_400.0:
        return _refuse(f"--duration {duration:g}: allowed are 5 to 86400 seconds")
    if not 1 <= symbols <= 600:
        return _refuse(f"--symbols {symbols}: allowed are 1 to 600")
    options = RehearsalOptions(
        duration_s=duration, symbols=symbols, seed=seed, flow=flow, profile=profile, report=report, keep=keep
    )
    return _named(lambda: anyio.run(rehearse_until_done, options))


def main() -> None:
    """Run the command line and exit with its status."""
    code: int | None = None
    try:
        watch_standard_output()
        try:
            code = app(result_action="return_value")
        finally:
            sys.stdout.flush()
    except* OutputError as group:
        code = _say_output(group)
    except* KeyboardInterrupt:
        code = 128 + signal.SIGINT
    sys.exit(code)


def _say_output(group: BaseExceptionGroup[OutputError]) -> int:
    """Name what is wrong with standard output once; a reader that left (`krakenbot status | head`) is no fault."""
    discard_standard_output()
    error = _leaves(group)[0]
    if error.is_reader_gone:
        return 128 + signal.SIGPIPE
    print(f"krakenbot: standard output: {error.strerror}", file=sys.stderr)
    return 1


def _run(config: Path | None, command: Callable[[Settings], Awaitable[int | None]]) -> int:
    """Run a command with its settings; what it returns is the exit status, None is 0."""
    secrets: list[str] = []

    def run() -> int:
        settings, _ = load_settings(config)
        secrets.extend(settings.secret_texts())
        return anyio.run(command, settings) or 0

    try:
        return _named(run, secrets)
    except OutputError:
        raise
    except Exception as error:  # a bug shows itself, the secrets in its texts do not
        if isinstance(error, ExceptionGroup) and error.split(OutputError)[1] is None:
            raise
        print(mask_secrets(traceback.format_exc(), secrets), file=sys.stderr)
        return 1


def _named(run: Callable[[], int], secrets: Collection[str] = ()) -> int:
    """Turn the errors that we name into one message and an exit status; anything else is a bug and shows itself."""
    try:
        return run()
    except* ConfigError as group:
        return_code = _say(group, 2, secrets)
    except* InvariantViolated:
        raise
    except* KrakenbotError as group:
        return_code = _say(group, 1, secrets)
    return return_code


def _say(group: BaseExceptionGroup[KrakenbotError], code: int, secrets: Collection[str]) -> int:
    for error in _leaves(group):
        print(f"krakenbot: {mask_secrets(str(error), secrets)}", file=sys.stderr)
    return code


def _leaves(group: BaseExceptionGroup[_ErrorT]) -> list[_ErrorT]:
    found: list[_ErrorT] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            found += _leaves(error)
        else:
            found.append(error)
    return found


def _refuse(message: str) -> int:
    print(f"krakenbot: {message}", file=sys.stderr)
    return 2
