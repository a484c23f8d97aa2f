"""Run the local exchange as a process: `krakenbot exchange`.

Builds the venue, its accounts and its flow, listens on a loopback port, says where, and serves until SIGTERM or
SIGINT. The command line registers `exchange`; rehearsals start it and read the ready file.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Annotated, Literal

import anyio
import cyclopts
import structlog

from krakenbot.adapters.local_exchange.digits import parse_rfc3339
from krakenbot.adapters.local_exchange.garbage import collect_garbage, lasting_objects
from krakenbot.adapters.local_exchange.latency import LatencySettings
from krakenbot.adapters.local_exchange.limits.settings import LimitsKind
from krakenbot.adapters.local_exchange.matching.accounts import KEEP_CLOSED, StopHolds
from krakenbot.adapters.local_exchange.matching.settings import Fees
from krakenbot.adapters.local_exchange.playback.flow import AtEnd
from krakenbot.adapters.local_exchange.protocol.exchange import Exchange
from krakenbot.adapters.local_exchange.record import open_record
from krakenbot.adapters.local_exchange.server import serving
from krakenbot.adapters.local_exchange.venue_clock import RunningClock, SteppedClock, VenueClock
from krakenbot.apps.exchange_announcement import announce, withdraw_ready_file
from krakenbot.apps.exchange_building import account_entries, build
from krakenbot.apps.exchange_options import ExchangeOptions, FlowKind, Profile, check_options
from krakenbot.apps.standard_output import OutputError


def exchange(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    symbols: int = 12,
    seed: int = 1,
    flow: FlowKind = "seeded",
    profile: Profile = "edge",
    activity: float = 1.0,
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
    keep_closed: int = KEEP_CLOSED,
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
    activity
        How busy the seeded flow is, 0.01 to 1: every rate in proportion, every lifetime inversely. Time is not slowed.
    accounts
        JSON file with accounts, keys and balances (docs/exchange.md); without it one demo account with 25000 USD
        whose key is printed.
    record
        File to append the record of truth to, as JSON lines; every start counts from 1 again.
    ready_file
        JSON file with host, port, URLs and symbols, written once the exchange listens, removed when it ends cleanly.
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
    keep_closed
        How many closed orders, fills and bookings each account keeps in memory; the record has them all.

    """
    options = ExchangeOptions(
        host=host,
        port=port,
        symbols=symbols,
        seed=seed,
        flow=flow,
        profile=profile,
        activity=activity,
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
        keep_closed=keep_closed,
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
    except OutputError:
        raise
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
    check_options(options)
    clock: VenueClock = RunningClock(options.speed)
    if options.time == "stepped":
        clock = SteppedClock(parse_rfc3339(options.start_at) if options.start_at else None)
    entries = account_entries(options)
    with ExitStack() as files:
        record_file = files.enter_context(open_record(options.record)) if options.record else None
        built, flow = build(options, entries, clock, record_file)
        # The books live as long as the process: no pause of the collector to walk over them.
        files.enter_context(lasting_objects())
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
                announce(options, endpoints, built, entries)
                reason = "standard input ended"
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(collect_garbage)
                    if options.until_stdin_ends:
                        tasks.start_soon(_cancel_when_stdin_ends, tasks.cancel_scope)
                    async for number in signals:
                        reason = f"{number.name} came"
                        break
                    tasks.cancel_scope.cancel()
                print(f"local exchange: ends, as {reason}", flush=True)
        if options.ready_file is not None:
            withdraw_ready_file(options.ready_file)
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
