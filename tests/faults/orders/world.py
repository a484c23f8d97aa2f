"""The processes of the orders suite: two clusters, the exchange with its record, ingest; execution comes with a case.

Enters: a folder, the number of symbols, a seed, how many cases. Leaves: a world that stays up between cases, and one
account at the exchange for each case, so that no case finds what another one left. The decision cluster keeps commit
times, and a table of the suite's own keeps when each order row was born and changed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import psycopg
from attrs import define, field, frozen
from tests.faults.orders.proxy import Proxy
from tests.faults.orders.record import Record
from tests.faults.orders.strike import Orders, Strike
from tests.faults.venue import Venue
from tests.faults.world import HarnessError

from krakenbot.adapters.postgres.embedded import EmbeddedCluster, Login
from krakenbot.adapters.postgres.migrate import DatabasePart, migrate
from krakenbot.apps.rehearsal import setup
from krakenbot.apps.settings_loader import to_toml

KEPT = ("PATH", "TMPDIR", "PYTHONPATH")
READY_WAIT_S = 60.0
DEPOSIT = Decimal(25_000)
TIER = "pro"
SETTINGS: dict[str, Any] = {
    **setup.OVERRIDES,
    # A case is over in seconds: proofs of absence wait less for REST than the minute that Kraken's needs.
    "execution.visibility_margin_s": 6.0,
    "execution.ladder_interval_s": 4.0,
    "execution.reconcile_interval_s": 15.0,
    "execution.tier": TIER,
}
WATCH = """
CREATE SCHEMA suite;
CREATE TABLE suite.changes (
    change_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cl_ord_id text NOT NULL, venue_id text NOT NULL, is_birth boolean NOT NULL,
    old_state text, new_state text NOT NULL, old_cum numeric, new_cum numeric NOT NULL, lease_epoch bigint NOT NULL
);
CREATE FUNCTION suite.watch() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO suite.changes (cl_ord_id, venue_id, is_birth, old_state, new_state, old_cum, new_cum, lease_epoch)
    VALUES (NEW.cl_ord_id, NEW.venue_id, TG_OP = 'INSERT', CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state,
            CASE WHEN TG_OP = 'UPDATE' THEN OLD.cum_qty END, NEW.cum_qty, NEW.lease_epoch);
    RETURN NULL;
END $$;
CREATE TRIGGER watched AFTER INSERT OR UPDATE ON krakenbot.execution_orders
    FOR EACH ROW EXECUTE FUNCTION suite.watch();
"""


_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """Have the kernel end a process when the suite is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """One process of ours; what it prints goes to files, in which secrets are searched for."""

    def __init__(
        self, name: str, module: str, arguments: Sequence[str], environment: Mapping[str, str], out: Path
    ) -> None:
        self.name = name
        self.out = out
        with out.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509  # one prctl call
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def exit_code(self) -> int | None:
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal; a process that has ended gets none."""
        if self._process.poll() is None:
            os.kill(self._process.pid, number)

    async def ended(self, wait_s: float) -> int | None:
        """Wait for its end; None when it still runs."""
        with anyio.move_on_after(wait_s):
            while self._process.poll() is None:
                await anyio.sleep(0.02)
        return self._process.poll()

    async def stop(self, wait_s: float) -> int:
        """Ask it to end, and kill it when it does not; return the exit status."""
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)
        code = await self.ended(wait_s)
        if code is None:
            self._process.kill()
            code = await self.ended(10.0)
        return -1 if code is None else code

    def tail(self, lines: int = 3) -> str:
        text = self.out.read_text(encoding="utf-8", errors="replace") if self.out.exists() else ""
        return " | ".join(text.splitlines()[-lines:])[-900:]


@frozen(kw_only=True)
class Account:
    """One account at the exchange, its key, and the folder of the processes that trade with it."""

    name: str
    key: setup.KeyPair
    folder: Path

    @property
    def settings(self) -> Path:
        return self.folder / "settings.toml"

    @property
    def credentials(self) -> Path:
        return self.folder / "credentials"


@define(kw_only=True)
class OrdersWorld:
    """What runs; `record` is the exchange's record of truth, `proxy` stands before the decision cluster."""

    folder: Path
    ingest_cluster: EmbeddedCluster
    decision_cluster: EmbeddedCluster
    proxy: Proxy
    record: Record
    ready: dict[str, Any] = field(factory=dict)
    processes: list[Process] = field(factory=list)
    _accounts: list[Account] = field(factory=list)
    _venue: Venue | None = None
    _taken: int = 0

    @property
    def venue(self) -> Venue:
        """Return the exchange's control port."""
        if self._venue is None:
            raise HarnessError("the exchange was not started")
        return self._venue

    @property
    def control_url(self) -> str:
        return str(self.ready["rest_url"])

    @property
    def owner_url(self) -> str:
        """Return the URL with which the suite itself reads and writes, past the proxy."""
        return self.decision_cluster.url(Login.OWNER)

    def secrets(self) -> list[str]:
        """Return every key that a process of ours was given: none of it may appear anywhere (I15)."""
        keys = [text for account in self._accounts for text in (account.key.key, account.key.secret)]
        url = self.decision_cluster.url(Login.EXECUTION)
        return [*keys, url.split(":")[2].split("@")[0]]

    async def start(self, symbols: int, seed: int, cases: int) -> None:
        """Start the exchange and ingest."""
        ingest_key = setup.new_key_pair()
        self._accounts = [
            Account(name=f"case{n}", key=setup.new_key_pair(), folder=self.folder / f"case{n}") for n in range(cases)
        ]
        rows = [_account("ingest", ingest_key, ["create-ws-token"], {}), *map(_trader, self._accounts)]
        accounts, ready = self.folder / "accounts.json", self.folder / "ready"
        setup.write_private(accounts, json.dumps(rows))
        options = ["--symbols", str(symbols), "--seed", str(seed), "--profile", "edge", "--accounts", str(accounts)]
        files = ["--record", str(self.record.path), "--ready-file", str(ready)]
        exchange = self.run("exchange", ["exchange", *options, *files], {})
        with anyio.move_on_after(READY_WAIT_S):
            while not ready.exists() and exchange.exit_code() is None:
                await anyio.sleep(0.05)
        if not ready.exists():
            raise HarnessError(f"the exchange did not start: {exchange.tail()}")
        self.ready = json.loads(ready.read_text())
        self._venue = Venue(self.control_url, tuple(self.ready["symbols"]))
        self._write_settings(self.folder / "settings.toml", self.folder)
        setup.write_credentials(
            self.folder / "ingest-credentials",
            {
                "database_url": self.ingest_cluster.url(Login.INGEST),
                "decision_database_url": self.decision_cluster.url(Login.INGEST),
                "ingest_api_key": ingest_key.key,
                "ingest_api_secret": ingest_key.secret,
            },
        )
        arguments = ["run-ingest", "--config", str(self.folder / "settings.toml")]
        self.run("ingest", arguments, {"CREDENTIALS_DIRECTORY": str(self.folder / "ingest-credentials")})

    def take_account(self) -> Account:
        """Return an account that no case has used, with the files of its processes written."""
        account = self._accounts[self._taken]
        self._taken += 1
        account.folder.mkdir()
        self._write_settings(account.settings, account.folder)
        url = self.decision_cluster.url(Login.EXECUTION)
        through = url.partition("?host=")[0] + f"?host={str(self.proxy.folder).replace('/', '%2F')}&port=5432"
        setup.write_credentials(
            account.credentials,
            {
                "decision_database_url": through,
                "execution_api_key": account.key.key,
                "execution_api_secret": account.key.secret,
            },
        )
        return account

    def execute(
        self, account: Account, name: str, strikes: Sequence[Strike] = (), settings: Mapping[str, str] | None = None
    ) -> Process:
        """Start an execution process: production's own without strikes, the wrapped one with them."""
        environment = {"CREDENTIALS_DIRECTORY": str(account.credentials), **(settings or {})}
        arguments = ["run-execution-only", "--config", str(account.settings)]
        if not strikes:
            return self.run(f"{account.name}-{name}", arguments, environment)
        file = account.folder / f"{name}.strikes.json"
        Orders(strikes=tuple(strikes), hits=hits_file(account), control_url=self.control_url).write(file)
        return self.run(
            f"{account.name}-{name}", arguments, environment | {"STRIKES": str(file)}, "tests.faults.orders.process"
        )

    def run(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], module: str = "krakenbot"
    ) -> Process:
        kept = {key: os.environ[key] for key in KEPT if key in os.environ}  # noqa: TID251  # handed on
        given = {**kept, "HOME": str(self.folder), **environment}
        process = Process(name, module, arguments, given, self.folder / f"{name}.out")
        self.processes.append(process)
        return process

    async def forget_modes(self) -> None:
        """Take back modes and latches that the last case left: they hold for the database, not for an account."""
        async with await psycopg.AsyncConnection.connect(self.owner_url, autocommit=True) as connection:
            await connection.execute("DELETE FROM krakenbot.engine_state")
            await connection.execute("DELETE FROM krakenbot.symbol_safety_state")

    async def stop(self) -> None:
        for process in reversed(self.processes):
            await process.stop(20.0)
        if self._venue is not None:
            await self._venue.close()

    def _write_settings(self, path: Path, data_dir: Path) -> None:
        tree: dict[str, Any] = {
            "process": {"data_dir": str(data_dir), "log_format": "json"},
            "venue": {n: self.ready[n] for n in ("rest_url", "ws_public_url", "ws_private_url", "ws_level3_url")},
            "ingest": {"symbols": list(self.ready["symbols"])},
            "execution": {"capital_limit_quote": str(DEPOSIT)},
        }
        for key, value in SETTINGS.items():
            *sections, name = key.split(".")
            node = tree
            for section in sections:
                node = node.setdefault(section, {})
            node[name] = value
        setup.write_private(path, to_toml(tree))


def hits_file(account: Account) -> Path:
    """Return the file in which processes of an account note the points that they hit."""
    return account.folder / "hits.jsonl"


def _account(name: str, key: setup.KeyPair, permissions: list[str], balances: dict[str, str]) -> dict[str, Any]:
    row = {"api_key": key.key, "api_secret": key.secret, "permissions": permissions}
    return {"name": name, "keys": [row], "balances": balances, "tier": TIER}


def _trader(account: Account) -> dict[str, Any]:
    permissions = ["query-funds", "query-open-trades", "query-closed-trades", "modify-trades", "close-trades"]
    return _account(
        account.name, account.key, [*permissions, "create-ws-token", "query-ledger"], {setup.QUOTE: str(DEPOSIT)}
    )


@asynccontextmanager
async def orders_world(folder: Path, symbols: int, seed: int, cases: int) -> AsyncIterator[OrdersWorld]:
    """Run a world inside the block."""
    ingest, decision = (EmbeddedCluster(folder / "postgres", name) for name in ("ingest", "decision"))
    async with AsyncExitStack() as stack:
        for cluster in (ingest, decision):
            await cluster.start()
            stack.push_async_callback(cluster.stop)
        await decision.stop()
        with (folder / "postgres" / "decision" / "pgdata" / "postgresql.conf").open("a", encoding="ascii") as file:
            file.write("track_commit_timestamp = on\n")
        await decision.start()
        await migrate(ingest.url(Login.OWNER), {DatabasePart.INGEST})
        await migrate(decision.url(Login.OWNER), {DatabasePart.DECISION})
        async with await psycopg.AsyncConnection.connect(decision.url(Login.OWNER), autocommit=True) as connection:
            await connection.execute(WATCH.encode())
        proxy = Proxy(_socket_folder(decision), folder / "proxy")
        await proxy.start()
        stack.push_async_callback(proxy.stop)
        world = OrdersWorld(
            folder=folder,
            ingest_cluster=ingest,
            decision_cluster=decision,
            proxy=proxy,
            record=Record(folder / "exchange.jsonl"),
        )
        try:
            await world.start(symbols, seed, cases)
            yield world
        finally:
            with anyio.CancelScope(shield=True):
                await world.stop()


def _socket_folder(cluster: EmbeddedCluster) -> Path:
    host = cluster.url(Login.OWNER).partition("?host=")[2].partition("&")[0]
    return Path(host.replace("%2F", "/"))
