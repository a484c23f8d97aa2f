"""`krakenbot doctor --probe-holds SYMBOL`: wire the probe while no execution leads.

Enters: settings and a symbol. Leaves: findings. The lease is taken before anything is signed, so the key's nonces
are ours alone, and given back at the end.
"""

from __future__ import annotations

import sys
from contextlib import AsyncExitStack
from typing import Final

from krakenbot.adapters.clock.system import RandomIdSource, SystemClock
from krakenbot.adapters.kraken.execution_feed import ExecutionFeedSettings, KrakenExecutionFeed
from krakenbot.adapters.kraken.order_gateway import KrakenOrderGateway, OrderGatewaySettings
from krakenbot.adapters.kraken.preflight import KrakenPreflight
from krakenbot.adapters.kraken.rest import KrakenRest
from krakenbot.adapters.kraken.venue_query import KrakenVenueQuery, VenueQuerySettings
from krakenbot.adapters.postgres.databases import Databases, ProcessKind, open_databases
from krakenbot.adapters.postgres.lease import PostgresLease
from krakenbot.adapters.postgres.order_store import PostgresOrderStore
from krakenbot.adapters.postgres.process_mark import own_mark
from krakenbot.adapters.telemetry.events import StructuredEvents
from krakenbot.apps.container import ExecutionContainer, make_rest
from krakenbot.apps.doctor.gather import database_targets
from krakenbot.apps.settings import Settings
from krakenbot.domain.engine.holds_probe import HoldsProbe
from krakenbot.domain.errors import ConfigError, KrakenbotError
from krakenbot.domain.preflight.finding import Finding
from krakenbot.domain.preflight.holds import HoldsFacts, judge_holds
from krakenbot.domain.values import LeaseEpoch, Symbol

_LEASE_S: Final = 120.0
"""Longer than a probe can take: nobody leads meanwhile."""


async def probe_holds(settings: Settings, symbol: Symbol) -> list[Finding]:
    """Return what the probe learnt; raises ConfigError when the settings cannot trade."""
    require_trading(settings)
    try:
        return judge_holds(await _probe(settings, symbol))
    except KrakenbotError as error:
        if isinstance(error, ConfigError):
            raise
        return judge_holds(HoldsFacts(symbol=symbol, reason=str(error)))


def require_trading(settings: Settings) -> None:
    """Raise ConfigError unless capital and an execution key are set."""
    settings.require_execution()
    if not settings.keys.execution_api_key:
        raise ConfigError("keys.execution_api_key is not set: --probe-holds places an order")


async def _probe(settings: Settings, symbol: Symbol) -> HoldsFacts:
    clock = SystemClock()
    # beside the findings, which are on standard output
    events = StructuredEvents(
        clock=clock, stream=sys.stderr, process="doctor", as_json=False, secrets=settings.secret_texts()
    )
    async with AsyncExitStack() as stack:
        url = next((one.url for one in reversed(database_targets(settings))), None)
        databases = await stack.enter_async_context(
            open_databases(ingest_url=None, decision_url=url, process=ProcessKind.EXECUTION)
        )
        lease = PostgresLease(databases.need("decision"), mark=own_mark())
        stack.push_async_callback(lease.aclose)
        epoch = await lease.acquire("doctor --probe-holds", _LEASE_S)
        stack.push_async_callback(lease.release, epoch)
        rest = await stack.enter_async_context(
            make_rest(settings, clock, settings.keys.execution_api_key, settings.keys.execution_api_secret)
        )
        preflight = KrakenPreflight(rest=rest, clock=clock)
        instrument = (await preflight.instruments()).get(symbol)
        if instrument is None:
            return HoldsFacts(symbol=symbol, reason="the venue does not list it")
        bid = (await preflight.bids((symbol,))).get(symbol)
        if bid is None:
            return HoldsFacts(symbol=symbol, reason="there is no bid")
        return await _make(
            settings=settings, clock=clock, events=events, databases=databases, rest=rest, epoch=epoch
        ).run(instrument, bid)


def _make(
    *,
    settings: Settings,
    clock: SystemClock,
    events: StructuredEvents,
    databases: Databases,
    rest: KrakenRest,
    epoch: LeaseEpoch,
) -> HoldsProbe:
    container = ExecutionContainer(settings=settings, clock=clock, events=events, databases=databases, rest=rest)
    stream, venue_id = container.stream(), container.execution_settings().venue_id
    return HoldsProbe(
        clock=clock,
        ids=RandomIdSource(),
        feed=KrakenExecutionFeed(stream=stream, settings=ExecutionFeedSettings()),
        gateway=KrakenOrderGateway(stream=stream, settings=OrderGatewaySettings()),
        query=KrakenVenueQuery(rest=rest, events=events, settings=VenueQuerySettings()),
        store=PostgresOrderStore(databases.need("decision"), venue_id=venue_id),
        venue_id=venue_id,
        lease_epoch=epoch,
    )
