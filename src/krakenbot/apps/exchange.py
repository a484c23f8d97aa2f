"""Run the local exchange as a process: `krakenbot exchange`.

Builds the venue, its accounts and its flow, listens on a loopback port, says where, and serves until SIGTERM or
SIGINT. The command line registers `exchange`; rehearsals start it and read the ready file.
"""

from __future__ import annotations

import base64
import errno
import gc
import ipaddress
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Annotated, Any, BinaryIO, Literal

import anyio
import attrs
import cyclopts
import structlog
from attrs import frozen

from krakenbot.adapters.local_exchange.digits import parse_rfc3339
from krakenbot.adapters.local_exchange.flow.instruments import choose_symbols, load_assets, load_instruments
from krakenbot.adapters.local_exchange.flow.market import Flow, Market
from krakenbot.adapters.local_exchange.flow.recorded import RecordedFlow
from krakenbot.adapters.local_exchange.flow.recording import find_recordings
from krakenbot.adapters.local_exchange.flow.seeded import SeededFlow
from krakenbot.adapters.local_exchange.flow.still import StillFlow
from krakenbot.adapters.local_exchange.keys import (
    PERMISSIONS,
    AccountEntry,
    KeyEntry,
    KeyRing,
    parse_accounts,
)
from krakenbot.adapters.local_exchange.latency import LatencySettings
from krakenbot.adapters.local_exchange.limits.settings import LimitSettings, LimitsKind
from krakenbot.adapters.local_exchange.matching.accounts import StopHolds
from krakenbot.adapters.local_exchange.matching.fees import parse_pair_fees
from krakenbot.adapters.local_exchange.matching.settings import Fees, VenueSettings, parse_rules
from krakenbot.adapters.local_exchange.matching.venue import Venue
from krakenbot.adapters.local_exchange.pacing import PacedFlow
from krakenbot.adapters.local_exchange.playback.catalog import Catalog, survey
from krakenbot.adapters.local_exchange.playback.flow import AtEnd, PlaybackFlow, make_playback_markets
from krakenbot.adapters.local_exchange.playback.reader import Recording
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.record import RecordOfTruth, open_record
from krakenbot.adapters.local_exchange.server import Endpoints, serving
from krakenbot.adapters.local_exchange.venue_clock import RunningClock, SteppedClock, VenueClock

FlowKind = Literal["seeded", "recorded", "still", "playback"]
Profile = Literal["null", "toxic", "edge"]
PPM_PER_BP = 100
MAX_PORT = 65_535
MAX_FEE_BPS = 1_000.0
MAX_START_AFTER_S = 86_400.0
FIRST_START, LAST_START = "2000-01-01T00:00:00Z", "2200-01-01T00:00:00Z"
"""Times before the epoch and years of five digits have no text on the wire."""


@frozen(kw_only=True)
class ExchangeOptions:
    """Everything that one exchange process is told."""

    host: str = "127.0.0.1"
    port: int = 0
    symbols: int = 12
    seed: int = 1
    flow: FlowKind = "seeded"
    profile: Profile = "edge"
    accounts: Path | None = None
    record: Path | None = None
    ready_file: Path | None = None
    recording: Path | None = None
    maker_fee_bps: float = 25.0
    taker_fee_bps: float = 40.0
    latency_median_ms: float = 30.0
    latency_p99_ms: float = 150.0
    stop_holds: StopHolds = StopHolds.RESERVE
    post_only_reject: Literal["error", "cancel"] = "error"
    fees: Fees = "flat"
    pair_fees: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    time: Literal["running", "stepped"] = "running"
    speed: float = 1.0
    limits: LimitsKind = "default"
    until_stdin_ends: bool = False
    at_end: AtEnd = "seeded"
    start_after_s: float = 0.0
    start_at: str | None = None
    faults: Path | None = None


def exchange(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    symbols: int = 12,
    seed: int = 1,
    flow: FlowKind = "seeded",
    profile: Profile = "edge",
    accounts: Path | None = None,
    record: Path | None = None,
    ready_file: Path | None = None,
    recording: Path | None = None,
    maker_fee_bps: float = 25.0,
    taker_fee_bps: float = 40.0,
    latency_median_ms: float = 30.0,
    latency_p99_ms: float = 150.0,
    stop_holds: Literal["reserve", "none_reject_at_trigger", "shared"] = "reserve",
    post_only_reject: Literal["error", "cancel"] = "error",
    fees: Fees = "flat",
    pair_fee: Annotated[tuple[str, ...], cyclopts.Parameter(negative=(), show_default=False)] = (),
    rule: Annotated[tuple[str, ...], cyclopts.Parameter(negative=(), show_default=False)] = (),
    time: Literal["running", "stepped"] = "running",
    speed: float = 1.0,
    limits: LimitsKind = "default",
    until_stdin_ends: bool = False,
    at_end: AtEnd = "seeded",
    start_after_s: float = 0.0,
    start_at: str | None = None,
    faults: Path | None = None,
) -> int:
    """Serve a local exchange that speaks Kraken's protocol, until SIGTERM or Ctrl-C.

    docs/exchange.md says how to use it, docs/exchange_differences.md how it differs from Kraken.

    Parameters
    ----------
    host
        Loopback address to listen on; any other is refused.
    port
        TCP port; 0 takes a free one, which is printed and written to the ready file.
    symbols
        How many symbols to list, 1 to 619; a played-back recording lists its own.
    seed
        Seed of the flow, of ids and of latency.
    flow
        Where order flow comes from: a seeded generator, a recording that goes on seeded, nowhere (still)
        once the books are open, or, playback, a recording of raw frames.
    profile
        What kind of market the flow makes: null, toxic or edge.
    accounts
        JSON file with accounts, keys and balances (docs/exchange.md); without it one demo account with 25000 USD
        whose key is printed.
    record
        File to append the record of truth to, as JSON lines; every start counts from 1 again.
    ready_file
        JSON file with host, port, URLs and symbols, written once the exchange listens.
    recording
        Folder of the recording for `--flow recorded`; without it KRAKENBOT_RECORDINGS, else ../shared/kraken.
        For `--flow playback` the recording of raw frames, which must be given.
    maker_fee_bps
        Maker fee in basis points, for flat fees.
    taker_fee_bps
        Taker fee in basis points, for flat fees.
    latency_median_ms
        Median delay of a message one way; 0 turns latency off. Stepped time has none.
    latency_p99_ms
        99 % point of the delay one way.
    stop_holds
        Whether an untriggered stop binds funds; not documented for Kraken.
    post_only_reject
        How a post-only order that would take is refused; Kraken documents both.
    fees
        Flat rates for everybody, or tiers by each account's 30-day volume.
    pair_fee
        SYMBOL=MAKER/TAKER in basis points for one pair, as often as needed; a negative maker fee is a rebate.
    rule
        NAME=VALUE for a rule that Kraken leaves open, as often as needed; docs/exchange_differences.md lists them.
    time
        Whether time runs by itself, or only when POST /control/advance moves it; stepped time has no latency.
    speed
        Seconds of the exchange's time in one of real time, 0.001 to 1000.
    limits
        Which limits on clients apply: default leaves out those per address, documented has all, off has none.
    until_stdin_ends
        End also when standard input ends, so that the exchange does not outlive who started it.
    at_end
        What follows a played-back recording: seeded flow from its last books, stop, or loop.
    start_after_s
        Seconds that a played-back market stands at its first snapshots before the playback starts.
    start_at
        When stepped time starts, as 2026-11-22T10:00:00Z; without it at the present, and no two runs are alike.
    faults
        File with a script of faults to play (docs/faults.md); how often each rule was hit is printed in the end.

    """
    options = ExchangeOptions(
        host=host,
        port=port,
        symbols=symbols,
        seed=seed,
        flow=flow,
        profile=profile,
        accounts=accounts,
        record=record,
        ready_file=ready_file,
        recording=recording,
        maker_fee_bps=maker_fee_bps,
        taker_fee_bps=taker_fee_bps,
        latency_median_ms=latency_median_ms,
        latency_p99_ms=latency_p99_ms,
        stop_holds=StopHolds(stop_holds),
        post_only_reject=post_only_reject,
        fees=fees,
        pair_fees=pair_fee,
        rules=rule,
        time=time,
        speed=speed,
        limits=limits,
        until_stdin_ends=until_stdin_ends,
        at_end=at_end,
        start_after_s=start_after_s,
        start_at=start_at,
        faults=faults,
    )
    structlog.configure(
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
    )
    try:
        anyio.run(serve, options)
    except ExceptionGroup as group:
        failed, others = group.split(_is_about_a_file)
        if failed is None or others is not None:
            raise
        return _refuse(_first_of(failed), options)
    except (OSError, ValueError) as error:
        return _refuse(error, options)
    return 0


def _is_about_a_file(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.filename is not None


def _first_of(group: BaseExceptionGroup) -> BaseException:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


def _refuse(error: BaseException, options: ExchangeOptions) -> int:
    text = str(error)
    if isinstance(error, OSError) and error.strerror:
        text = f"{error.filename or f'{options.host} port {options.port}'}: {error.strerror}"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        text += "; choose another --port, or leave it out for a free one"
    print(f"exchange: {text}", file=sys.stderr)
    return 2


async def serve(options: ExchangeOptions) -> None:
    """Serve until SIGTERM or SIGINT arrives.

    Raises ValueError or OSError when the options, the accounts file or the port cannot be used.
    """
    _check(options)
    clock: VenueClock = RunningClock(options.speed)
    if options.time == "stepped":
        clock = SteppedClock(parse_rfc3339(options.start_at) if options.start_at else None)
    entries = _account_entries(options)
    with ExitStack() as files:
        record_file = files.enter_context(open_record(options.record)) if options.record else None
        built, flow = build(options, entries, clock, record_file)
        # The books live as long as the process: no pause of the collector to walk over them.
        gc.collect()
        gc.freeze()
        if options.faults is not None:
            _add_faults(built, options.faults)
        latency = LatencySettings(median_ms=options.latency_median_ms, p99_ms=options.latency_p99_ms)
        if options.time == "stepped":
            # A request on its way would wait for the next step of time, and its sender for the answer.
            latency = LatencySettings(median_ms=0)
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with serving(
                built, flow, latency, host=options.host, port=options.port, seed=options.seed
            ) as endpoints:
                _announce(options, endpoints, built, entries)
                async with anyio.create_task_group() as tasks:
                    if options.until_stdin_ends:
                        tasks.start_soon(_cancel_when_stdin_ends, tasks.cancel_scope)
                    async for _signal in signals:
                        break
                    tasks.cancel_scope.cancel()
        for line in built.faults.lines():
            print(line, flush=True)


def _add_faults(built: Exchange, path: Path) -> None:
    try:
        built.faults.add(path.read_text(), str(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


async def _cancel_when_stdin_ends(scope: anyio.CancelScope) -> None:
    stdin = sys.stdin.fileno()
    while True:
        # A file or /dev/null cannot be waited for; reading it never blocks either.
        with suppress(PermissionError):
            await anyio.wait_readable(stdin)
        if not os.read(stdin, 4096):
            break
    scope.cancel()


def build(
    options: ExchangeOptions,
    entries: list[AccountEntry],
    clock: VenueClock,
    record_file: BinaryIO | None,
) -> tuple[Exchange, PacedFlow]:
    """Return an exchange with open books, ready to be served."""
    catalog = survey(Recording(options.recording)) if options.flow == "playback" and options.recording else None
    settings = VenueSettings(
        seed=options.seed,
        maker_ppm=round(options.maker_fee_bps * PPM_PER_BP),
        taker_ppm=round(options.taker_fee_bps * PPM_PER_BP),
        fees=options.fees,
        pair_fees=parse_pair_fees(options.pair_fees),
        stop_holds=options.stop_holds,
        post_only_reject=options.post_only_reject,
    )
    settings = attrs.evolve(settings, **parse_rules(options.rules))
    if catalog is None:
        listed = load_instruments()
        venue = Venue({symbol: listed[symbol] for symbol in choose_symbols(options.symbols)}, settings)
    else:
        venue = Venue(catalog.rules, settings)
        make_playback_markets(venue)
    _check_assets(entries, venue)
    keys = KeyRing(options.seed)
    for entry in entries:
        account = venue.open_account(entry.name, entry.balances, tier=entry.tier, volume_usd=entry.volume_usd)
        for key in entry.keys:
            keys.add_entry(key, account)
    record = RecordOfTruth(venue, record_file)
    built = Exchange(venue, keys, record, clock, LimitSettings.of(options.limits))
    flow = PacedFlow(_make_flow(options, built, catalog))
    venue.open(flow, clock.now_ns())
    record.deposits()
    return built, flow


def steady_clock() -> RunningClock:
    """Return a clock of real time."""
    return RunningClock()


def write_atomically(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file so that a reader sees all of it or nothing; raises OSError about this file."""
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w") as file:
            json.dump(content, file)
        Path(temporary).replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _check(options: ExchangeOptions) -> None:
    """Refuse what nothing else refuses before the port is open; raises ValueError or FileNotFoundError."""
    if not 0 <= options.port <= MAX_PORT:
        raise ValueError(f"--port {options.port}: allowed are 0 to {MAX_PORT}")
    try:
        ipaddress.ip_address(options.host)
    except ValueError:
        raise ValueError(f"--host {options.host}: an address is needed, 127.0.0.1 or ::1") from None
    if options.flow == "playback" and options.recording is None:
        raise ValueError("--flow playback needs --recording")
    if options.flow in ("seeded", "still") and options.recording is not None:
        raise ValueError("--recording goes with --flow recorded or --flow playback")
    if options.start_at is not None and (options.time != "stepped" or parse_rfc3339(options.start_at) is None):
        raise ValueError(f"--start-at {options.start_at}: goes with --time stepped, as 2026-11-22T10:00:00Z")
    if options.start_at is not None and not FIRST_START <= options.start_at < LAST_START:
        raise ValueError(f"--start-at {options.start_at}: allowed are {FIRST_START} to {LAST_START}")
    if not 0 <= options.start_after_s <= MAX_START_AFTER_S:
        raise ValueError(f"--start-after-s {options.start_after_s:g}: allowed are 0 to {MAX_START_AFTER_S:g}")
    if options.flow != "playback" and (options.start_after_s or options.at_end != "seeded"):
        raise ValueError("--start-after-s and --at-end go with --flow playback")
    if options.time == "stepped" and options.speed != 1.0:
        raise ValueError("--speed needs --time running")
    for name, fee_bps in (("maker", options.maker_fee_bps), ("taker", options.taker_fee_bps)):
        if not 0 <= fee_bps <= MAX_FEE_BPS:
            raise ValueError(f"--{name}-fee-bps {fee_bps:g}: allowed are 0 to {MAX_FEE_BPS:g}")
    if options.ready_file is not None and not options.ready_file.absolute().parent.is_dir():
        raise FileNotFoundError(f"--ready-file {options.ready_file}: its folder must exist")
    if options.ready_file is not None and options.ready_file.is_dir():
        raise IsADirectoryError(f"--ready-file {options.ready_file}: it is a folder")
    if options.until_stdin_ends and sys.stdin is None:
        raise ValueError("--until-stdin-ends: there is no standard input")


def _check_assets(entries: list[AccountEntry], venue: Venue) -> None:
    known = set(load_assets()).union(*((market.rules.base, market.rules.quote) for market in venue.markets.values()))
    for entry in entries:
        unknown = sorted(set(entry.balances) - known)
        if unknown:
            names = "names are those of WebSocket v2, such as BTC and USD, not XBT and ZUSD"
            raise ValueError(f"account {entry.name}: no asset {', '.join(unknown)}; {names}")


def _make_flow(options: ExchangeOptions, built: Exchange, catalog: Catalog | None) -> Flow:
    if catalog is not None:
        return PlaybackFlow(
            built.venue,
            built.public,
            catalog,
            at_end=options.at_end,
            seed=options.seed,
            profile=options.profile,
            starts_after_ns=round(options.start_after_s * 1e9),
        )
    markets: dict[str, Market] = dict(built.venue.markets)
    if options.flow != "recorded":
        seeded = SeededFlow(markets, profile=options.profile, seed=options.seed)
        return StillFlow(seeded) if options.flow == "still" else seeded
    folder = find_recordings(options.recording)
    return RecordedFlow(markets, recording_dir=folder, seed=options.seed, profile=options.profile)


def _account_entries(options: ExchangeOptions) -> list[AccountEntry]:
    if options.accounts is not None:
        try:
            return parse_accounts(options.accounts.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{options.accounts}: {error}") from error
    random = Random(f"demo-{options.seed}")  # noqa: S311, a key of a loopback peer
    key = KeyEntry(
        api_key=base64.b64encode(random.randbytes(42)).decode(),
        secret=random.randbytes(64),
        permissions=frozenset(PERMISSIONS),
    )
    return [AccountEntry(name="demo", keys=[key], balances={"USD": Decimal(25_000)})]


def _announce(options: ExchangeOptions, endpoints: Endpoints, built: Exchange, entries: list[AccountEntry]) -> None:
    parameters = built.venue.flow.parameters() if built.venue.flow else {}
    ready: dict[str, Any] = {
        "host": endpoints.host,
        "port": endpoints.port,
        **endpoints.urls(),
        "symbols": list(built.venue.markets),
        "flow": {"kind": options.flow, "profile": options.profile, "seed": options.seed, "parameters": parameters},
        "pid": os.getpid(),
    }
    if options.accounts is None:
        key = entries[0].keys[0]
        secret = base64.b64encode(key.secret).decode()
        ready |= {"api_key": key.api_key, "api_secret": secret}
        print(f"demo account: API key {key.api_key} secret {secret}", flush=True)
    urls = " ".join(f"{name.removesuffix('_url')}={url}" for name, url in endpoints.urls().items())
    print(f"local exchange: {urls}", flush=True)
    for line in flow_lines(options, parameters):
        print(line, flush=True)
    if options.ready_file is not None:
        write_atomically(options.ready_file, ready)


def flow_lines(options: ExchangeOptions, parameters: Mapping[str, Any]) -> list[str]:
    """Return the flow's parameters for a person: one value where all symbols share it, else lowest to highest."""
    values: dict[str, set[Any]] = {}
    for numbers in parameters.get("symbols", {}).values():
        for name, number in numbers.items():
            values.setdefault(name, set()).add(number["value"])
    texts = [f"{name} {_span(found)}" for name, found in values.items() if found != {None}]
    head = f"flow {options.flow}, profile {options.profile}, seed {options.seed}; {parameters.get('notice', '')}"
    return [head, *(f"  {', '.join(texts[start : start + 6])}" for start in range(0, len(texts), 6))]


def _span(values: set[Any]) -> str:
    numbers = sorted(value for value in values if value is not None)
    shown = [f"{number:.4g}" if isinstance(number, float) else str(number) for number in (numbers[0], numbers[-1])]
    return shown[0] if len(numbers) == 1 else f"{shown[0]} to {shown[1]}"
