"""Wiring: one container for what every process has, one for ingest, one for execution.

Containers hold plain objects only; whatever has to be opened and closed (databases, HTTP clients) is opened by
`apps.processes` and handed in.
"""

from __future__ import annotations

import hashlib
import os
import platform
import secrets
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from attrs import evolve
from dependency_injector import containers, providers

from krakenbot.adapters.clock.system import RandomIdSource, SystemClock
from krakenbot.adapters.journal.files import FileJournal
from krakenbot.adapters.kraken.execution_feed import ExecutionFeedSettings, KrakenExecutionFeed
from krakenbot.adapters.kraken.market_feed import KrakenMarketFeed, MarketFeedSettings
from krakenbot.adapters.kraken.nonce import NonceSource, nonce_state_file
from krakenbot.adapters.kraken.order_gateway import KrakenOrderGateway, OrderGatewaySettings
from krakenbot.adapters.kraken.private_stream import PrivateStream, PrivateStreamSettings
from krakenbot.adapters.kraken.protocol.market_session import SessionSettings
from krakenbot.adapters.kraken.ratelimit import rest_tier
from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.adapters.kraken.signing import Credentials
from krakenbot.adapters.kraken.trade_history import KrakenTradeHistory, TradeHistorySettings
from krakenbot.adapters.kraken.venue_query import KrakenVenueQuery, VenueQuerySettings
from krakenbot.adapters.postgres.copy_writer import PostgresSampleSink, SpoolPlace
from krakenbot.adapters.postgres.cycle_store import PostgresCycleStore
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import Databases
from krakenbot.adapters.postgres.lease import PostgresLease
from krakenbot.adapters.postgres.ledger_store import PostgresLedgerStore
from krakenbot.adapters.postgres.lineage_store import PostgresLineageStore
from krakenbot.adapters.postgres.order_store import PostgresOrderStore
from krakenbot.adapters.postgres.probe_store import PostgresProbeStore
from krakenbot.adapters.postgres.process_mark import own_mark
from krakenbot.adapters.postgres.retention_store import PostgresRetentionStore
from krakenbot.adapters.postgres.safety_store import PostgresSafetyStore
from krakenbot.adapters.postgres.spool import SpoolLimits
from krakenbot.adapters.postgres.state_refresher import PostgresRefreshAnswers, PostgresStateRefresher
from krakenbot.adapters.postgres.state_store import PostgresStateStore
from krakenbot.adapters.telemetry.events import StructuredEvents
from krakenbot.apps.settings import LogFormat, Settings
from krakenbot.domain.engine.execution_settings import ExecutionSettings
from krakenbot.domain.engine.ingest import IngestEngine
from krakenbot.domain.engine.probes import QueueProbes
from krakenbot.domain.engine.supervise import ExecutionEngine
from krakenbot.domain.engine.trade_refill import TradeRefill
from krakenbot.domain.errors import ConfigError
from krakenbot.domain.execution.rate import AccountTier
from krakenbot.domain.market.sampler import DEPTH_LEVELS
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import VenueId
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink


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
        settings=RestSettings(base_url=settings.venue.rest_url, tier=rest_tier(_tier_of(settings))),
        clock=clock,
        credentials=Credentials(api_key=key, private_key=secret),
        nonces=NonceSource(clock=clock, state_file=nonce_state_file(folder, key)),
    )


def _tier_of(settings: Settings) -> AccountTier:
    """Return the account's tier; without execution's settings the lowest."""
    return AccountTier.STARTER if settings.execution is None else settings.execution.tier


def make_token_source(rest: KrakenRest, key: Secret | None) -> Callable[[], Awaitable[str]] | None:
    """Return a source of WebSocket tokens for the market feed; None without a key: level3 is then off."""
    if not key:
        return None

    async def token() -> str:
        return (await rest.websockets_token()).reveal()

    return token


def make_execution_settings(settings: Settings) -> ExecutionSettings:
    """Return execution's settings with holder and venue id filled in: host and account hash, unless one is set.

    What was learnt at one venue never reaches another. No two processes are the same holder of the lease.
    """
    execution, key = settings.require_execution(), settings.keys.execution_api_key
    holder = f"{execution.holder}@{platform.node()}:{os.getpid()}:{secrets.token_hex(3)}"
    execution = evolve(execution, holder=holder)
    if execution.venue_id or not key:
        return execution
    return evolve(execution, venue_id=make_venue_id(settings, key))


def make_venue_id(settings: Settings, key: Secret | None) -> VenueId:
    """Return the id under which something is learnt: host and account hash."""
    digest = hashlib.sha256(b"krakenbot venue " + (key.reveal() if key else "").encode()).hexdigest()
    return VenueId(f"{settings.venue.host}/{digest[:12]}")


def make_sample_sink(settings: Settings, ingest: Database, events: EventSink) -> PostgresSampleSink:
    """Return the writer of samples, with its spool on disk."""
    writer = settings.writer
    return PostgresSampleSink(
        ingest,
        queue_rows=writer.queue_rows,
        spool=SpoolPlace(
            folder=writer.spool_dir or settings.process.data_dir / "spool",
            limits=SpoolLimits(bytes_max=writer.spool_bytes_max),
        ),
        spool_after_s=writer.spool_after_s,
        events=events,
    )


def make_journal(settings: Settings, execution: ExecutionSettings) -> FileJournal:
    """Return the journal of one venue account: records never reach the database of another one."""
    folder = execution.journal_dir or settings.process.data_dir / "journal"
    return FileJournal(folder / hashlib.sha256(execution.venue_id.encode()).hexdigest()[:12])


def _make_private(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(f"cannot write to the data directory {folder}: {exc}") from exc


class SharedContainer(containers.DeclarativeContainer):
    """What every process has; `databases` and `rest` are open when they are handed in."""

    settings = providers.Dependency(instance_of=Settings)
    clock = providers.Dependency(instance_of=SystemClock)
    events = providers.Dependency(instance_of=StructuredEvents)
    databases = providers.Dependency(instance_of=Databases)
    rest = providers.Dependency(instance_of=KrakenRest)
    cycle_store = providers.Singleton(PostgresCycleStore, databases.provided.records)


class IngestContainer(SharedContainer):
    """The ingest process."""

    settings = SharedContainer.settings
    token_source = providers.Singleton(make_token_source, SharedContainer.rest, settings.provided.keys.ingest_api_key)
    feed = providers.Singleton(
        KrakenMarketFeed,
        public_url=settings.provided.venue.ws_public_url,
        level3_url=settings.provided.venue.ws_level3_url,
        clock=SharedContainer.clock,
        # deep enough for the depth bands of the samples to be whole
        settings=providers.Factory(
            MarketFeedSettings,
            session=providers.Object(SessionSettings(book_depth=DEPTH_LEVELS)),
            attempts_per_10_min=settings.provided.venue.market_connections_per_10_min,
        ),
        token_source=token_source,
    )
    answers = providers.Singleton(PostgresRefreshAnswers, SharedContainer.databases.provided.publish)
    sink = providers.Singleton(
        make_sample_sink, settings, SharedContainer.databases.provided.ingest, SharedContainer.events
    )
    probes = providers.Singleton(
        QueueProbes,
        clock=SharedContainer.clock,
        feed=feed,
        store=providers.Singleton(PostgresProbeStore, SharedContainer.databases.provided.publish),
        events=SharedContainer.events,
        settings=settings.provided.probes,
        venue_id=providers.Singleton(make_venue_id, settings, settings.provided.keys.ingest_api_key),
    )
    engine = providers.Singleton(
        IngestEngine,
        clock=SharedContainer.clock,
        feed=feed,
        probes=probes,
        sink=sink,
        refill=providers.Singleton(
            TradeRefill,
            clock=SharedContainer.clock,
            sink=sink,
            history=providers.Singleton(
                KrakenTradeHistory,
                rest=SharedContainer.rest,
                clock=SharedContainer.clock,
                settings=providers.Object(TradeHistorySettings()),
            ),
            events=SharedContainer.events,
            settings=settings.provided.refill,
        ),
        lineage_store=providers.Singleton(
            PostgresLineageStore,
            SharedContainer.databases.provided.ingest,
            SharedContainer.databases.provided.publish,
        ),
        retention_store=providers.Singleton(
            PostgresRetentionStore,
            SharedContainer.databases.provided.ingest,
            SharedContainer.databases.provided.publish,
        ),
        refresher=providers.Singleton(
            PostgresStateRefresher,
            SharedContainer.databases.provided.ingest,
            SharedContainer.databases.provided.publish,
            windows=settings.provided.windows,
        ),
        answers=answers,
        cycle_store=SharedContainer.cycle_store,
        events=SharedContainer.events,
        settings=settings.provided.ingest,
        universe_settings=settings.provided.universe,
        standing_settings=settings.provided.standing,
        refresh_settings=settings.provided.refresh,
        run_settings=settings.provided.runs,
        retention_settings=settings.provided.retention,
        window_reach_s=settings.provided.windows.raw_reach_s,
    )


class ExecutionContainer(SharedContainer):
    """The execution process."""

    settings = SharedContainer.settings
    token_source = providers.Singleton(
        make_token_source, SharedContainer.rest, settings.provided.keys.execution_api_key
    )
    stream = providers.Singleton(
        PrivateStream,
        url=settings.provided.venue.ws_private_url,
        tokens=SharedContainer.rest.provided.websockets_token,
        clock=SharedContainer.clock,
        events=SharedContainer.events,
        settings=providers.Object(PrivateStreamSettings()),
    )
    feed = providers.Singleton(
        KrakenMarketFeed,
        public_url=settings.provided.venue.ws_public_url,
        level3_url=settings.provided.venue.ws_level3_url,
        clock=SharedContainer.clock,
        settings=providers.Factory(
            MarketFeedSettings, attempts_per_10_min=settings.provided.venue.market_connections_per_10_min
        ),
        token_source=token_source,
    )
    execution_settings = providers.Singleton(make_execution_settings, settings)
    state_store = providers.Singleton(PostgresStateStore, SharedContainer.databases.provided.decision)
    engine = providers.Singleton(
        ExecutionEngine,
        clock=SharedContainer.clock,
        ids=providers.Singleton(RandomIdSource),
        execution_feed=providers.Singleton(
            KrakenExecutionFeed, stream=stream, settings=providers.Object(ExecutionFeedSettings())
        ),
        gateway=providers.Singleton(
            KrakenOrderGateway, stream=stream, settings=providers.Object(OrderGatewaySettings())
        ),
        query=providers.Singleton(
            KrakenVenueQuery,
            rest=SharedContainer.rest,
            events=SharedContainer.events,
            settings=providers.Object(VenueQuerySettings()),
        ),
        market_feed=feed,
        state_store=state_store,
        order_store=providers.Singleton(
            PostgresOrderStore,
            SharedContainer.databases.provided.decision,
            venue_id=execution_settings.provided.venue_id,
        ),
        journal=providers.Singleton(make_journal, settings, execution_settings),
        cycle_store=SharedContainer.cycle_store,
        safety_store=providers.Singleton(PostgresSafetyStore, SharedContainer.databases.provided.decision),
        ledger_store=providers.Singleton(PostgresLedgerStore, SharedContainer.databases.provided.decision),
        lease=providers.Singleton(PostgresLease, SharedContainer.databases.provided.decision, mark=own_mark()),
        settings=execution_settings,
        decision_settings=settings.provided.decision,
        event_sink=SharedContainer.events,
    )
