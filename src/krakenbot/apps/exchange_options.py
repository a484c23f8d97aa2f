"""Hold what one exchange process is told, and refuse what cannot be used before anything is opened.

The command line fills `ExchangeOptions`; tests that build an exchange in their own process fill it too.
"""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path
from typing import Literal

from attrs import frozen

from krakenbot.adapters.local_exchange.digits import parse_rfc3339
from krakenbot.adapters.local_exchange.limits.settings import LimitsKind
from krakenbot.adapters.local_exchange.matching.accounts import KEEP_CLOSED, StopHolds
from krakenbot.adapters.local_exchange.matching.settings import Fees
from krakenbot.adapters.local_exchange.playback.flow import AtEnd

FlowKind = Literal["seeded", "recorded", "still", "playback"]
Profile = Literal["null", "toxic", "edge"]
MAX_PORT = 65_535
MAX_FEE_BPS = 1_000.0
MAX_START_AFTER_S = 86_400.0
LEAST_ACTIVITY = 0.01
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
    activity: float = 1.0
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
    keep_closed: int = KEEP_CLOSED


def check_options(options: ExchangeOptions) -> None:
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
    if not LEAST_ACTIVITY <= options.activity <= 1:
        raise ValueError(f"--activity {options.activity:g}: allowed are {LEAST_ACTIVITY:g} to 1")
    if options.activity != 1.0 and options.flow not in ("seeded", "still"):
        raise ValueError("--activity goes with --flow seeded")
    if options.keep_closed < 1:
        raise ValueError(f"--keep-closed {options.keep_closed}: at least 1 is kept")
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
