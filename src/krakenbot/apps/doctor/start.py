"""Execution's own check-up before it starts: the doctor's, with what is open already.

Enters: settings, the signed REST client, open databases. Leaves: nothing, or ConfigError with every reason and its
fix; warnings become events. Only what can refuse a start is asked, so that the rate counter stays free for the first
reconciliation: balances and fees come with the account's own first refresh. A venue that answers no question about
the key is waited for, since nothing works before it; its other silences are warnings, for a position may need its
stop now.
"""

from __future__ import annotations

from attrs import evolve

from krakenbot.adapters.kraken.preflight import KrakenPreflight
from krakenbot.adapters.kraken.rest import KrakenRest
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import Databases
from krakenbot.adapters.postgres.inspection import inspect
from krakenbot.adapters.postgres.migrate import DatabasePart
from krakenbot.apps.doctor.gather import clock_facts, disks, purpose_of, venue_facts
from krakenbot.apps.settings import Settings
from krakenbot.domain.errors import ConfigError, VenueUnavailable
from krakenbot.domain.preflight.checkup import Checkup, judge
from krakenbot.domain.preflight.database import DatabaseFacts
from krakenbot.domain.preflight.finding import Level, refusal, warn
from krakenbot.domain.preflight.keys import KeyFacts
from krakenbot.domain.secret import Secret
from krakenbot.ports.clock import Clock
from krakenbot.ports.event_sink import EventSink

KEY_RETRY_S = 2.0


async def check_start(
    settings: Settings, clock: Clock, events: EventSink, rest: KrakenRest, databases: Databases
) -> None:
    """Raise ConfigError unless execution may start; say every warning as an event."""
    preflight = KrakenPreflight(rest=rest, clock=clock)
    key = settings.keys.execution_api_key
    if not key:
        raise ConfigError("keys.execution_api_key is not set: execution needs an API key of its own")
    facts = await _ask_key(preflight, key, clock, events)
    samples, clock_error = await clock_facts(preflight, 0.0)
    checkup = Checkup(
        at=clock.now(),
        purpose=evolve(purpose_of(settings), needs_keys=("execution",)),
        keys=(facts,),
        clock=samples,
        clock_error=clock_error,
        venue=await venue_facts(settings, preflight, clock, symbols=()),
        databases=(await _inspect(databases),),
        disks=disks(settings),
    )
    findings = judge(checkup, settings.doctor, away=warn)
    reasons = refusal(findings)
    if reasons is not None:
        raise ConfigError(f"execution does not start: {reasons}")
    for finding in findings:
        if finding.level is Level.WARN:
            events.emit("start_warning", check=finding.check, found=finding.found, limit=finding.limit, fix=finding.fix)


async def _ask_key(preflight: KrakenPreflight, key: Secret, clock: Clock, events: EventSink) -> KeyFacts:
    while True:
        try:
            return await preflight.key("execution", key, with_token=False)
        except VenueUnavailable as error:
            events.emit("start_waiting", step="api key", reason=str(error))
            await clock.sleep(KEY_RETRY_S)


async def _inspect(databases: Databases) -> DatabaseFacts:
    database: Database = databases.need("decision")
    return await inspect(database, name="decision", parts=(DatabasePart.DECISION,))
