"""What a database says of itself: version, schema, durability, rights, lease. Reads only.

Enters: a database as a process would open it. Leaves: facts for `domain.preflight.database`, never an error for what
a person has to mend. Called by `krakenbot doctor` and the start of execution.
"""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal
from typing import Any, Final

import psycopg
from attrs import evolve
from psycopg import AsyncConnection

from krakenbot.adapters.postgres.binaries import MIN_MAJOR
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import EXECUTION_ROLE, INGEST_ROLE, cluster_identity_on
from krakenbot.adapters.postgres.migrate import DatabasePart, load_migrations
from krakenbot.domain.errors import StoreError
from krakenbot.domain.preflight.database import DatabaseFacts, LeaseFacts, SchemaFacts
from krakenbot.domain.preflight.grants import Grant, RolePower
from krakenbot.domain.values import Symbol, VenueId

_SETTINGS: Final = ("fsync", "full_page_writes", "synchronous_commit")
_NO_RIGHTS: Final = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.InsufficientPrivilege,
)
_SESSION: Final = """
SELECT session_user::text, (SELECT rolsuper FROM pg_roles WHERE rolname = session_user),
    pg_is_in_recovery() OR current_setting('default_transaction_read_only') = 'on'
"""
_GRANTS: Final = """
WITH relations AS (SELECT oid, relname, relacl FROM pg_class WHERE relnamespace = 'krakenbot'::regnamespace),
acls AS (
    SELECT relname, relacl AS acl FROM relations
    UNION ALL
    SELECT relname, attacl FROM relations JOIN pg_attribute ON attrelid = oid WHERE attacl IS NOT NULL
)
SELECT DISTINCT coalesce(rolname, 'PUBLIC'), relname, privilege_type
FROM acls CROSS JOIN LATERAL aclexplode(acl) AS granted LEFT JOIN pg_roles ON pg_roles.oid = granted.grantee
"""
_APPEND_ONLY: Final = """
SELECT relname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE relnamespace = 'krakenbot'::regnamespace AND proname = 'refuse_change' AND tgparentid = 0
"""
_POWERS: Final = """
SELECT rolname, power FROM pg_roles
CROSS JOIN LATERAL (VALUES
    (rolsuper, 'superuser'), (rolcreaterole, 'may create roles'), (rolcreatedb, 'may create databases'),
    (rolbypassrls, 'bypasses row security'), (rolreplication, 'may replicate')) AS powers (has, power)
WHERE has AND rolname = ANY(%(roles)s)
UNION ALL
SELECT member.rolname, 'acts as ' || granted.rolname FROM pg_auth_members
JOIN pg_roles AS member ON member.oid = pg_auth_members.member
JOIN pg_roles AS granted ON granted.oid = pg_auth_members.roleid
WHERE member.rolname = ANY(%(roles)s)
ORDER BY 1, 2
"""
_LACKS: Final = """
SELECT DISTINCT wanted.privilege || ' on ' || wanted.relation
FROM unnest(%s::text[], %s::text[]) AS wanted (relation, privilege)
WHERE to_regclass('krakenbot.' || wanted.relation) IS NOT NULL
  AND NOT has_table_privilege(current_user, 'krakenbot.' || wanted.relation, wanted.privilege)
ORDER BY 1
"""
_LEASE: Final = """
SELECT holder, lease_epoch, expires_at, holder IS NOT NULL AND expires_at > clock_timestamp()
FROM krakenbot.leases WHERE name = 'execution'
"""
_POSITIONS: Final = """
SELECT symbol, qty FROM krakenbot.positions WHERE qty <> 0 AND venue_id = %s ORDER BY symbol LIMIT 1000
"""
_NEEDED: Final = {
    (INGEST_ROLE, DatabasePart.INGEST): (("l2_snap_metrics", "INSERT"), ("run_symbol_state", "INSERT")),
    (INGEST_ROLE, DatabasePart.DECISION): (("run_symbol_state", "INSERT"), ("ingest_epochs", "INSERT")),
    (EXECUTION_ROLE, DatabasePart.DECISION): (
        ("execution_orders", "INSERT"),
        ("execution_orders", "UPDATE"),
        ("execution_order_events", "INSERT"),
        ("fills", "INSERT"),
        ("positions", "UPDATE"),
        ("leases", "UPDATE"),
        ("run_symbol_state", "SELECT"),
    ),
}
_RESTRICTED: Final = ("krakenbot_ingest", "krakenbot_execution", "krakenbot_status")


async def inspect(
    database: Database, *, name: str, parts: Collection[DatabasePart], venue_id: VenueId | None = None
) -> DatabaseFacts:
    """Return what can be known; a server that is away, or a login that it refuses, is a fact too.

    `venue_id` says whose positions are read; None: nobody's.
    """
    names = frozenset(part.value for part in parts)
    try:
        async with await database.connect() as connection:
            facts = await _facts(connection, name, names, parts, database.role)
            if venue_id is None or DatabasePart.DECISION not in parts or not facts.schema.is_readable:
                return facts
            return evolve(facts, positions=await _positions(connection, venue_id))
    except (StoreError, psycopg.Error) as error:
        return DatabaseFacts(name=name, parts=names, error=_first_line(error))


async def _facts(
    connection: AsyncConnection, name: str, names: frozenset[str], parts: Collection[DatabasePart], role: str | None
) -> DatabaseFacts:
    login, is_superuser, is_read_only = (await _rows(connection, _SESSION))[0]
    schema = await _schema(connection, parts)
    facts: dict[str, Any] = {
        "name": name,
        "parts": names,
        "server_major": connection.info.server_version // 10000,
        "server_major_min": MIN_MAJOR,
        "login": login,
        "is_superuser": bool(is_superuser),
        "is_read_only": is_read_only,
        "identity": await cluster_identity_on(connection),
        "schema": schema,
        "settings": {one: (await _rows(connection, "SELECT current_setting(%s)", [one]))[0][0] for one in _SETTINGS},
        "powers": tuple(
            RolePower(role=row[0], power=row[1])
            for row in await _rows(connection, _POWERS, {"roles": list(_RESTRICTED)})
        ),
    }
    if not schema.is_readable:
        return DatabaseFacts(**facts)
    needed = [pair for part in parts for pair in _NEEDED.get((role or "", part), ())]
    return DatabaseFacts(
        **facts,
        grants=tuple(
            Grant(role=row[0], relation=row[1], right=row[2])
            for row in await _rows(connection, _GRANTS)
            if row[0] != "krakenbot_owner"
        ),
        append_only=frozenset(row[0] for row in await _rows(connection, _APPEND_ONLY)),
        lacks=tuple(
            row[0]
            for row in await _rows(connection, _LACKS, [[pair[0] for pair in needed], [pair[1] for pair in needed]])
        ),
        lease=await _lease(connection) if DatabasePart.DECISION in parts else None,
    )


async def _schema(connection: AsyncConnection, parts: Collection[DatabasePart]) -> SchemaFacts:
    known = load_migrations(parts)
    try:
        rows = await _rows(connection, "SELECT part, version, name, checksum FROM krakenbot.schema_migrations")
    except _NO_RIGHTS:
        return SchemaFacts(is_readable=False)
    applied = {(row[0], row[1]): (row[2], row[3]) for row in rows}
    last = {part: max(one.version for one in known if one.part == part) for part in {one.part for one in known}}
    return SchemaFacts(
        missing=tuple(f"{one.part}/{one.name}" for one in known if (one.part, one.version) not in applied),
        newer=tuple(
            f"{part}/{name}"
            for (part, version), (name, _) in sorted(applied.items())
            if version > last.get(part, version)
        ),
        changed=tuple(
            f"{one.part}/{one.name}"
            for one in known
            if applied.get((one.part, one.version), (one.name, one.checksum))[1] != one.checksum
        ),
        applied=len(applied),
    )


async def _lease(connection: AsyncConnection) -> LeaseFacts | None:
    try:
        rows = await _rows(connection, _LEASE)
    except _NO_RIGHTS:
        return None
    if not rows:
        return None
    holder, lease_epoch, expires_at, is_in_force = rows[0]
    return LeaseFacts(holder=holder, lease_epoch=lease_epoch, expires_at=expires_at, is_in_force=is_in_force)


async def _positions(connection: AsyncConnection, venue_id: VenueId) -> dict[Symbol, Decimal] | None:
    try:
        return {Symbol(row[0]): row[1] for row in await _rows(connection, _POSITIONS, [venue_id])}
    except _NO_RIGHTS:
        return None


async def _rows(connection: AsyncConnection, query: str, params: Any = None) -> list[tuple[Any, ...]]:
    return await (await connection.execute(query.encode(), params)).fetchall()


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
