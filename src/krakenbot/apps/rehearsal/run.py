"""One rehearsal from start to report: clusters, exchange, ingest, execution, and the end in the right order.

`rehearse_until_done` orders the steps. Execution stops first (its entries are cancelled), then the exchange states its
record while ingest still runs, then the rest.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
import anyio.to_thread
import platformdirs
from attrs import define, field, frozen

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.postgres.embedded import EmbeddedCluster, Login
from krakenbot.apps.databases import embedded_clusters
from krakenbot.apps.rehearsal import setup
from krakenbot.apps.rehearsal.books import TradingBook
from krakenbot.apps.rehearsal.children import Child
from krakenbot.apps.rehearsal.collect import collect
from krakenbot.apps.rehearsal.exchange_truth import exchange_book, fetch_truth
from krakenbot.apps.rehearsal.narrate import Narrator
from krakenbot.apps.rehearsal.report import NOT_EVIDENCE, build_report, exit_status, render
from krakenbot.domain.errors import ConfigError, KrakenbotError, VenueUnavailable

READY_WAIT_S = 60.0
STOP_WAIT_S = 30.0
WATCH_INTERVAL_S = 0.1
_OWNER = "owner.pid"
_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "TZ", "KRAKENBOT_RECORDINGS", "XDG_DATA_HOME", "XDG_CACHE_HOME")


@frozen(kw_only=True)
class RehearsalOptions:
    """What a rehearsal is asked to do."""

    duration_s: float
    symbols: int
    seed: int
    flow: Literal["seeded", "recorded"]
    profile: Literal["edge", "null", "toxic"]
    report: Path | None
    keep: bool


@frozen(kw_only=True)
class Clusters:
    """The two running database clusters."""

    ingest: EmbeddedCluster
    decision: EmbeddedCluster


@define(kw_only=True)
class Stage:
    """What a running rehearsal consists of."""

    folder: Path
    narrator: Narrator
    children: list[Child] = field(factory=list)
    failures: list[str] = field(factory=list)

    def start(self, name: str, arguments: list[str], environment: Mapping[str, str] | None = None) -> Child:
        """Start one process; its lines go to the narrator."""
        child = Child(
            name,
            arguments,
            environment={**_environment(), **(environment or {})},
            error_file=self.folder / f"{name}.err",
            on_line=self.narrator.line,
        )
        self.children.append(child)
        return child

    async def stop(self, child: Child) -> None:
        """Stop a process; one that does not end cleanly is a failure of the rehearsal."""
        early = child.exit_code()
        code = await anyio.to_thread.run_sync(child.stop, STOP_WAIT_S)
        if child in self.children:
            self.children.remove(child)
        # Who dies of our SIGTERM did not listen yet, and listening comes before any work.
        if early is not None or code not in {0, -signal.SIGTERM}:
            text = f"{child.name} ended with status {code}" + (" before it was asked to" if early is not None else "")
            self.failures.append(text)
            self.narrator.say(child.name, f"{text}\n{child.error_tail()}")


async def rehearse_until_done(options: RehearsalOptions) -> int:
    """Run one rehearsal and return its exit status."""
    _check_report_path(options.report)
    clock = SystemClock()
    narrator = Narrator(sys.stdout)
    narrator.say("rehearsal", NOT_EVIDENCE)
    async with _folder(options.keep, narrator) as folder:
        stage = Stage(folder=folder, narrator=narrator)
        async with _interrupts() as interrupted, embedded_clusters(folder / "postgres") as (ingest, decision):
            narrator.say("postgres", f"two clusters run in {folder / 'postgres'}")
            clusters = Clusters(ingest=ingest, decision=decision)
            try:
                report = await _perform(options, stage, clock, clusters, interrupted)
            finally:
                with anyio.CancelScope(shield=True):
                    for child in reversed(list(stage.children)):
                        await stage.stop(child)
    if options.report is not None:
        options.report.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
    narrator.write(render(report))
    return exit_status(report)


async def _perform(
    options: RehearsalOptions,
    stage: Stage,
    clock: SystemClock,
    clusters: Clusters,
    interrupted: anyio.Event,
) -> dict[str, Any]:
    ingest_key, execution_key = setup.new_key_pair(), setup.new_key_pair()
    exchange, ready = await _start_exchange(options, stage, ingest_key, execution_key)
    settings_file = stage.folder / "settings.toml"
    setup.write_settings(settings_file, ready, stage.folder)
    setup.write_process_credentials(stage.folder, clusters.ingest, clusters.decision, ingest_key, execution_key)
    ingest = stage.start(
        "ingest", ["run-ingest", "--config", str(settings_file)], setup.credentials_environment(stage.folder, "ingest")
    )
    execution = stage.start(
        "execution",
        ["run-execution-only", "--config", str(settings_file)],
        setup.credentials_environment(stage.folder, "execution"),
    )
    started_mono = clock.mono()
    exit_reason = await _watch(options.duration_s, stage, clock, interrupted)
    ran_s = clock.mono() - started_mono
    stage.narrator.say("rehearsal", f"stopping: {exit_reason}")
    await stage.stop(execution)
    ended_at = clock.now()
    book = await _exchange_book(ready, stage)
    await stage.stop(ingest)
    await stage.stop(exchange)
    run = {
        "duration_s": round(ran_s, 3),
        "symbols": len(ready["symbols"]),
        "symbol_names": list(ready["symbols"]),
        "seed": options.seed,
        "flow": options.flow,
        "profile": options.profile,
        "settings_overrides": dict(setup.OVERRIDES),
        "flow_parameters": ready.get("flow", {}),
        "failures": stage.failures,
        "events": stage.narrator.events,
    }
    return build_report(
        run=run,
        collected=await collect(clusters.ingest.url(Login.OWNER), clusters.decision.url(Login.STATUS)),
        exchange=book if book is not None else TradingBook(),
        ended_at=ended_at,
        exit_reason=exit_reason,
    )


async def _start_exchange(
    options: RehearsalOptions, stage: Stage, ingest_key: setup.KeyPair, execution_key: setup.KeyPair
) -> tuple[Child, dict[str, Any]]:
    accounts, ready_file = stage.folder / "accounts.json", stage.folder / "exchange.ready"
    setup.write_accounts(accounts, ingest_key, execution_key)
    arguments = ["exchange", "--symbols", str(options.symbols), "--seed", str(options.seed)]
    arguments += ["--flow", options.flow, "--profile", options.profile, "--accounts", str(accounts)]
    arguments += ["--record", str(stage.folder / "exchange.jsonl"), "--ready-file", str(ready_file)]
    child = stage.start("exchange", arguments)
    with anyio.move_on_after(READY_WAIT_S):
        while not ready_file.exists():
            if child.exit_code() is not None:
                raise ConfigError(f"the exchange did not start:\n{child.error_tail()}")
            await anyio.sleep(0.05)
        return child, json.loads(ready_file.read_text(encoding="utf-8"))
    raise VenueUnavailable(f"the exchange did not listen within {READY_WAIT_S:g} s:\n{child.error_tail()}")


async def _watch(duration_s: float, stage: Stage, clock: SystemClock, interrupted: anyio.Event) -> str:
    """Wait for the end; return why it came."""
    until = clock.mono() + duration_s
    while clock.mono() < until:
        if interrupted.is_set():
            return "interrupted"
        for child in stage.children:
            if child.exit_code() is not None:
                return f"{child.name} ended"
        with anyio.move_on_after(WATCH_INTERVAL_S):
            await interrupted.wait()
    return "duration"


async def _exchange_book(ready: Mapping[str, Any], stage: Stage) -> TradingBook | None:
    try:
        truth = await fetch_truth(str(ready["rest_url"]))
    except VenueUnavailable as exc:
        stage.failures.append(str(exc))
        return None
    return exchange_book(truth, setup.ACCOUNT, {setup.QUOTE: setup.DEPOSIT})


@asynccontextmanager
async def _folder(keep: bool, narrator: Narrator) -> AsyncIterator[Path]:
    """Give a fresh folder in the user data directory, removed at the end unless it is kept."""
    base = Path(platformdirs.user_data_dir("krakenbot")) / "rehearsals"
    try:
        base.mkdir(parents=True, exist_ok=True, mode=0o700)
        sweep(base)
        folder = Path(tempfile.mkdtemp(prefix="r", dir=base))
        (folder / _OWNER).write_text(str(os.getpid()), encoding="ascii")
    except OSError as exc:
        raise ConfigError(f"cannot write to the user data directory {base}: {exc}; set XDG_DATA_HOME") from exc
    try:
        yield folder
    finally:
        if keep:
            (folder / _OWNER).unlink(missing_ok=True)
            narrator.say("rehearsal", f"kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def sweep(base: Path) -> None:
    """Remove what killed rehearsals left behind; kept ones have no owner, and living ones a living owner."""
    for owner in base.glob(f"r*/{_OWNER}"):
        try:
            os.kill(int(owner.read_text(encoding="ascii")), 0)
        except ProcessLookupError:
            shutil.rmtree(owner.parent, ignore_errors=True)
        except (OSError, ValueError):  # alive under another user, or not readable: not ours to remove
            continue


@asynccontextmanager
async def _interrupts() -> AsyncIterator[anyio.Event]:
    """Give an event that Ctrl-C and SIGTERM set; a second one raises KrakenbotError: stop at once."""
    event = anyio.Event()

    async def listen() -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                if event.is_set():
                    raise KrakenbotError("interrupted twice: ended without a report")
                event.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        yield event
        tasks.cancel_scope.cancel()


def _environment() -> dict[str, str]:
    """Return what children need of our environment; settings of the caller must not reach them."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}  # noqa: TID251  # passed on, not read


def _check_report_path(path: Path | None) -> None:
    """Refuse a report file that cannot be written before anything runs."""
    if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
        raise ConfigError(f"--report {path}: its folder must exist and it must be a file")
