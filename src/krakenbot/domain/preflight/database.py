"""The databases: reachable, of this program's schema, durable, two clusters, each role with what it needs.

Enters: what a server says of itself. Leaves: findings. Called by `krakenbot doctor` and the start of execution.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final

from attrs import field, frozen

from krakenbot.domain.preflight.finding import Finding, fail, ok, warn
from krakenbot.domain.preflight.grants import Grant, RolePower, judge_grants
from krakenbot.domain.values import Symbol

DECISION: Final = "decision"
INGEST: Final = "ingest"
_DURABLE: Final = ("fsync", "full_page_writes", "synchronous_commit")
_MIGRATE: Final = "Run krakenbot migrate with a login that may create."


@frozen(kw_only=True)
class SchemaFacts:
    """Migrations by name: `missing` here, `newer` than the program, `changed` after they were applied.

    `is_readable` False means that there is no schema for this login.
    """

    is_readable: bool = True
    missing: tuple[str, ...] = ()
    newer: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    applied: int = 0


@frozen(kw_only=True)
class LeaseFacts:
    """The lease's row as the database's own clock sees it; `holder` None when nobody has it."""

    holder: str | None
    lease_epoch: int
    expires_at: datetime
    is_in_force: bool


@frozen(kw_only=True)
class DatabaseFacts:
    """One database by its name in the settings; `parts` are what it is used for.

    `error` is why it could not be asked; everything else is then empty. `identity` tells live clusters apart.
    `lacks` are rights that our login needs and does not have. `positions` are own quantities by symbol, None when
    they cannot be read.
    """

    name: str
    parts: frozenset[str]
    error: str | None = None
    server_major: int = 0
    server_major_min: int = 0
    login: str = ""
    is_superuser: bool = False
    is_read_only: bool = False
    identity: str = ""
    schema: SchemaFacts = field(factory=SchemaFacts)
    settings: Mapping[str, str] = field(factory=dict)
    grants: tuple[Grant, ...] = ()
    append_only: frozenset[str] = frozenset()
    powers: tuple[RolePower, ...] = ()
    lacks: tuple[str, ...] = ()
    lease: LeaseFacts | None = None
    positions: Mapping[Symbol, Decimal] | None = None


def judge_databases(databases: Sequence[DatabaseFacts]) -> list[Finding]:
    """Return the findings of every database, and whether they are two clusters."""
    findings = [finding for database in databases for finding in _judge(database)]
    return findings + judge_clusters(databases)


def judge_clusters(databases: Sequence[DatabaseFacts]) -> list[Finding]:
    """Say whether ingest and decision are two live clusters, one in both roles by choice, or one by mistake."""
    check, limit = "db.clusters", "two clusters"
    known = [one for one in databases if one.error is None]
    if len(known) > 1 and len({one.identity for one in known}) < len(known):
        fix = "Set only DATABASE_URL to use one database for both, or name two clusters."
        return [fail(check, "both URLs lead to the same cluster", limit, fix)]
    if len(known) > 1:
        return [ok(check, "two clusters", limit)]
    if known and known[0].parts == {DECISION, INGEST}:
        fix = "Give decisions a cluster of their own: set DECISION_DATABASE_URL."
        return [warn(check, "single-database mode: one database in both roles", limit, fix)]
    if known:
        return [ok(check, f"{known[0].name} only: this process knows no other", limit)]
    return []


def judge_lease(lease: LeaseFacts, own_holder: str | None = None) -> Finding:
    """Say who may trade; `own_holder` is a process that asks for itself."""
    if not lease.is_in_force or lease.holder is None:
        last = f"; last held by {lease.holder}" if lease.holder else ""
        return ok("lease", f"free, epoch {lease.lease_epoch}{last}", "one leader")
    who = "this process" if lease.holder == own_holder else lease.holder
    found = f"held by {who} until {lease.expires_at:%H:%M:%S} UTC, epoch {lease.lease_epoch}"
    return ok("lease", found, "one leader")


def _judge(database: DatabaseFacts) -> list[Finding]:
    name = f"db.{database.name}"
    if database.error is not None:
        fix = "Start the server, or correct the URL, the password and the network."
        return [fail(f"{name}.reachable", database.error, "an answer", fix)]
    findings = [_server(database)]
    if not database.is_superuser:
        findings.append(ok(f"{name}.login", database.login, "no superuser"))
    else:
        fix = "Use a login that is a member of one krakenbot role only."
        findings.append(
            warn(f"{name}.login", f"{database.login} is a superuser: rights do not bind it", "no superuser", fix)
        )
    schema = _schema(database)
    findings.append(schema)
    if not database.schema.is_readable:
        return findings
    findings.append(_durability(database))
    if database.lacks:
        fix = "Run krakenbot migrate, then grant the process's krakenbot role to the login."
        findings.append(
            fail(f"{name}.rights", f"{database.login} lacks {', '.join(database.lacks)}", "what is written", fix)
        )
    return findings + judge_grants(f"{name}.roles", database.grants, database.append_only, database.powers)


def _server(database: DatabaseFacts) -> Finding:
    check, limit = f"db.{database.name}.reachable", f"PostgreSQL {database.server_major_min}, writable"
    if database.server_major < database.server_major_min:
        fix = "Update the server, or leave the URLs unset to use the embedded clusters."
        return fail(check, f"PostgreSQL {database.server_major}", limit, fix)
    if database.is_read_only:
        fix = "Name the primary in the URL: this server is a standby or read-only."
        return fail(check, f"PostgreSQL {database.server_major}, read-only", limit, fix)
    return ok(check, f"PostgreSQL {database.server_major}", limit)


def _schema(database: DatabaseFacts) -> Finding:
    check, limit, schema = f"db.{database.name}.schema", "this program's migrations", database.schema
    if not schema.is_readable:
        return fail(check, f"none that {database.login} may read", limit, _MIGRATE)
    if schema.newer:
        return fail(check, f"newer than this program: {', '.join(schema.newer)}", limit, "Update krakenbot.")
    if schema.changed:
        fix = "Run the krakenbot that made this database, or begin with a new one."
        return fail(check, f"changed after it was applied: {', '.join(schema.changed)}", limit, fix)
    if schema.missing:
        return fail(check, f"older than this program: lacks {', '.join(schema.missing)}", limit, _MIGRATE)
    return ok(check, f"{schema.applied} migrations, none missing", limit)


def _durability(database: DatabaseFacts) -> Finding:
    check, limit = f"db.{database.name}.durability", "a commit survives a crash"
    values = {name: database.settings[name] for name in _DURABLE if name in database.settings}
    off = [f"{name} = {value}" for name, value in values.items() if value == "off"]
    shown = ", ".join(f"{name} {value}" for name, value in values.items())
    if off and DECISION in database.parts:
        fix = f"Set {' and '.join(_turned_on(off))} on the server: an order row could be lost."
        return fail(check, ", ".join(off), limit, fix)
    unsafe = [text for text in off if not text.startswith("synchronous_commit")]
    if unsafe:
        fix = f"Set {' and '.join(_turned_on(unsafe))} on the server: a crash can break the cluster."
        return warn(check, ", ".join(unsafe), limit, fix)
    unseen = [name for name in _DURABLE if name not in values]
    if unseen:
        return warn(check, f"not shown: {', '.join(unseen)}", limit, "Ask who runs the server whether they are on.")
    return ok(check, shown, limit)


def _turned_on(off: Sequence[str]) -> list[str]:
    """Return settings that are off as they should be."""
    return [text.replace("= off", "= on") for text in off]
