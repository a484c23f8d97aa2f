"""The processes of a run: two clusters, the local exchange, ingest and execution, each killed and started alone.

Enters: a folder, the number of symbols, a seed. Leaves: a `World` with URLs and process ids. Nothing here reads a
log: lines that processes print are thrown away.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from attrs import define, field
from tests.faults.held import Held
from tests.faults.venue import Venue

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.postgres.embedded import EmbeddedCluster, Login
from krakenbot.apps.databases import embedded_clusters
from krakenbot.apps.rehearsal import setup
from krakenbot.apps.rehearsal.children import Child

KEPT = ("PATH", "TMPDIR")
READY_WAIT_S = 60.0
STOP_WAIT_S = 30.0
CLOCK = SystemClock()
BUSY_SYMBOLS = 30
QUIET_ACTIVITY = 0.1
"""With more symbols the flow is so active: the exchange then needs less than a quarter of a core for 600."""


class HarnessError(RuntimeError):
    """The run itself could not go on: nothing was learnt about the fault."""


@define(kw_only=True)
class World:
    """Everything that a fault may strike, and the two sides that are compared afterwards."""

    folder: Path
    ingest_cluster: EmbeddedCluster
    decision_cluster: EmbeddedCluster
    children: dict[str, Child] = field(factory=dict)
    ready: dict[str, Any] = field(factory=dict)
    _venue: Venue | None = None
    _held: Held | None = None

    @property
    def venue(self) -> Venue:
        """Return the exchange's side."""
        if self._venue is None:
            raise HarnessError("the exchange was not started")
        return self._venue

    @property
    def held(self) -> Held:
        """Return our side: what the databases hold."""
        if self._held is None:
            raise HarnessError("the databases were not opened")
        return self._held

    @property
    def symbols(self) -> tuple[str, ...]:
        """Return the exchange's symbols."""
        return tuple(self.ready["symbols"])

    async def start(self, symbols: int, seed: int) -> None:
        """Start the exchange, then ingest and execution."""
        ingest_key, execution_key = setup.new_key_pair(), setup.new_key_pair()
        accounts, ready = self.folder / "accounts.json", self.folder / "ready"
        setup.write_accounts(accounts, ingest_key, execution_key)
        arguments = ["--symbols", str(symbols), "--seed", str(seed), "--accounts", str(accounts)]
        if symbols > BUSY_SYMBOLS:
            arguments += ["--activity", str(QUIET_ACTIVITY)]
        self.run("exchange", ["exchange", *arguments, "--ready-file", str(ready)])
        with anyio.move_on_after(READY_WAIT_S):
            while not ready.exists() and self.children["exchange"].exit_code() is None:
                await anyio.sleep(0.05)
        if not ready.exists():
            raise HarnessError(f"the exchange did not start: {self.children['exchange'].error_tail()}")
        self.ready = json.loads(ready.read_text())
        overrides = setup.OVERRIDES | {
            "universe.quotes": sorted({symbol.partition("/")[2] for symbol in self.symbols}),
            "universe.l3_limit": symbols,
            # Hundreds of symbols take five connections, and every other fault drops some: more than a network does.
            "venue.market_connections_per_10_min": 100,
        }
        setup.write_settings(self.folder / "settings.toml", self.ready, self.folder, overrides)
        setup.write_process_credentials(
            self.folder, self.ingest_cluster, self.decision_cluster, ingest_key, execution_key
        )
        self._venue = Venue(str(self.ready["rest_url"]), self.symbols)
        self._held = Held(self.ingest_cluster.url(Login.OWNER), self.decision_cluster.url(Login.OWNER))
        self.start_ingest()
        self.run("execution", ["run-execution-only", "--config", str(self.folder / "settings.toml")])

    def start_ingest(self) -> None:
        """Start ingest, also after it was killed, as its service manager would."""
        self.run("ingest", ["run-ingest", "--config", str(self.folder / "settings.toml")])

    def run(self, name: str, arguments: list[str]) -> None:
        kept = {key: os.environ[key] for key in KEPT if key in os.environ}  # noqa: TID251  # handed on
        self.children[name] = Child(
            name,
            arguments,
            environment={**kept, "HOME": str(self.folder), **setup.credentials_environment(self.folder, name)},
            error_file=self.folder / f"{name}.err",
            on_line=_drop,
        )

    def send(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process."""
        os.kill(self.children[name].pid, number)

    def ended(self) -> list[str]:
        """Return what ended without being told to."""
        return [
            f"{name} ended with status {child.exit_code()}: {child.error_tail(3)}"
            for name, child in self.children.items()
            if child.exit_code() is not None
        ]

    async def stop(self) -> None:
        """Stop what runs, the exchange last."""
        for name in reversed(list(self.children)):
            child = self.children.pop(name)
            if child.exit_code() is None:
                os.kill(child.pid, signal.SIGCONT)
            await anyio.to_thread.run_sync(child.stop, STOP_WAIT_S)
        if self._venue is not None:
            await self._venue.close()


@asynccontextmanager
async def running(folder: Path, symbols: int, seed: int) -> AsyncIterator[World]:
    """Run a world inside the block."""
    async with embedded_clusters(folder / "postgres") as (ingest, decision):
        world = World(folder=folder, ingest_cluster=ingest, decision_cluster=decision)
        try:
            await world.start(symbols, seed)
            yield world
        finally:
            with anyio.CancelScope(shield=True):
                await world.stop()


def _drop(name: str, line: str) -> None:
    """Take no notice of a line."""
