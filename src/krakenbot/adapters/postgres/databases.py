"""Open what a process needs of the two databases, after proving that they are what they should be.

Enters: one or two URLs and the process kind. Leaves: open pools by purpose, or a ConfigError that says what is wrong
and what to do. Called by the containers of the apps.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager

import psycopg
from attrs import frozen

from krakenbot.adapters.postgres.binaries import MIN_MAJOR
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.failures import translated
from krakenbot.adapters.postgres.migrate import DatabasePart, check_schema
from krakenbot.domain.errors import ConfigError

INGEST_ROLE = "krakenbot_ingest"
EXECUTION_ROLE = "krakenbot_execution"
_RIGHTS = {
    (INGEST_ROLE, DatabasePart.INGEST): ("l2_snap_metrics", "INSERT"),
    (INGEST_ROLE, DatabasePart.DECISION): ("run_symbol_state", "INSERT"),
    (EXECUTION_ROLE, DatabasePart.DECISION): ("execution_orders", "INSERT"),
}


Plan = list[tuple[str, str, str | None, tuple[DatabasePart, ...], int]]
"""Name, URL, role, parts to check and size of each pool."""


class ProcessKind(enum.StrEnum):
    """Which process opens the databases."""

    INGEST = "ingest"
    EXECUTION = "execution"
    BOTH = "both"


@frozen(kw_only=True)
class Databases:
    """Open pools by purpose; None where the process kind has no business there.

    `ingest`: raw samples and refresh. `publish`: the decision database as ingest writes it. `decision`: orders and
    state as execution sees them. `records`: cycles and status, apart from orders. `single`: one database in both
    roles; then `publish` is `ingest`, and with ProcessKind.BOTH `decision` is too.
    """

    ingest: Database | None
    publish: Database | None
    decision: Database | None
    records: Database | None
    single: bool

    def need(self, name: str) -> Database:
        """Return a pool by its name; raises ConfigError when this process has none."""
        found: Database | None = getattr(self, name)
        if found is None:
            raise ConfigError(f"this process has no {name} database")
        return found


@asynccontextmanager
async def open_databases(
    *, ingest_url: str | None, decision_url: str | None, process: ProcessKind
) -> AsyncIterator[Databases]:
    """Open the pools of a process and close them at the end.

    With one URL only, that database is both. An execution process opens the decision database alone. Raises
    ConfigError (same cluster twice, server or schema too old, missing rights, fsync off) and StoreUnavailable.
    """
    if process is ProcessKind.EXECUTION:
        url = decision_url or ingest_url
        if url is None:
            raise ConfigError("DECISION_DATABASE_URL is not set: execution needs the decision database")
        plan: Plan = [("decision", url, EXECUTION_ROLE, (DatabasePart.DECISION,), 8)]
        plan += [("records", url, EXECUTION_ROLE, (), 2)]
        single = False
    else:
        if ingest_url is None:
            raise ConfigError("DATABASE_URL is not set: ingest needs the ingest database")
        single = decision_url is None
        if decision_url is not None:
            await _prove_different(ingest_url, decision_url)
        plan = _plan_with_ingest(ingest_url, decision_url or ingest_url, process, single)
    async with AsyncExitStack() as stack:
        pools: dict[str, Database] = {}
        for name, url, role, parts, size in plan:
            await check_server(url, role=role, parts=parts)
            database = Database(url, name=name, role=role, max_size=size)
            stack.push_async_callback(database.close)
            await database.open()
            pools[name] = database
        if single:
            pools["publish"] = pools["ingest"]
            if process is ProcessKind.BOTH:
                pools["decision"] = pools["ingest"]
        yield Databases(
            ingest=pools.get("ingest"),
            publish=pools.get("publish"),
            decision=pools.get("decision"),
            records=pools.get("records"),
            single=single,
        )


def _plan_with_ingest(ingest_url: str, decision_url: str, process: ProcessKind, single: bool) -> Plan:
    both = process is ProcessKind.BOTH
    if single:
        # One pool in both roles cannot act as two database roles: with BOTH it stays the login's own.
        parts = (DatabasePart.INGEST, DatabasePart.DECISION)
        plan: Plan = [("ingest", ingest_url, None if both else INGEST_ROLE, parts, 10)]
    else:
        plan = [
            ("ingest", ingest_url, INGEST_ROLE, (DatabasePart.INGEST,), 4),
            ("publish", decision_url, INGEST_ROLE, (DatabasePart.DECISION,), 4),
        ]
        if both:
            plan.append(("decision", decision_url, EXECUTION_ROLE, (DatabasePart.DECISION,), 8))
    plan.append(("records", decision_url, None if both and single else EXECUTION_ROLE if both else INGEST_ROLE, (), 2))
    return plan


async def check_server(url: str, *, role: str | None, parts: Collection[DatabasePart]) -> None:
    """Raise ConfigError unless server version, schema, rights and durability are as needed."""
    probe = Database(url, name="check", role=role)
    async with await probe.connect() as connection:
        with translated():
            version = connection.info.server_version // 10000
            if version < MIN_MAJOR:
                raise ConfigError(
                    f"the server is PostgreSQL {version}, >= {MIN_MAJOR} is needed: update it, or leave the URL unset "
                    "to use the embedded clusters"
                )
            if parts:
                await check_schema(connection, parts)
            for part in parts:
                await _check_rights(connection, role, part)
            if DatabasePart.DECISION in parts:
                await _check_durability(connection)


async def cluster_identity(url: str) -> str:
    """Return what tells one live cluster from another, whatever the URL says."""
    async with await Database(url, name="identity").connect() as connection:
        with translated():
            return await cluster_identity_on(connection)


async def cluster_identity_on(connection: psycopg.AsyncConnection) -> str:
    """Return the identity of the cluster that a connection (autocommit) leads to."""
    try:
        row = await (await connection.execute("SELECT system_identifier::text FROM pg_control_system()")).fetchone()
    except psycopg.errors.InsufficientPrivilege:
        # Start time in microseconds, address and port: enough to know a live server again.
        row = await (
            await connection.execute(
                "SELECT concat_ws('/', pg_postmaster_start_time(), inet_server_addr(), current_setting('port'))"
            )
        ).fetchone()
    return str(row[0]) if row else ""


async def _prove_different(ingest_url: str, decision_url: str) -> None:
    if await cluster_identity(ingest_url) == await cluster_identity(decision_url):
        raise ConfigError(
            "DATABASE_URL and DECISION_DATABASE_URL lead to the same PostgreSQL cluster: "
            "set only DATABASE_URL to use one database for both, or name two clusters"
        )


async def _check_rights(connection: psycopg.AsyncConnection, role: str | None, part: DatabasePart) -> None:
    table, right = _RIGHTS.get((role or INGEST_ROLE, part), ("run_symbol_state", "SELECT"))
    row = await (
        await connection.execute(
            "SELECT current_user, has_table_privilege(current_user, %s, %s)", [f"krakenbot.{table}", right]
        )
    ).fetchone()
    if row is None or not row[1]:
        user = row[0] if row else "?"
        raise ConfigError(f"login {user} may not {right} on {table}; run as owner: GRANT {role} TO {user}")


async def _check_durability(connection: psycopg.AsyncConnection) -> None:
    for setting in ("fsync", "synchronous_commit", "full_page_writes"):
        row = await (await connection.execute("SELECT current_setting(%s)", [setting])).fetchone()
        if row is not None and row[0] == "off":
            raise ConfigError(
                f"the decision database runs with {setting} = off: an order row could be lost; turn it on"
            )
