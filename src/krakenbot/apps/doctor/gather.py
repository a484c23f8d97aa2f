"""Gather what the doctor judges: keys, clock, venue, account, databases, disks. Reads only, each part on its own.

Enters: settings. Leaves: a `Checkup` in which everything that could not be read is named. Called by the command and
by the start of execution, which has its REST client and its databases open already.

Nonces: the doctor may run beside a process that uses the same key. Its nonces are the clock's, as that process's are,
and it leaves the nonce state file alone: a file raised ten seconds ahead would shut the other one out for as long.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Final, TypeVar

import anyio
from attrs import evolve, frozen

from krakenbot.adapters.kraken.nonce import NonceSource, nonce_state_file, nonces_are_ahead
from krakenbot.adapters.kraken.preflight import KrakenPreflight, read_status
from krakenbot.adapters.kraken.rest import KrakenRest, RestSettings
from krakenbot.adapters.kraken.signing import Credentials
from krakenbot.adapters.postgres.database import Database
from krakenbot.adapters.postgres.databases import EXECUTION_ROLE, INGEST_ROLE
from krakenbot.adapters.postgres.embedded import Login, running_url
from krakenbot.adapters.postgres.inspection import inspect
from krakenbot.adapters.postgres.migrate import DatabasePart
from krakenbot.apps.container import make_venue_id
from krakenbot.apps.databases import CLUSTERS_FOLDER
from krakenbot.apps.settings import Settings
from krakenbot.domain.errors import ConfigError, VenueRejected, VenueUnavailable
from krakenbot.domain.preflight.account import AccountFacts
from krakenbot.domain.preflight.checkup import Checkup, Purpose
from krakenbot.domain.preflight.clock import ClockSample
from krakenbot.domain.preflight.database import DatabaseFacts
from krakenbot.domain.preflight.disk import DiskFacts
from krakenbot.domain.preflight.keys import KeyFacts
from krakenbot.domain.preflight.venue import VenueFacts
from krakenbot.domain.secret import Secret
from krakenbot.domain.values import Asset, Symbol, VenueId
from krakenbot.ports.clock import Clock

STATUS_WAIT_S: Final = 5.0
PRIVATE_WAIT_S: Final = 10.0
_CLOCK_PAUSE_S: Final = 0.35
_USD: Final = Asset("USD")
T = TypeVar("T")


@frozen(kw_only=True)
class Target:
    """A database to look at, as a process of ours would open it."""

    name: str
    url: str
    role: str
    parts: tuple[DatabasePart, ...]
    is_embedded: bool


async def gather(settings: Settings, clock: Clock) -> Checkup:
    """Look at everything that the settings name."""
    venue_id = make_venue_id(settings, settings.keys.execution_api_key)
    if settings.execution is not None and settings.execution.venue_id:
        venue_id = settings.execution.venue_id
    targets = database_targets(settings)
    inspected: dict[str, DatabaseFacts] = {}
    async with anyio.create_task_group() as tasks:
        for target in targets:
            tasks.start_soon(_inspect_into, inspected, target, venue_id)
        checkup = await _gather_venue(settings, clock)
    found = [inspected[target.name] for target in targets]
    # clusters of our own that do not run are no fault: what starts them is not running
    databases = tuple(one for one, target in zip(found, targets, strict=True) if not (one.error and target.is_embedded))
    account = checkup.account
    held = next((one.positions for one in databases if one.positions is not None), None)
    if account is not None and held is not None:
        account = evolve(account, positions=by_asset(held))
    return evolve(checkup, databases=databases, account=account, disks=disks(settings))


def purpose_of(settings: Settings) -> Purpose:
    """Return what the settings want to trade with; without execution it is ingest alone."""
    execution, keys = settings.execution, settings.keys
    wanted = execution is not None or keys.execution_api_key is not None
    return Purpose(
        quote=execution.quote_asset if execution else _USD,
        capital_quote=execution.capital_limit_quote if execution else None,
        symbol_share=Decimal(str(settings.decision.risk.symbol_exposure_share)),
        needs_keys=("ingest", "execution") if wanted else ("ingest",),
    )


def database_targets(settings: Settings) -> tuple[Target, ...]:
    """Return the databases that the settings name, or the embedded clusters that run; none when nothing runs."""
    url = settings.database.url.reveal() if settings.database.url else None
    decision_url = settings.database.decision_url.reveal() if settings.database.decision_url else None
    is_embedded = url is None and decision_url is None
    if is_embedded:
        folder = settings.process.data_dir / CLUSTERS_FOLDER
        url, decision_url = (running_url(folder, name, Login.OWNER) for name in ("ingest", "decision"))
    execution = settings.execution is not None or settings.keys.execution_api_key is not None
    decider = EXECUTION_ROLE if execution else INGEST_ROLE
    both = (DatabasePart.INGEST, DatabasePart.DECISION)
    parts: tuple[DatabasePart, ...]
    targets = []
    if url is not None:
        single = decision_url is None
        # one login in both roles stays itself, as the processes do it
        parts = both if single else (DatabasePart.INGEST,)
        name = "both" if single else "ingest"
        targets.append(Target(name=name, url=url, role=INGEST_ROLE, parts=parts, is_embedded=is_embedded))
    if decision_url is not None:
        parts = (DatabasePart.DECISION,)
        targets.append(Target(name="decision", url=decision_url, role=decider, parts=parts, is_embedded=is_embedded))
    return tuple(targets)


def disks(settings: Settings) -> tuple[DiskFacts, ...]:
    """Return the free space of every folder that a process writes to."""
    data = settings.process.data_dir
    folders = {"data": data, "spool": settings.writer.spool_dir or data / "spool"}
    if settings.execution is not None:
        folders["journal"] = settings.execution.journal_dir or data / "journal"
    return tuple(_disk(purpose, path) for purpose, path in folders.items())


def by_asset(positions: Mapping[Symbol, Decimal]) -> dict[Asset, Decimal]:
    """Return what is held of each coin, whatever it was bought with."""
    held: dict[Asset, Decimal] = {}
    for symbol, qty in positions.items():
        base = Asset(symbol.partition("/")[0])
        held[base] = held.get(base, Decimal(0)) + qty
    return held


async def venue_facts(
    settings: Settings, preflight: KrakenPreflight, clock: Clock, *, symbols: tuple[Symbol, ...]
) -> VenueFacts:
    """Return mode, planned maintenances, instruments, and the bids of symbols."""
    errors: dict[str, str] = {}
    frame = await _or_error(lambda: read_status(settings.venue.ws_public_url, clock, STATUS_WAIT_S), errors, "status")
    instruments = await _or_error(preflight.instruments, errors, "instruments")
    bids = None
    if instruments is not None and symbols:
        bids = await _or_error(lambda: preflight.bids(symbols), errors, "prices")
    return VenueFacts(
        errors=errors,
        status=frame.status if frame else None,
        upcoming=frame.upcoming if frame else None,
        instruments=instruments,
        symbols=symbols,
        bids=bids or {},
    )


async def clock_facts(preflight: KrakenPreflight, pause_s: float) -> tuple[tuple[ClockSample, ...] | None, str | None]:
    """Return samples of the venue's time, or why there are none."""
    errors: dict[str, str] = {}
    samples = await _or_error(lambda: preflight.clock_samples(pause_s), errors, "time")
    return samples, errors.get("time")


async def _gather_venue(settings: Settings, clock: Clock) -> Checkup:
    keys: list[KeyFacts] = []
    async with AsyncExitStack() as stack:
        public = KrakenPreflight(
            rest=await stack.enter_async_context(
                KrakenRest(settings=RestSettings(base_url=settings.venue.rest_url), clock=clock)
            ),
            clock=clock,
        )
        samples, clock_error = await clock_facts(public, _CLOCK_PAUSE_S)
        venue = await venue_facts(settings, public, clock, symbols=settings.ingest.symbols)
        account: AccountFacts | None = None
        if settings.keys.ingest_api_key and settings.keys.ingest_api_secret:
            pair = settings.keys.ingest_api_key, settings.keys.ingest_api_secret
            asked = await _private(settings, clock, stack, *pair)
            keys.append(await _key("ingest", asked, pair[0]))
        if settings.keys.execution_api_key and settings.keys.execution_api_secret:
            pair = settings.keys.execution_api_key, settings.keys.execution_api_secret
            asked = await _private(settings, clock, stack, *pair)
            key = await _key("execution", asked, pair[0])
            keys.append(key)
            if key.rights is not None and not isinstance(asked, str):
                account, venue = await _account(settings, asked, venue, with_stream=key.token == "")
    return Checkup(
        at=clock.now(),
        purpose=purpose_of(settings),
        keys=tuple(keys),
        clock=samples,
        clock_error=clock_error,
        venue=venue,
        account=account,
    )


async def _private(
    settings: Settings, clock: Clock, stack: AsyncExitStack, key: Secret, secret: Secret
) -> KrakenPreflight | str:
    """Return signed access with nonces of the clock, or why there must be none."""
    state_file = nonce_state_file(settings.process.data_dir / "nonces", key)
    try:
        if nonces_are_ahead(state_file, clock.now_ns()):
            return f"not asked: the key's nonces are ahead of this clock ({state_file}), which was set back"
        credentials = Credentials(api_key=key, private_key=secret)
    except ConfigError as error:
        return str(error)
    rest = KrakenRest(
        settings=RestSettings(base_url=settings.venue.rest_url),
        clock=clock,
        credentials=credentials,
        nonces=NonceSource(clock=clock),
    )
    return KrakenPreflight(rest=await stack.enter_async_context(rest), clock=clock)


async def _key(process: str, asked: KrakenPreflight | str, key: Secret) -> KeyFacts:
    if isinstance(asked, str):
        return KeyFacts(process=process, fingerprint=process, unusable=asked)
    try:
        return await asked.key(process, key, with_token=True)
    except VenueUnavailable as error:
        return KeyFacts(process=process, fingerprint=process, unreachable=str(error))


async def _account(
    settings: Settings, asked: KrakenPreflight, venue: VenueFacts, *, with_stream: bool
) -> tuple[AccountFacts, VenueFacts]:
    errors: dict[str, str] = {}
    quote = purpose_of(settings).quote
    symbols = settings.ingest.symbols or (Symbol(f"BTC/{quote}"), Symbol(f"ETH/{quote}"))
    balances = await _or_error(asked.balances, errors, "balances")
    fees = await _or_error(lambda: asked.fees(symbols), errors, "fees")
    url, max_ratecount = settings.venue.ws_private_url, None
    if with_stream:
        max_ratecount = await _or_error(lambda: asked.max_ratecount(url, PRIVATE_WAIT_S), errors, "private_stream")
    balances_error = errors.pop("balances", None)
    venue = evolve(
        venue,
        errors={**venue.errors, **errors},
        fees=fees,
        max_ratecount=max_ratecount,
        tier=settings.execution.tier if settings.execution else None,
    )
    return AccountFacts(balances=balances or {}, error=balances_error), venue


async def _or_error(ask: Callable[[], Awaitable[T]], errors: dict[str, str], name: str) -> T | None:
    try:
        return await ask()
    except (VenueUnavailable, VenueRejected) as error:
        errors[name] = str(error)
        return None


async def _inspect_into(found: dict[str, DatabaseFacts], target: Target, venue_id: VenueId) -> None:
    database = Database(target.url, name="doctor", role=target.role)
    found[target.name] = await inspect(database, name=target.name, parts=target.parts, venue_id=venue_id)


def _disk(purpose: str, path: Path) -> DiskFacts:
    try:
        existing = next((one for one in (path, *path.parents) if one.exists()), path)
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return DiskFacts(purpose=purpose, path=str(path), free_bytes=0, error=str(error.strerror or error))
    is_usable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return DiskFacts(
        purpose=purpose, path=str(path), free_bytes=free, error=None if is_usable else "not a folder to write to"
    )
