"""Fixtures for all tests: the event loop, two PostgreSQL clusters for the session, fresh databases for a test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import anyio
import psycopg
import pytest
from attrs import frozen
from hypothesis import HealthCheck, settings

from krakenbot.adapters.postgres.embedded import EmbeddedCluster, Login
from krakenbot.adapters.postgres.migrate import DatabasePart, migrate

# Two workers share two cores with the processes they start: how long an example takes says nothing there.
settings.register_profile("side by side", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("side by side")

ACCEPTANCE = Path(__file__).parent / "acceptance"
_numbers = itertools.count(1)
_TEMPLATES = {
    "kb_ingest": (DatabasePart.INGEST,),
    "kb_decision": (DatabasePart.DECISION,),
    "kb_both": (DatabasePart.INGEST, DatabasePart.DECISION),
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep rehearsals on one worker, one after the other: they need a core of their own."""
    for item in items:
        if item.path.is_relative_to(ACCEPTANCE):
            item.add_marker(pytest.mark.xdist_group("acceptance"))


@frozen(kw_only=True)
class Clusters:
    """Two running clusters (fsync off); `migrated` makes a fresh database and returns its owner's URL."""

    ingest: EmbeddedCluster
    decision: EmbeddedCluster
    templates: set[tuple[str, str]]

    def migrated(self, cluster: EmbeddedCluster, template: str) -> str:
        with psycopg.connect(cluster.superuser_url, autocommit=True) as connection:
            if (cluster.name, template) not in self.templates:
                connection.execute(f"CREATE DATABASE {template} OWNER {Login.OWNER}".encode())
                anyio.run(migrate, cluster.url(Login.OWNER, template), _TEMPLATES[template])
                self.templates.add((cluster.name, template))
            name = f"t{next(_numbers)}"
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {Login.OWNER}".encode())
        return cluster.url(Login.OWNER, name)


@frozen(kw_only=True)
class DatabaseUrls:
    """URLs of the owner of two fresh, migrated databases in two clusters."""

    ingest: str
    decision: str


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    """Start the clusters once a session; tests that crash a server start their own."""
    home: Path = tmp_path_factory.mktemp("pg")
    ingest = EmbeddedCluster(home, "ingest", fsync=False)
    decision = EmbeddedCluster(home, "decision", fsync=False)

    async def start() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ingest.start)
            tasks.start_soon(decision.start)

    async def stop() -> None:
        await ingest.stop()
        await decision.stop()

    anyio.run(start)
    yield Clusters(ingest=ingest, decision=decision, templates=set())
    anyio.run(stop)


@pytest.fixture
def database_urls(clusters: Clusters) -> DatabaseUrls:
    """Two fresh databases in two clusters, migrated."""
    return DatabaseUrls(
        ingest=clusters.migrated(clusters.ingest, "kb_ingest"),
        decision=clusters.migrated(clusters.decision, "kb_decision"),
    )


@pytest.fixture
def single_url(clusters: Clusters) -> str:
    """One fresh database that plays both parts, migrated; the owner's URL."""
    return clusters.migrated(clusters.decision, "kb_both")
