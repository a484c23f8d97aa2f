"""Bring a database's schema up to date: numbered files, forward only, each applied once.

Enters: a URL whose login may create, and the roles that the database plays. Leaves: the schema `krakenbot`, or a
ConfigError. Files are in `migrations/both` (applied first), `migrations/ingest` and `migrations/decision`. Called by
`krakenbot migrate`, `rehearse` and tests.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Collection
from pathlib import Path

import psycopg
from attrs import frozen
from psycopg import sql

from krakenbot.adapters.postgres.failures import translated
from krakenbot.domain.errors import ConfigError

DB_ROLES = ("krakenbot_owner", "krakenbot_ingest", "krakenbot_execution", "krakenbot_status")
_FOLDER = Path(__file__).parent / "migrations"
_LOCK = "SELECT pg_advisory_lock(hashtext('krakenbot.migrations'))"
_UNLOCK = "SELECT pg_advisory_unlock(hashtext('krakenbot.migrations'))"
_LEDGER = """
CREATE TABLE IF NOT EXISTS krakenbot.schema_migrations (
    part text NOT NULL,
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (part, version)
)
"""


class DatabasePart(enum.StrEnum):
    """What a database is for; one database may be both."""

    INGEST = "ingest"
    DECISION = "decision"


@frozen(kw_only=True)
class Migration:
    """One file of SQL."""

    part: str
    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """Return the hash that the ledger keeps; a changed file is refused."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def load_migrations(parts: Collection[DatabasePart]) -> list[Migration]:
    """Return the files of the parts in the order in which they are applied."""
    found = []
    for part in ("both", *sorted(parts)):
        for path in sorted((_FOLDER / part).glob("*.sql")):
            version = int(path.name.split("_", 1)[0])
            found.append(Migration(part=part, version=version, name=path.stem, text=path.read_text(encoding="utf-8")))
    return found


async def migrate(url: str, parts: Collection[DatabasePart]) -> list[str]:
    """Apply what is missing and return the names of what was applied; safe to run by several at once.

    Raises ConfigError when the schema is newer than this program, when an applied file was changed, or when the
    login may not do it; StoreUnavailable when the server is away.
    """
    with translated():
        async with await psycopg.AsyncConnection.connect(
            url, autocommit=True, connect_timeout=10, options="-c lock_timeout=60s -c client_min_messages=warning"
        ) as connection:
            await connection.execute(_LOCK)
            try:
                await _ensure_roles(connection)
                await _ensure_ledger(connection)
                return await _apply_missing(connection, load_migrations(parts))
            except psycopg.errors.InsufficientPrivilege as error:
                raise ConfigError(f"migrations need a login that may create: {error}") from error
            finally:
                if not connection.broken:
                    await connection.execute(_UNLOCK)


async def check_schema(connection: psycopg.AsyncConnection, parts: Collection[DatabasePart]) -> None:
    """Raise ConfigError unless the schema is exactly the one that this program knows."""
    try:
        missing = await _missing(connection, load_migrations(parts))
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName, psycopg.errors.InsufficientPrivilege) as e:
        raise ConfigError(f"no krakenbot schema for this login ({e}); run: krakenbot migrate") from e
    if missing:
        raise ConfigError(
            f"the schema is older than this program ({missing[0].name} is missing); run: krakenbot migrate"
        )


async def _ensure_roles(connection: psycopg.AsyncConnection) -> None:
    rows = await (
        await connection.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY(%s)", [list(DB_ROLES)])
    ).fetchall()
    existing = {row[0] for row in rows}
    for role in DB_ROLES:
        if role in existing:
            continue
        try:
            await connection.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(role)))
            await connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(role)))
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            # Roles belong to the whole cluster: another database's migration was quicker.
            continue
        except psycopg.errors.InsufficientPrivilege as error:
            statements = "; ".join(f"CREATE ROLE {name} NOLOGIN" for name in DB_ROLES if name not in existing)
            raise ConfigError(
                f"this login may not create roles; an administrator must run once: {statements}"
            ) from error


async def _ensure_ledger(connection: psycopg.AsyncConnection) -> None:
    await connection.execute("CREATE SCHEMA IF NOT EXISTS krakenbot")
    await connection.execute(_LEDGER)


async def _missing(connection: psycopg.AsyncConnection, known: list[Migration]) -> list[Migration]:
    rows = await connection.execute("SELECT part, version, name, checksum FROM krakenbot.schema_migrations")
    applied = {(part, version): (name, checksum) for part, version, name, checksum in await rows.fetchall()}
    last = {part: max(m.version for m in known if m.part == part) for part in {m.part for m in known}}
    for (part, version), (name, _) in applied.items():
        if version > last.get(part, version):
            raise ConfigError(f"the schema is newer than this program ({part}/{name}); update krakenbot")
    for migration in known:
        row = applied.get((migration.part, migration.version))
        if row is not None and row[1] != migration.checksum:
            raise ConfigError(f"migration {migration.part}/{migration.name} was changed after it had been applied")
    return [migration for migration in known if (migration.part, migration.version) not in applied]


async def _apply_missing(connection: psycopg.AsyncConnection, known: list[Migration]) -> list[str]:
    applied = []
    for migration in await _missing(connection, known):
        async with connection.transaction():
            await connection.execute(migration.text.encode())
            await connection.execute(
                "INSERT INTO krakenbot.schema_migrations (part, version, name, checksum) VALUES (%s, %s, %s, %s)",
                [migration.part, migration.version, migration.name, migration.checksum],
            )
        applied.append(f"{migration.part}/{migration.name}")
    return applied
