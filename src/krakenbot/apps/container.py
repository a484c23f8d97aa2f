"""Wiring: one container for what every process has, one for ingest, one for execution.

Containers hold plain objects only; whatever has to be opened and closed (databases, HTTP clients) is opened by
`apps.processes` and handed in.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from dependency_injector import containers, providers

from krakenbot.adapters.clock.system import RandomIdSource, SystemClock
from krakenbot.adapters.kraken.execution_feed import ExecutionFeedSettings, KrakenExecutionFeed
from krakenbot.adapters.kraken.market_feed import KrakenMarketFeed
from krakenbot.adapters.kraken.nonce import NonceSource, nonce_state_file
from krakenbot.adapters.kraken.order_gateway import KrakenOrderGateway, OrderGatewaySettings
from krakenbot.adapters.kraken.private_stream import PrivateStream, PrivateStreamSettings
from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.adapters.kraken.signing import Credentials
from krakenbot.adapters.kraken.venue_query import KrakenVenueQuery, VenueQuerySettings
from krakenbot.adapters.postgres.copy_writer import CopySampleSink
from krakenbot.adapters.postgres.cycle_store import PostgresCycleStore
from krakenbot.adapters.postgres.databases import Databases
from krakenbot.adapters.postgres.lease import PostgresLease
from krakenbot.adapters.postgres.lineage_store import PostgresLineageStore
from krakenbot.adapters.postgres.order_store import PostgresOrderStore
from krakenbot.adapters.postgres.safety_store import PostgresSafetyStore
from krakenbot.adapters.postgres.state_store import PostgresRefreshAnswers, PostgresStateRefresher, PostgresStateStore
from krakenbot.adapters.telemetry.events import StructuredEvents
from krakenbot.apps.settings import LogFormat, Settings
from krakenbot.domain.engine.ingest import IngestEngine
from krakenbot.domain.engine.supervise import ExecutionEngine
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import VenueId
from krakenbot.ports.clock import Clock


def make_events(settings: Settings, clock: Clock, process: str) -> StructuredEvents:
    """Return the event log of a process on standard output."""
    auto_json = settings.process.log_format is LogFormat.AUTO and not sys.stdout.isatty()
    return StructuredEvents(
        clock=clock,
        stream=sys.stdout,
        process=process,
        as_json=auto_json or settings.process.log_format is LogFormat.JSON,
        secrets=settings.secret_texts(),
    )


def make_rest(settings: Settings, clock: Clock, key: Secret | None, secret: Secret | None) -> KrakenRest:
    """Return REST access, signed when there is a key; its nonces are kept in the data directory."""
    if not key or not secret:
        return KrakenRest(settings=RestSettings(base_url=settings.venue.rest_url), clock=clock)
    folder = settings.process.data_dir / "nonces"
    _make_private(folder)
    return KrakenRest(
        settings=RestSettings(base_url=settings.venue.rest_url),
        clock=clock,
        credentials=Credentials(api_key=key, api_secret=secret),
        nonces=NonceSource(clock=clock, state_file=nonce_state_file(folder, key)),
    )


def make_token_source(rest: KrakenRest, key: Secret | None) -> Callable[[], Awaitable[str]] | None:
    """Return a source of WebSocket tokens for the market feed; None without a key: level3 is then off."""
    if not key:
        return None

    async def token() -> str:
        return (await rest.websockets_token()).reveal()

    return token


def make_venue_id(settings: Settings, key: Secret) -> VenueId:
    """Return host and account hash: what was learnt at one venue never reaches another."""
    digest = hashlib.sha256(b"krakenbot venue " + key.reveal().encode()).hexdigest()
    return VenueId(f"{settings.venue.host}/{digest[:12]}")


class SharedContainer(containers.DeclarativeContainer):
    """What every process has."""

    settings = providers.Dependency(instance_of=Settings)
    process = providers.Dependency(instance_of=str)
    databases = providers.Dependency(instance_of=Databases)
    clock = providers.Singleton(SystemClock)
    ids = providers.Singleton(RandomIdSource)
    events = providers.Singleton(make_events, settings, clock, process)
    cycle_store = providers.Singleton(PostgresCycleStore, databases.provided.records)


class IngestContainer(SharedContainer):
    """The ingest process."""

    rest = providers.Dependency(instance_of=KrakenRest)
    token_source = providers.Singleton(make_token_source, rest, SharedContainer.settings.provided.keys.ingest_api_key)
