"""Real processes that are killed, doubled or left without their database, while they trade at the local exchange.

Goal: after each fault the ledger equals the exchange's own record, no position stays without an order that sells it,
and nothing is done twice. Method: the processes of a rehearsal, started by hand; what is read is the decision
database on one side and the exchange's control port on the other.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import psycopg
import pytest
from psycopg.rows import dict_row

from krakenbot.adapters.clock.system import SystemClock
from krakenbot.adapters.postgres.embedded import EmbeddedCluster, Login
from krakenbot.apps.databases import embedded_clusters
from krakenbot.apps.rehearsal import setup
from krakenbot.apps.rehearsal.books import Comparison, compare
from krakenbot.apps.rehearsal.children import Child
from krakenbot.apps.rehearsal.collect import ledger_book
from krakenbot.apps.rehearsal.exchange_truth import exchange_book, fetch_truth

pytestmark = [pytest.mark.slow, pytest.mark.postgres, pytest.mark.timeout(120)]
ENDED = {"filled", "canceled", "expired"}
KEPT = ("PATH", "TMPDIR")
CLOCK = SystemClock()


class Trading:
    """An exchange, ingest and execution on two clusters, all of them real processes."""

    def __init__(self, folder: Path, ingest: EmbeddedCluster, decision: EmbeddedCluster) -> None:
        self.folder = folder
        self.ingest_cluster = ingest
        self.decision_cluster = decision
        self.events: list[tuple[float, str, dict[str, Any]]] = []
        self.children: list[Child] = []
        self.ready: dict[str, Any] = {}

    async def start(self) -> None:
        ingest_key, execution_key = setup.new_key_pair(), setup.new_key_pair()
        accounts, ready = self.folder / "accounts.json", self.folder / "ready"
        setup.write_accounts(accounts, ingest_key, execution_key)
        arguments = ["--symbols", "7", "--seed", "3", "--accounts", str(accounts), "--ready-file", str(ready)]
        self.run("exchange", ["exchange", *arguments, "--record", str(self.folder / "exchange.jsonl")])
        with anyio.fail_after(30):
            while not ready.exists():
                await anyio.sleep(0.05)
        self.ready = json.loads(ready.read_text())
        setup.write_settings(self.folder / "settings.toml", self.ready, self.folder)
        setup.write_process_credentials(
            self.folder, self.ingest_cluster, self.decision_cluster, ingest_key, execution_key
        )
        self.run("ingest", ["run-ingest", "--config", str(self.folder / "settings.toml")])

    def execute(self, name: str) -> Child:
        return self.run(name, ["run-execution-only", "--config", str(self.folder / "settings.toml")])

    def run(self, name: str, arguments: list[str]) -> Child:
        credentials = setup.credentials_environment(self.folder, "ingest" if name == "ingest" else "execution")
        kept = {key: os.environ[key] for key in KEPT if key in os.environ}  # noqa: TID251  # handed on
        child = Child(
            name,
            arguments,
            environment={**kept, "HOME": str(self.folder), **credentials},
            error_file=self.folder / f"{name}.err",
            on_line=self._take,
        )
        self.children.append(child)
        return child

    def _take(self, name: str, line: str) -> None:
        if line.startswith("{"):
            self.events.append((CLOCK.mono(), name, json.loads(line)))

    def seen(self, event: str, *, since: float = 0.0, by: str | None = None, **fields: str) -> list[dict[str, Any]]:
        return [
            row
            for at, name, row in list(self.events)
            if at >= since
            and row["event"] == event
            and by in {None, name}
            and all(row.get(key) == value for key, value in fields.items())
        ]

    async def until(self, is_reached: Callable[[], object], timeout_s: float) -> None:
        with anyio.fail_after(timeout_s):
            while not is_reached():
                await anyio.sleep(0.02)

    async def rows(self, query: str) -> list[dict[str, Any]]:
        url = self.decision_cluster.url(Login.STATUS)
        async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
            return await (await connection.execute(query.encode())).fetchall()

    async def truth(self) -> dict[str, Any]:
        return await fetch_truth(str(self.ready["rest_url"]))

    async def compare(self) -> Comparison:
        """Compare the books; what a killed process left and nobody can prove unsent yet is left out.

        That is an order of unknown outcome, entry or intent, which the exchange does not have. One that it has stays
        in, and shows as a difference until its row says what became of it.
        """
        orders = await self.rows("SELECT * FROM krakenbot.status_orders ORDER BY created_at, cl_ord_id")
        fills = await self.rows(
            "SELECT f.*, i.base, i.quote FROM krakenbot.status_fills f"
            " JOIN krakenbot.status_instruments i USING (symbol)"
        )
        exchange = exchange_book(await self.truth(), setup.ACCOUNT, {setup.QUOTE: setup.DEPOSIT})
        unproven = {
            row["cl_ord_id"] for row in orders if row["state"] == "unknown" and row["cl_ord_id"] not in exchange.orders
        }
        return compare(ledger_book([row for row in orders if row["cl_ord_id"] not in unproven], fills), exchange)

    async def uncovered(self) -> set[str]:
        """Return symbols that are held by the ledger and that no live sell order at the exchange covers."""
        account = next(a for a in (await self.truth())["accounts"] if a["name"] == setup.ACCOUNT)
        covered = {o["symbol"] for o in account["orders"] if o["status"] not in ENDED and o["side"] == "sell"}
        held = await self.rows(
            "SELECT symbol FROM krakenbot.status_positions JOIN krakenbot.status_instruments USING (symbol)"
            " WHERE qty >= qty_min AND cost_quote >= cost_min"
        )
        return {row["symbol"] for row in held} - covered

    async def settle(self, execution: Child) -> Comparison:
        """Stop execution cleanly and compare at rest."""
        code = await anyio.to_thread.run_sync(execution.stop, 30.0)

        assert code == 0, execution.error_tail()
        return await self.compare()


@asynccontextmanager
async def trading(folder: Path) -> AsyncIterator[Trading]:
    async with embedded_clusters(folder / "postgres") as (ingest, decision):
        world = Trading(folder, ingest, decision)
        try:
            await world.start()
            yield world
        finally:
            with anyio.CancelScope(shield=True):
                for child in reversed(world.children):
                    await anyio.to_thread.run_sync(child.stop, 20.0)


async def test_killed_execution_is_followed_by_one_that_waits_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    async with trading(tmp_path) as world:
        first = world.execute("first")
        await world.until(lambda: world.seen("fill", side="buy"), 60.0)
        second = world.execute("second")
        await world.until(lambda: world.seen("lease_waiting", by="second"), 10.0)

        assert [] == world.seen("lease_acquired", by="second")
        since = CLOCK.mono()
        await world.until(lambda: world.seen("order_submitted", since=since, by="first"), 40.0)
        os.kill(first.pid, signal.SIGKILL)
        killed_at = CLOCK.mono()
        await world.until(lambda: world.seen("reconciled", since=killed_at, by="second"), 20.0)
        await anyio.sleep(3.0)

        assert CLOCK.mono() - killed_at < 30.0
        assert second.exit_code() is None
        await world.until(lambda: world.seen("protection", since=killed_at, by="second"), 20.0)
        books = await world.settle(second)

        assert books.differences == ()
        assert books.orphan_orders == 0
        assert await world.uncovered() == set()
        assert [] == world.seen("alarm", code="oversold")


async def test_stops_stand_while_the_database_is_away_and_execution_outlives_it(tmp_path: Path) -> None:
    async with trading(tmp_path) as world:
        execution = world.execute("execution")
        await world.until(lambda: world.seen("protection", protection="protected"), 60.0)
        world.decision_cluster.kill()
        await anyio.sleep(6.0)
        await world.decision_cluster.start()
        back_at = CLOCK.now()
        with anyio.fail_after(15.0):
            while not await world.rows(
                f"SELECT 1 FROM krakenbot.status_processes WHERE process = 'execution' AND at > '{back_at.isoformat()}'"
            ):
                await anyio.sleep(0.1)
        await anyio.sleep(3.0)

        assert execution.exit_code() is None, execution.error_tail()
        bare = await world.rows(
            "SELECT symbol, protection, at, lead(at) OVER (PARTITION BY symbol ORDER BY event_no) AS next_at"
            " FROM krakenbot.status_protection"
        )
        lasted_s = [
            (row["next_at"] - row["at"]).total_seconds()
            for row in bare
            if row["protection"] == "bare" and row["next_at"] is not None
        ]
        books = await world.settle(execution)

        assert max(lasted_s, default=0.0) < 5.0
        assert books.differences == ()
        assert await world.uncovered() == set()
