"""Databases of a process: explicit URLs, or embedded clusters when none is set."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import Databases, ProcessKind, open_databases
from krakenbot.adapters.postgres.embedded import EmbeddedCluster, Login, running_url
from krakenbot.adapters.postgres.migrate import DatabasePart
from krakenbot.adapters.postgres.migrate import migrate as migrate_database
from krakenbot.apps.settings import Settings
from krakenbot.domain.errors import ConfigError, StoreUnavailable

CLUSTERS_FOLDER = "postgres"


@asynccontextmanager
async def embedded_clusters(
    data_dir: Path, bindir: Path | None = None
) -> AsyncIterator[tuple[EmbeddedCluster, EmbeddedCluster]]:
    """Start the ingest and the decision cluster, bring them to this version's schema, and stop them at the end."""
    ingest = EmbeddedCluster(data_dir, "ingest", bindir=bindir)
    decision = EmbeddedCluster(data_dir, "decision", bindir=bindir)
    async with AsyncExitStack() as stack:
        for cluster in (ingest, decision):
            await cluster.start()
            stack.push_async_callback(cluster.stop)
        await migrate_database(ingest.url(Login.OWNER), {DatabasePart.INGEST})
        await migrate_database(decision.url(Login.OWNER), {DatabasePart.DECISION})
        yield ingest, decision


@asynccontextmanager
async def process_databases(settings: Settings, process: ProcessKind) -> AsyncIterator[Databases]:
    """Open the databases of a process; with no URL set, ingest runs the embedded clusters itself.

    Raises ConfigError when execution alone has no URL: it has nothing that publishes epochs.
    """
    url = settings.database.url.reveal() if settings.database.url else None
    decision_url = settings.database.decision_url.reveal() if settings.database.decision_url else None
    async with AsyncExitStack() as stack:
        if url is None and decision_url is None:
            if process is ProcessKind.EXECUTION:
                raise ConfigError(
                    "DECISION_DATABASE_URL is not set: execution needs the decision database that an ingest "
                    "publishes to; run-execution-live without --no-ingest runs both on embedded clusters"
                )
            folder = settings.process.data_dir / CLUSTERS_FOLDER
            ingest, decision = await stack.enter_async_context(embedded_clusters(folder, settings.database.bindir))
            url, decision_url = ingest.url(Login.OWNER), decision.url(Login.OWNER)
        yield await stack.enter_async_context(
            open_databases(ingest_url=url, decision_url=decision_url, process=process)
        )


def decision_target(settings: Settings, login: Login) -> str:
    """Return where a command finds the decision database: the URL that is set, or the embedded cluster that runs.

    `login` is for the embedded one. Raises ConfigError when there is neither.
    """
    url = settings.database.decision_url or settings.database.url
    target = url.reveal() if url else running_url(settings.process.data_dir / CLUSTERS_FOLDER, "decision", login)
    if target is None:
        raise ConfigError("no database: set DECISION_DATABASE_URL, or start run-ingest, which runs embedded clusters")
    return target


@asynccontextmanager
async def decision_database(
    settings: Settings, login: Login, *, name: str, role: str, statement_timeout_s: float = 5.0
) -> AsyncIterator[Database]:
    """Open the decision database for one command, as `role` where the login may; raises ConfigError."""
    target = decision_target(settings, login)
    database = Database(target, name=name, role=role, max_size=1, statement_timeout_s=statement_timeout_s)
    try:
        await database.open()
        yield database
    finally:
        await database.close()


async def migrate(settings: Settings) -> None:
    """Bring every configured database to this version's schema and say what was applied."""
    url, decision_url = settings.database.url, settings.database.decision_url
    if not url and not decision_url:
        async with embedded_clusters(settings.process.data_dir / CLUSTERS_FOLDER, settings.database.bindir):
            print("embedded clusters are at this version's schema")
        return
    targets: list[tuple[str, str, set[DatabasePart]]] = []
    if url:
        parts = {DatabasePart.INGEST} if decision_url else {DatabasePart.INGEST, DatabasePart.DECISION}
        targets.append(("DATABASE_URL", url.reveal(), parts))
    if decision_url:
        targets.append(("DECISION_DATABASE_URL", decision_url.reveal(), {DatabasePart.DECISION}))
    for name, target, parts in targets:
        try:
            applied = await migrate_database(target, parts)
        except StoreUnavailable as exc:
            raise StoreUnavailable(f"{name}: {exc}") from exc
        print(f"{name}: " + (", ".join(applied) if applied else "up to date"))
